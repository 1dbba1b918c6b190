//! What an upload reads: a file, a block device, or a stream.
//!
//! ```text
//! source/disk.rs     a file or device, read at any place, without ruining the host's page cache
//! source/map.rs      what qemu-img says about its zeros; source/blocks.rs: a set of blocks
//! source/stream.rs   what can only be read once
//! ```

pub(crate) mod blocks;
pub(crate) mod disk;
mod map;
mod stream;
#[cfg(test)]
mod tests;

use crate::Error;
use disk::{BLOCK, Disk, DiskKind, length, reopen};
use map::Map;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stream::Stream;
use types::BlockIndex;

/// Where the bytes come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourcePath {
    /// A file or a block device; a FIFO or character device is read as a stream.
    Path(PathBuf),
    /// Standard input: a stream, unless it is redirected from the beginning of a file or device, which is then read as such.
    Stdin,
}

/// How to read.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The output of `qemu-img map --output=json` for this raw source, to be believed about holes instead of the file system,
    /// also where it claims a hole and there is data.
    pub map: Option<PathBuf>,
}

/// A run of blocks that may hold data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// An open source. All reads are positioned and may come from many threads at once, except those of a stream.
#[derive(Debug)]
pub struct Source {
    kind: Kind,
    identity: String,
}

#[derive(Debug)]
enum Kind {
    Disk {
        disk: Disk,
        map: Option<Map>,
        opened: Stat,
    },
    Stream(Stream),
}

impl Source {
    /// Opens it; a device or file is read past the page cache or leaves nothing in it that was not there. A FIFO is waited for until
    /// someone writes to it. Blocking.
    ///
    /// # Errors
    /// [`Error::Unfit`]: a directory or other thing without content, larger than the largest volume, a map that is not this
    /// source's, a map for a stream; [`Error::Io`].
    pub fn open(path: &SourcePath, options: &SourceOptions) -> Result<Source, Error> {
        let opened = match path {
            SourcePath::Path(path) => open_path(path)?,
            SourcePath::Stdin => open_stdin()?,
        };
        Source::of(opened, options)
    }

