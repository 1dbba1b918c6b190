//! stub
use crate::{AlignedBuf, BufferPool, Engine, Error};
use types::{AccountId, BlockIndex, Digest, SnapshotId};
/// x
pub struct PutPermit {}
/// x
pub struct HashedBlock {}
impl HashedBlock {
    /// x
    pub fn digest(&self) -> Digest { Digest::ZERO_BLOCK }
}
impl Engine {
    /// x
    pub async fn admit_put(&self, _account: AccountId, _id: SnapshotId, _index: BlockIndex) -> Result<PutPermit, Error> { Err(crate::stub()) }
    /// x
    pub fn buffers(&self) -> &BufferPool { unreachable!() }
    /// x
    pub fn unverified_buffers(&self) -> &BufferPool { unreachable!() }
    /// x
    pub async fn hash_block(&self, _data: AlignedBuf) -> Result<HashedBlock, Error> { Err(crate::stub()) }
    /// x
    pub async fn put_block(&self, _permit: PutPermit, _block: HashedBlock, _progress: Option<u8>) -> Result<(), Error> { Err(crate::stub()) }
}
