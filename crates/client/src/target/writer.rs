//! Blocks and zeros written to a file or device at any place, by many threads at once.
//!
//! Whole blocks go around the page cache with `O_DIRECT` where that works; what is left of a length that is no multiple of
//! 4 KiB goes through it. Zeros are made without writing where possible (`zeroing.rs`).
//!
//! Measured with `examples/disk_rate.rs` (1 GiB, see `source/disk.rs`), from the first write until all is durable: 560 to
//! 900 MB/s with `O_DIRECT`, 280 to 430 through the page cache.

use super::zeroing::{self, Zeroing};
use crate::Error;
use crate::source::Extent;
use crate::source::blocks::BlockSet;
use crate::source::disk::{BLOCK, Disk};
use buffers::{ALIGNMENT, Aligned, is_aligned};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::io;
use types::{BLOCK_BYTES, BlockIndex, is_zero};

/// What a block that was never written reads as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unwritten {
    /// Zeros: it is a new file.
    Zeros,
    /// Whatever stands there.
    Anything,
}

/// A disk that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    disk: Disk,
    zeroing: Zeroing,
    /// What was written, where all else is zeros already.
    written: Option<BlockSet>,
}

impl Writer {
    /// Writes to a disk that is open for that.
    pub(super) fn new(disk: Disk, unwritten: Unwritten) -> Writer {
        let written = match unwritten {
            Unwritten::Zeros => Some(BlockSet::new(disk.bytes().div_ceil(BLOCK))),
            Unwritten::Anything => None,
        };
        Writer {
            disk,
            zeroing: Zeroing::default(),
            written,
        }
    }

    /// The same with other ways to make zeros.
    #[cfg(test)]
    pub(super) fn with_ways(self, ways: &'static [zeroing::Way]) -> Writer {
        Writer {
            zeroing: Zeroing::with_ways(ways),
            ..self
        }
    }

    /// The disk, to read.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Writes a block; what lies past the end must be zeros.
    pub(super) fn write_block(&self, index: BlockIndex, data: &[u8]) -> Result<(), Error> {
        assert_eq!(data.len(), BLOCK_BYTES, "what is written is a block");
        let inside = self.disk.bytes_of(index);
        if !is_zero(&data[inside..]) {
            return Err(past_end(self.disk.name(), index, self.disk.bytes()));
        }
        if let Some(written) = &self.written {
            let index = u64::from(index.get());
            written.insert(index, index + 1);
        }
        let offset = u64::from(index.get()) * BLOCK;
        if is_aligned(data) {
            return self.write_at(&data[..inside], offset);
        }
        let mut aligned = Aligned::zeroed(BLOCK_BYTES);
        aligned.as_mut_slice().copy_from_slice(data);
        self.write_at(&aligned.as_slice()[..inside], offset)
    }

    /// Makes a run of blocks read as zeros, as far as it lies on the disk.
    pub(super) fn zero(&self, extent: Extent) -> Result<(), Error> {
        let end = u64::from(extent.start) + u64::from(extent.count);
        let Some(written) = &self.written else {
            return self.zero_blocks(u64::from(extent.start), end);
        };
        let mut from = extent.start;
        // Not further: a volume of holes is zeroed in very many pieces.
        while let Some(run) = written.next_before(from, end) {
            let start = u64::from(run.start);
            self.zero_blocks(start, start + u64::from(run.count))?;
            from = run.start + run.count;
        }
        Ok(())
    }

    fn zero_blocks(&self, start: u64, end: u64) -> Result<(), Error> {
        let mut at = start * BLOCK;
        let end = (end * BLOCK).min(self.disk.bytes());
        while at < end {
            let bytes = (end - at).min(zeroing::STEP);
            self.zeroing.zero(self, at, bytes)?;
            at += bytes;
        }
        Ok(())
    }

    /// Writes bytes of aligned memory at a multiple of 4 KiB.
    pub(super) fn write_at(&self, data: &[u8], offset: u64) -> Result<(), Error> {
        let whole = data.len() / ALIGNMENT * ALIGNMENT;
        let written = match self.disk.direct() {
            Some(direct) => self.write_direct(direct, &data[..whole], offset),
            None => Ok(0),
        };
        written
            .and_then(|written| {
                write_all(self.disk.file(), &data[written..], offset + written as u64)
            })
            .map_err(|source| Error::Io {
                what: format!("{} cannot be written at {offset}", self.disk.name()),
                source,
            })
    }

    /// Answers early when it is refused.
    fn write_direct(&self, direct: BorrowedFd<'_>, data: &[u8], offset: u64) -> io::Result<usize> {
        let mut written = 0;
        while written < data.len() && written.is_multiple_of(ALIGNMENT) {
            match rustix::io::pwrite(direct, &data[written..], offset + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    self.disk.refuse_direct();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }
}

/// That a block has data where the target has ended.
pub(super) fn past_end(name: &str, index: BlockIndex, bytes: u64) -> Error {
    Error::Unfit(format!(
        "block {index} has data past the end of {name} at {bytes} bytes"
    ))
}

fn write_all(file: BorrowedFd<'_>, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(file, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => {
                data = &data[more..];
                offset += more as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
