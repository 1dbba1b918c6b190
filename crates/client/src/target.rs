//! What a download writes: a file, a block device, or a stream.
//!
//! ```text
//! target/file.rs      temporary names, locks, and the rename at the end
//! target/same.rs      whether two paths mean the same
//! target/device.rs    who may be overwritten
//! target/base.rs      a copy of the disk that the difference is written to
//! target/writer.rs    blocks, at any place; target/zeroing.rs: zeros, by the cheapest way that really makes them
//! target/stream.rs    what can only be written once
//! ```

mod base;
mod device;
mod file;
pub(crate) mod same;
mod stream;
#[cfg(test)]
mod tests;
mod writer;
mod zeroing;

use crate::Error;
use crate::source::disk::{BLOCK, Disk, DiskKind};
use crate::source::{Extent, Source, SourceOptions, SourcePath};
use file::{Earlier, Waiting};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use same::is_same;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use stream::Stream;
use types::{BlockIndex, VolumeSize};
use writer::{Unwritten, Writer};

/// Where the bytes go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetPath {
    /// A file or a block device; a FIFO or character device is written as a stream.
    Path(PathBuf),
    /// Standard output: always a stream.
    Stdout,
}

/// What stands in a target before the first write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Before {
    /// Nothing that counts. Blocks of a file that are not written read as zeros; on a device whatever stood there stays
    /// until [`Target::zero`] is told of it.
    Nothing,
    /// What an interrupted download left: in the device, or in the file beside the target that was kept. (What was interrupted
    /// while it was written in place goes on with [`Before::Base`] as before.)
    Partial,
    /// The content of this file or device, which may be the target itself: then it is written in place. Else it is copied
    /// first; where the file system can, without moving data.
    Base(PathBuf),
}

/// How to write.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Size of the snapshot's volume.
    pub volume_size: VolumeSize,
    /// How many bytes are written, where it is not the volume's size but less: the length of a file, of a stream, of what is
    /// touched on a device.
    pub bytes: Option<u64>,
    /// What stands there.
    pub before: Before,
}

/// An open target. A file that is dropped without [`Target::finish`] or [`Target::abandon`] is left as if kept.
#[derive(Debug)]
pub struct Target(Kind);

#[derive(Debug)]
enum Kind {
    Disk {
        writer: Writer,
        waiting: Option<Box<Waiting>>,
    },
    Stream(Stream),
}

impl Target {
    /// Opens it. A file is written under another name beside its own, unless it is its own base. Blocking, for as long as it
    /// takes to copy a base or until someone reads from a FIFO.
    ///
    /// A new file can be read and written by its owner alone; one that replaces another takes its mode, and its owner where that
    /// is allowed.
    ///
    /// # Errors
    /// [`Error::Unfit`]: a device too small or in use, a file that another download writes, nothing left to resume, a base with
    /// data past the end, a stream that is to hold something before; [`Error::Io`].
    pub fn open(path: &TargetPath, options: &TargetOptions) -> Result<Target, Error> {
        Target::open_unless(path, options, &AtomicBool::new(false))
    }

