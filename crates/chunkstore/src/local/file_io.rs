//! The real file system under the local store.
//!
//! Writes go around the page cache with `O_DIRECT` where the file system can, since they would only push out what
//! readers use and cost a copy; reads go through it, by file descriptors of their own. Which way writes go is tried
//! once, at open, and said in the log.

use super::io::{SegmentIo, SegmentReader, SegmentWriter};
use crate::ALIGNMENT;
use buffers::Aligned;
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How segments are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteMode {
    /// `O_DIRECT` if a trial write works, else through the page cache.
    Detect,
    /// Through the page cache.
    Buffered,
}

/// Parts of one vectored write, as Linux limits them (`IOV_MAX`).
const PARTS_MAX: usize = 1024;

/// The name of the trial file; removed at once.
const TRIAL_NAME: &str = "direct-io-trial";

/// A directory on a real file system.
#[derive(Debug)]
pub struct FileIo {
    path: PathBuf,
    dir: OwnedFd,
    direct: bool,
    warned: Arc<Warned>,
}

/// What the log has been told already.
#[derive(Default, Debug)]
struct Warned {
    no_fallocate: AtomicBool,
    no_punch: AtomicBool,
}

impl FileIo {
    /// Opens the directory, which must exist.
    ///
    /// # Errors
    /// When it cannot be opened or the trial write fails for another reason than `O_DIRECT`.
    pub fn open(path: &Path, mode: WriteMode) -> io::Result<FileIo> {
        let mut io = FileIo::open_to_read(path)?;
        match mode {
            WriteMode::Buffered => {}
            WriteMode::Detect => io.direct = io.try_direct()?,
        }
        tracing::info!(path = %path.display(), direct = io.direct, "segments are written");
        Ok(io)
    }

    /// Opens the directory, which must exist, without a trial of how to write: changes nothing.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_to_read(path: &Path) -> io::Result<FileIo> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(FileIo {
            path: path.to_owned(),
            dir,
            direct: false,
            warned: Arc::default(),
        })
    }

    /// Whether writes go around the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// A file system may take the flag and refuse the write, so one block is written.
    fn try_direct(&self) -> io::Result<bool> {
        self.remove_if_there(TRIAL_NAME)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let tried = self
            .open_file(TRIAL_NAME, flags | OFlags::DIRECT)
            .and_then(|file| {
                let block = Aligned::zeroed(ALIGNMENT);
                rustix::io::pwrite(&file, block.as_slice(), 0)
            });
        self.remove_if_there(TRIAL_NAME)?;
        match tried {
            Ok(written) => Ok(written == ALIGNMENT),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(Errno::NOSPC | Errno::DQUOT) => {
                tracing::warn!("no space for a trial of direct writes; the page cache is used");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(
            &self.dir,
            name,
            flags | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        )
    }

    fn remove_if_there(&self, name: &str) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn writer(&self, name: &str, more: OFlags) -> io::Result<FileWriter> {
        let direct = if self.direct {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        let file = self.open_file(name, OFlags::RDWR | OFlags::CLOEXEC | direct | more)?;
        Ok(FileWriter {
            file,
            warned: Arc::clone(&self.warned),
        })
    }
}

impl SegmentIo for FileIo {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentWriter>> {
        let writer = self.writer(name, OFlags::CREATE | OFlags::EXCL)?;
        if let Err(error) = writer.allocate(bytes) {
            self.remove_if_there(name)?;
            return Err(error.into());
        }
        Ok(Arc::new(writer))
    }

    fn open_writer(&self, name: &str) -> io::Result<Arc<dyn SegmentWriter>> {
        Ok(Arc::new(self.writer(name, OFlags::empty())?))
    }

    fn open_reader(&self, name: &str) -> io::Result<Arc<dyn SegmentReader>> {
        let file = self.open_file(name, OFlags::RDONLY | OFlags::CLOEXEC)?;
        Ok(Arc::new(FileReader {
            file,
            direct: self.direct,
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.dir, name, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not text cannot be a segment's.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let system = rustix::fs::fstatvfs(&self.dir)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

struct FileWriter {
    file: OwnedFd,
    warned: Arc<Warned>,
}

impl FileWriter {
    fn allocate(&self, bytes: u64) -> Result<(), Errno> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                if !self.warned.no_fallocate.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "this file system cannot set space aside; writes will be slower"
                    );
                }
                rustix::fs::ftruncate(&self.file, bytes)
            }
            other => other,
        }
    }
}

impl SegmentWriter for FileWriter {
    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        while !parts.is_empty() {
            let count = parts.len().min(PARTS_MAX);
            let written = match rustix::io::pwritev(&self.file, &parts[..count], offset) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut parts, written);
            offset += written as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, mode, offset, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                if !self.warned.no_punch.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "this file system cannot punch holes; space returns only with whole segments"
                    );
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&self.file, bytes)?)
    }
}

