//! The nouns that every layer shares: blocks, digests, snapshots, domains, time and limits.
//!
//! This crate does no I/O and knows no protocol but the names of its extensions, which both sides of the wire share. What reaches the outside world (clocks, randomness)
//! is a trait or a value that the composition root hands in, so that any run can be replayed.

mod block;
mod clock;
mod digest;
mod domain;
mod extension;
pub mod limits;
mod random;
mod snapshot;

pub use block::{BLOCK_BYTES, BLOCKS_PER_GIB, BlockIndex, is_zero};
pub use clock::{Clock, SystemClock, TestClock, UnixMillis};
pub use digest::{Digest, DigestContext};
pub use domain::{ChunkName, Domain};
pub use extension::Extension;
pub use random::Random;
pub use snapshot::{AccountId, SnapshotId, VolumeSize};
