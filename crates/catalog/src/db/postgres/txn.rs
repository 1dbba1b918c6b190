//! One connection to PostgreSQL, and one body under way on it: statements and values.

use super::super::{Access, NEXT_EPOCH, SELECT_EPOCH, Txn, check_params, epoch_of};
use super::faults::{self, Fault};
use crate::{Error, Row, Value};
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

/// Prepared statements kept for each connection. Texts are few (see [`crate::Batch`]); the limit only bounds what a bug could do.
const STATEMENTS_MAX: usize = 512;

/// The transaction that begins the next epoch has to wait for this lock. It has a fair queue: without it, share locks of the row would
/// overtake that transaction for ever. The number is only this program's own.
const SHARE_TURN: &str = "SELECT pg_advisory_xact_lock_shared(4987112960157741)";

/// The other side of [`SHARE_TURN`].
const TAKE_TURN: &str = "SELECT pg_advisory_xact_lock(4987112960157741)";

/// The row is locked too: who waited for the turn began before the epoch that was set meanwhile, and must not read the old one.
const HOLD_EPOCH: &str = "SELECT number FROM meta WHERE name = 'epoch' FOR SHARE";

type BoxError = Box<dyn std::error::Error + Sync + Send>;

/// A connection and its prepared statements by text.
pub(super) struct Session {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Session {
    /// A session whose COMMIT is durable, whatever the server's default is.
    pub(super) async fn prepare(client: Client) -> Result<Session, String> {
        let durable = "SELECT set_config('synchronous_commit', 'on', false) \
                       WHERE current_setting('synchronous_commit') = 'off'";
        client
            .simple_query(durable)
            .await
            .map_err(|error| faults::describe(&error))?;
        Ok(Session {
            client,
            statements: HashMap::new(),
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) async fn control(&self, sql: &str) -> Result<(), Fault> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|error| faults::of_statement(&error))
    }

    pub(super) async fn commit(&self, access: Access) -> Result<(), Fault> {
        let committed = self.client.batch_execute("COMMIT").await;
        committed.map_err(|error| faults::of_commit(&error, access))
    }

    async fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, Fault> {
        let statement = self.statement(sql, params).await?;
        let changed = self.client.execute_raw(&statement, params).await;
        changed.map_err(|error| faults::of_statement(&error))
    }

    async fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, Fault> {
        let statement = self.statement(sql, params).await?;
        for column in statement.columns() {
            if !is_readable(column.type_()) {
                let reason = format!("column {} is {}", column.name(), column.type_());
                return Err(Error::Statement { reason }.into());
            }
        }
        let dynamic: Vec<&(dyn ToSql + Sync)> = params
            .iter()
            .map(|param| param as &(dyn ToSql + Sync))
            .collect();
        let found = self.client.query(&statement, &dynamic).await;
        let found = found.map_err(|error| faults::of_statement(&error))?;
        let rows = found.iter().map(row).collect::<Result<Vec<Row>, Error>>()?;
        Ok(rows)
    }

    /// The prepared form of `sql`. Its parameters have the types of the values that it is first run with; the type of a NULL
    /// follows from its place, which is why the dialect casts nullable parameters.
    async fn statement(&mut self, sql: &str, params: &[Value]) -> Result<Statement, Fault> {
        check_params(params)?;
        let statement = match self.statements.get(sql) {
            Some(known) => known.clone(),
            None => {
                let types: Vec<Type> = params.iter().map(type_of).collect();
                let prepared = self.client.prepare_typed(sql, &types).await;
                let prepared = prepared.map_err(|error| faults::of_statement(&error))?;
                if self.statements.len() >= STATEMENTS_MAX {
                    self.statements.clear();
                }
                self.statements.insert(sql.to_owned(), prepared.clone());
                prepared
            }
        };
        let expected = statement.params();
        let fit = expected.len() == params.len()
            && expected
                .iter()
                .zip(params)
                .all(|(expected, value)| fits(value, expected));
        if !fit {
            let given: Vec<Type> = params.iter().map(type_of).collect();
            let reason = format!("parameters {expected:?} were given as {given:?}");
            return Err(Error::Statement { reason }.into());
        }
        Ok(statement)
    }
}

/// A body's transaction. Remembers the first failure: the server takes no further statement then.
pub(super) struct PostgresTxn<'s> {
    session: &'s mut Session,
    access: Access,
    failure: Option<Fault>,
}

