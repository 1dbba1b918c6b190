//! Measures garbage collection: `cargo run --release -p engine --features test-support --example collect_rate -- [BLOCKS [CHILDREN]]`.
//!
//! Makes a snapshot of BLOCKS distinct blocks (1,000,000), whose pages are real and whose block frames are not there: a collection does not
//! read them. Then CHILDREN snapshots (1,000) that change ten blocks each, one after the other, and deletes all of them again. It
//! times a cycle at each point: the cost follows the live pages, not what ever was.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures time, and reads its arguments"
)]

use catalog::chunks::{ChunkRecord, ChunkState};
use catalog::containers::ContainerRecord;
use catalog::put_entries::PutEntry;
use catalog::{DbExt, Location};
use engine::testing::TestEngine;
use engine::{CollectMode, CompleteSnapshot, Engine, StartSnapshot};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;
use types::{AccountId, BlockIndex, ChunkName, Digest, Domain, SnapshotId, VolumeSize};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BATCH: u64 = 10_000;
const FRAME_BYTES: u32 = 528_384;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let blocks: u64 = args.next().map_or(Ok(1_000_000), |arg| arg.parse())?;
    let children: u64 = args.next().map_or(Ok(1_000), |arg| arg.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    let test = TestEngine::open(dir.path()).await;
    let account = AccountId::parse("123456789012").ok_or("no account")?;
    let made = make_container(&test).await?;

    let first = start(&test.engine, account, None, blocks).await?;
    put(&test, first, account, made, 0..blocks, |n| n as u32).await?;
    complete(&test, account, first, blocks).await?;
    println!("{blocks} blocks in one snapshot");
    measure(&test.engine, "nothing to do").await?;

    let (mut parent, mut all) = (first, Vec::new());
    for child in 0..children {
        let id = start(&test.engine, account, Some(parent), blocks).await?;
        let from = blocks + child * 10;
        let step = (blocks / 10) as u32;
        let place = |n: u64| (n % 10) as u32 * step + (child % u64::from(step)) as u32;
        put(&test, id, account, made, from..from + 10, place).await?;
        complete(&test, account, id, 10).await?;
        all.push(id);
        parent = id;
    }
    println!("{children} children of ten blocks each");
    measure(&test.engine, "with the children").await?;
    for id in all {
        test.engine.delete_snapshot(account, id).await?;
    }
    measure(&test.engine, "children deleted: condemns").await?;
    measure(&test.engine, "sweeps").await?;
    measure(&test.engine, "moves and removes").await?;
    measure(&test.engine, "nothing to do").await?;
    Ok(())
}

async fn measure(engine: &Engine, what: &str) -> Outcome<()> {
    let began = Instant::now();
    let report = engine.collect(CollectMode::Cycle).await?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "{what:28} {took:7.2} s  {:>8} pages read  {:>9} live chunks  {:>7} condemned  {:>7} swept  {:>6} moved  peak {} MiB",
        report.pages_read,
        report.live_pages.count + report.live_blocks.count,
        report.condemned.count,
        report.swept.count,
        report.moved.count,
        peak_bytes()? >> 20,
    );
    Ok(())
}

/// A container for frames that are not there.
async fn make_container(test: &TestEngine) -> Outcome<u64> {
    let id = test
        .db
        .transact(|txn| {
            Box::pin(async move {
                let id = catalog::containers::reserve(txn).await?;
                let container = ContainerRecord {
                    id,
                    kind: 1,
                    state: 1,
                    bytes: 1 << 50,
                };
                catalog::containers::record(txn, container).await?;
                Ok(id)
            })
        })
        .await?;
    Ok(id)
}

async fn start(
    engine: &Engine,
    account: AccountId,
    parent: Option<SnapshotId>,
    blocks: u64,
) -> Outcome<SnapshotId> {
    let request = StartSnapshot {
        account,
        volume_size: VolumeSize::from_gib(blocks / 2_048 + 1).ok_or("too many blocks")?,
        parent,
        tags: None,
        description: None,
        client_token: None,
        timeout_minutes: None,
        encrypted: None,
    };
    Ok(engine.start_snapshot(request).await?.id)
}

/// Writes put entries and chunk records as puts would.
async fn put(
    test: &TestEngine,
    id: SnapshotId,
    account: AccountId,
    container: u64,
    contents: std::ops::Range<u64>,
    place: impl Fn(u64) -> u32,
) -> Outcome<()> {
    let domain = Domain::of_account(account);
    let mut next = contents.start;
    while next < contents.end {
        let batch = next..contents.end.min(next + BATCH);
        next = batch.end;
        let mut rows = Vec::new();
        for n in batch {
            let digest = Digest::of(&n.to_le_bytes());
            let index = BlockIndex::new(place(n)).ok_or("beyond a volume")?;
            rows.push((digest, n, index));
        }
        let rows = Arc::new(rows);
        test.db
            .transact(move |txn| {
                let rows = Arc::clone(&rows);
                Box::pin(async move {
                    let epoch = txn.hold_epoch_shared().await?;
                    let entries: Vec<_> = rows
                        .iter()
                        .map(|(digest, _, index)| PutEntry {
                            snapshot: id,
                            index: *index,
                            digest: *digest,
                        })
                        .collect();
                    let chunks: Vec<_> = rows
                        .iter()
                        .map(|(digest, n, _)| ChunkRecord {
                            domain,
                            name: ChunkName::plain(*digest),
                            kind: 1,
                            state: ChunkState::Live,
                            location: Location {
                                container,
                                offset: n * u64::from(FRAME_BYTES),
                                length: FRAME_BYTES,
                            },
                            stored_bytes: FRAME_BYTES - 4_096,
                            codec: 0,
                            data_key: 0,
                            epoch,
                        })
                        .collect();
                    catalog::put_entries::put(txn, &entries).await?;
                    catalog::chunks::put(txn, &chunks).await?;
                    let bytes = chunks.len() as u64 * u64::from(FRAME_BYTES);
                    catalog::containers::add_live(txn, container, bytes).await
                })
            })
            .await?;
    }
    Ok(())
}

async fn complete(
    test: &TestEngine,
    account: AccountId,
    id: SnapshotId,
    changed_blocks: u64,
) -> Outcome<()> {
    let request = CompleteSnapshot {
        account,
        id,
        changed_blocks,
        checksum: None,
    };
    test.engine.complete_snapshot(request).await?;
    test.settled(account, id).await;
    Ok(())
}

/// The most memory that this process has held.
fn peak_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
