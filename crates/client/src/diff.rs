//! Where two snapshots differ.

use crate::api::Api;
use crate::{Error, SnapshotId};
use types::VolumeSize;

/// How the blocks of a run differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Both have them, with different content.
    Changed,
    /// Only the second has them.
    Added,
    /// Only the first has them.
    Removed,
}

/// A run of blocks that differ in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangedExtent {
    /// The first block.
    pub start: u32,
    /// How many.
    pub count: u32,
    /// How they differ.
    pub change: Change,
}

/// The totals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiffTotals {
    /// Blocks that both have, with different content.
    pub changed: u64,
    /// Blocks that only the second has.
    pub added: u64,
    /// Blocks that only the first has.
    pub removed: u64,
    /// Runs.
    pub extents: u64,
    /// Size of the second snapshot's volume.
    pub volume_size: Option<VolumeSize>,
}

/// Compares, and gives each run to `each` as it is found. Unrelated snapshots are compared by their checksums where the
/// server lists them.
pub async fn diff(
    api: &Api,
    first: &SnapshotId,
    second: &SnapshotId,
    each: &mut (dyn FnMut(ChangedExtent) -> Result<(), Error> + Send),
) -> Result<DiffTotals, Error> {
    let _ = (api, first, second, each);
    unimplemented!()
}
