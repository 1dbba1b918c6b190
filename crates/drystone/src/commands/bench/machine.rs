//! The machine alone: SHA-256, the disk with the store's own pattern of writes, and the syncs of that disk.

use super::processes::Stop;
use super::statistics::{mb_per_second, median_duration, millis};
use crate::open;
use anyhow::{Context, bail};
use chunkstore::{ALIGNMENT, AlignedBuf, BufferPool, FileIo, SegmentIo, SegmentWriter, WriteMode};
use serde::Serialize;
use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::{BLOCK_BYTES, Clock, Digest, SystemClock};

/// A frame as the store writes it: a header of 4 KiB, and a block.
pub const FRAME_BYTES: u64 = (ALIGNMENT + BLOCK_BYTES) as u64;

/// Segments of the size that the store's grow to.
const SEGMENT_BYTES: u64 = 1 << 30;

/// Segments set aside for one run: what a fast disk fills in some seconds.
const SEGMENTS_MAX: u64 = 16;

/// Frames in the store's largest batch of blocks: 16 MiB.
const BATCH_FRAMES_MAX: u64 = (16 << 20) / FRAME_BYTES;

/// The processors and the system.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Machine {
    /// Processors that a process may use.
    pub cores: usize,
    /// Their name.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
    /// Whether segments are written around the page cache.
    pub direct_io: bool,
    /// SHA-256 on one core, alone.
    pub sha256_core_mb_s: f64,
    /// SHA-256 on all cores at once, together.
    pub sha256_all_cores_mb_s: f64,
    /// Median time to hash one block.
    pub hash_block_ms: f64,
    /// Median time to write and sync one block's frame.
    pub sync_block_ms: f64,
    /// Median time to write and sync 4 KiB.
    pub sync_4k_ms: f64,
}

/// The name of the processors.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let name = lines.find(|(name, _)| name.trim() == "model name");
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, model)| model.trim().to_owned(),
    )
}

/// The release of the kernel.
pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Hashes a block again and again for this long, on as many threads; answers MB/s and the median time of one.
pub fn hash(threads: usize, time: Duration) -> anyhow::Result<(f64, Duration)> {
    let clock = SystemClock::new();
    let hashed = || {
        let block = vec![0x5a; BLOCK_BYTES];
        let mut times = Vec::new();
        while times.is_empty() || clock.monotonic() < time {
            let begun = clock.monotonic();
            std::hint::black_box(Digest::of(std::hint::black_box(&block)));
            times.push(clock.monotonic().saturating_sub(begun));
        }
        times
    };
    let times = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(hashed)).collect();
        let ended: Result<Vec<_>, _> = running.into_iter().map(|thread| thread.join()).collect();
        ended.map(|times| times.concat())
    });
    let Ok(times) = times else {
        bail!("a hashing thread died");
    };
    let seconds = clock.monotonic().as_secs_f64();
    let bytes = (times.len() * BLOCK_BYTES) as u64;
    Ok((mb_per_second(bytes, seconds), median_duration(times)))
}

/// SHA-256 on one core and on all.
pub fn hashing(time: Duration) -> anyhow::Result<(f64, f64)> {
    let (one, _) = hash(1, time)?;
    let (all, _) = hash(open::cores(), time)?;
    Ok((one, all))
}

/// A directory on the disk that the store is on.
pub struct Disk {
    io: FileIo,
    pool: BufferPool,
    stop: Stop,
}

impl Disk {
    /// The disk under this directory, which is empty and ours.
    pub fn open(dir: &Path, stop: &Stop) -> anyhow::Result<Disk> {
        let io = FileIo::open(dir, WriteMode::Detect)
            .with_context(|| format!("{} cannot be written", dir.display()))?;
        Ok(Disk {
            io,
            pool: BufferPool::new(2, FRAME_BYTES as usize),
            stop: stop.clone(),
        })
    }

    /// Whether writes go around the page cache.
    pub fn is_direct(&self) -> bool {
        self.io.is_direct()
    }

    /// Median times to write and sync a block's frame, and 4 KiB, one after the other, in a preallocated file.
    pub fn syncs(&self, time: Duration) -> anyhow::Result<(Duration, Duration)> {
        let name = "syncs";
        let (mut block, mut small) = (Vec::new(), Vec::new());
        let frame = self.frame()?;
        let file = self.segment(name)?;
        let clock = SystemClock::new();
        let mut offset = 0;
        let slot = FRAME_BYTES + ALIGNMENT as u64;
        while offset + slot <= SEGMENT_BYTES && (block.is_empty() || clock.monotonic() < time) {
            self.stop.check()?;
            for (times, bytes) in [(&mut block, frame.len()), (&mut small, ALIGNMENT)] {
                let begun = clock.monotonic();
                file.write_at(&mut [IoSlice::new(&frame[..bytes])], offset)?;
                file.sync()?;
                times.push(clock.monotonic().saturating_sub(begun));
                offset += bytes as u64;
            }
        }
        self.remove(name)?;
        Ok((median_duration(block), median_duration(small)))
    }