    /// The same, but given up with [`Error::Interrupted`] when `stopped` becomes true while a base is copied or nobody reads from
    /// a FIFO.
    pub fn open_unless(
        path: &TargetPath,
        options: &TargetOptions,
        stopped: &AtomicBool,
    ) -> Result<Target, Error> {
        let volume = u64::from(options.volume_size.block_count()) * BLOCK;
        let bytes = options.bytes.unwrap_or(volume);
        if bytes > volume {
            return Err(Error::Unfit(format!(
                "{bytes} bytes are to be written and the volume has {volume}"
            )));
        }
        let path = match path {
            TargetPath::Path(path) => path,
            TargetPath::Stdout => {
                let file = std::io::stdout()
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(Error::io("standard output cannot be opened"))?;
                return stream(file, "standard output", bytes, &options.before);
            }
        };
        let name = path.display().to_string();
        let found = match rustix::fs::stat(path) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(error) => {
                return Err(Error::io(format!("{name} cannot be examined"))(
                    error.into(),
                ));
            }
        };
        match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            None | Some(FileType::RegularFile) => {
                open_file(path, found, bytes, &options.before, stopped)
            }
            Some(FileType::BlockDevice) => open_device(path, bytes, &options.before, stopped),
            Some(FileType::Fifo) => {
                let file = stream::open_fifo(path, stopped)?;
                stream(file, &name, bytes, &options.before)
            }
            Some(FileType::CharacterDevice) => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
                    Error::io(format!("{name} cannot be opened to write"))(error.into())
                })?;
                stream(file, &name, bytes, &options.before)
            }
            Some(_) => Err(Error::Unfit(format!(
                "{name} is neither a file nor a device nor a stream"
            ))),
        }
    }

    /// Whether blocks must be written in ascending order, each once: a stream. What is left out is filled with zeros.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Kind::Stream(_))
    }

    /// Writes a block, best from a buffer that is aligned; what lies past the target's end must be zeros. Blocking; from many
    /// threads at once.
    ///
    /// # Errors
    /// [`Error::Unfit`] when there is data past the end; [`Error::Io`].
    pub fn write_block(&self, index: BlockIndex, data: &[u8]) -> Result<(), Error> {
        match &self.0 {
            Kind::Disk { writer, .. } => writer.write_block(index, data),
            Kind::Stream(stream) => stream.write_block(index, data),
        }
    }

    /// Makes a run of blocks read as zeros: at no cost in a new file, by punching holes where that works, else by writing.
    /// Blocking: who wants to be able to stop gives at most [`ZERO_BLOCKS`] at once.
    pub fn zero(&self, extent: Extent) -> Result<(), Error> {
        match &self.0 {
            Kind::Disk { writer, .. } => writer.zero(extent),
            Kind::Stream(stream) => stream.zero(extent),
        }
    }

    /// Reads what stands in a block now, zeros past the end; for partial targets and bases, not for streams. Blocking.
    pub fn read_block(&self, index: BlockIndex, buffer: &mut [u8]) -> Result<(), Error> {
        match &self.0 {
            Kind::Disk { writer, .. } => writer.disk().read_block(index, buffer),
            Kind::Stream(stream) => Err(no_way_back(stream)),
        }
    }

    /// The next run of blocks from `from` on that may hold data now; everything before it reads as zeros. Adjacent runs may be
    /// told one by one. Not for streams. Blocking.
    pub fn next_data(&self, from: u32) -> Result<Option<Extent>, Error> {
        match &self.0 {
            Kind::Disk { writer, .. } => writer.disk().next_data(from),
            Kind::Stream(stream) => Err(no_way_back(stream)),
        }
    }

    /// Makes everything durable and gives a file its name. Blocking.
    ///
    /// # Errors
    /// [`Error::Io`]; then a file that could not be made durable is removed. [`Error::Unfit`]: somebody else removed or replaced
    /// the file before it got its name.
    pub fn finish(self) -> Result<(), Error> {
        match self.0 {
            Kind::Disk { writer, waiting } => match waiting {
                Some(waiting) => waiting.finish(),
                None => rustix::fs::fsync(writer.disk().file()).map_err(|error| {
                    Error::io(format!("{} cannot be made durable", writer.disk().name()))(
                        error.into(),
                    )
                }),
            },
            Kind::Stream(stream) => stream.finish(),
        }
    }

    /// Removes a file that did not get its name, unless it is kept for another attempt. Blocking.
    pub fn abandon(self, keep: bool) {
        if let Kind::Disk {
            waiting: Some(waiting),
            ..
        } = self.0
            && !keep
        {
            waiting.remove();
        }
    }
}

/// Blocks that are zeroed within seconds, even where zeros must be written.
pub const ZERO_BLOCKS: u32 = (zeroing::STEP / types::BLOCK_BYTES as u64) as u32;

