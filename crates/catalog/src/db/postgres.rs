//! The shared backend: PostgreSQL and databases that speak its protocol.
//!
//! Every transaction is SERIALIZABLE. A conflict (40001), a deadlock (40P01) or a connection lost before COMMIT runs the whole
//! body again, a bounded number of times, with pauses that grow and differ. A connection lost during COMMIT is
//! [`Error::CommitUnknown`].
//!
//! Connections are pooled here: a permit for each, and those that idle in a stack, so that the warmest is taken first. One that
//! a caller abandons in the middle of a transaction is closed, not returned. Each keeps its prepared statements by text.

mod faults;
#[cfg(test)]
mod tests;
mod txn;

use self::faults::Fault;
use self::txn::{PostgresTxn, Session};
use super::{Access, Db, Outcome, Work};
use crate::Error;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_postgres::{Config, NoTls};
use types::Random;

/// Times that a body is run before its caller is told that the database is too busy. With the pauses, about four seconds.
const ATTEMPTS_MAX: u32 = 24;

/// The first pause after a conflict is at most this; each further one at most twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(2);

/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// How long to wait for a connection to be made, unless the configuration says otherwise.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How to reach a database. No `Debug`: the configuration may hold a password.
#[derive(Clone)]
pub struct PostgresOptions {
    /// A connection string as of libpq: `host=… dbname=… user=…`, or a URL.
    pub config: String,
    /// Connections at most, which is also the number of transactions under way at once.
    pub connections: NonZeroUsize,
    /// Spreads the pauses after conflicts.
    pub random: Random,
}

/// The shared [`Db`].
pub struct Postgres {
    config: Config,
    permits: Semaphore,
    idle: Mutex<Vec<Session>>,
    random: Random,
    attempts_max: u32,
}

impl Postgres {
    /// Makes a first connection, so that a wrong configuration is known at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the configuration cannot be read or the database cannot be reached.
    pub async fn connect(options: &PostgresOptions) -> Result<Postgres, Error> {
        let mut config: Config = options
            .config
            .parse()
            .map_err(|error| unavailable(format!("the connection string: {error}")))?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_WAIT);
        }
        if config.get_application_name().is_none() {
            config.application_name("drystone");
        }
        let postgres = Postgres {
            config,
            permits: Semaphore::new(options.connections.get()),
            idle: Mutex::new(Vec::new()),
            random: options.random.clone(),
            attempts_max: ATTEMPTS_MAX,
        };
        let first = postgres.open_session().await.map_err(unavailable)?;
        postgres.put_back(first);
        Ok(postgres)
    }

    async fn run(&self, work: Work, access: Access) -> Result<Outcome, Error> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| unavailable("the pool has been closed".to_owned()))?;
        let mut last = String::new();
        for attempt in 0..self.attempts_max {
            if attempt > 0 {
                tokio::time::sleep(self.pause(attempt - 1)).await;
            }
            match self.attempt(&work, access).await {
                Ok(outcome) => return Ok(outcome),
                Err(Fault::Again(reason)) => last = reason,
                Err(Fault::Final(error)) => return Err(error),
            }
        }
        Err(unavailable(format!(
            "gave up after {} attempts, the last: {last}",
            self.attempts_max
        )))
    }

    async fn attempt(&self, work: &Work, access: Access) -> Result<Outcome, Fault> {
        let mut session = self.take_session().await?;
        let begin = match access {
            Access::Read => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
            Access::Write => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        };
        session.control(begin).await?;

        let mut txn = PostgresTxn::new(&mut session, access);
        // A session left behind by a panic is dropped, which closes its connection and so ends its transaction.
        let ran = AssertUnwindSafe(async { work(&mut txn).await })
            .catch_unwind()
            .await;
        let result = ran.map_err(|_| Error::Statement {
            reason: "the body panicked".to_owned(),
        });
        let failure = txn.into_failure();
        let result = match (result?, failure) {
            (_, Some(Fault::Again(reason))) => Err(Fault::Again(reason)),
            (Ok(_), Some(Fault::Final(error))) => {
                let reason = format!("the body went on after an error: {error}");
                Err(Fault::Final(Error::Statement { reason }))
            }
            (Err(error), _) => Err(Fault::Final(error)),
            (Ok(outcome), None) => Ok(outcome),
        };
        match result {
            Ok(outcome) => {
                session.commit(access).await?;
                self.put_back(session);
                Ok(outcome)
            }
            Err(fault) => {
                if session.control("ROLLBACK").await.is_ok() {
                    self.put_back(session);
                }
                Err(fault)
            }
        }
    }

    async fn take_session(&self) -> Result<Session, Fault> {
        let idle = || {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        };
        while let Some(session) = idle() {
            if !session.is_closed() {
                return Ok(session);
            }
        }
        // Not tried again here: each try may take as long as CONNECT_WAIT.
        self.open_session()
            .await
            .map_err(|reason| Fault::Final(unavailable(reason)))
    }

    fn put_back(&self, session: Session) {
        if !session.is_closed() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(session);
        }
    }

    async fn open_session(&self) -> Result<Session, String> {
        let (client, connection) = self
            .config
            .connect(NoTls)
            .await
            .map_err(|error| faults::describe(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the catalog ended");
            }
        });
        Session::prepare(client).await
    }

    fn pause(&self, attempt: u32) -> Duration {
        let most = PAUSE_FIRST
            .saturating_mul(1 << attempt.min(16))
            .min(PAUSE_MAX);
        let span = u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.random.bits() % span)
    }
}

impl Db for Postgres {
    fn write(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        Box::pin(self.run(work, Access::Write))
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        Box::pin(self.run(work, Access::Read))
    }
}

fn unavailable(reason: String) -> Error {
    Error::Unavailable { reason }
}
