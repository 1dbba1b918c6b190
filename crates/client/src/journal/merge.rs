//! Reads a file of block digests in index order: a merge of its runs, in memory that does not depend on its length.

use super::record::{Header, RECORD_BYTES, Record, read_up_to};
use super::{RUNS_MAX, WINDOW};
use crate::Error;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::{BlockIndex, Digest};

/// Records read at once.
const READ_RECORDS: usize = 1_024;

/// What a file says of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Which block.
    pub(crate) index: BlockIndex,
    /// What it holds; nothing where it was about to change when the file ended.
    pub(crate) digest: Option<Digest>,
}

/// The next entry of a run: in order of index, and of the same index the latest run first.
type Head = (BlockIndex, Reverse<usize>, Option<Digest>);

/// The records of a journal in ascending order, each index once, as the latest run has it. Streams: memory does not depend on
/// the length of the file.
#[derive(Debug)]
pub(crate) struct Records {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
    torn: bool,
}

impl Records {
    /// The records that stand in the file now; a torn last record does not count. Blocking, as is [`Records::next`].
    ///
    /// # Errors
    /// [`Error::Config`]: no file of this kind; [`Error::Io`].
    pub(crate) fn open(path: &Path) -> Result<(Records, String), Error> {
        let file =
            File::open(path).map_err(Error::io(format!("{} cannot be opened", path.display())))?;
        let scan = Scan::of(&file, path)?;
        let text = scan.header.text.clone();
        Ok((Records::of(Arc::new(file), path, scan)?, text))
    }

    pub(super) fn of(file: Arc<File>, path: &Path, scan: Scan) -> Result<Records, Error> {
        let header = Arc::new(scan.header);
        let run = |numbers: Range<u64>| Run {
            file: Arc::clone(&file),
            path: path.to_owned(),
            last: None,
            header: Arc::clone(&header),
            numbers,
            buffer: Vec::new(),
            buffered: 0..0,
            window: BinaryHeap::new(),
        };
        let mut records = Records {
            runs: scan.runs.into_iter().map(run).collect(),
            heads: BinaryHeap::new(),
            torn: scan.torn,
        };
        for number in 0..records.runs.len() {
            records.advance(number)?;
        }
        Ok(records)
    }

    /// Whether the file ended in something that is no record.
    pub(crate) fn torn(&self) -> bool {
        self.torn
    }

    /// The next block whose content is known.
    pub(crate) fn next(&mut self) -> Result<Option<(BlockIndex, Digest)>, Error> {
        while let Some(entry) = self.next_entry()? {
            if let Some(digest) = entry.digest {
                return Ok(Some((entry.index, digest)));
            }
        }
        Ok(None)
    }

    /// The next block of which anything is said.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let Some(Reverse((index, Reverse(run), digest))) = self.heads.pop() else {
            return Ok(None);
        };
        self.advance(run)?;
        while let Some(Reverse((other, Reverse(run), _))) = self.heads.peek() {
            if *other != index {
                break;
            }
            let run = *run;
            self.heads.pop();
            self.advance(run)?;
        }
        Ok(Some(Entry { index, digest }))
    }

    fn advance(&mut self, run: usize) -> Result<(), Error> {
        if let Some((index, digest)) = self.runs[run].next()? {
            self.heads.push(Reverse((index, Reverse(run), digest)));
        }
        Ok(())
    }
}

/// What a pass over a file finds.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) header: Header,
    /// Numbers of the records of each run that has any.
    pub(super) runs: Vec<Range<u64>>,
    /// Number of records, marks among them.
    pub(super) records: u64,
    /// Whether something else follows them.
    pub(super) torn: bool,
}

impl Scan {
    /// Reads a file from end to end.
    pub(super) fn of(file: &File, path: &Path) -> Result<Scan, Error> {
        let header = Header::read(file, path)?;
        let mut scan = Scan {
            header,
            runs: Vec::new(),
            records: 0,
            torn: false,
        };
        let mut begun = 0;
        let mut buffer = vec![0; READ_RECORDS * RECORD_BYTES];
        loop {
            let length = read_up_to(file, &mut buffer, scan.header.offset_of(scan.records))
                .map_err(unreadable(path))?;
            for bytes in buffer[..length].chunks(RECORD_BYTES) {
                match scan.header.decode_record(scan.records, bytes) {
                    Some(Record::Mark) => {
                        scan.end_run(begun, path)?;
                        begun = scan.records + 1;
                    }
                    Some(Record::Holds(..) | Record::Begun(_)) => {}
                    None => {
                        scan.torn = true;
                        scan.end_run(begun, path)?;
                        return Ok(scan);
                    }
                }
                scan.records += 1;
            }
            if length < buffer.len() {
                scan.end_run(begun, path)?;
                return Ok(scan);
            }
        }
    }

    fn end_run(&mut self, begun: u64, path: &Path) -> Result<(), Error> {
        if begun < self.records {
            self.runs.push(begun..self.records);
        }
        if self.runs.len() > RUNS_MAX {
            return Err(damaged(path));
        }
        Ok(())
    }
}

/// A run, read through a heap that puts it in order.
#[derive(Debug)]
struct Run {
    file: Arc<File>,
    path: PathBuf,
    last: Option<BlockIndex>,
    header: Arc<Header>,
    /// Records that were not read yet.
    numbers: Range<u64>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were not decoded yet.
    buffered: Range<usize>,
    /// By index, then by number: of one index the later record counts.
    window: BinaryHeap<Reverse<(BlockIndex, u64, Option<Digest>)>>,
}

impl Run {
    fn next(&mut self) -> Result<Option<(BlockIndex, Option<Digest>)>, Error> {
        self.fill()?;
        let Some(Reverse((index, _, mut digest))) = self.window.pop() else {
            return Ok(None);
        };
        while let Some(Reverse((other, _, later))) = self.window.peek()
            && *other == index
        {
            digest = *later;
            self.window.pop();
        }
        // Our writer keeps to the window; whoever else wrote this did not.
        if self.last.is_some_and(|last| last >= index) {
            return Err(damaged(&self.path));
        }
        self.last = Some(index);
        Ok(Some((index, digest)))
    }

    fn fill(&mut self) -> Result<(), Error> {
        while self.window.len() <= WINDOW && !self.numbers.is_empty() {
            if self.buffered.is_empty() {
                self.read()?;
            }
            let number = self.numbers.start;
            let bytes = &self.buffer[self.buffered.start..self.buffered.start + RECORD_BYTES];
            let entry = match self.header.decode_record(number, bytes) {
                Some(Record::Holds(index, digest)) => (index, number, Some(digest)),
                Some(Record::Begun(index)) => (index, number, None),
                Some(Record::Mark) | None => return Err(damaged(&self.path)),
            };
            self.window.push(Reverse(entry));
            self.buffered.start += RECORD_BYTES;
            self.numbers.start += 1;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Error> {
        let left = self.numbers.end - self.numbers.start;
        let records = READ_RECORDS.min(usize::try_from(left).unwrap_or(READ_RECORDS));
        self.buffer.resize(records * RECORD_BYTES, 0);
        let offset = self.header.offset_of(self.numbers.start);
        let length =
            read_up_to(&self.file, &mut self.buffer, offset).map_err(unreadable(&self.path))?;
        if length < self.buffer.len() {
            return Err(damaged(&self.path));
        }
        self.buffered = 0..length;
        Ok(())
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    Error::io(format!("{} cannot be read", path.display()))
}

fn damaged(path: &Path) -> Error {
    Error::Unfit(format!(
        "{} is damaged, or changed while it was read",
        path.display()
    ))
}