fn open_file(
    path: &Path,
    found: Option<Stat>,
    bytes: u64,
    before: &Before,
    stopped: &AtomicBool,
) -> Result<Target, Error> {
    let (earlier, base) = match before {
        Before::Nothing => (Earlier::Remove, None),
        Before::Partial => (Earlier::Continue, None),
        Before::Base(base) => {
            let source = open_base(base)?;
            base::check_length(&source, base, bytes, stopped)?;
            if is_same(base, path) {
                return open_in_place(path, bytes);
            }
            (Earlier::Remove, Some(source))
        }
    };
    let (waiting, file) = Waiting::open(path, found, earlier)?;
    let name = waiting.name();
    let opened = fill_file(file, name, bytes, earlier, base.as_ref(), stopped);
    match opened {
        Ok(writer) => Ok(Target(Kind::Disk {
            writer,
            waiting: Some(Box::new(waiting)),
        })),
        Err(error) => {
            if earlier == Earlier::Remove {
                waiting.remove();
            }
            Err(error)
        }
    }
}

fn fill_file(
    file: OwnedFd,
    name: String,
    bytes: u64,
    earlier: Earlier,
    base: Option<&Source>,
    stopped: &AtomicBool,
) -> Result<Writer, Error> {
    let cloned = base.is_some_and(|base| base.clone_into(&file));
    file::set_length(&file, &name, bytes)?;
    let disk = Disk::new(file, DiskKind::File, name, bytes, OFlags::RDWR);
    let unwritten = if cloned || earlier == Earlier::Continue {
        Unwritten::Anything
    } else {
        Unwritten::Zeros
    };
    let writer = Writer::new(disk, unwritten);
    if let Some(base) = base
        && !cloned
    {
        base::copy(base, &writer, stopped)?;
    }
    Ok(writer)
}

fn open_in_place(path: &Path, bytes: u64) -> Result<Target, Error> {
    let file = file::open_in_place(path)?;
    let name = path.display().to_string();
    file::set_length(&file, &name, bytes)?;
    let disk = Disk::new(file, DiskKind::File, name, bytes, OFlags::RDWR);
    Ok(Target(Kind::Disk {
        writer: Writer::new(disk, Unwritten::Anything),
        waiting: None,
    }))
}

fn open_device(
    path: &Path,
    bytes: u64,
    before: &Before,
    stopped: &AtomicBool,
) -> Result<Target, Error> {
    let base = match before {
        Before::Nothing | Before::Partial => None,
        Before::Base(base) => {
            let source = open_base(base)?;
            base::check_length(&source, base, bytes, stopped)?;
            (!is_same(base, path)).then_some(source)
        }
    };
    let writer = Writer::new(device::open(path, bytes)?, Unwritten::Anything);
    if let Some(base) = base {
        base::copy(&base, &writer, stopped)?;
    }
    Ok(Target(Kind::Disk {
        writer,
        waiting: None,
    }))
}

fn open_base(path: &Path) -> Result<Source, Error> {
    let base = Source::open(
        &SourcePath::Path(path.to_path_buf()),
        &SourceOptions { map: None },
    )?;
    match base.bytes() {
        Some(_) => Ok(base),
        None => Err(Error::Unfit(format!(
            "{} is a stream and cannot be a base",
            path.display()
        ))),
    }
}

fn stream(file: OwnedFd, name: &str, bytes: u64, before: &Before) -> Result<Target, Error> {
    match before {
        Before::Nothing => Ok(Target(Kind::Stream(Stream::new(
            File::from(file),
            name.to_owned(),
            bytes,
        )))),
        Before::Partial | Before::Base(_) => Err(Error::Unfit(format!(
            "{name} is a stream: it holds nothing to go on with"
        ))),
    }
}

fn no_way_back(stream: &Stream) -> Error {
    Error::Unfit(format!("{} cannot be read back", stream.name()))
}
