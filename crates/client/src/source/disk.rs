//! A file or block device that is read at any place, by many threads at once.
//!
//! The page cache of the host belongs to its programs, and a disk read from end to end would push their pages out:
//!
//! - A block device is read with `O_DIRECT`. That also gives what the device holds rather than what an old page of it says
//!   while a file system is mounted on it.
//! - A file is read through the cache with `RWF_DONTCACHE` (Linux 6.14): pages that are there are used and stay, pages that were
//!   not there go again. A file that was just written is read at the speed of memory.
//! - Where the kernel or file system has no `RWF_DONTCACHE`, a file that fits into half of the memory that is free is read through
//!   the cache, since it is as likely to be there as it is to fit, and a larger one with `O_DIRECT`.
//! - Where there is no `O_DIRECT` either, what was read is dropped behind.
//!
//! Measured with `examples/disk_rate.rs`: 1 GiB on ext4 on a virtio disk, 2 busy cores, 2 threads, medians of 5, MB/s, range of
//! several runs:
//!
//! | | as here | plain buffered | `O_DIRECT` |
//! |---|---|---|---|
//! | file not in the page cache | 980 - 1,250 | 460 - 720 | 1,000 - 1,140 |
//! | file in the page cache | 5,600 - 10,500 | 6,200 - 11,100 | 1,080 - 1,140 |

#[cfg(test)]
mod tests;

use super::Extent;
use crate::Error;
use buffers::{ALIGNMENT, Aligned, is_aligned};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Advice, Mode, OFlags, SeekFrom, Stat};
use rustix::io::{Errno, ReadWriteFlags};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{BLOCK_BYTES, BlockIndex};

/// Bytes of one block, as offsets count them.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;

/// Pairs of seeks that one call makes before it answers with what it has: about a millisecond.
const SEEKS_MAX: usize = 1024;

/// Reads that leave in the page cache what was there before, and nothing else: since Linux 6.14.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// What kind of disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DiskKind {
    /// A regular file.
    File,
    /// A block device.
    Device,
}

/// An open file or device.
#[derive(Debug)]
pub(crate) struct Disk {
    file: OwnedFd,
    /// The same one without the page cache, where that is possible.
    direct: Option<OwnedFd>,
    kind: DiskKind,
    name: String,
    bytes: u64,
    direct_refused: AtomicBool,
    direct_first: bool,
    dont_cache: AtomicBool,
}