    fn of(opened: Opened, options: &SourceOptions) -> Result<Source, Error> {
        let Opened { file, name, place } = opened;
        let stat = rustix::fs::fstat(&file)
            .map_err(|error| Error::io(format!("{name} cannot be examined"))(error.into()))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => DiskKind::File,
            FileType::BlockDevice => DiskKind::Device,
            FileType::Fifo | FileType::CharacterDevice | FileType::Socket => {
                return Source::stream(file, name, options);
            }
            _ => {
                return Err(Error::Unfit(format!(
                    "{name} is neither a file nor a device nor a stream"
                )));
            }
        };
        // Standard input that was read in part goes on from there. What was just opened stands at its beginning.
        if rustix::fs::seek(&file, SeekFrom::Current(0)).is_ok_and(|position| position > 0) {
            return Source::stream(file, name, options);
        }
        // A description of its own, whose position nobody else uses.
        let file = reopen(&file, OFlags::RDONLY).unwrap_or(file);
        let bytes = length(&file, kind, &stat)
            .map_err(Error::io(format!("the size of {name} cannot be found")))?;
        if bytes.div_ceil(BLOCK) > u64::from(BlockIndex::COUNT_MAX) {
            return Err(Error::Unfit(format!(
                "{name} has {bytes} bytes, more than 64 TiB, the largest volume"
            )));
        }
        let map = match &options.map {
            Some(map) => Some(Map::read(map, bytes)?),
            None => None,
        };
        let (word, number) = match kind {
            DiskKind::File => ("file", stat.st_ino),
            DiskKind::Device => ("device", stat.st_rdev),
        };
        Ok(Source {
            identity: format!("{word} {place} {bytes} {number}"),
            kind: Kind::Disk {
                disk: Disk::new(file, kind, name, bytes, OFlags::RDONLY),
                map,
                opened: stat,
            },
        })
    }

    /// Length in bytes; nothing for a stream.
    pub fn bytes(&self) -> Option<u64> {
        match &self.kind {
            Kind::Disk { disk, .. } => Some(disk.bytes()),
            Kind::Stream(_) => None,
        }
    }

    /// What identifies it across runs, for state and digest files: kind, path, length, inode or device number. One line.
    pub fn identity(&self) -> String {
        self.identity.clone()
    }

    /// The next run of blocks from `from` on that may hold data; everything before it reads as zeros. Not for streams. Blocking.
    ///
    /// Of a file these are the parts that its file system has not as holes, of a device all, of a source with a map what the map
    /// says. Adjacent runs may be told one by one.
    pub fn next_data(&self, from: u32) -> Result<Option<Extent>, Error> {
        match &self.kind {
            Kind::Disk { map: Some(map), .. } => Ok(map.next_data(from)),
            Kind::Disk { disk, .. } => disk.next_data(from),
            Kind::Stream(stream) => Err(unknown_before(stream)),
        }
    }

    /// Reads one block; what lies past the end is filled with zeros. Best into a buffer that is aligned. Blocking.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unfit`] when the source is shorter than it was when it was opened.
    pub fn read_block(&self, index: BlockIndex, buffer: &mut [u8]) -> Result<(), Error> {
        match &self.kind {
            Kind::Disk { disk, .. } => disk.read_block(index, buffer),
            Kind::Stream(stream) => Err(unknown_before(stream)),
        }
    }

    /// Reads the next block of a stream, filled up with zeros at its end; false when nothing is left. Blocking.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unfit`] when the stream is longer than the largest volume, or the source is no stream.
    pub fn read_next(&self, buffer: &mut [u8]) -> Result<bool, Error> {
        match &self.kind {
            Kind::Disk { disk, .. } => Err(Error::Unfit(format!("{} is no stream", disk.name()))),
            Kind::Stream(stream) => stream.read_next(buffer),
        }
    }

    /// Bytes of a stream that were read so far: at its end, its length. Nothing for another source.
    pub(crate) fn bytes_streamed(&self) -> Option<u64> {
        match &self.kind {
            Kind::Disk { .. } => None,
            Kind::Stream(stream) => Some(stream.bytes_read()),
        }
    }

    /// Whether the source is still what was opened: [`Error::Unfit`] when its length changed; true when only its time of
    /// modification did. Of a device only the length is known, of a stream nothing.
    pub fn was_modified(&self) -> Result<bool, Error> {
        let Kind::Disk { disk, opened, .. } = &self.kind else {
            return Ok(false);
        };
        let name = disk.name();
        let now = rustix::fs::fstat(disk.file())
            .map_err(|error| Error::io(format!("{name} cannot be examined"))(error.into()))?;
        let bytes = match disk.kind() {
            DiskKind::File => length(disk.file(), DiskKind::File, &now),
            // A description of its own: another thread may be seeking.
            DiskKind::Device => reopen(disk.file(), OFlags::RDONLY)
                .map_err(Into::into)
                .and_then(|file| length(file, DiskKind::Device, &now)),
        }
        .map_err(Error::io(format!("the size of {name} cannot be found")))?;
        if bytes != disk.bytes() {
            return Err(Error::Unfit(format!(
                "{name} had {} bytes when it was opened and has {bytes} now",
                disk.bytes()
            )));
        }
        let times = |stat: &Stat| {
            (
                stat.st_mtime,
                stat.st_mtime_nsec,
                stat.st_ctime,
                stat.st_ctime_nsec,
            )
        };
        Ok(disk.kind() == DiskKind::File && times(&now) != times(opened))
    }

    /// Whether it is a block device.
    pub(crate) fn is_device(&self) -> bool {
        matches!(&self.kind, Kind::Disk { disk, .. } if disk.kind() == DiskKind::Device)
    }

    /// Makes an empty file share all data with this one, where the file system can.
    pub(crate) fn clone_into(&self, file: impl AsFd) -> bool {
        match &self.kind {
            Kind::Disk { disk, .. } => rustix::fs::ioctl_ficlone(file, disk.file()).is_ok(),
            Kind::Stream(_) => false,
        }
    }

    fn stream(file: OwnedFd, name: String, options: &SourceOptions) -> Result<Source, Error> {
        if options.map.is_some() {
            return Err(Error::Unfit(format!(
                "{name} is a stream: a map is of no use"
            )));
        }
        Ok(Source {
            identity: format!("stream {}", one_line(Path::new(&name))),
            kind: Kind::Stream(Stream::new(File::from(file), name)),
        })
    }
}

/// What a path or standard input led to.
struct Opened {
    file: OwnedFd,
    /// For messages.
    name: String,
    /// For the identity.
    place: String,
}

fn open_path(path: &Path) -> Result<Opened, Error> {
    let name = path.display().to_string();
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io(format!("{name} cannot be opened"))(error.into()))?;
    // The same from every directory.
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    Ok(Opened {
        file,
        name,
        place: one_line(&place),
    })
}

fn open_stdin() -> Result<Opened, Error> {
    let file = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(Error::io("standard input cannot be opened"))?;
    Ok(Opened {
        file,
        name: "standard input".to_owned(),
        place: "-".to_owned(),
    })
}

fn one_line(path: &Path) -> String {
    path.as_os_str().as_bytes().escape_ascii().to_string()
}

fn unknown_before(stream: &Stream) -> Error {
    Error::Unfit(format!(
        "{} can only be read from its beginning to its end",
        stream.name()
    ))
}
