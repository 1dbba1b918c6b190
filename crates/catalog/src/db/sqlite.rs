//! The embedded backend: SQLite in WAL mode, on threads of its own.
//!
//! One writer thread owns the only connection that changes anything (`sqlite/writer.rs`); a few reader threads each own one that
//! refuses changes (`sqlite/reader.rs`). Requests wait in two bounded queues. Bodies run on these threads; their futures are
//! ready at once (`sqlite/txn.rs`). The shared dialect is rewritten on the way in (`sqlite/dialect.rs`).
//!
//! Durability: `synchronous = FULL` syncs the WAL at every COMMIT. Nothing but the writer checkpoints, and closing does not: a
//! store that was stopped and one that was killed look alike. Opening writes the whole WAL back before anyone is served.
//!
//! Failure: an I/O error, of a read too, poisons the backend for good; [`Sqlite::poisoned`] then tells the process to end. Only
//! a fresh start, which reads what really is on the disk, can know where things stand.
//!
//! Exclusion of a second process is the business of whoever opens the directory.

mod copy;
mod dialect;
#[cfg(any(test, feature = "test-support"))]
mod inline;
mod reader;
#[cfg(test)]
mod tests;
mod txn;
mod writer;

#[cfg(any(test, feature = "test-support"))]
pub use self::inline::{Fate, InlineSqlite};
use self::reader::Reader;
use self::txn::{Session, classify};
use self::writer::{Counters, Writer};
use super::{Db, Outcome, Work};
use crate::Error;
use futures_util::future::BoxFuture;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use types::UnixMillis;

/// Requests that wait for the writer, and as many for the readers; beyond this callers wait for their turn to wait.
const WAITING_MAX: usize = 1_024;

/// How long to wait for a lock that another program (an operator's `sqlite3`) holds.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// A WAL file that grew beyond this, in bytes, is cut down when it begins anew.
const WAL_BYTES_KEPT: u64 = 64 << 20;

/// How to open a database.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The file; created when absent. Its neighbours `-wal` and `-shm` belong to it.
    pub path: PathBuf,
    /// Threads that read beside the writer.
    pub readers: NonZeroUsize,
    /// Memory for cached pages, all connections together, in bytes: half for the writer, half for the readers.
    pub cache_bytes: u64,
}

/// What the backend has done since it was opened, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SqliteCounts {
    /// Transactions committed, each with one sync.
    pub commits: u64,
    /// Bodies in those transactions; divided by `commits`, the mean size of a group.
    pub bodies: u64,
    /// Checkpoints begun.
    pub checkpoints: u64,
    /// Writes that wait now.
    pub waiting_writes: u64,
}

/// The embedded [`Db`]. Dropping it ends its threads.
pub struct Sqlite {
    writes: Option<mpsc::Sender<Job>>,
    reads: Option<mpsc::Sender<Job>>,
    poison: Arc<Poison>,
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

impl Sqlite {
    /// Opens or creates the database, recovers it, and starts the threads. Blocks while it does.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the file is not an intact SQLite database, [`Error::Io`], [`Error::NoSpace`], or
    /// [`Error::Unavailable`] when it cannot be opened or another program holds it.
    pub fn open(options: &SqliteOptions) -> Result<Sqlite, Error> {
        // SQLite would take a path that begins with `file:` for a URI; an absolute one never does.
        let path = std::path::absolute(&options.path)
            .map_err(|error| unavailable(&options.path, &error.to_string()))?;
        let readers = options.readers.get();
        let writer_cache = options.cache_bytes / 2;
        let reader_cache = (options.cache_bytes - writer_cache) / readers as u64;
        let writer = open_writer(&path, writer_cache).map_err(|error| at(&path, error))?;

        let poison = Arc::new(Poison::default());
        let counters = Arc::new(Counters::default());
        let (writes, queue) = mpsc::channel(WAITING_MAX);
        let writer = Writer::new(writer, queue, Arc::clone(&poison), Arc::clone(&counters));
        let mut sqlite = Sqlite {
            writes: Some(writes),
            reads: None,
            poison,
            counters,
            threads: Vec::with_capacity(1 + readers),
        };
        sqlite.start("catalog-writer".to_owned(), move || writer.serve())?;
        sqlite.start_readers(options.readers, || {
            open_reader(&path, reader_cache, READ_WRITE).map_err(|error| at(&path, error))
        })?;
        Ok(sqlite)
    }

