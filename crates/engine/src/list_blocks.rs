//! stub
use crate::{Engine, Error};
use types::{AccountId, BlockIndex, Digest, SnapshotId, VolumeSize};
/// x
#[derive(Clone, Debug)]
pub struct BlockList {
    /// x
    pub blocks: Vec<(BlockIndex, Digest)>,
    /// x
    pub next: Option<BlockIndex>,
    /// x
    pub volume_size: VolumeSize,
}
impl Engine {
    /// x
    pub async fn list_blocks(&self, _account: AccountId, _id: SnapshotId, _from: BlockIndex, _limit: usize) -> Result<BlockList, Error> { Err(crate::stub()) }
}
