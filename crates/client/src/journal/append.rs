//! Writes files of block digests: appends, begins runs, and writes a file anew when it has too many.

use super::merge::{Entry, Records, Scan};
use super::record::{Header, RECORD_BYTES, Record};
use super::{RUNS_MAX, WINDOW};
use crate::Error;
use rustix::fs::{FlockOperation, OFlags, flock};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::{BlockIndex, Digest};

/// Records that are written at once where nobody waits for each.
const BATCH_BYTES: usize = 1_024 * RECORD_BYTES;

/// A journal that is being appended to. All its functions block, for the time of a write to the page cache. While it is open,
/// nobody else can go on with the file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    /// Records that stand in the file or in the batch.
    records: u64,
    runs: usize,
    order: Order,
    batch: Vec<u8>,
    /// Bytes at which the batch is written.
    batch_bytes: usize,
}

impl Journal {
    /// Begins a new file with a header of the caller's, bound to what it is about: one line of JSON. It takes the place of an
    /// older one at once or not at all, and is durable on return.
    ///
    /// # Errors
    /// [`Error::Config`]: something else stands there; [`Error::Io`].
    pub(crate) fn create(path: &Path, header: &str) -> Result<Journal, Error> {
        check_replaceable(path)?;
        let mut journal = Journal::create_unnamed(path, header, 1)?;
        journal.rename_to(path)?;
        Ok(journal)
    }

    /// Opens a file to go on: answers the header, and begins a new run of records. Nothing when there is no such file.
    ///
    /// # Errors
    /// [`Error::Config`]: something else stands there, or another process goes on with it; [`Error::Io`].
    pub(crate) fn resume(path: &Path) -> Result<Option<(Journal, String)>, Error> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(path, "opened")(error)),
        };
        lock(&file, path)?;
        if !is_named(&file, path, fs::metadata(path))? {
            return Err(in_use(path));
        }
        let scan = Scan::of(&file, path)?;
        file.set_len(scan.header.offset_of(scan.records))
            .map_err(failed(path, "cut"))?;
        let mut journal = Journal {
            path: path.to_owned(),
            file,
            header: scan.header,
            records: scan.records,
            runs: scan.runs.len(),
            order: Order::default(),
            batch: Vec::new(),
            batch_bytes: 1,
        };
        if journal.records > 0 {
            journal.begin_run()?;
        }
        let text = journal.header.text.clone();
        Ok(Some((journal, text)))
    }

    /// Appends a record: the block holds this. Within one run indexes ascend, but for a window of [`WINDOW`] records; a record
    /// that stands out more begins a run of its own.
    pub(crate) fn append(&mut self, index: BlockIndex, digest: Digest) -> Result<(), Error> {
        self.append_record(index, Record::Holds(index, digest))
    }

    /// Appends a record: the block is about to change, and what was said of it before no longer holds.
    pub(crate) fn begin(&mut self, index: BlockIndex) -> Result<(), Error> {
        self.append_record(index, Record::Begun(index))
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file
            .sync_data()
            .map_err(failed(&self.path, "made durable"))
    }

    /// Removes the file, unless another stands in its place by now.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match is_named(&self.file, &self.path, fs::metadata(&self.path))? {
            true => unlink(&self.path),
            false => Ok(()),
        }
    }

    fn append_record(&mut self, index: BlockIndex, record: Record) -> Result<(), Error> {
        if !self.order.admits(index) {
            self.begin_run()?;
        }
        if self.order.is_first() {
            self.runs += 1;
        }
        self.order.note(index);
        self.push(record)
    }

    fn begin_run(&mut self) -> Result<(), Error> {
        if self.runs >= RUNS_MAX {
            self.write_anew()?;
        }
        self.order = Order::default();
        self.push(Record::Mark)
    }

    fn push(&mut self, record: Record) -> Result<(), Error> {
        self.batch
            .extend_from_slice(&self.header.encode_record(self.records, record));
        self.records += 1;
        if self.batch.len() >= self.batch_bytes {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the batch. After a failure it is written again with the next record, over whatever part of it was written.
    fn flush(&mut self) -> Result<(), Error> {
        let in_batch = (self.batch.len() / RECORD_BYTES) as u64;
        let offset = self.header.offset_of(self.records - in_batch);
        self.file
            .write_all_at(&self.batch, offset)
            .map_err(failed(&self.path, "written"))?;
        self.batch.clear();
        Ok(())
    }

    /// Merges all runs into one, in a new file that then takes the place of this one.
    fn write_anew(&mut self) -> Result<(), Error> {
        self.flush()?;
        let file = self.file.try_clone().map_err(failed(&self.path, "read"))?;
        let scan = Scan::of(&file, &self.path)?;
        let mut records = Records::of(Arc::new(file), &self.path, scan)?;
        let mut anew = Journal::create_unnamed(&self.path, &self.header.text, BATCH_BYTES)?;
        while let Some(Entry { index, digest }) = records.next_entry()? {
            match digest {
                Some(digest) => anew.append(index, digest)?,
                None => anew.begin(index)?,
            }
        }
        anew.rename_to(&self.path)?;
        anew.batch_bytes = self.batch_bytes;
        *self = anew;
        Ok(())
    }

    /// A new file beside `path`, under the name that files have before they are complete.
    fn create_unnamed(path: &Path, text: &str, batch_bytes: usize) -> Result<Journal, Error> {
        let path = unfinished(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(&path)
            .map_err(failed(&path, "created"))?;
        lock(&file, &path)?;
        // Whoever had the lock before may have given the file its final name: then it is no longer ours to cut.
        if !is_named(&file, &path, fs::symlink_metadata(&path))? {
            return Err(in_use(&path));
        }
        check_left(&file, &path)?;
        file.set_len(0).map_err(failed(&path, "cut"))?;
        let (header, bytes) = Header::encode(text);
        file.write_all_at(&bytes, 0)
            .map_err(failed(&path, "written"))?;
        Ok(Journal {
            path,
            file,
            header,
            records: 0,
            runs: 0,
            order: Order::default(),
            batch: Vec::new(),
            batch_bytes,
        })
    }

    /// Makes the file durable and gives it its name.
    fn rename_to(&mut self, path: &Path) -> Result<(), Error> {
        self.sync()?;
        fs::rename(&self.path, path).map_err(failed(path, "created"))?;
        self.path = path.to_owned();
        let folder = folder_of(path);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed(folder, "made durable"))
    }
}

/// A digest file that is being written, under another name until it is complete.
#[derive(Debug)]
pub(crate) struct DigestFile {
    path: PathBuf,
    journal: Journal,
    finished: bool,
}

impl DigestFile {
    /// Begins a file that will stand at `path`.
    ///
    /// # Errors
    /// [`Error::Config`]: something else stands there, or another process writes it; [`Error::Io`].
    pub(crate) fn create(path: &Path, header: &str) -> Result<DigestFile, Error> {
        check_replaceable(path)?;
        Ok(DigestFile {
            path: path.to_owned(),
            journal: Journal::create_unnamed(path, header, BATCH_BYTES)?,
            finished: false,
        })
    }

    /// Appends a block.
    pub(crate) fn append(&mut self, index: BlockIndex, digest: Digest) -> Result<(), Error> {
        self.journal.append(index, digest)
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.journal.rename_to(&self.path)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for DigestFile {
    fn drop(&mut self) {
        if !self.finished {
            // What is left behind is written over by the next attempt.
            let _ = fs::remove_file(&self.journal.path);
        }
    }
}

/// Makes sure that what stands at a path is a file of this kind, empty, or nothing at all.
///
/// # Errors
/// [`Error::Config`]: it is something else; [`Error::Io`].
pub(crate) fn check_replaceable(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, "opened")(error)),
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => return Ok(()),
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => {
            return Err(Error::Config(format!("{} is not a file", path.display())));
        }
    }
    let file = File::open(path).map_err(failed(path, "opened"))?;
    Header::read(&file, path).map(|_| ())
}

