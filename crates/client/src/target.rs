//! What a download writes: a file, a block device, or a stream.

use crate::Error;
use crate::source::Extent;
use std::path::PathBuf;
use types::{BlockIndex, VolumeSize};

/// Where the bytes go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetPath {
    /// A file or a block device.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// What stands in a target before the first write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Before {
    /// Nothing that counts: every block that is not written is made to read as zeros.
    Nothing,
    /// What an interrupted download left.
    Partial,
    /// The content of this file or device, which may be the target itself.
    Base(PathBuf),
}

/// How to write.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Size of the snapshot's volume.
    pub volume_size: VolumeSize,
    /// Length of a file target in bytes, where it is not the volume's.
    pub bytes: Option<u64>,
    /// What stands there.
    pub before: Before,
}

/// An open target.
#[derive(Debug)]
pub struct Target;

impl Target {
    /// Opens it. A file is written under another name beside its own, unless it is its own base.
    ///
    /// # Errors
    /// [`Error::Unfit`]: a device too small or in use; [`Error::Io`].
    pub fn open(path: &TargetPath, options: &TargetOptions) -> Result<Target, Error> {
        let _ = (path, options);
        unimplemented!()
    }

    /// Whether blocks must be written in ascending order, each once, holes included: a stream.
    pub fn is_stream(&self) -> bool {
        unimplemented!()
    }

    /// Writes a block; what lies past the target's end must be zeros. Blocking; from many threads at once.
    pub fn write_block(&self, index: BlockIndex, data: &[u8]) -> Result<(), Error> {
        let _ = (index, data);
        unimplemented!()
    }

    /// Makes a run of blocks read as zeros. Blocking.
    pub fn zero(&self, extent: Extent) -> Result<(), Error> {
        let _ = extent;
        unimplemented!()
    }

    /// Reads what stands in a block now, zeros past the end; for partial targets and bases. Blocking.
    pub fn read_block(&self, index: BlockIndex, buffer: &mut [u8]) -> Result<(), Error> {
        let _ = (index, buffer);
        unimplemented!()
    }

    /// The next run of blocks from `from` on that may hold data now. Blocking.
    pub fn next_data(&self, from: u32) -> Result<Option<Extent>, Error> {
        let _ = from;
        unimplemented!()
    }

    /// Makes everything durable and gives a file its name. Blocking.
    pub fn finish(self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Removes a file that did not get its name, unless it is kept for another attempt. Blocking.
    pub fn abandon(self, keep: bool) {
        let _ = keep;
    }
}
