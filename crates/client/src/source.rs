//! What an upload reads: a file, a block device, or a stream.

use crate::Error;
use std::path::PathBuf;
use types::BlockIndex;

/// Where the bytes come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourcePath {
    /// A file or a block device.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

/// How to read.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The output of `qemu-img map --output=json`, to be believed about holes instead of the file system.
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
pub struct Source;

impl Source {
    /// Opens it; a device or file is read past the page cache or leaves nothing in it that was not there.
    pub fn open(path: &SourcePath, options: &SourceOptions) -> Result<Source, Error> {
        let _ = (path, options);
        unimplemented!()
    }

    /// Length in bytes; nothing for a stream.
    pub fn bytes(&self) -> Option<u64> {
        unimplemented!()
    }

    /// What identifies it across runs, for state and digest files: kind, path, length, inode or device number.
    pub fn identity(&self) -> String {
        unimplemented!()
    }

    /// The next run of blocks from `from` on that may hold data; everything before it reads as zeros. Not for streams. Blocking.
    pub fn next_data(&self, from: u32) -> Result<Option<Extent>, Error> {
        let _ = from;
        unimplemented!()
    }

    /// Reads one block; what lies past the end is filled with zeros. Blocking.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Unfit`] when the source is shorter than it was when it was opened.
    pub fn read_block(&self, index: BlockIndex, buffer: &mut [u8]) -> Result<(), Error> {
        let _ = (index, buffer);
        unimplemented!()
    }

    /// Reads the next block of a stream, filled up with zeros at its end; false when nothing is left. Blocking.
    pub fn read_next(&self, buffer: &mut [u8]) -> Result<bool, Error> {
        let _ = buffer;
        unimplemented!()
    }

    /// Whether the source is still what was opened: [`Error::Unfit`] when its length changed; true when only its time of
    /// modification did.
    pub fn was_modified(&self) -> Result<bool, Error> {
        unimplemented!()
    }
}
