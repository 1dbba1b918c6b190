//! Files of block digests: what an interrupted transfer has moved, and what a whole disk holds.

use crate::Error;
use std::path::Path;
use types::{BlockIndex, Digest};

/// A journal that is being appended to.
#[derive(Debug)]
pub(crate) struct Journal;

impl Journal {
    /// Begins a new file with a header of the caller's, bound to what it is about.
    pub(crate) fn create(path: &Path, header: &str) -> Result<Journal, Error> {
        let _ = (path, header);
        unimplemented!()
    }

    /// Opens a file to go on: answers the header, and begins a new run of records. Nothing when there is no such file.
    pub(crate) fn resume(path: &Path) -> Result<Option<(Journal, String)>, Error> {
        let _ = path;
        unimplemented!()
    }

    /// Appends a record. Within one run indexes ascend, but for a window of [`WINDOW`] records.
    pub(crate) fn append(&mut self, index: BlockIndex, digest: Digest) -> Result<(), Error> {
        let _ = (index, digest);
        unimplemented!()
    }
}

/// How far out of order the records of a run may stand.
pub(crate) const WINDOW: usize = 4_096;

/// The records of a journal in ascending order, each index once, as the latest run has it. Streams: memory does not depend on
/// the length of the file.
#[derive(Debug)]
pub(crate) struct Records;

impl Records {
    /// The records that stand in the file now; a torn last record does not count.
    pub(crate) fn open(path: &Path) -> Result<(Records, String), Error> {
        let _ = path;
        unimplemented!()
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<(BlockIndex, Digest)>, Error> {
        unimplemented!()
    }
}