impl PostgresTxn<'_> {
    pub(super) fn new(session: &mut Session, access: Access) -> PostgresTxn<'_> {
        PostgresTxn {
            session,
            access,
            failure: None,
        }
    }

    pub(super) fn into_failure(self) -> Option<Fault> {
        self.failure
    }

    fn check(&self) -> Result<(), Error> {
        match &self.failure {
            Some(fault) => {
                let reason = format!("a statement after an error: {}", fault.to_error());
                Err(Error::Statement { reason })
            }
            None => Ok(()),
        }
    }

    fn note<T>(&mut self, result: Result<T, Fault>) -> Result<T, Error> {
        result.map_err(|fault| {
            let error = fault.to_error();
            self.failure = Some(fault);
            error
        })
    }
}

impl Txn for PostgresTxn<'_> {
    fn execute<'a>(
        &'a mut self,
        sql: &'a str,
        params: Vec<Value>,
    ) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move {
            self.check()?;
            let result = self.session.execute(sql, &params).await;
            self.note(result)
        })
    }

    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        params: Vec<Value>,
    ) -> BoxFuture<'a, Result<Vec<Row>, Error>> {
        Box::pin(async move {
            self.check()?;
            let result = self.session.query(sql, &params).await;
            self.note(result)
        })
    }

    fn hold_epoch_shared(&mut self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            self.check()?;
            let result = match self.access {
                Access::Read => Err(super::super::epoch_in_read().into()),
                Access::Write => match self.session.control(SHARE_TURN).await {
                    Ok(()) => self.session.query(HOLD_EPOCH, &[]).await,
                    Err(fault) => Err(fault),
                },
            };
            let rows = self.note(result)?;
            let epoch = epoch_of(&rows).map_err(Fault::from);
            self.note(epoch)
        })
    }

    fn begin_epoch(&mut self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move {
            self.check()?;
            let turn = match self.access {
                Access::Read => Err(super::super::epoch_in_read().into()),
                Access::Write => self.session.control(TAKE_TURN).await,
            };
            self.note(turn)?;
            self.execute(NEXT_EPOCH, Vec::new()).await?;
            let rows = self.query(SELECT_EPOCH, Vec::new()).await?;
            epoch_of(&rows)
        })
    }
}

fn type_of(value: &Value) -> Type {
    match value {
        Value::Null => Type::UNKNOWN,
        Value::Int(_) => Type::INT8,
        Value::Text(_) => Type::TEXT,
        Value::Bytes(_) => Type::BYTEA,
    }
}

fn fits(value: &Value, expected: &Type) -> bool {
    matches!(value, Value::Null) || type_of(value) == *expected
}

/// A literal number is an INT4 there; names of the system's own tables are NAME.
fn is_readable(column: &Type) -> bool {
    [Type::INT8, Type::INT4, Type::TEXT, Type::NAME, Type::BYTEA].contains(column)
}

fn row(found: &tokio_postgres::Row) -> Result<Row, Error> {
    let values = (0..found.len()).map(|column| {
        found
            .try_get(column)
            .map(|Column(value)| value)
            .map_err(|error| Error::Corrupt {
                table: "the database server",
                reason: faults::describe(&error),
            })
    });
    Ok(Row(values.collect::<Result<_, _>>()?))
}

impl ToSql for Value {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        match self {
            Value::Null => return Ok(IsNull::Yes),
            Value::Int(int) => out.extend_from_slice(&int.to_be_bytes()),
            Value::Text(text) => out.extend_from_slice(text.as_bytes()),
            Value::Bytes(bytes) => out.extend_from_slice(bytes),
        }
        Ok(IsNull::No)
    }

    /// [`Session::statement`] compares type and value before.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column on its way in.
struct Column(Value);

impl<'a> FromSql<'a> for Column {
    fn from_sql(column: &Type, raw: &'a [u8]) -> Result<Column, BoxError> {
        Ok(Column(match *column {
            Type::INT8 => Value::Int(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => Value::Int(i32::from_be_bytes(raw.try_into()?).into()),
            Type::BYTEA => Value::Bytes(raw.to_vec()),
            _ => Value::Text(std::str::from_utf8(raw)?.to_owned()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Column, BoxError> {
        Ok(Column(Value::Null))
    }

    fn accepts(column: &Type) -> bool {
        is_readable(column)
    }
}
