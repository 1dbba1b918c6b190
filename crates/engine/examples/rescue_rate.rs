//! Measures a rebuild: `cargo run --release -p engine --features test-support --example rescue_rate -- [BLOCKS [CHILDREN]]`.
//!
//! Makes a snapshot of BLOCKS small blocks (200,000; frames of 8 KiB, since a rebuild reads their headers alone) and CHILDREN (100) that
//! share all but ten blocks with it; throws the catalog away and builds it again. A store of whole blocks costs one seek more for
//! each frame, and no more memory.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures time, and reads its arguments"
)]

use bytes::Bytes;
use catalog::chunks::{ChunkRecord, ChunkState};
use catalog::db::{Sqlite, SqliteOptions};
use catalog::put_entries::PutEntry;
use catalog::{Db, DbExt, Location};
use chunkstore::{BATCH_CHUNKS_MAX, ChunkId, ChunkKind, ChunkStore, FileIo, NewChunk, SegmentIo};
use engine::rescue::{Incomplete, RebuildDepth, RebuildOptions, rebuild, survey};
use engine::testing::{START, TestEngine};
use engine::{CompleteSnapshot, StartSnapshot};
use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use types::{AccountId, BlockIndex, ChunkName, Digest, Domain, SnapshotId, VolumeSize};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let blocks: u32 = args.next().map_or(Ok(200_000), |arg| arg.parse())?;
    let children: u32 = args.next().map_or(Ok(100), |arg| arg.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    make(dir.path(), blocks, children).await?;
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        fs::remove_file(dir.path().join(name))?;
    }
    // From here on the peak is the rebuild's.
    fs::write("/proc/self/clear_refs", "5")?;
    let io: Arc<dyn SegmentIo> = Arc::new(FileIo::open_to_read(&dir.path().join("segments"))?);
    let db: Arc<dyn Db> = Arc::new(Sqlite::open(&SqliteOptions {
        path: dir.path().join("catalog.db"),
        readers: NonZeroUsize::MIN,
        cache_bytes: 512 << 20,
    })?);
    let began = Instant::now();
    let survey = survey(&*io)?;
    catalog::schema::migrate(&*db, survey.store_id, START).await?;
    let report = rebuild(RebuildOptions {
        db,
        io,
        survey,
        depth: RebuildDepth::Headers,
        incomplete: Incomplete::LeaveOut,
        scratch: dir.path().into(),
        old: None,
        now: START,
        tell: Arc::new(move |what| {
            if !what.starts_with("reading ") {
                println!("{:7.2} s  {what}", began.elapsed().as_secs_f64());
            }
        }),
    })
    .await?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "{took:7.2} s  done: {} chunks, {:.0} a second, {} snapshots, catalog {} MiB, peak {} MiB",
        report.chunks.count,
        report.chunks.count as f64 / took,
        report.snapshots,
        fs::metadata(dir.path().join("catalog.db"))?.len() >> 20,
        peak_bytes()? >> 20,
    );
    Ok(())
}

/// Makes the store, and ends it.
async fn make(directory: &Path, blocks: u32, children: u32) -> Outcome<()> {
    let test = TestEngine::open(directory).await;
    let first = start(&test, None, blocks).await?;
    let indexes: Vec<u32> = (0..blocks).collect();
    for part in indexes.chunks(BATCH_CHUNKS_MAX) {
        put(&test, first, 0, part).await?;
    }
    let mut parent = complete(&test, first, u64::from(blocks)).await?;
    for child in 1..=children {
        let id = start(&test, Some(parent), blocks).await?;
        let places: Vec<u32> = (0..10).map(|n| n * (blocks / 10) + child % 1_000).collect();
        put(&test, id, child, &places).await?;
        parent = complete(&test, id, 10).await?;
    }
    test.store.close().await;
    Ok(())
}

async fn start(test: &TestEngine, parent: Option<SnapshotId>, blocks: u32) -> Outcome<SnapshotId> {
    let request = StartSnapshot {
        account: account()?,
        volume_size: VolumeSize::from_gib(u64::from(blocks) / 2_048 + 1)
            .ok_or("too many blocks")?,
        parent,
        tags: None,
        description: None,
        client_token: None,
        timeout_minutes: None,
        encrypted: None,
    };
    Ok(test.engine.start_snapshot(request).await?.id)
}

/// Stores blocks of a few bytes and refers to them, as puts would.
async fn put(test: &TestEngine, id: SnapshotId, seed: u32, places: &[u32]) -> Outcome<()> {
    let domain = Domain::of_account(account()?);
    let (mut batch, mut entries) = (Vec::new(), Vec::new());
    for place in places {
        let data = Bytes::from(format!("block {place} of {seed}"));
        let digest = Digest::of(&data);
        let id_of_chunk = ChunkId {
            domain,
            name: ChunkName::plain(digest),
            kind: ChunkKind::Block,
        };
        batch.push(NewChunk {
            id: id_of_chunk,
            digest,
            data,
        });
        entries.push(PutEntry {
            snapshot: id,
            index: BlockIndex::new(*place).ok_or("beyond a volume")?,
            digest,
        });
    }
    let names: Vec<ChunkName> = batch.iter().map(|chunk| chunk.id.name).collect();
    let stored = test.store.append(batch).await?;
    let records = names
        .into_iter()
        .zip(stored)
        .map(|(name, stored)| ChunkRecord {
            domain,
            name,
            kind: ChunkKind::Block as u8,
            state: ChunkState::Live,
            location: Location {
                container: stored.location.container.0,
                offset: stored.location.offset,
                length: stored.location.length,
            },
            stored_bytes: stored.stored_bytes,
            codec: stored.codec as u8,
            data_key: 0,
            epoch: 1,
        });
    let rows = Arc::new((entries, records.collect::<Vec<_>>()));
    test.db
        .transact(move |txn| {
            let rows = Arc::clone(&rows);
            Box::pin(async move {
                catalog::put_entries::put(txn, &rows.0).await?;
                catalog::chunks::put(txn, &rows.1).await
            })
        })
        .await?;
    Ok(())
}

async fn complete(test: &TestEngine, id: SnapshotId, changed_blocks: u64) -> Outcome<SnapshotId> {
    let request = CompleteSnapshot {
        account: account()?,
        id,
        changed_blocks,
        checksum: None,
    };
    test.engine.complete_snapshot(request).await?;
    test.settled(account()?, id).await;
    Ok(id)
}

fn account() -> Outcome<AccountId> {
    Ok(AccountId::parse("123456789012").ok_or("no account")?)
}

/// The most memory that this process has held.
fn peak_bytes() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
