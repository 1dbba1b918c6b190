//! Moves disks in and out of snapshots, over the EBS direct APIs: of Drystone, of AWS, of anything that speaks them.
//!
//! ```text
//! upload.rs       a disk becomes a snapshot, and only what differs from the parent is sent     <- start here
//! download.rs     a snapshot becomes a disk; verify.rs compares the two
//! copy.rs         a snapshot moves from one server to another
//! diff.rs         where two snapshots differ; wait.rs: until a snapshot is completed
//! source.rs       what is read: file, device, stream; target.rs: what is written
//! listing.rs      a snapshot's blocks in order, page by page
//! journal.rs      files of block digests: of what was moved, for resuming, and of whole disks
//! api.rs          the calls, signed, repeated and counted; ebs.rs and ec2.rs: one service each
//! transport.rs    connections; flow.rs: how many requests at once; retry.rs: which are repeated, and when
//! config.rs       where, and with whose credentials
//! meter.rs        what is going on, for progress and reports
//! ```
//!
//! Invariants
//! - No block is taken or given without its SHA-256 having been compared.
//! - Memory does not depend on the size of a disk: what is in flight is bounded by a pool of buffers, lists are streamed.
//! - Nothing is claimed before it is durable: an upload when the server has it, a download when the target is synced.
//! - Extensions of the wire are used only where the server answered that it has them.

pub mod api;
pub mod config;
pub mod copy;
pub mod diff;
pub mod download;
mod ebs;
mod ec2;
mod error;
mod flow;
mod hashing;
mod instant;
mod journal;
mod listing;
mod meter;
mod pending;
mod retry;
mod runs;
mod snapshot_id;
pub mod source;
pub mod target;
mod tasks;
#[cfg(test)]
mod testing;
mod transport;
pub mod upload;
pub mod verify;
pub mod wait;
mod walk;

pub use error::{Error, Refusal};
#[cfg(feature = "test-support")]
pub use journal::any_journal_bytes;
pub use meter::{Counter, Meter, Reading};
pub use snapshot_id::SnapshotId;
