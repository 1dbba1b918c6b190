//! Requests for garbage collection.

use super::jobs::Lane;
use super::parts::Parts;
use super::{Jobs, Reply};
use engine::{CollectMode, CollectReport, Engine};
use serde::{Deserialize, Serialize};

/// A collection to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectRequest {
    /// Only says what a collection would do.
    pub dry_run: bool,
}

/// Chunks (or containers), and the bytes that they take.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What a collection did, or a dry run would do.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Collected {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The cycle's epoch.
    pub epoch: i64,
    /// Pages that something refers to.
    pub live_pages: Amount,
    /// Blocks that something refers to.
    pub live_blocks: Amount,
    /// Chunks condemned: the next cycle sweeps them.
    pub condemned: Amount,
    /// Condemned chunks that were found in use.
    pub revived: u64,
    /// Chunks swept: their records are deleted, their frames freed.
    pub swept: Amount,
    /// Frames without a record that were freed.
    pub leaked: Amount,
    /// Chunks copied out of containers that are mostly garbage.
    pub moved: Amount,
    /// Containers removed.
    pub removed: Amount,
    /// Chunks that something refers to and that have no record.
    pub missing: u64,
    /// Pages read.
    pub pages_read: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl From<engine::Amount> for Amount {
    fn from(amount: engine::Amount) -> Amount {
        Amount {
            count: amount.count,
            bytes: amount.bytes,
        }
    }
}

impl Collected {
    fn of(mode: CollectMode, report: CollectReport) -> Collected {
        Collected {
            dry_run: mode == CollectMode::DryRun,
            epoch: report.epoch,
            live_pages: report.live_pages.into(),
            live_blocks: report.live_blocks.into(),
            condemned: report.condemned.into(),
            revived: report.revived,
            swept: report.swept.into(),
            leaked: report.leaked.into(),
            moved: report.moved.into(),
            removed: report.removed.into(),
            missing: report.missing,
            pages_read: report.pages_read,
            took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Runs a collection, or says why not.
pub async fn perform(
    engine: &Engine,
    jobs: &Jobs,
    request: CollectRequest,
    parts: &Parts,
) -> Result<Reply, String> {
    let mode = match request.dry_run {
        true => CollectMode::DryRun,
        false => CollectMode::Cycle,
    };
    let report = collect(engine, &jobs.collection, mode, parts).await?;
    Ok(Reply::Collected(Collected::of(mode, report)))
}

/// Runs a collection and tells how far it is.
pub async fn collect(
    engine: &Engine,
    lane: &Lane,
    mode: CollectMode,
    parts: &Parts,
) -> Result<CollectReport, String> {
    let job = {
        let engine = engine.clone();
        async move { engine.collect(mode).await }
    };
    let collected = parts.while_working(|| engine.collect_progress(), lane.run(job));
    collected.await?.map_err(|error| error.to_string())
}
