//! Measures durable appends of blocks against the disk's own limit.
//!
//! `cargo run --release -p chunkstore --features test-support --example append_rate -- DIR [GIB]`
//!
//! The limit is the same pattern without a store: two threads that write the same bytes to a preallocated file with
//! aligned, direct, positioned writes and sync after each batch. A batch there is half of what is in flight, which
//! is what the store's two writers settle at. Both are run in turn, several times, and the medians compared.
//! Last come reads of what is in the page cache.

use chunkstore::contract::chunk;
use chunkstore::{
    BufferPool, ChunkKind, ChunkStore, CodecSetting, FileIo, LocalOptions, LocalStore,
    MemoryRegistry, Metrics, NewChunk, SegmentIo, Stored, WriteMode,
};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;
use types::{BLOCK_BYTES, Clock, SystemClock};

const ROUNDS: usize = 5;
const FRAME_BYTES: u64 = 4096 + BLOCK_BYTES as u64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("name a directory")?;
    let gib: u64 = arguments.next().map_or(Ok(2), |gib| gib.parse())?;
    let blocks = gib * 2048;
    for in_flight in [1, 16, 64] {
        let blocks = if in_flight == 1 { blocks / 8 } else { blocks };
        let (mut raw, mut stored, mut frames) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..ROUNDS {
            let fresh = tempfile::tempdir_in(&dir)?;
            raw.push(raw_rate(fresh.path(), in_flight, blocks)?);
            let (rate, metrics) = store_rate(fresh.path(), in_flight, blocks).await?;
            stored.push(rate);
            let batches = &metrics.batch_frames;
            frames = batches.sum() as f64 / batches.count() as f64;
        }
        let (raw, stored) = (median(raw), median(stored));
        let ratio = stored / raw;
        println!(
            "{in_flight:3} in flight: limit {raw:6.0} MB/s, store {stored:6.0} MB/s, \
             ratio {ratio:.2}, {frames:.1} frames a batch"
        );
    }
    let fresh = tempfile::tempdir_in(&dir)?;
    for readers in [1, 16] {
        let rate = read_rate(fresh.path(), readers).await?;
        println!("{readers:3} readers: {rate:6.0} MB/s from the page cache");
    }
    Ok(())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn rate(blocks: u64, clock: &SystemClock) -> f64 {
    (blocks * BLOCK_BYTES as u64) as f64 / 1e6 / clock.monotonic().as_secs_f64()
}

/// Two threads write and sync batches of half of what is in flight.
fn raw_rate(dir: &Path, in_flight: u64, blocks: u64) -> std::io::Result<f64> {
    let io = FileIo::open(dir, WriteMode::Detect)?;
    let segment_bytes: u64 = 1 << 30;
    let batch = (in_flight / 2).max(1);
    let segments = (blocks * FRAME_BYTES).div_ceil(segment_bytes - batch * FRAME_BYTES) + 1;
    for segment in 0..segments {
        io.create(&format!("raw-{segment}"), segment_bytes)?
            .sync()?;
    }
    // Each frame from memory of its own, as blocks of different clients are: cached memory would flatter the limit.
    let pool = BufferPool::new(2 * batch as usize, FRAME_BYTES as usize);
    let next = AtomicU64::new(0);
    let per_segment = segment_bytes / (batch * FRAME_BYTES);
    let streams = if in_flight == 1 { 1 } else { 2 };
    let clock = SystemClock::new();
    std::thread::scope(|scope| {
        let stream = || {
            let mut frames = Vec::new();
            for number in 0..batch {
                let mut frame = pool.try_take().ok_or(std::io::ErrorKind::OutOfMemory)?;
                frame.fill(number as u8);
                frames.push(frame);
            }
            let mut open = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number * batch >= blocks {
                    return Ok::<(), std::io::Error>(());
                }
                let (segment, place) = (number / per_segment, number % per_segment);
                let file = match open.take() {
                    Some((opened, file)) if opened == segment => file,
                    _ => io.open_writer(&format!("raw-{segment}"))?,
                };
                let mut parts: Vec<IoSlice<'_>> = frames
                    .iter()
                    .flat_map(|frame| [IoSlice::new(&frame[..4096]), IoSlice::new(&frame[4096..])])
                    .collect();
                file.write_at(&mut parts, place * batch * FRAME_BYTES)?;
                file.sync()?;
                open = Some((segment, file));
            }
        };
        let threads: Vec<_> = (0..streams).map(|_| scope.spawn(stream)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| std::io::ErrorKind::Other)?)
    })?;
    let rate = rate(blocks, &clock);
    for segment in 0..segments {
        io.remove(&format!("raw-{segment}"))?;
    }
    Ok(rate)
}

