//! The narrow floor of the local store: what it asks of a file system.
//!
//! Everything durable goes through these calls, so a test that counts them, fails them or cuts the power between them
//! has seen every state a crash can leave. All calls block.

use rustix::io::Errno;
use std::io;
use std::io::IoSlice;
use std::sync::Arc;

/// A directory of segment files.
///
/// A trait because there is the real file system and a faulty one for tests.
///
/// Contract: a new, renamed or removed name is durable after [`SegmentIo::sync_dir`], content and length after the
/// file's own sync; before that a crash may leave the old or the new state, of content in units of 4 KiB, each for
/// itself. Names are plain file names.
pub trait SegmentIo: Send + Sync + 'static {
    /// Creates a file of `bytes` zeros whose space is set aside where the file system can; fails when the name exists.
    /// A failed call leaves no file.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentWriter>>;

    /// Opens an existing file to change it. Each handle is told of a write that failed behind its back by its own next
    /// sync, so two handles of one file can be synced at once.
    fn open_writer(&self, name: &str) -> io::Result<Arc<dyn SegmentWriter>>;

    /// Opens an existing file to read it.
    fn open_reader(&self, name: &str) -> io::Result<Arc<dyn SegmentReader>>;

    /// Removes a file; open handles stay usable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created and removed names durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Bytes that can still be set aside.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A segment file open for change.
pub trait SegmentWriter: Send + Sync {
    /// Writes the parts one after the other from `offset` on. Address, length and offset of each part are multiples of
    /// 4 KiB. After an error any of the bytes may have been written.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes all writes that returned before, through any handle, durable, with what is needed to read them.
    fn sync(&self) -> io::Result<()>;

    /// Gives back the space of these bytes, which then read as zeros. Multiples of 4 KiB.
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Cuts the file to `bytes`.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// A segment file open for reading.
pub trait SegmentReader: Send + Sync {
    /// Appends up to `bytes` bytes from `offset` on to `into`; fewer only at the end of the file. The caller has
    /// reserved exactly that capacity.
    fn read_at(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()>;

    /// Fills `into` from `offset` on if that needs no waiting for the disk; answers whether it did. What is in `into` when it
    /// did not is of no meaning.
    fn read_cached(&self, into: &mut [u8], offset: u64) -> io::Result<bool>;

    /// As [`SegmentReader::read_at`], of what the disk holds rather than memory, where the system can.
    fn read_stored(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()>;

    /// Lets the system read nothing but what is asked for through this handle. A scan jumps, and what is read ahead of it where nothing was
    /// written counts as data afterwards.
    fn read_nothing_ahead(&self);

    /// The first offset from `offset` on that may hold anything but zeros; `None` when only zeros follow.
    fn data_from(&self, offset: u64) -> io::Result<Option<u64>>;

    /// Length of the file in bytes.
    fn bytes(&self) -> io::Result<u64>;
}

/// Whether an error of a read means that the medium has lost what was there. Through the page cache all of these are EIO; a direct read
/// hands out what the block layer says: a bad sector, a checksum of the disk's or of the file system's own that does not match.
pub(crate) fn is_bad_sector(error: &io::Error) -> bool {
    [
        Errno::IO,
        Errno::NODATA,
        Errno::ILSEQ,
        Errno::REMOTEIO,
        Errno::BADMSG,
        Errno::UCLEAN,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
