//! The built server under kills and power cuts, checked against what it acknowledged (DESIGN 2.3, invariant 6).
//!
//! ```text
//! dice content            seeded choices; blocks that follow from a number
//! wire api                signed requests over plain sockets; the calls of the two APIs
//! server settings         a `drystone serve` process, and commands beside it
//! model board             what must be there, may be there, must be gone; the log of every call
//! workload                sessions of many writers, deletes, collections, scrubs
//! check                   a server against a model, byte for byte
//! place                   small file systems in files
//! disk log                a block device that logs its writes and flushes, and what of it a power cut leaves
//! machine cuts            a server under load on such disks, and what it finds on them after a cut
//! ```
//!
//! Two programs: `soak` kills the process, `crashdisk` cuts the power of the disk. Neither contains product code, except
//! the signer.

// Programs of the tests measure time, wait, and look for tools; nothing here is shipped.
#![allow(clippy::disallowed_methods)]

pub mod api;
pub mod board;
pub mod check;
pub mod content;
pub mod cuts;
pub mod dice;
pub mod disk;
pub mod log;
pub mod machine;
pub mod model;
pub mod place;
pub mod server;
pub mod wire;
pub mod workload;