impl Disk {
    /// Takes an open file or device, and opens it again without the page cache by `flags`. `name` is for messages.
    pub(crate) fn new(
        file: OwnedFd,
        kind: DiskKind,
        name: String,
        bytes: u64,
        flags: OFlags,
    ) -> Disk {
        let direct = reopen(&file, flags | OFlags::DIRECT).ok();
        let direct_first = match kind {
            DiskKind::Device => true,
            DiskKind::File => bytes > available_memory() / 2,
        };
        // Advice: most disks are read from their beginning to their end.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        Disk {
            file,
            direct,
            kind,
            name,
            bytes,
            direct_refused: AtomicBool::new(false),
            direct_first,
            dont_cache: AtomicBool::new(kind == DiskKind::File),
        }
    }

    /// What kind it is.
    pub(crate) fn kind(&self) -> DiskKind {
        self.kind
    }

    /// For messages: its path.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that count; what lies behind them is never touched.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, with the page cache.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The file without the page cache, as long as it works.
    pub(crate) fn direct(&self) -> Option<BorrowedFd<'_>> {
        if self.direct_refused.load(Ordering::Relaxed) {
            return None;
        }
        self.direct.as_ref().map(AsFd::as_fd)
    }

    /// Notes that the file system takes the flag and refuses the access.
    pub(crate) fn refuse_direct(&self) {
        self.direct_refused.store(true, Ordering::Relaxed);
    }

    /// Bytes of a block that lie on this disk.
    pub(crate) fn bytes_of(&self, index: BlockIndex) -> usize {
        let offset = u64::from(index.get()) * BLOCK;
        // No more than a block, so it fits.
        self.bytes.saturating_sub(offset).min(BLOCK) as usize
    }

    /// Reads a block; what lies past the end is filled with zeros.
    pub(crate) fn read_block(&self, index: BlockIndex, buffer: &mut [u8]) -> Result<(), Error> {
        assert_eq!(buffer.len(), BLOCK_BYTES, "a block is read into a block");
        let wanted = self.bytes_of(index);
        let offset = u64::from(index.get()) * BLOCK;
        let read = if is_aligned(buffer) {
            self.read_at(buffer, wanted, offset)
        } else {
            let mut aligned = Aligned::zeroed(BLOCK_BYTES);
            let read = self.read_at(aligned.as_mut_slice(), wanted, offset);
            buffer.copy_from_slice(aligned.as_slice());
            read
        };
        let read = read.map_err(|source| Error::Io {
            what: format!("{} cannot be read at {offset}", self.name),
            source,
        })?;
        if read < wanted {
            return Err(Error::Unfit(format!(
                "{} is shorter than when it was opened: it ends at {} of {} bytes",
                self.name,
                offset + read as u64,
                self.bytes
            )));
        }
        buffer[wanted..].fill(0);
        Ok(())
    }

    /// Fills an aligned buffer from a multiple of 4 KiB.
    pub(crate) fn read_exactly(&self, into: &mut [u8], offset: u64) -> Result<(), Error> {
        let wanted = into.len();
        let read = self.read_at(into, wanted, offset);
        let whole = read.and_then(|read| match read < wanted {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        });
        whole.map_err(|source| Error::Io {
            what: format!("{} cannot be read at {offset}", self.name),
            source,
        })
    }

    /// The next run of blocks from `from` on that may hold data, as the file system tells. Blocks that it tells to be adjacent
    /// are one run, unless there are very many of them.
    pub(crate) fn next_data(&self, from: u32) -> Result<Option<Extent>, Error> {
        let mut at = u64::from(from) * BLOCK;
        let Some(start) = self.seek_data(at)? else {
            return Ok(None);
        };
        let first = start / BLOCK;
        let mut end = first;
        at = start;
        for _ in 0..SEEKS_MAX {
            // From here on the next block is asked for, so no block costs more than two seeks.
            end = self.seek_hole(at)?.div_ceil(BLOCK);
            at = end * BLOCK;
            match self.seek_data(at)? {
                Some(data) if data / BLOCK == end => at = data,
                _ => break,
            }
        }
        Ok(Some(extent(first, end)))
    }

    /// Where data begins at or after an offset.
    fn seek_data(&self, at: u64) -> Result<Option<u64>, Error> {
        if at >= self.bytes {
            return Ok(None);
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => Ok((data < self.bytes).then_some(data)),
            Err(Errno::NXIO) => Ok(None),
            // Devices, and file systems that do not know: anything may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Some(at)),
            Err(error) => Err(self.seek_failed(at, error)),
        }
    }

    /// Where the data at an offset ends.
    fn seek_hole(&self, at: u64) -> Result<u64, Error> {
        match rustix::fs::seek(&self.file, SeekFrom::Hole(at)) {
            // A hole at the offset itself: it was punched meanwhile. The block is read, and found to be zeros.
            Ok(hole) => Ok(hole.clamp(at + 1, self.bytes)),
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(self.bytes),
            Err(error) => Err(self.seek_failed(at, error)),
        }
    }

    fn seek_failed(&self, at: u64, error: Errno) -> Error {
        Error::io(format!("{} cannot be searched for data at {at}", self.name))(error.into())
    }

    /// Reads at least `wanted` bytes if they are there. The buffer is aligned.
    fn read_at(&self, into: &mut [u8], wanted: usize, offset: u64) -> io::Result<usize> {
        let into = &mut into[..wanted.next_multiple_of(ALIGNMENT)];
        let mut read = 0;
        if self.dont_cache.load(Ordering::Relaxed) {
            read = self.read_without_trace(into, wanted, offset)?;
            if read >= wanted || self.dont_cache.load(Ordering::Relaxed) {
                return Ok(read);
            }
        }
        if self.direct_first
            && let Some(direct) = self.direct()
        {
            read = self.read_direct(direct, into, wanted, offset)?;
        }
        self.read_buffered(into, read, wanted, offset)
    }

    /// Through the cache, leaving it as it was; nothing where the file system cannot.
    fn read_without_trace(&self, into: &mut [u8], wanted: usize, offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < wanted {
            let mut parts = [IoSliceMut::new(&mut into[read..wanted])];
            match rustix::io::preadv2(&self.file, &mut parts, offset + read as u64, DONT_CACHE) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    self.dont_cache.store(false, Ordering::Relaxed);
                    return Ok(0);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(read)
    }

    /// Around the cache; answers early at an odd place, or when it is refused.
    fn read_direct(
        &self,
        direct: BorrowedFd<'_>,
        into: &mut [u8],
        wanted: usize,
        offset: u64,
    ) -> io::Result<usize> {
        let mut read = 0;
        while read < wanted && read.is_multiple_of(ALIGNMENT) {
            match rustix::io::pread(direct, &mut into[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                    self.refuse_direct();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(read)
    }

    /// Through the cache, from `read` on; what had to go around it is dropped behind.
    fn read_buffered(
        &self,
        into: &mut [u8],
        mut read: usize,
        wanted: usize,
        offset: u64,
    ) -> io::Result<usize> {
        let before = read;
        while read < wanted {
            match rustix::io::pread(&self.file, &mut into[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.direct_first
            && let Some(bytes) = NonZeroU64::new((read - before) as u64)
        {
            // Advice: if it is not taken, the kernel drops them when it must.
            let _ = rustix::fs::fadvise(
                &self.file,
                offset + before as u64,
                Some(bytes),
                Advice::DontNeed,
            );
        }
        Ok(read)
    }
}

/// The same file by a description of its own, which shares neither position nor flags.
pub(crate) fn reopen(file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Length in bytes of a file or device. Moves the position.
pub(crate) fn length(file: impl AsFd, kind: DiskKind, stat: &Stat) -> io::Result<u64> {
    match kind {
        DiskKind::File => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        DiskKind::Device => Ok(rustix::fs::seek(file, SeekFrom::End(0))?),
    }
}

/// The extent from one block to before another.
pub(crate) fn extent(start: u64, end: u64) -> Extent {
    let fits = "no disk is opened that has more blocks than 32 bits count";
    Extent {
        start: u32::try_from(start).expect(fits),
        count: u32::try_from(end - start).expect(fits),
    }
}

/// Bytes that programs can get without others losing theirs; everything where the kernel does not say.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}
