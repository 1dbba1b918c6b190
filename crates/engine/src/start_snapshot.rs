//! stub
use crate::{Engine, Error, Tag};
use types::{AccountId, SnapshotId, UnixMillis, VolumeSize};

/// A request to start a snapshot. Absent members stay absent: they count when a client token is compared.
#[derive(Clone, Debug)]
pub struct StartSnapshot {
    /// The owner.
    pub account: AccountId,
    /// Size of the volume.
    pub volume_size: VolumeSize,
    /// The snapshot that this one is based on.
    pub parent: Option<SnapshotId>,
    /// Tags, in the order given.
    pub tags: Option<Vec<Tag>>,
    /// Free text.
    pub description: Option<String>,
    /// Makes the request idempotent (SPEC 3.5).
    pub client_token: Option<String>,
    /// Minutes of inactivity after which the snapshot fails.
    pub timeout_minutes: Option<u32>,
}

/// A started snapshot; everything else of the answer equals the request, in a replay too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Started {
    /// Its id.
    pub id: SnapshotId,
    /// When it was started.
    pub start_time: UnixMillis,
}

impl Engine {
    /// x
    pub async fn start_snapshot(&self, _request: StartSnapshot) -> Result<Started, Error> {
        Err(crate::stub())
    }
}
