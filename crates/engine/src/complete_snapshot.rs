//! stub
use crate::{Engine, Error, SnapshotState};
use types::{AccountId, SnapshotId};
/// x
#[derive(Clone, Debug)]
pub struct CompleteSnapshot {
    /// x
    pub account: AccountId,
    /// x
    pub id: SnapshotId,
    /// x
    pub changed_blocks: u64,
    /// x
    pub checksum: Option<Vec<u8>>,
}
impl Engine {
    /// x
    pub async fn complete_snapshot(&self, _request: CompleteSnapshot) -> Result<SnapshotState, Error> { Err(crate::stub()) }
}
