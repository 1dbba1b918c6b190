//! One body under way on an SQLite connection: statements, values and errors.
//!
//! Every future here is ready at once, so a body needs no runtime: it is polled a single time, on the thread that owns
//! the connection.

use super::dialect::{Dialect, TEXTS_MAX};
use crate::db::{
    Access, NEXT_EPOCH, Outcome, SELECT_EPOCH, Work, check_params, epoch_in_read, epoch_of,
};
use crate::{Error, Row, Txn, Value};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, Statement, ToSql, ffi};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A connection of one thread, with the texts that it has seen.
pub(super) struct Session {
    pub(super) connection: Connection,
    dialect: Dialect,
}

/// How a body ended.
pub(super) struct Ended {
    /// What the caller is told, provided that what the body did (or saw) is committed.
    pub(super) result: Result<Outcome, Error>,
    /// The I/O error that a statement met, whatever the body made of it.
    pub(super) io_failure: Option<String>,
}

impl Session {
    pub(super) fn new(connection: Connection) -> Session {
        connection.set_prepared_statement_cache_capacity(TEXTS_MAX);
        Session {
            connection,
            dialect: Dialect::default(),
        }
    }

    /// Runs a statement of this backend's own, prepared once.
    pub(super) fn control(&self, sql: &str) -> Result<(), Error> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.raw_query().next().map(drop))
            .map_err(classify)
    }

    /// Polls `work` once. A panic ends as an error of this body alone.
    pub(super) fn run(&mut self, work: &Work, access: Access) -> Ended {
        let mut txn = SqliteTxn {
            session: self,
            access,
            failure: None,
            io_failure: None,
        };
        let polled = catch_unwind(AssertUnwindSafe(|| work(&mut txn).now_or_never()));
        let result = match (polled, &txn.failure) {
            (Ok(Some(Ok(_))), Some(reason)) => Err(statement_error(format!(
                "the body went on after an error: {reason}"
            ))),
            (Ok(Some(result)), _) => result,
            (Ok(None), _) => Err(statement_error(
                "the body waits for something else than its transaction",
            )),
            (Err(_), _) => Err(statement_error("the body panicked")),
        };
        Ended {
            result,
            io_failure: txn.io_failure,
        }
    }
}

struct SqliteTxn<'s> {
    session: &'s mut Session,
    access: Access,
    failure: Option<String>,
    io_failure: Option<String>,
}

impl SqliteTxn<'_> {
    /// Answers what `operation` answers, and remembers its failure: PostgreSQL takes no further statement then, so neither
    /// does this backend.
    fn guard<T>(
        &mut self,
        operation: impl FnOnce(&mut Session) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(reason) = &self.failure {
            return Err(statement_error(format!(
                "a statement after an error: {reason}"
            )));
        }
        operation(self.session).inspect_err(|error| {
            self.failure = Some(error.to_string());
            if let Error::Io { reason } = error {
                self.io_failure = Some(reason.clone());
            }
        })
    }
}

impl Txn for SqliteTxn<'_> {
    fn execute<'a>(
        &'a mut self,
        sql: &'a str,
        params: Vec<Value>,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        let access = self.access;
        let result = self.guard(|session| {
            check_params(&params)?;
            let sql = session.dialect.translate(sql);
            let mut statement = session.connection.prepare_cached(&sql).map_err(classify)?;
            check_access(&statement, access)?;
            let changed = statement
                .execute(rusqlite::params_from_iter(&params))
                .map_err(classify)?;
            Ok(changed as u64)
        });
        ready(result).boxed()
    }

    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        params: Vec<Value>,
    ) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
        let access = self.access;
        ready(self.guard(|session| query(session, access, sql, &params))).boxed()
    }

    fn hold_epoch_shared(&mut self) -> BoxFuture<'_, Result<i64, Error>> {
        let access = self.access;
        let result = self.guard(|session| {
            if access == Access::Read {
                return Err(epoch_in_read());
            }
            // Writers are serial: the transaction that sets the epoch runs after this one or before it.
            let rows = query(session, access, SELECT_EPOCH, &[])?;
            epoch_of(&rows)
        });
        ready(result).boxed()
    }

    fn begin_epoch(&mut self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            self.execute(NEXT_EPOCH, Vec::new()).await?;
            self.hold_epoch_shared().await
        })
    }
}

/// The readers' connections refuse changes too; this one tells before anything is done.
fn check_access(statement: &Statement<'_>, access: Access) -> Result<(), Error> {
    if access == Access::Read && !statement.readonly() {
        return Err(statement_error("a read cannot change anything"));
    }
    Ok(())
}

fn query(
    session: &mut Session,
    access: Access,
    sql: &str,
    params: &[Value],
) -> Result<Vec<Row>, Error> {
    check_params(params)?;
    let sql = session.dialect.translate(sql);
    let mut statement = session.connection.prepare_cached(&sql).map_err(classify)?;
    check_access(&statement, access)?;
    let columns = statement.column_count();
    let mut cursor = statement
        .query(rusqlite::params_from_iter(params))
        .map_err(classify)?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next().map_err(classify)? {
        let values = (0..columns).map(|column| value(row.get_ref(column).map_err(classify)?));
        rows.push(Row(values.collect::<Result<_, _>>()?));
    }
    Ok(rows)
}

fn value(column: ValueRef<'_>) -> Result<Value, Error> {
    match column {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(int) => Ok(Value::Int(int)),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Value::Text(text.to_owned())),
            Err(_) => Err(damaged_file("a text is not UTF-8")),
        },
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes.to_vec())),
        ValueRef::Real(_) => Err(statement_error("the dialect has no floating point numbers")),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(int) => ValueRef::Integer(*int),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What SQLite's own error means here.
pub(super) fn classify(error: rusqlite::Error) -> Error {
    let reason = error.to_string();
    let Some(failure) = error.sqlite_error() else {
        return Error::Statement { reason };
    };
    match (failure.code, failure.extended_code) {
        // The shared memory of the WAL could not grow: the disk is full, not broken.
        (_, ffi::SQLITE_IOERR_SHMSIZE) | (ErrorCode::DiskFull, _) => Error::NoSpace,
        (_, ffi::SQLITE_IOERR_NOMEM) => Error::Unavailable { reason },
        (ErrorCode::SystemIoFailure, _) => Error::Io { reason },
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => damaged_file(reason),
        (
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed,
            _,
        ) => Error::Unavailable { reason },
        _ => Error::Statement { reason },
    }
}

fn statement_error(reason: impl Into<String>) -> Error {
    Error::Statement {
        reason: reason.into(),
    }
}

fn damaged_file(reason: impl Into<String>) -> Error {
    Error::Corrupt {
        table: "the catalog file",
        reason: reason.into(),
    }
}
