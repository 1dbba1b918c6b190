//! What every [`Db`] must do: the lines of the seam's documentation as tests, the same for each backend.
//!
//! [`dialect`] covers statements and values, [`transactions`] covers atomicity, isolation, visibility and callers that leave.
//! Each function takes an empty database, uses tables of its own, and panics where the contract is broken.

pub mod dialect;
pub mod transactions;

use crate::{Db, DbExt, Error, Row, Value};

/// Runs the whole contract on `db`, which is empty.
pub async fn check(db: &dyn Db) {
    dialect::check(db).await;
    transactions::check(db).await;
}

/// One statement in a transaction of its own.
async fn execute(db: &dyn Db, sql: &'static str, params: Vec<Value>) -> Result<u64, Error> {
    db.transact(move |txn| {
        let params = params.clone();
        Box::pin(async move { txn.execute(sql, params).await })
    })
    .await
}

/// One query in a read transaction of its own.
async fn query(db: &dyn Db, sql: &'static str, params: Vec<Value>) -> Result<Vec<Row>, Error> {
    db.view(move |txn| {
        let params = params.clone();
        Box::pin(async move { txn.query(sql, params).await })
    })
    .await
}

/// [`execute`] where nothing can go wrong.
async fn run(db: &dyn Db, sql: &'static str, params: Vec<Value>) -> u64 {
    execute(db, sql, params)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// [`query`] where nothing can go wrong.
async fn rows(db: &dyn Db, sql: &'static str, params: Vec<Value>) -> Vec<Vec<Value>> {
    let found = query(db, sql, params)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    found.into_iter().map(|Row(values)| values).collect()
}

/// The number that `sql` answers.
async fn number(db: &dyn Db, sql: &'static str) -> i64 {
    match rows(db, sql, Vec::new()).await.as_slice() {
        [row] => match row.as_slice() {
            [Value::Int(number)] => *number,
            other => panic!("{sql}: {other:?}"),
        },
        other => panic!("{sql}: {} rows", other.len()),
    }
}

#[cfg(test)]
mod tests {
    use crate::db::contract;
    use crate::testing::{FreshSqlite, fresh_postgres};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite_keeps_the_contract() {
        contract::check(&*FreshSqlite::new().db()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres_keeps_the_contract() {
        if let Some(postgres) = fresh_postgres().await {
            contract::check(&*postgres).await;
        }
    }
}
