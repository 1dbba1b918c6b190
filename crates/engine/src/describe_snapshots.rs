//! stub
use crate::{Engine, Error, Tag};
use types::{AccountId, SnapshotId, UnixMillis, VolumeSize};
/// The state that the wire shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotState {
    /// x
    Pending,
    /// x
    Completed,
    /// x
    Error,
}
/// x
#[derive(Clone, Debug)]
pub struct SnapshotView {
    /// x
    pub id: SnapshotId,
    /// x
    pub account: AccountId,
    /// x
    pub state: SnapshotState,
    /// x
    pub status_message: Option<String>,
    /// x
    pub start_time: UnixMillis,
    /// x
    pub completion_time: Option<UnixMillis>,
    /// x
    pub volume_size: VolumeSize,
    /// x
    pub description: Option<String>,
    /// x
    pub parent: Option<SnapshotId>,
    /// x
    pub full_block_count: Option<u64>,
    /// x
    pub tags: Vec<Tag>,
}
impl Engine {
    /// x
    pub async fn snapshots_by_id(&self, _account: AccountId, _ids: &[SnapshotId]) -> Result<Vec<SnapshotView>, Error> { Err(crate::stub()) }
    /// x
    pub async fn snapshots_after(&self, _account: AccountId, _after: Option<SnapshotId>, _limit: usize) -> Result<Vec<SnapshotView>, Error> { Err(crate::stub()) }
}
