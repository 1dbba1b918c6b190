//! SQLite in memory, on the thread that asks: for simulations, where nothing but the seed may decide what comes next.
//!
//! Every future here is ready at once. What was committed lasts for as long as this lives, so a simulated machine keeps it across
//! its restarts; a transaction can also be told to vanish at its end, as one does that a power cut comes before.

use super::txn::{Session, classify};
use crate::Error;
use crate::db::{Access, Db, Outcome, Work};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use rusqlite::Connection;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What becomes of a transaction whose body went well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is committed.
    Commits,
    /// It leaves nothing, whatever is said of it.
    Vanishes,
}

/// A database in memory.
pub struct InlineSqlite {
    session: Mutex<Session>,
}

impl InlineSqlite {
    /// An empty one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> Result<InlineSqlite, Error> {
        let connection = Connection::open_in_memory().map_err(classify)?;
        let pragmas = "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;";
        connection.execute_batch(pragmas).map_err(classify)?;
        Ok(InlineSqlite {
            session: Mutex::new(Session::new(connection)),
        })
    }

    /// Runs a read-write transaction, which ends as `fate` says unless its body fails.
    ///
    /// # Errors
    /// As [`Db::write`]; those of the body above all.
    pub fn write_now(&self, work: &Work, fate: Fate) -> Result<Outcome, Error> {
        let mut session = self.session();
        session.control("BEGIN IMMEDIATE")?;
        let result = session.run(work, Access::Write).result;
        if result.is_ok() && fate == Fate::Commits {
            session.control("COMMIT")?;
        } else if !session.connection.is_autocommit() {
            session.control("ROLLBACK")?;
        }
        result
    }

    /// Runs a read-only transaction.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub fn read_now(&self, work: &Work) -> Result<Outcome, Error> {
        let mut session = self.session();
        session.control("BEGIN")?;
        let result = session.run(work, Access::Read).result;
        if !session.connection.is_autocommit() {
            session.control("ROLLBACK")?;
        }
        result
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Db for InlineSqlite {
    fn write(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        ready(self.write_now(&work, Fate::Commits)).boxed()
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        ready(self.read_now(&work)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::contract;
    use crate::{DbExt, Txn, schema};

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::check(&InlineSqlite::new().unwrap()).await;
    }

    fn insert(txn: &mut dyn Txn) -> BoxFuture<'_, Result<Outcome, Error>> {
        async move {
            let id = crate::containers::reserve(txn).await?;
            Ok(Box::new(id) as Outcome)
        }
        .boxed()
    }

    #[tokio::test]
    async fn a_transaction_that_vanishes_leaves_nothing() {
        let db = InlineSqlite::new().unwrap();
        schema::migrate(&db, [1; 16], 0).await.unwrap();
        let work: Work = Box::new(insert);
        let reserved = |fate| {
            let id = db.write_now(&work, fate).unwrap();
            *id.downcast::<u64>().unwrap()
        };
        assert_eq!(reserved(Fate::Commits), 1);
        assert_eq!(reserved(Fate::Vanishes), 2);
        let last = db.view(|txn| Box::pin(crate::containers::last_reserved(txn)));
        assert_eq!(last.await.unwrap(), 1);
    }
}
