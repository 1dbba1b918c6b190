//! The catalog of the simulated machine: SQLite in memory, slow and failing as told.
//!
//! Each write transaction is one durable step. When the power is cut in it, it happened or it did not.

use crate::dice::Dice;
use crate::pauses::Pauses;
use catalog::db::{Fate, InlineSqlite, Outcome, Work};
use catalog::{Db, Error};
use chunkstore::faulty::{FaultyIo, Power};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How many of a million transactions end in each of these ways.
#[derive(Clone, Copy, Default, Debug)]
pub struct DbFaults {
    /// [`Error::Unavailable`], before anything was done.
    pub unavailable: u64,
    /// [`Error::CommitUnknown`]: it happened in half of these.
    pub unknown: u64,
    /// [`Error::NoSpace`].
    pub no_space: u64,
    /// [`Error::Io`]: it happened in half of these, and nothing is answered any more until the next start.
    pub io: u64,
    /// A conflict: the body is run, its changes are undone, and it is run again.
    pub conflict: u64,
}

/// The catalog; clones share everything.
#[derive(Clone)]
pub struct FaultyDb {
    shared: Arc<Shared>,
    pauses: Option<Arc<Pauses>>,
}

struct Shared {
    sqlite: Arc<InlineSqlite>,
    io: FaultyIo,
    state: Mutex<State>,
    died: Notify,
}

struct State {
    faults: DbFaults,
    dice: Dice,
    dead: bool,
    writes: u64,
}

/// What is to happen to a transaction.
enum Turn {
    Goes(Fate),
    Twice,
    /// It ends with this error, having happened or not.
    Ends(Option<Fate>, Error),
}

impl FaultyDb {
    /// The catalog as one life of the machine sees it.
    pub fn new(sqlite: Arc<InlineSqlite>, io: FaultyIo, faults: DbFaults, dice: Dice) -> FaultyDb {
        let state = State {
            faults,
            dice,
            dead: false,
            writes: 0,
        };
        FaultyDb {
            shared: Arc::new(Shared {
                sqlite,
                io,
                state: Mutex::new(state),
                died: Notify::new(),
            }),
            pauses: None,
        }
    }

    /// The same, where transactions take time.
    pub fn slow(&self, pauses: Arc<Pauses>) -> FaultyDb {
        FaultyDb {
            pauses: Some(pauses),
            ..self.clone()
        }
    }

    /// Sets how often it fails from now on.
    pub fn set_faults(&self, faults: DbFaults) {
        self.shared.state().faults = faults;
    }

    /// Whether an I/O error has made it useless.
    pub fn is_dead(&self) -> bool {
        self.shared.state().dead
    }

    /// Resolves once a call has found it useless.
    pub async fn died(&self) {
        self.shared.died.notified().await;
    }

    /// Write transactions so far.
    pub fn writes(&self) -> u64 {
        self.shared.state().writes
    }

    async fn paused<T>(&self, act: impl FnOnce(&Shared) -> T) -> T {
        let Some(pauses) = &self.pauses else {
            return act(&self.shared);
        };
        pauses.pause().await;
        let answer = act(&self.shared);
        pauses.pause().await;
        answer
    }
}

impl Db for FaultyDb {
    fn write(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        Box::pin(self.paused(move |shared| shared.told(shared.write(&work))))
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<Outcome, Error>> {
        Box::pin(self.paused(move |shared| shared.told(shared.read(&work))))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who waits for it when this is the end.
    fn told<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if matches!(answer, Err(Error::Io { .. })) {
            self.died.notify_one();
        }
        answer
    }

    fn write(&self, work: &Work) -> Result<Outcome, Error> {
        let turn = self.turn()?;
        match turn {
            Turn::Goes(fate) => self.sqlite.write_now(work, fate),
            Turn::Twice => {
                drop(self.sqlite.write_now(work, Fate::Vanishes));
                self.sqlite.write_now(work, Fate::Commits)
            }
            Turn::Ends(fate, error) => {
                if let Some(fate) = fate {
                    drop(self.sqlite.write_now(work, fate));
                }
                Err(error)
            }
        }
    }

    fn turn(&self) -> Result<Turn, Error> {
        let mut state = self.state();
        if state.dead {
            return Err(io("it failed before"));
        }
        state.writes += 1;
        match self.io.step_elsewhere() {
            Power::Off => Err(io("the power is off")),
            Power::CutNow => {
                state.dead = true;
                let fate = state.fate();
                Ok(Turn::Ends(Some(fate), io("the power is off")))
            }
            Power::On => Ok(state.draw()),
        }
    }

    fn read(&self, work: &Work) -> Result<Outcome, Error> {
        let mut state = self.state();
        if state.dead || self.io.power_is_off() {
            return Err(io("it failed before"));
        }
        let thrown = state.dice.below(1_000_000);
        if thrown < state.faults.unavailable {
            return Err(unavailable());
        }
        if thrown < state.faults.unavailable + state.faults.io / 4 {
            state.dead = true;
            return Err(io("a sector cannot be read"));
        }
        drop(state);
        self.sqlite.read_now(work)
    }
}

impl State {
    fn fate(&mut self) -> Fate {
        if self.dice.hits(500) {
            Fate::Commits
        } else {
            Fate::Vanishes
        }
    }

    fn draw(&mut self) -> Turn {
        let DbFaults {
            unavailable: not_there,
            unknown,
            no_space,
            io: broken,
            conflict,
        } = self.faults;
        let usual =
            1_000_000_u64.saturating_sub(not_there + unknown + no_space + broken + conflict);
        match self
            .dice
            .weighted(&[usual, not_there, unknown, no_space, broken, conflict])
        {
            1 => Turn::Ends(None, unavailable()),
            2 => {
                let reason = "the answer was lost".to_owned();
                Turn::Ends(Some(self.fate()), Error::CommitUnknown { reason })
            }
            3 => Turn::Ends(Some(Fate::Vanishes), Error::NoSpace),
            4 => {
                self.dead = true;
                Turn::Ends(Some(self.fate()), io("a sector cannot be written"))
            }
            5 => Turn::Twice,
            _ => Turn::Goes(Fate::Commits),
        }
    }
}

fn io(reason: &str) -> Error {
    Error::Io {
        reason: reason.to_owned(),
    }
}

fn unavailable() -> Error {
    Error::Unavailable {
        reason: "it is busy".to_owned(),
    }
}
