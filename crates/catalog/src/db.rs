//! The database seam: serializable transactions over SQL with typed parameters.

mod batch;
#[cfg(any(test, feature = "test-support"))]
pub mod contract;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;
mod value;

pub use batch::{Batch, GROUP_ROWS_MAX, groups};
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresOptions};
#[cfg(any(test, feature = "test-support"))]
pub use sqlite::{Fate, InlineSqlite};
pub use sqlite::{Sqlite, SqliteCounts, SqliteOptions};
pub use value::{Row, Value};

use crate::Error;
use futures_util::future::BoxFuture;
use std::any::Any;

/// A transaction under way.
///
/// Statements are in the shared dialect (DESIGN 2.2): `$1`, `$2`, … as parameters, BIGINT, BYTEA and TEXT only, no LIKE, no
/// ordering by text, nothing after an error. `sql` should be one of few texts: backends cache prepared statements by it.
pub trait Txn: Send {
    /// Runs a statement and answers the number of rows it changed.
    fn execute<'a>(
        &'a mut self,
        sql: &'a str,
        params: Vec<Value>,
    ) -> BoxFuture<'a, Result<u64, Error>>;

    /// Runs a query and answers its rows, all of them: the caller bounds them with LIMIT.
    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        params: Vec<Value>,
    ) -> BoxFuture<'a, Result<Vec<Row>, Error>>;

    /// Makes this transaction one that the start of a collection cycle waits for (DESIGN 4). Answers the current epoch.
    /// Taken by each transaction that creates a reference to a chunk.
    fn hold_epoch_shared(&mut self) -> BoxFuture<'_, Result<i64, Error>>;

    /// Begins a collection cycle: waits for every transaction that holds the epoch, and makes the next one, which it answers. Those
    /// that want to hold it meanwhile wait behind this.
    fn begin_epoch(&mut self) -> BoxFuture<'_, Result<i64, Error>>;
}

/// What a transaction answers, type erased; [`DbExt`] gives it its type back.
pub type Outcome = Box<dyn Any + Send>;

/// The body of a transaction. It may run several times, so it changes nothing but the transaction, and it awaits
/// nothing but the transaction's own methods.
pub type Work =
    Box<dyn for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<Outcome, Error>> + Send + Sync>;

/// A transactional database.
///
/// A trait because there are real backends (SQLite, PostgreSQL) and faulty ones for tests.
///
/// Contract, tested by the contract suite:
/// - `write` runs the body in a serializable transaction. When it answers `Ok`, the transaction is durable and every later
///   `read` and `write` sees it. When the body answers an error, nothing of it is there. A body may be run again after a conflict.
/// - After a statement has failed no further one is taken, and the transaction leaves nothing, whatever its body answers. A body
///   that panics has failed; nobody else is touched.
/// - A caller may drop the future at any moment: its transaction is then there as a whole or not at all.
/// - `read` runs the body on a consistent view that contains every acknowledged write; the body must not change anything (refused).
/// - After [`Error::CommitUnknown`] the caller finds out by reading.
/// - Bodies of several callers may be committed together, yet each stands or falls alone.
/// - The number of waiting transactions is bounded; beyond that callers wait.
pub trait Db: Send + Sync + 'static {
    /// Runs a read-write transaction.
    fn write(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>>;

    /// Runs a read-only transaction.
    fn read(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>>;
}

/// Typed transactions on any [`Db`].
pub trait DbExt {
    /// [`Db::write`] with a typed answer.
    fn transact<T, F>(&self, body: F) -> impl Future<Output = Result<T, Error>> + Send
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static;

    /// [`Db::read`] with a typed answer.
    fn view<T, F>(&self, body: F) -> impl Future<Output = Result<T, Error>> + Send
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static;
}

impl<D: Db + ?Sized> DbExt for D {
    async fn transact<T, F>(&self, body: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    {
        Ok(restore(self.write(erase(body)).await?))
    }

    async fn view<T, F>(&self, body: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
    {
        Ok(restore(self.read(erase(body)).await?))
    }
}

fn erase<T, F>(body: F) -> Work
where
    T: Send + 'static,
    F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
{
    fn work<F>(erased: F) -> Work
    where
        F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<Outcome, Error>>
            + Send
            + Sync
            + 'static,
    {
        Box::new(erased)
    }
    work(move |txn| {
        let typed = body(txn);
        Box::pin(async move { Ok(Box::new(typed.await?) as Outcome) })
    })
}

fn restore<T: 'static>(outcome: Outcome) -> T {
    *outcome
        .downcast()
        .expect("a backend answers what the body answered")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// What [`Txn::hold_epoch_shared`] reads; PostgreSQL adds the lock.
const SELECT_EPOCH: &str = "SELECT number FROM meta WHERE name = 'epoch'";

/// What [`Txn::begin_epoch`] runs.
const NEXT_EPOCH: &str = "UPDATE meta SET number = number + 1 WHERE name = 'epoch'";

fn epoch_in_read() -> Error {
    Error::Statement {
        reason: "a read cannot hold the epoch".to_owned(),
    }
}

fn epoch_of(rows: &[Row]) -> Result<i64, Error> {
    match rows.first() {
        Some(row) => row.int(0, "meta"),
        None => Err(Error::Corrupt {
            table: "meta",
            reason: "the epoch is missing".to_owned(),
        }),
    }
}

/// PostgreSQL's TEXT cannot hold U+0000, so no backend takes it.
fn check_params(params: &[Value]) -> Result<(), Error> {
    match params
        .iter()
        .position(|value| matches!(value, Value::Text(text) if text.contains('\0')))
    {
        Some(index) => Err(Error::Statement {
            reason: format!("parameter ${} holds U+0000", index + 1),
        }),
        None => Ok(()),
    }
}
