//! A thread that reads: one transaction after the other, on a connection that refuses changes.
//!
//! BEGIN takes no view yet; the first statement does. Both come after the request, so the view contains every write that was
//! acknowledged before it.

use super::txn::Session;
use super::{Job, Poison};
use crate::Error;
use crate::db::{Access, Outcome, Work};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

pub(super) struct Reader {
    session: Session,
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
    poison: Arc<Poison>,
}

impl Reader {
    pub(super) fn new(
        session: Session,
        queue: Arc<Mutex<mpsc::Receiver<Job>>>,
        poison: Arc<Poison>,
    ) -> Reader {
        Reader {
            session,
            queue,
            poison,
        }
    }

    /// Serves until nobody can ask any more.
    pub(super) fn serve(mut self) {
        while let Some(job) = self.next() {
            let result = self.poison.check().and_then(|()| self.read(&job.work));
            if let Err(Error::Io { reason }) = &result {
                self.poison.set(reason);
            }
            job.answer(result);
        }
    }

    /// The idle reader that holds the lock waits for the next request; the others wait for the lock.
    fn next(&self) -> Option<Job> {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv()
    }

    fn read(&mut self, work: &Work) -> Result<Outcome, Error> {
        self.session.control("BEGIN")?;
        let ended = self.session.run(work, Access::Read);
        if !self.session.connection.is_autocommit() {
            self.session.control("ROLLBACK")?;
        }
        match ended.io_failure {
            Some(reason) => Err(Error::Io { reason }),
            None => ended.result,
        }
    }
}
