//! The one thread that changes the database: group commit and checkpoints.
//!
//! Policy
//! - Whatever waits while a transaction is open goes into it, up to [`GROUP_MAX`] bodies, each in a savepoint of its own. One
//!   COMMIT (one sync of the WAL) serves them all; then all are answered.
//! - Only this thread checkpoints: PASSIVE each time the WAL has grown by [`CHECKPOINT_PAGES`]; RESTART, which waits for the
//!   readers, when they have kept the WAL from being reused up to [`RESTART_PAGES`].
//!
//! Invariants
//! - W1: nobody is answered before the COMMIT, not even with a body's error: the body may have seen what its mates did.
//! - W2: a body that fails leaves nothing and takes nothing from its mates.
//!
//! Failure
//! - SQLite may roll back a whole transaction (a full disk can do that). Then every body of the group runs again in a
//!   transaction of its own, so that only those fail that must.
//! - An I/O error poisons the backend: everyone, now and later, gets [`Error::Io`]. Whether the group under way is there is
//!   known after the next start.

use super::txn::Session;
use super::{Job, Poison};
use crate::Error;
use crate::db::{Access, Outcome};
use rusqlite::hooks::Wal;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bodies in one commit. Beyond this the sync is a small part of the cost, and the first caller would only wait longer.
const GROUP_MAX: usize = 64;

/// Growth of the WAL, in pages of 4 KiB, that makes a checkpoint worth its two syncs: 16 MiB. Start-up has to work off as much.
const CHECKPOINT_PAGES: u64 = 4_096;

/// Pages of the WAL from which the writer waits for readers to let go of it: 256 MiB.
const RESTART_PAGES: u64 = 65_536;

/// How long that wait lasts at most, since all writers wait with it.
const RESTART_WAIT: Duration = Duration::from_millis(500);

/// Counts since the start.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) bodies: AtomicU64,
    pub(super) checkpoints: AtomicU64,
}

pub(super) struct Writer {
    session: Session,
    queue: mpsc::Receiver<Job>,
    poison: Arc<Poison>,
    counters: Arc<Counters>,
    /// Pages of the WAL when it was last checkpointed; 0 once it has begun anew.
    checkpointed_pages: u64,
}

/// A body of the group under way; its result is what the caller gets if the group commits.
struct Member {
    job: Job,
    result: Option<Result<Outcome, Error>>,
}

thread_local! {
    /// Pages in the WAL after this thread's last commit.
    static WAL_PAGES: Cell<u64> = const { Cell::new(0) };
}

impl Writer {
    pub(super) fn new(
        session: Session,
        queue: mpsc::Receiver<Job>,
        poison: Arc<Poison>,
        counters: Arc<Counters>,
    ) -> Writer {
        session.connection.wal_hook(Some(note_wal_pages));
        Writer {
            session,
            queue,
            poison,
            counters,
            checkpointed_pages: 0,
        }
    }

    /// Serves until nobody can ask any more.
    pub(super) fn serve(mut self) {
        while let Some(job) = self.queue.blocking_recv() {
            self.serve_group(job);
            self.checkpoint_when_due();
        }
    }

    fn serve_group(&mut self, first: Job) {
        let Err((group, error)) = self.run_group(first, GROUP_MAX) else {
            return;
        };
        if group.len() == 1 || self.poison.is_set() {
            return fail_all(group, &error);
        }
        for member in group {
            if let Err((alone, error)) = self.run_group(member.job, 1) {
                fail_all(alone, &error);
            }
        }
    }

    /// Runs `first` and up to `members_max - 1` of those that wait in one transaction, commits it and answers them. Gives
    /// back all that it took when the transaction as a whole came to nothing.
    fn run_group(&mut self, first: Job, members_max: usize) -> Result<(), (Vec<Member>, Error)> {
        let mut group = vec![Member {
            job: first,
            result: None,
        }];
        match self.run_members(&mut group, members_max) {
            Ok(()) => {
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.counters
                    .bodies
                    .fetch_add(group.len() as u64, Ordering::Relaxed);
                for Member { job, result } in group {
                    job.answer(result.expect("a committed group has run all its members"));
                }
                Ok(())
            }
            Err(error) => {
                self.abandon(&error);
                Err((group, error))
            }
        }
    }

    fn run_members(&mut self, group: &mut Vec<Member>, members_max: usize) -> Result<(), Error> {
        self.poison.check()?;
        self.session.control("BEGIN IMMEDIATE")?;
        for number in 0..members_max {
            if number == group.len() {
                match self.next_waiting() {
                    Some(job) => group.push(Member { job, result: None }),
                    None => break,
                }
            }
            let result = self.run_body(&group[number].job)?;
            group[number].result = Some(result);
        }
        self.session.control("COMMIT")
    }

    /// Runs one body in its savepoint. The outer error means that the transaction around it is lost.
    fn run_body(&mut self, job: &Job) -> Result<Result<Outcome, Error>, Error> {
        self.session.control("SAVEPOINT body")?;
        let ended = self.session.run(&job.work, Access::Write);
        if let Some(reason) = ended.io_failure {
            return Err(Error::Io { reason });
        }
        if ended.result.is_err() {
            if self.session.connection.is_autocommit() {
                return Err(ended.result.err().unwrap_or(Error::NoSpace));
            }
            self.session.control("ROLLBACK TO body")?;
        }
        self.session.control("RELEASE body")?;
        Ok(ended.result)
    }

    fn next_waiting(&mut self) -> Option<Job> {
        loop {
            let job = self.queue.try_recv().ok()?;
            if !job.is_forsaken() {
                return Some(job);
            }
        }
    }

    /// Leaves nothing of the transaction under way.
    fn abandon(&mut self, error: &Error) {
        if let Error::Io { reason } = error {
            self.poison.set(reason);
        }
        if !self.session.connection.is_autocommit()
            && let Err(error) = self.session.control("ROLLBACK")
        {
            self.poison.set(&format!("rolling back failed: {error}"));
        }
        if matches!(error, Error::NoSpace) {
            // A WAL that is written back can be used from its beginning again.
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    fn checkpoint_when_due(&mut self) {
        let pages = WAL_PAGES.get();
        if pages < self.checkpointed_pages {
            self.checkpointed_pages = 0;
        }
        if pages < self.checkpointed_pages + CHECKPOINT_PAGES || self.poison.is_set() {
            return;
        }
        if pages >= RESTART_PAGES {
            self.restart_wal();
        } else {
            self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
        }
        self.checkpointed_pages = pages;
    }

    fn restart_wal(&mut self) {
        let connection = &self.session.connection;
        let wait = connection.busy_timeout(RESTART_WAIT);
        self.checkpoint("PRAGMA wal_checkpoint(RESTART)");
        let reset = self.session.connection.busy_timeout(super::BUSY_WAIT);
        if let Err(error) = wait.and(reset) {
            tracing::error!(%error, "the wait for locks of the catalog cannot be set");
        }
    }

    fn checkpoint(&mut self, sql: &str) {
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        match self.session.control(sql) {
            Ok(()) => {}
            Err(Error::Io { reason }) => self.poison.set(&reason),
            Err(error) => tracing::warn!(%error, "the catalog's WAL cannot be written back yet"),
        }
    }
}

fn note_wal_pages(_: &Wal, pages: std::ffi::c_int) -> rusqlite::Result<()> {
    WAL_PAGES.set(u64::try_from(pages).unwrap_or_default());
    Ok(())
}

fn fail_all(group: Vec<Member>, error: &Error) {
    for Member { job, .. } in group {
        job.answer(Err(error.same()));
    }
}
