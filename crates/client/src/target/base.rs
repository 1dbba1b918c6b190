//! Gives a target the content of the disk that it is based on.
//!
//! A base is as long as the target, or shorter: what it lacks is zeros. It may be longer where that is a device, of which only
//! the beginning counts, or where what is too much of it holds only zeros; else it is not the disk that it is said to be.
//!
//! The copy is made by reading and writing as in any transfer, which leaves holes, zeros and the page cache alone. (The kernel's
//! `copy_file_range` goes through the page cache where it cannot share the data: 210 to 290 MB/s against 410 to 480, measured
//! as in `writer.rs`. File systems that can share data are asked to first.)

use super::writer::Writer;
use crate::Error;
use crate::source::disk::BLOCK;
use crate::source::{Extent, Source};
use buffers::Aligned;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use types::{BLOCK_BYTES, BlockIndex, is_zero};

/// Threads that copy: while some read, others write.
const COPIERS: usize = 4;

/// Blocks that a thread takes at once: 32 MiB.
const PIECE: u32 = 64;

/// Refuses a file that has data past `bytes`, unless it is stopped.
pub(super) fn check_length(
    base: &Source,
    name: &Path,
    bytes: u64,
    stop: &AtomicBool,
) -> Result<(), Error> {
    if base.is_device() || base.bytes().is_none_or(|length| length <= bytes) {
        return Ok(());
    }
    let mut buffer = Aligned::zeroed(BLOCK_BYTES);
    // A volume has no more blocks than 32 bits count.
    let mut from = (bytes / BLOCK) as u32;
    while let Some(run) = base.next_data(from)? {
        from = run.start + run.count;
        for index in blocks(run) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            base.read_block(index, buffer.as_mut_slice())?;
            let skipped = bytes
                .saturating_sub(u64::from(index.get()) * BLOCK)
                .min(BLOCK) as usize;
            if !is_zero(&buffer.as_slice()[skipped..]) {
                return Err(Error::Unfit(format!(
                    "the base {} has data past the {bytes} bytes that are to be written: block {index}",
                    name.display()
                )));
            }
        }
    }
    Ok(())
}

/// Copies all that a target can hold, unless it is stopped.
pub(super) fn copy(base: &Source, writer: &Writer, stop: &AtomicBool) -> Result<(), Error> {
    let copying = Copying {
        base,
        writer,
        stop,
        failed: AtomicBool::new(false),
        taken: Mutex::new(0),
        end: writer.disk().bytes().div_ceil(BLOCK) as u32,
    };
    std::thread::scope(|scope| {
        let copiers: Vec<_> = (0..COPIERS)
            .map(|_| scope.spawn(|| copying.run()))
            .collect();
        let results: Vec<_> = copiers
            .into_iter()
            .map(|copier| {
                copier
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        // Those that stopped because another failed have less to say.
        let (less, more): (Vec<_>, Vec<_>) = results
            .into_iter()
            .filter_map(Result::err)
            .partition(|error| matches!(error, Error::Interrupted));
        more.into_iter().chain(less).next().map_or(Ok(()), Err)
    })
}

struct Copying<'a> {
    base: &'a Source,
    writer: &'a Writer,
    stop: &'a AtomicBool,
    failed: AtomicBool,
    /// The blocks before this one are taken.
    taken: Mutex<u32>,
    end: u32,
}

/// Blocks of which the base has no data, and those after them of which it may.
struct Piece {
    hole: Extent,
    data: Extent,
}

impl Copying<'_> {
    fn run(&self) -> Result<(), Error> {
        let result = self.copy_pieces();
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn copy_pieces(&self) -> Result<(), Error> {
        let mut buffer = Aligned::zeroed(BLOCK_BYTES);
        while let Some(piece) = self.take()? {
            self.zero(piece.hole.start, piece.data.start)?;
            self.copy_data(piece.data, buffer.as_mut_slice())?;
        }
        Ok(())
    }

    /// The next piece; nothing at the end.
    fn take(&self) -> Result<Option<Piece>, Error> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if *taken == self.end {
            return Ok(None);
        }
        let (start, count) = match self.base.next_data(*taken)? {
            Some(run) if run.start < self.end => {
                (run.start, run.count.min(self.end - run.start).min(PIECE))
            }
            _ => (self.end, 0),
        };
        let hole = Extent {
            start: *taken,
            count: start - *taken,
        };
        *taken = start + count;
        let data = Extent { start, count };
        Ok(Some(Piece { hole, data }))
    }

    fn copy_data(&self, data: Extent, buffer: &mut [u8]) -> Result<(), Error> {
        // What lies before it is done, but for a run of zeros that ends at the block in hand.
        let mut done = data.start;
        for index in blocks(data) {
            self.check_stopped()?;
            self.base.read_block(index, buffer)?;
            buffer[self.writer.disk().bytes_of(index)..].fill(0);
            if is_zero(buffer) {
                continue;
            }
            self.zero(done, index.get())?;
            self.writer.write_block(index, buffer)?;
            done = index.get() + 1;
        }
        self.zero(done, data.start + data.count)
    }

    fn zero(&self, start: u32, end: u32) -> Result<(), Error> {
        let mut start = start;
        while start < end {
            self.check_stopped()?;
            let count = (end - start).min(super::ZERO_BLOCKS);
            self.writer.zero(Extent { start, count })?;
            start += count;
        }
        Ok(())
    }

    fn check_stopped(&self) -> Result<(), Error> {
        match self.stop.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

fn blocks(run: Extent) -> impl Iterator<Item = BlockIndex> {
    (run.start..run.start + run.count).filter_map(BlockIndex::new)
}
