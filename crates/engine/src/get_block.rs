//! stub
use crate::{Engine, Error};
use bytes::Bytes;
use types::{AccountId, BlockIndex, Digest, SnapshotId, VolumeSize};
impl Engine {
    /// x
    pub async fn readable(&self, _account: AccountId, _id: SnapshotId) -> Result<VolumeSize, Error> { Err(crate::stub()) }
    /// x
    pub async fn get_block(&self, _account: AccountId, _id: SnapshotId, _index: BlockIndex, _digest: Digest) -> Result<Bytes, Error> { Err(crate::stub()) }
}