async fn open(dir: &Path) -> Result<LocalStore, Box<dyn std::error::Error>> {
    let options = LocalOptions {
        store_id: [7; 16],
        io: Arc::new(FileIo::open(dir, WriteMode::Detect)?),
        registry: Arc::new(MemoryRegistry::new()),
        codec: CodecSetting::None,
        encoders: 2,
        reserve_bytes: 0,
        segment_bytes_min: 64 << 20,
        segment_bytes_max: 1 << 30,
        clock: Arc::new(SystemClock::new()),
        metrics: Arc::default(),
    };
    Ok(LocalStore::open(options).await?.0)
}

/// A block that lies in a pooled buffer, filled beforehand: neither hashing nor filling is measured.
fn block(pool: &BufferPool, seed: u64) -> Option<NewChunk> {
    let chunk = chunk(ChunkKind::Block, seed, BLOCK_BYTES);
    let mut buffer = pool.try_take()?;
    buffer.copy_from_slice(&chunk.data);
    Some(NewChunk {
        data: buffer.freeze(),
        ..chunk
    })
}

async fn store_rate(
    dir: &Path,
    in_flight: u64,
    blocks: u64,
) -> Result<(f64, Arc<Metrics>), Box<dyn std::error::Error>> {
    let store = Arc::new(open(dir).await?);
    let pool = BufferPool::new(in_flight as usize, BLOCK_BYTES);
    let chunks = (0..in_flight).map(|seed| block(&pool, seed).ok_or("no buffer"));
    let chunks: Vec<NewChunk> = chunks.collect::<Result<_, _>>()?;
    let clock = SystemClock::new();
    let mut clients = JoinSet::new();
    for (number, chunk) in (0..).zip(chunks) {
        let store = Arc::clone(&store);
        let mine = blocks / in_flight + u64::from(number < blocks % in_flight);
        clients.spawn(async move {
            for _ in 0..mine {
                store.append(vec![chunk.clone()]).await?;
            }
            Ok::<(), chunkstore::Error>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let rate = rate(blocks, &clock);
    store.close().await;
    Ok((rate, Arc::clone(store.metrics())))
}

async fn read_rate(dir: &Path, readers: u64) -> Result<f64, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(dir)?;
    let store = Arc::new(open(dir.path()).await?);
    let chunks: Vec<NewChunk> = (0..256)
        .map(|seed| chunk(ChunkKind::Block, seed, BLOCK_BYTES))
        .collect();
    let stored = store.append(chunks.clone()).await?;
    let held: Arc<Vec<(Stored, NewChunk)>> = Arc::new(stored.into_iter().zip(chunks).collect());
    for (stored, chunk) in held.iter() {
        store.read(stored.location, chunk.id).await?;
    }
    let (reads, clock) = (8192, SystemClock::new());
    let mut clients = JoinSet::new();
    for reader in 0..readers {
        let (store, held) = (Arc::clone(&store), Arc::clone(&held));
        clients.spawn(async move {
            for read in 0..reads / readers {
                let (stored, chunk) = &held[((read * 7 + reader * 31) % 256) as usize];
                store.read(stored.location, chunk.id).await?;
            }
            Ok::<(), chunkstore::Error>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    let rate = rate(reads, &clock);
    store.close().await;
    Ok(rate)
}