    /// Writes a copy of a database to the new file `to`, also while another process serves it. Not durable yet when it answers. Blocks.
    ///
    /// # Errors
    /// As [`Sqlite::open_read_only`], and when `to` exists or cannot be written; it may hold a part of the copy then.
    pub fn copy(from: &Path, to: &Path, copied_at: UnixMillis) -> Result<(), Error> {
        copy::copy(from, to, copied_at)
    }

    /// Opens an existing database to read: nothing of it is written, recovered into the file or checkpointed, also when another process serves it
    /// meanwhile. [`Db::write`] answers [`Error::Statement`]. What the WAL holds is seen. SQLite keeps its index of the WAL in the neighbour
    /// `-shm`, which it makes where there is none, so the directory has to be writable or have one. Blocks.
    ///
    /// # Errors
    /// As [`Sqlite::open`], and [`Error::Unavailable`] when there is no such file.
    pub fn open_read_only(options: &SqliteOptions) -> Result<Sqlite, Error> {
        let path = std::path::absolute(&options.path)
            .map_err(|error| unavailable(&options.path, &error.to_string()))?;
        let cache = options.cache_bytes / options.readers.get() as u64;
        let mut sqlite = Sqlite {
            writes: None,
            reads: None,
            poison: Arc::new(Poison::default()),
            counters: Arc::new(Counters::default()),
            threads: Vec::with_capacity(options.readers.get()),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        sqlite.start_readers(options.readers, || {
            let session = open_reader(&path, cache, flags).and_then(|session| {
                check_header(&session.connection)?;
                Ok(session)
            });
            session.map_err(|error| at(&path, error))
        })?;
        Ok(sqlite)
    }

    /// Resolves, with what the database said, once an I/O error has made this handle useless. The process should end then.
    pub async fn poisoned(&self) -> String {
        let mut reason = self.poison.reason.subscribe();
        let reason = reason.wait_for(Option::is_some).await;
        reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_default()
    }

    /// What has been done so far.
    pub fn counts(&self) -> SqliteCounts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let waiting = self
            .writes
            .as_ref()
            .map_or(0, |queue| queue.max_capacity() - queue.capacity());
        SqliteCounts {
            commits: load(&self.counters.commits),
            bodies: load(&self.counters.bodies),
            checkpoints: load(&self.counters.checkpoints),
            waiting_writes: waiting as u64,
        }
    }

