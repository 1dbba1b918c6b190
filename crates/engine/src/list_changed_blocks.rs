//! stub
use crate::{Engine, Error};
use types::{AccountId, BlockIndex, Digest, SnapshotId, VolumeSize};
/// x
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangedBlock {
    /// x
    pub index: BlockIndex,
    /// x
    pub first: Option<Digest>,
    /// x
    pub second: Option<Digest>,
}
/// x
#[derive(Clone, Debug)]
pub struct ChangedBlockList {
    /// x
    pub changed: Vec<ChangedBlock>,
    /// x
    pub next: Option<BlockIndex>,
    /// x
    pub volume_size: VolumeSize,
}
impl Engine {
    /// x
    pub async fn comparable(&self, _account: AccountId, _first: SnapshotId, _second: SnapshotId) -> Result<VolumeSize, Error> { Err(crate::stub()) }
    /// x
    pub async fn list_changed_blocks(&self, _account: AccountId, _first: SnapshotId, _second: SnapshotId, _from: BlockIndex, _limit: usize) -> Result<ChangedBlockList, Error> { Err(crate::stub()) }
}