struct FileReader {
    file: OwnedFd,
    direct: bool,
}

impl FileReader {
    /// The same file around the page cache; nothing where the file system has no such way.
    fn open_direct(&self) -> Option<OwnedFd> {
        if !self.direct {
            return None;
        }
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).ok()
    }
}

impl SegmentReader for FileReader {
    fn read_at(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        let (start, end) = (into.len(), into.len() + bytes);
        while into.len() < end {
            let at = offset + (into.len() - start) as u64;
            match rustix::io::pread(&self.file, spare_capacity(into), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        into.truncate(end);
        Ok(())
    }

    fn read_cached(&self, into: &mut [u8], offset: u64) -> io::Result<bool> {
        let bytes = into.len();
        let mut parts = [IoSliceMut::new(into)];
        match rustix::io::preadv2(&self.file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read == bytes),
            // Not in memory; or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn read_stored(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        let Some(file) = self.open_direct() else {
            return self.read_at(into, bytes, offset);
        };
        let start = offset / ALIGNMENT as u64 * ALIGNMENT as u64;
        let skipped = (offset - start) as usize;
        let mut aligned = Aligned::zeroed((skipped + bytes).next_multiple_of(ALIGNMENT));
        let mut read = 0;
        while read < skipped + bytes {
            match rustix::io::pread(
                &file,
                &mut aligned.as_mut_slice()[read..],
                start + read as u64,
            ) {
                Ok(0) => break,
                Ok(more) if more.is_multiple_of(ALIGNMENT) => read += more,
                // The end of the file: what follows begins at no multiple.
                Ok(more) => {
                    read += more;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let end = read.min(skipped + bytes);
        into.extend_from_slice(aligned.as_slice().get(skipped..end).unwrap_or_default());
        Ok(())
    }

    fn read_nothing_ahead(&self) {
        // Advice: without it a scan takes longer.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Random);
    }

    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            // Without the call any byte may be data.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                Ok((offset < self.bytes()?).then_some(offset))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(&self.file)?.st_size).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_at_any_place_and_length() {
        // Not on a file system in memory, which may have no direct reads.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let io = FileIo::open(dir.path(), WriteMode::Detect).unwrap();
        let file = io.create("file", 1 << 20).unwrap();
        let mut block = buffers::Aligned::zeroed(1 << 20);
        for (number, byte) in (0_u32..).zip(block.as_mut_slice()) {
            *byte = (number % 251) as u8;
        }
        file.write_at(&mut [IoSlice::new(block.as_slice())], 0)
            .unwrap();
        file.truncate((1 << 20) - 100).unwrap();
        file.sync().unwrap();
        let reader = io.open_reader("file").unwrap();
        for (offset, bytes) in [(0, 1), (4_096, 4_096), (4_097, 10_000), (1 << 19, 528_384)] {
            let (mut stored, mut usual) = (Vec::new(), Vec::with_capacity(bytes));
            reader.read_stored(&mut stored, bytes, offset).unwrap();
            reader.read_at(&mut usual, bytes, offset).unwrap();
            assert!(stored == usual, "{bytes} bytes at {offset}");
        }
        let mut behind = Vec::new();
        reader.read_stored(&mut behind, 10, 1 << 20).unwrap();
        assert!(behind.is_empty());
    }
}
