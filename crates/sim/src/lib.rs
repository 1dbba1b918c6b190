//! The real engine on a simulated machine: a disk, a catalog and a clock that fail as a seed says. Never shipped.
//!
//! Engine, block maps, chunk store and catalog are those of the server. Below them, three things are simulated: the file system
//! (`chunkstore::faulty`), the database file (SQLite in memory, `faulty_db.rs`) and time (`clock.rs`). One thread runs everything in an
//! order that follows from the seed, so a seed that fails replays exactly; a test runs seeds twice and compares all that happened.
//!
//! # Fault model
//!
//! What can go wrong, as often as the seed's plan says (`plan.rs`); some seeds leave a kind out, some have nothing else:
//!
//! | Fault | What it does |
//! |---|---|
//! | power cut, at any durable step of disk or catalog | unsynced sectors of 4 KiB, file lengths and names are each kept or lost; a transaction under way happened or did not; the machine starts again |
//! | kill | all tasks end where they are; what was written, synced or not, stays |
//! | failed read | an I/O error, as of a bad sector or of the bus |
//! | failed write | half of the bytes may be written |
//! | failed sync | nothing more becomes durable by it or by a later one; each open handle is told once |
//! | failed create, open, punch, truncate, remove, directory sync | it did not happen |
//! | full disk | segments cannot be created; blocks stop at the reserve |
//! | flipped bit | anywhere in a segment file, for good |
//! | slow and stuck calls | of catalog and chunk store: others go first, milliseconds, up to half a minute |
//! | catalog unavailable, full, in conflict | nothing was done; a body in conflict runs again |
//! | commit with unknown outcome | it happened or it did not |
//! | I/O error of the catalog | it happened or it did not; the process ends, as the server does |
//! | client that goes away | in the middle of a put, which goes on without it |
//! | time | minutes pass between calls; uploads time out |
//!
//! Not in the model: a disk that lies about syncs, bytes of the catalog's file that rot or tear (SQLite's own, tested beside it), two
//! processes on one directory (the directory's lock), memory that rots.
//!
//! # What is checked
//!
//! A model in memory (`model.rs`) follows each call: acknowledged, refused, or unknown, which stays open until somebody looks. While clients
//! run, each answer must be one that the model allows; without a fault nothing may be refused. At each start everything is looked at
//! (`checks.rs`): what was acknowledged is there byte for byte, nothing else is. In the end, without faults, everything comes to its end,
//! collections leave exactly what snapshots refer to: chunk records, live bytes, used space, figures of usage (`space.rs`); and the
//! audit finds nothing. All of it holds after one more start.
//!
//! `tests/crash_points.rs` cuts the power at every durable step of every verb, `tests/gc_races.rs` interleaves collections with every other
//! operation.

pub mod checks;
pub mod clients;
pub mod clock;
pub mod contents;
pub mod dice;
pub mod faulty_db;
pub mod gate;
pub mod history;
pub mod machine;
pub mod model;
pub mod pauses;
pub mod plan;
pub mod register;
mod rot;
pub mod scene;
pub mod slow_chunks;
pub mod space;
pub mod story;
pub mod thorough;

pub use story::{Failure, Told, run};
