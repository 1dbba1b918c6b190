//! Garbage collection (sketch of its interface).

use crate::{Engine, Error};
use std::time::Duration;
use types::{AccountId, SnapshotId, UnixMillis};

/// What a collection is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CollectMode {
    /// Marks, and says what a collection would do. Changes nothing but the stored usage figures.
    DryRun,
    /// A whole cycle.
    Cycle,
}

/// A number of chunks and the bytes that their frames take.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amount {
    /// Chunks.
    pub count: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What a cycle did, or a dry run would do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CollectReport {
    /// The cycle's epoch; in a dry run the current one.
    pub epoch: i64,
    /// Pages that something refers to.
    pub live_pages: Amount,
    /// Blocks that something refers to.
    pub live_blocks: Amount,
    /// Chunks condemned by this cycle: the next one sweeps them.
    pub condemned: Amount,
    /// Condemned chunks that the mark found in use. More than 0 is an alarm.
    pub revived: u64,
    /// Chunks whose record was deleted.
    pub swept: Amount,
    /// Frames without a record that were freed.
    pub leaked: Amount,
    /// Chunks copied out of containers that are mostly garbage.
    pub moved: Amount,
    /// Containers removed, and their bytes.
    pub removed: Amount,
    /// Chunks that something refers to and that have no record. More than 0 is an alarm.
    pub missing: u64,
    /// Pages read.
    pub pages_read: u64,
    /// How long it took.
    pub took: Duration,
}

/// How far a collection has come, for people who wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What it does, in a few words.
    pub step: &'static str,
    /// How many items of this step are done.
    pub done: u64,
}

/// What the store holds, as the last mark found it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct UsageTotals {
    /// When it was computed; nothing before the first time.
    pub computed_at: Option<UnixMillis>,
    /// Completed snapshots.
    pub snapshots: u64,
    /// Blocks of all completed snapshots together, in bytes of volume.
    pub logical_bytes: u64,
    /// Distinct blocks that something refers to, in bytes of volume.
    pub unique_bytes: u64,
    /// Bytes of the frames of everything that something refers to.
    pub stored_bytes: u64,
    /// Bytes of frames that nothing refers to: what collection will give back.
    pub garbage_bytes: u64,
}

/// What one snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotUsage {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Its blocks, in bytes of volume.
    pub logical_bytes: u64,
    /// Blocks that only it refers to.
    pub own_blocks: u64,
    /// Bytes of frames (blocks, pages, its own) that only it refers to: what deleting it would free.
    pub own_bytes: u64,
}

impl Engine {
    /// Runs a collection, after the one that is running. Goes on to its end, also when the caller goes away.
    pub async fn collect(&self, _mode: CollectMode) -> Result<CollectReport, Error> {
        Err(Error::Internal {
            reason: "not there yet".to_owned(),
        })
    }

    /// How far the running collection is; nothing when none runs.
    pub fn collect_progress(&self) -> Option<Progress> {
        None
    }

    /// The totals of the last mark.
    pub async fn usage_totals(&self) -> Result<UsageTotals, Error> {
        Ok(UsageTotals::default())
    }

    /// The usage of at most `limit` snapshots with ids above `after`, by id, as the last mark found it.
    pub async fn usage_of_snapshots(
        &self,
        _after: Option<SnapshotId>,
        _limit: u32,
    ) -> Result<Vec<SnapshotUsage>, Error> {
        Ok(Vec::new())
    }
}
