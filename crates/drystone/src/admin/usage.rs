//! Requests for what snapshots hold.

use super::collection::collect;
use super::keys::iso_8601;
use super::parts::Parts;
use super::{Jobs, Part, Reply};
use engine::{CollectMode, Engine};
use serde::{Deserialize, Serialize};
use types::SnapshotId;

/// Snapshots read at a time, and sent as one part: 60 KB.
const PAGE: u32 = 500;

/// Snapshots that a request may name; it has to fit into a line.
pub const NAMED_MAX: usize = 1_000;

/// Which figures are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRequest {
    /// Computes the figures anew, in a dry run of a collection.
    pub refresh: bool,
    /// Ids of snapshots; none stands for all.
    pub snapshots: Vec<String>,
}

/// What one snapshot holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotUsage {
    /// Its id.
    pub snapshot: String,
    /// Its owner.
    pub account: String,
    /// Its blocks, in bytes of volume.
    pub logical_bytes: u64,
    /// Blocks that only it refers to.
    pub own_blocks: u64,
    /// Stored bytes that only it refers to: what deleting it would free.
    pub own_bytes: u64,
}

/// What the store holds.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct UsageTotals {
    /// When the figures were computed: ISO 8601, UTC.
    pub computed_at: String,
    /// Completed snapshots.
    pub snapshots: u64,
    /// Blocks of all of them together, in bytes of volume.
    pub logical_bytes: u64,
    /// Distinct blocks, in bytes of volume.
    pub unique_bytes: u64,
    /// Bytes of the frames of all that something refers to.
    pub stored_bytes: u64,
    /// Bytes of frames that nothing refers to: what collection gives back.
    pub garbage_bytes: u64,
}

impl From<engine::SnapshotUsage> for SnapshotUsage {
    fn from(usage: engine::SnapshotUsage) -> SnapshotUsage {
        SnapshotUsage {
            snapshot: usage.id.to_string(),
            account: usage.account.to_string(),
            logical_bytes: usage.logical_bytes,
            own_blocks: usage.own_blocks,
            own_bytes: usage.own_bytes,
        }
    }
}

/// Sends the snapshots that are asked for, or says why not. Refreshed figures come from one mark; without that, a cycle may
/// renew them between two parts.
pub async fn perform(
    engine: &Engine,
    jobs: &Jobs,
    request: UsageRequest,
    parts: &Parts,
) -> Result<Reply, String> {
    let ids = parse(&request.snapshots)?;
    if request.refresh {
        collect(engine, &jobs.collection, CollectMode::DryRun, parts).await?;
    }
    let totals = engine.usage_totals().await.map_err(told)?;
    let Some(computed_at) = totals.computed_at.map(iso_8601) else {
        return Err("the figures were never computed; ask with --refresh".to_owned());
    };
    match ids.is_empty() {
        true => send_all(engine, parts).await?,
        false => send_some(engine, &ids, &computed_at, parts).await?,
    }
    Ok(Reply::Usage(UsageTotals {
        computed_at,
        snapshots: totals.snapshots,
        logical_bytes: totals.logical_bytes,
        unique_bytes: totals.unique_bytes,
        stored_bytes: totals.stored_bytes,
        garbage_bytes: totals.garbage_bytes,
    }))
}

fn parse(snapshots: &[String]) -> Result<Vec<SnapshotId>, String> {
    let parsed = snapshots.iter().map(|text| {
        SnapshotId::parse(text).ok_or_else(|| format!("`{text}` is no id of a snapshot"))
    });
    parsed.collect()
}

async fn send_all(engine: &Engine, parts: &Parts) -> Result<(), String> {
    let mut after = None;
    loop {
        let page = engine.usage_of_snapshots(after, PAGE).await.map_err(told)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.id);
        let page = page.into_iter().map(SnapshotUsage::from).collect();
        parts.send(Part::Snapshots(page)).await?;
    }
}

async fn send_some(
    engine: &Engine,
    ids: &[SnapshotId],
    computed_at: &str,
    parts: &Parts,
) -> Result<(), String> {
    for &id in ids {
        let after = id.number().checked_sub(1).and_then(SnapshotId::from_number);
        let found = engine.usage_of_snapshots(after, 1).await.map_err(told)?;
        let Some(usage) = found.into_iter().find(|usage| usage.id == id) else {
            return Err(format!(
                "{id} is not among the snapshots of {computed_at}; if it is newer, ask with --refresh"
            ));
        };
        parts.send(Part::Snapshots(vec![usage.into()])).await?;
    }
    Ok(())
}

fn told(error: engine::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::parts;
    use catalog::DbExt;
    use engine::testing::TestEngine;

    const SNAPSHOTS: usize = 100_000;

    /// Rows as a mark leaves them, of snapshots as a completion does.
    async fn fill(engine: &TestEngine) {
        let numbers = format!(
            "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {SNAPSHOTS}) "
        );
        let snapshots = format!(
            "{numbers} INSERT INTO snapshots (snapshot, account, domain, state, volume_gib, lineage, base_root, base_count, \
             start_time, timeout_minutes, idle_ms, touched) \
             SELECT n, 123456789012, 0, 3, 1, n, x'00', 0, 0, 60, 0, 0 FROM numbers"
        );
        let usage = format!(
            "{numbers} INSERT INTO snapshot_usage (mark, snapshot, account, logical_bytes, own_blocks, own_bytes) \
             SELECT (SELECT number FROM meta WHERE name = 'usage_mark'), n, 123456789012, n, n, n FROM numbers"
        );
        let filled = engine.db.transact(move |txn| {
            let (snapshots, usage) = (snapshots.clone(), usage.clone());
            Box::pin(async move {
                txn.execute(&snapshots, Vec::new()).await?;
                txn.execute(&usage, Vec::new()).await
            })
        });
        assert_eq!(filled.await.expect("written"), SNAPSHOTS as u64);
    }

    #[tokio::test]
    async fn a_hundred_thousand_snapshots_come_in_small_parts() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("scratch")).expect("made");
        let test = TestEngine::open(directory.path()).await;
        let marked = test.engine.collect(CollectMode::DryRun).await;
        marked.expect("an empty store can be marked");
        fill(&test).await;

        let jobs = Jobs::default();
        let request = UsageRequest {
            refresh: false,
            snapshots: Vec::new(),
        };
        let (parts, mut coming) = parts::channel();
        let engine = test.engine.clone();
        let listing = tokio::spawn(async move { perform(&engine, &jobs, request, &parts).await });
        let mut listed = 0;
        while let Some(part) = coming.recv().await {
            let Part::Snapshots(some) = &part else {
                panic!("{part:?}");
            };
            for usage in some {
                assert_eq!(usage.own_blocks, listed);
                listed += 1;
            }
            let line = serde_json::to_string(&Reply::Part(part)).expect("JSON");
            assert!(line.len() < 128 << 10, "a line of {} bytes", line.len());
        }
        assert_eq!(listed, SNAPSHOTS as u64);
        let reply = listing.await.expect("it does not panic");
        assert!(matches!(reply, Ok(Reply::Usage(_))));
    }
}
