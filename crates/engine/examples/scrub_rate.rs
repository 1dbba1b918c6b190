//! Measures scrub and audit: `cargo run --release -p engine --features test-support --example scrub_rate -- [BLOCKS [SNAPSHOTS]]`.
//!
//! Puts BLOCKS distinct blocks (4,096, that is 2 GiB) as one snapshot and SNAPSHOTS children (100) that change ten blocks each, then times a
//! scrub without a bound, audits at both depths, and the search for what one damaged chunk touches. The blocks are in the page cache.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures time, and reads its arguments"
)]

use catalog::DbExt;
use engine::testing::TestEngine;
use engine::{
    AuditDepth, AuditOptions, CompleteSnapshot, HashedBlock, ScrubOptions, StartSnapshot, audit,
};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;
use types::{AccountId, BlockIndex, SnapshotId, VolumeSize};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Blocks changed by each child.
const CHANGED: u64 = 10;

/// Puts under way.
const IN_FLIGHT: usize = 8;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let blocks: u64 = args.next().map_or(Ok(4_096), |arg| arg.parse())?;
    let children: u64 = args.next().map_or(Ok(100), |arg| arg.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    let test = Arc::new(TestEngine::open(dir.path()).await);
    let mut parent = snapshot(&test, None, 0..blocks, |n| n).await?;
    for child in 0..children {
        let from = blocks + child * CHANGED;
        let step = blocks / CHANGED;
        let place = |n: u64| (n - from) * step + child % step;
        parent = snapshot(&test, Some(parent), from..from + CHANGED, place).await?;
    }
    println!("{blocks} blocks, {children} children");
    let options = ScrubOptions {
        bytes_per_second: u64::MAX,
        restart: true,
    };
    let began = Instant::now();
    let report = test.engine.scrub(options).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "scrub: {} chunks in {seconds:.2} s, {:.0} MB/s",
        report.chunks,
        report.bytes as f64 / 1e6 / seconds
    );
    for depth in [AuditDepth::Catalog, AuditDepth::Headers] {
        measure_audit(&test, dir.path(), depth).await?;
    }
    let marked = test.db.transact(|txn| {
        let one = "UPDATE chunks SET state = 3 WHERE name = (SELECT MIN(name) FROM chunks WHERE kind = 1)";
        txn.execute(one, Vec::new())
    });
    assert_eq!(marked.await?, 1);
    let began = Instant::now();
    let damage = test.engine.damage().await?;
    println!(
        "what one damaged chunk touches: {} extents in {:.3} s",
        damage[0].touches_count,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn measure_audit(test: &TestEngine, scratch: &Path, depth: AuditDepth) -> Outcome<()> {
    let options = AuditOptions {
        db: Arc::clone(&test.db),
        chunks: Arc::clone(&test.store) as _,
        scratch: scratch.into(),
        depth,
    };
    let began = Instant::now();
    let report = audit(options).await?;
    let seconds = began.elapsed().as_secs_f64();
    println!("audit, {depth:?}: {seconds:.3} s, {:?}", report.looked_at);
    assert_eq!(report.findings, []);
    Ok(())
}

/// A completed snapshot with these contents at their places.
async fn snapshot(
    test: &Arc<TestEngine>,
    parent: Option<SnapshotId>,
    contents: std::ops::Range<u64>,
    place: impl Fn(u64) -> u64,
) -> Outcome<SnapshotId> {
    let account = AccountId::parse("123456789012").ok_or("no account")?;
    let changed_blocks = contents.end - contents.start;
    let request = StartSnapshot {
        account,
        volume_size: VolumeSize::from_gib(1_024).ok_or("no size")?,
        parent,
        tags: None,
        description: None,
        client_token: None,
        timeout_minutes: None,
        encrypted: None,
    };
    let id = test.engine.start_snapshot(request).await?.id;
    let mut puts = JoinSet::new();
    for n in contents {
        let index = BlockIndex::new(u32::try_from(place(n))?).ok_or("beyond a volume")?;
        if puts.len() >= IN_FLIGHT {
            puts.join_next().await.ok_or("no put")???;
        }
        let test = Arc::clone(test);
        puts.spawn(async move {
            let permit = test.engine.admit_put(account, id, index).await?;
            let block: HashedBlock = test.block(&format!("content {n:016}")).await;
            test.engine.put_block(permit, block, None).await?;
            Outcome::Ok(())
        });
    }
    while let Some(put) = puts.join_next().await {
        put??;
    }
    let request = CompleteSnapshot {
        account,
        id,
        changed_blocks,
        checksum: None,
    };
    test.engine.complete_snapshot(request).await?;
    test.settled(account, id).await;
    Ok(id)
}