    fn start_readers(
        &mut self,
        readers: NonZeroUsize,
        open: impl Fn() -> Result<Session, Error>,
    ) -> Result<(), Error> {
        let (reads, queue) = mpsc::channel(WAITING_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..readers.get() {
            let reader = Reader::new(open()?, Arc::clone(&queue), Arc::clone(&self.poison));
            self.start(format!("catalog-read-{number}"), move || reader.serve())?;
        }
        self.reads = Some(reads);
        Ok(())
    }

    fn start(&mut self, name: String, serve: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(serve)
            .map_err(|error| Error::Unavailable {
                reason: format!("a thread cannot be started: {error}"),
            })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Db for Sqlite {
    fn write(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        // Only dropping takes the queue of a writer away.
        if self.writes.is_none() {
            let reason = "the catalog was opened to read".to_owned();
            return Box::pin(async { Err(Error::Statement { reason }) });
        }
        Box::pin(ask(self.writes.as_ref(), work))
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        Box::pin(ask(self.reads.as_ref(), work))
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.writes = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            // The last handle may live in a body, which is dropped on one of these threads.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

/// A transaction that waits for its thread.
struct Job {
    work: Work,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

impl Job {
    fn answer(self, result: Result<Outcome, Error>) {
        // Who has gone does not want to know.
        let _ = self.answer.send(result);
    }

    /// Whether nobody waits for the answer any more.
    fn is_forsaken(&self) -> bool {
        self.answer.is_closed()
    }
}

async fn ask(queue: Option<&mpsc::Sender<Job>>, work: Work) -> Result<Outcome, Error> {
    let stopped = || Error::Unavailable {
        reason: "the catalog's threads have ended".to_owned(),
    };
    let (answer, answered) = oneshot::channel();
    let queue = queue.ok_or_else(stopped)?;
    queue
        .send(Job { work, answer })
        .await
        .map_err(|_| stopped())?;
    answered.await.map_err(|_| stopped())?
}

/// Set once, by the first I/O error.
struct Poison {
    reason: watch::Sender<Option<String>>,
}

impl Default for Poison {
    fn default() -> Self {
        Poison {
            reason: watch::Sender::new(None),
        }
    }
}

impl Poison {
    fn set(&self, reason: &str) {
        let first = self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(reason.to_owned());
            }
            first
        });
        if first {
            tracing::error!(
                reason,
                "the catalog met an I/O error and takes no more requests"
            );
        }
    }

    fn is_set(&self) -> bool {
        self.reason.borrow().is_some()
    }

    fn check(&self) -> Result<(), Error> {
        match self.reason.borrow().as_ref() {
            Some(reason) => Err(Error::Io {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }
}

fn open_writer(path: &Path, cache_bytes: u64) -> Result<Session, Error> {
    let session = open_session(path, cache_bytes, READ_WRITE)?;
    let connection = &session.connection;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(classify)?;
    if mode != "wal" {
        let reason = format!("the file system allows no WAL, only journal mode {mode}");
        return Err(Error::Unavailable { reason });
    }
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = FULL;
             PRAGMA fullfsync = ON;
             PRAGMA checkpoint_fullfsync = ON;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA journal_size_limit = {WAL_BYTES_KEPT};"
        ))
        .map_err(classify)?;
    check_header(connection)?;
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(classify)?;
    if busy != 0 {
        return Err(Error::Unavailable {
            reason: "another program uses the database".to_owned(),
        });
    }
    Ok(session)
}

/// Reading the schema checks the header, and that the file is as long as it says.
fn check_header(connection: &Connection) -> Result<(), Error> {
    let schema = "SELECT count(*) FROM sqlite_schema";
    let rows = connection.query_row(schema, [], |row| row.get::<_, i64>(0));
    rows.map(drop).map_err(classify)
}

fn open_reader(path: &Path, cache_bytes: u64, flags: OpenFlags) -> Result<Session, Error> {
    let session = open_session(path, cache_bytes, flags)?;
    session
        .connection
        .pragma_update(None, "query_only", true)
        .map_err(classify)?;
    Ok(session)
}

const READ_WRITE: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_CREATE);

fn open_session(path: &Path, cache_bytes: u64, flags: OpenFlags) -> Result<Session, Error> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(classify)?;
    connection.busy_timeout(BUSY_WAIT).map_err(classify)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(classify)?;
    // Savepoints of a group are kept in memory: temp_store.
    connection
        .execute_batch(&format!(
            "PRAGMA cache_size = -{kibibytes};
             PRAGMA temp_store = MEMORY;
             PRAGMA mmap_size = 0;
             PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;",
            kibibytes = (cache_bytes / 1_024).max(64),
        ))
        .map_err(classify)?;
    Ok(Session::new(connection))
}

fn unavailable(path: &Path, reason: &str) -> Error {
    Error::Unavailable {
        reason: format!("{}: {reason}", path.display()),
    }
}

/// Names the file in an error of opening it.
fn at(path: &Path, error: Error) -> Error {
    let name = |reason: String| format!("{}: {reason}", path.display());
    match error {
        Error::Unavailable { reason } => Error::Unavailable {
            reason: name(reason),
        },
        Error::Io { reason } => Error::Io {
            reason: name(reason),
        },
        Error::Corrupt { table, reason } => Error::Corrupt {
            table,
            reason: name(reason),
        },
        other => other,
    }
}
