//! The verbs of Drystone, one file each, over a catalog and a chunk store.

mod complete_snapshot;
mod delete_snapshot;
mod describe_snapshots;
mod error;
mod get_block;
mod list_blocks;
mod list_changed_blocks;
mod put_block;
mod start_snapshot;
mod tags;

pub use chunkstore::{AlignedBuf, BufferPool};
pub use complete_snapshot::CompleteSnapshot;
pub use describe_snapshots::{SnapshotState, SnapshotView};
pub use error::Error;
pub use list_blocks::BlockList;
pub use list_changed_blocks::{ChangedBlock, ChangedBlockList};
pub use put_block::{HashedBlock, PutPermit};
pub use start_snapshot::{StartSnapshot, Started};
pub use tags::{Tag, TagSelector};

/// The store's verbs; clones share everything.
#[derive(Clone)]
pub struct Engine {}

pub(crate) fn stub() -> Error {
    Error::Internal { reason: "being written".into() }
}