    /// MB/s of block data that the store's pattern of writes reaches with so many puts in flight: two threads write
    /// batches of half of them into preallocated segments, and sync each batch.
    pub fn pattern(&self, in_flight: usize, time: Duration) -> anyhow::Result<f64> {
        let batch = batch_frames(in_flight);
        let per_segment = SEGMENT_BYTES / (batch * FRAME_BYTES);
        let names = self.segments(time)?;
        let batches = names.len() as u64 * per_segment;
        let next = AtomicU64::new(0);
        let written = AtomicU64::new(0);
        let clock = SystemClock::new();
        let stream = || -> anyhow::Result<()> {
            let frame = self.frame()?;
            let mut open: Option<(u64, Arc<dyn SegmentWriter>)> = None;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= batches || clock.monotonic() >= time && number > 1 {
                    return Ok(());
                }
                self.stop.check()?;
                let (segment, place) = (number / per_segment, number % per_segment);
                let file = match open.take() {
                    Some((opened, file)) if opened == segment => file,
                    _ => self.io.open_writer(&names[segment as usize])?,
                };
                let (header, block) = frame.split_at(ALIGNMENT);
                let mut parts: Vec<IoSlice<'_>> = (0..batch)
                    .flat_map(|_| [IoSlice::new(header), IoSlice::new(block)])
                    .collect();
                file.write_at(&mut parts, place * batch * FRAME_BYTES)?;
                file.sync()?;
                written.fetch_add(batch, Ordering::Relaxed);
                open = Some((segment, file));
            }
        };
        let streams = in_flight.min(2);
        let ended: anyhow::Result<()> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..streams).map(|_| scope.spawn(stream)).collect();
            running
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(ended) => ended,
                    Err(_) => bail!("a writing thread died"),
                })
        });
        let seconds = clock.monotonic().as_secs_f64();
        ended.context("the disk cannot be measured")?;
        for name in &names {
            self.remove(name)?;
        }
        let bytes = written.into_inner() * BLOCK_BYTES as u64;
        Ok(mb_per_second(bytes, seconds))
    }

    /// Segments for a run, as many as a disk of 3 GB/s fills, and no more than a quarter of the free space.
    fn segments(&self, time: Duration) -> anyhow::Result<Vec<String>> {
        let wanted = (3.0 * time.as_secs_f64()).ceil() as u64;
        let room = self.io.free_bytes()? / 4 / SEGMENT_BYTES;
        let count = wanted.min(room).clamp(1, SEGMENTS_MAX);
        let names: Vec<String> = (0..count)
            .map(|number| format!("segment-{number}"))
            .collect();
        for name in &names {
            self.segment(name)?;
        }
        Ok(names)
    }

    fn segment(&self, name: &str) -> anyhow::Result<Arc<dyn SegmentWriter>> {
        let file = self
            .io
            .create(name, SEGMENT_BYTES)
            .context("no space can be set aside on the disk")?;
        file.sync()?;
        self.io.sync_dir()?;
        Ok(file)
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.io.remove(name)?;
        Ok(self.io.sync_dir()?)
    }

    /// A frame's worth of bytes that are not zeros.
    fn frame(&self) -> anyhow::Result<AlignedBuf> {
        let mut frame = self.pool.try_take().context("all buffers are in use")?;
        frame.fill(0x5a);
        Ok(frame)
    }
}

/// Frames in a batch with so many puts in flight: while one half is written, the other waits for its turn.
pub fn batch_frames(in_flight: usize) -> u64 {
    (in_flight as u64 / 2).clamp(1, BATCH_FRAMES_MAX)
}

/// The medians of the latencies that a single put is made of: one hash and two syncs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Alone {
    /// To hash a block.
    pub hash_ms: f64,
    /// To write and sync a block's frame.
    pub sync_block_ms: f64,
    /// To write and sync 4 KiB.
    pub sync_4k_ms: f64,
}

impl Alone {
    /// Measures them, each for half of the time.
    pub fn measure(disk: &Disk, time: Duration) -> anyhow::Result<Alone> {
        let (_, hash) = hash(1, time / 2)?;
        let (block, small) = disk.syncs(time / 2)?;
        Ok(Alone {
            hash_ms: millis(hash),
            sync_block_ms: millis(block),
            sync_4k_ms: millis(small),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_half_of_what_is_in_flight_and_no_more_than_the_stores() {
        let batches = [1, 4, 16, 64, 1024].map(batch_frames);
        assert_eq!(batches, [1, 2, 8, 31, 31]);
    }

    #[test]
    fn the_machine_can_be_measured() {
        let (one, all) = hashing(Duration::from_millis(5)).expect("it hashes");
        assert!(one > 0.0 && all > 0.0);
        assert!(!processor().is_empty() && !kernel().is_empty());
    }
}