/// Makes sure that two files that will be written are not one.
///
/// # Errors
/// [`Error::Config`]: they are.
pub(crate) fn check_distinct(one: &Path, other: &Path) -> Result<(), Error> {
    // Neither need exist, but where they will be does.
    let place = |path: &Path| match (fs::canonicalize(path), path.file_name()) {
        (Ok(path), _) => path,
        (Err(_), Some(name)) => {
            fs::canonicalize(folder_of(path)).map_or(path.to_owned(), |folder| folder.join(name))
        }
        (Err(_), None) => path.to_owned(),
    };
    match place(one) == place(other) {
        false => Ok(()),
        true => Err(Error::Config(format!(
            "{} and {} are one file: name another for one of them",
            one.display(),
            other.display()
        ))),
    }
}

/// Removes a file that is no longer needed, if it is one of this kind; none is fine, and another stays.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match check_replaceable(path) {
        Ok(()) => unlink(path),
        Err(Error::Config(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn unlink(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(path, "removed")(error))
        }
        _ => Ok(()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// What a reader's window makes of a run: which index can still come.
#[derive(Debug, Default)]
struct Order {
    window: BinaryHeap<Reverse<BlockIndex>>,
    /// The last index that a reader may have passed on before it reads the next record.
    passed: Option<BlockIndex>,
    begun: bool,
}

impl Order {
    fn admits(&self, index: BlockIndex) -> bool {
        self.passed.is_none_or(|passed| passed < index)
    }

    fn is_first(&self) -> bool {
        !self.begun
    }

    fn note(&mut self, index: BlockIndex) {
        self.begun = true;
        self.window.push(Reverse(index));
        if self.window.len() > WINDOW {
            self.passed = self.window.pop().map(|Reverse(index)| index);
        }
    }
}

/// The name of a file that is not complete.
fn unfinished(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".unfinished");
    PathBuf::from(name)
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(in_use(path)),
        Err(error) => Err(failed(path, "locked")(error.into())),
    }
}

/// Whether what a name was found to mean is this file.
fn is_named(file: &File, path: &Path, named: io::Result<fs::Metadata>) -> Result<bool, Error> {
    let ours = file.metadata().map_err(failed(path, "opened"))?;
    match named {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, "opened")(error)),
    }
}

/// Makes sure that an unfinished file was left by an attempt of this user's: in a folder that all may write to, or by chance, it could
/// be anything.
fn check_left(file: &File, path: &Path) -> Result<(), Error> {
    let metadata = file.metadata().map_err(failed(path, "opened"))?;
    let ours = metadata.is_file()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.nlink() == 1;
    if ours && Header::begins(file).map_err(failed(path, "read"))? {
        return Ok(());
    }
    Err(Error::Config(format!(
        "{} is not a file that an earlier attempt left: move it away",
        path.display()
    )))
}

fn in_use(path: &Path) -> Error {
    Error::Config(format!("{} is in use by another process", path.display()))
}

fn failed(path: &Path, what: &str) -> impl FnOnce(io::Error) -> Error {
    Error::io(format!("{} cannot be {what}", path.display()))
}
