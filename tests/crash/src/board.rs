//! The one list of what was called and answered, and who works on which snapshot.
//!
//! Every call that changes something goes through [`Board::perform`], which notes when it began and when its answer was
//! read, as numbers of the stamp that the board was given. So the model can be had as it is now, and as it was at a cut:
//! what was answered by then is certain, what was under way is unknown, what came later has not been.

use crate::api::{Failure, Id};
use crate::dice::Dice;
use crate::model::{Content, Model, Op, Outcome, Snapshot, Stage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts something that only grows.
pub type Stamp = Arc<dyn Fn() -> u64 + Send + Sync>;

struct Call {
    op: Op,
    began: u64,
    ended: Option<(u64, Outcome)>,
}

struct Inner {
    model: Model,
    /// `None` is a call that was refused: it never did anything.
    calls: Vec<Option<Call>>,
    owned: BTreeSet<Id>,
    pins: BTreeMap<Id, u32>,
    /// Snapshots that have been seen completed.
    readable: BTreeSet<Id>,
    starts: u64,
}

/// Shared by all writers.
pub struct Board {
    stamp: Stamp,
    name: u64,
    inner: Mutex<Inner>,
}

impl Board {
    /// A board over a model. `name` keeps the client tokens of different runs apart.
    pub fn new(name: u64, stamp: Stamp, model: Model) -> Board {
        Board {
            stamp,
            name,
            inner: Mutex::new(Inner {
                model,
                calls: Vec::new(),
                owned: BTreeSet::new(),
                pins: BTreeMap::new(),
                readable: BTreeSet::new(),
                starts: 0,
            }),
        }
    }

    /// A board that needs no cuts.
    pub fn without_cuts(name: u64, model: Model) -> Board {
        Board::new(name, Arc::new(|| 0), model)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A writer that panicked has failed the run already.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client token that was not used before.
    pub fn token(&self) -> String {
        let mut inner = self.lock();
        inner.starts += 1;
        format!("crash-{:x}-{}", self.name, inner.starts)
    }

    /// Calls, and takes note of the call and of what became of it.
    ///
    /// # Errors
    /// Those of the call.
    pub fn perform(
        &self,
        op: Op,
        call: impl FnOnce() -> Result<Outcome, Failure>,
    ) -> Result<Outcome, Failure> {
        let number = {
            let mut inner = self.lock();
            let began = (self.stamp)();
            let op = op.clone();
            let ended = None;
            inner.calls.push(Some(Call { op, began, ended }));
            inner.calls.len() - 1
        };
        let result = call();
        let outcome = match &result {
            Ok(outcome) => Some(outcome.clone()),
            Err(Failure::Gone | Failure::Broken(_)) => Some(Outcome::Unknown),
            Err(failure) if failure.is_internal() => Some(Outcome::Unknown),
            Err(Failure::Said(_)) => None,
        };
        let mut inner = self.lock();
        // After the answer was read, so never too early.
        let ended = (self.stamp)();
        match outcome {
            None => inner.calls[number] = None,
            Some(outcome) => {
                inner.model.apply(&op, &outcome);
                if let Some(call) = &mut inner.calls[number] {
                    call.ended = Some((ended, outcome));
                }
            }
        }
        result
    }

    /// What is known now.
    pub fn model(&self) -> Model {
        self.lock().model.clone()
    }

    /// What is known of a snapshot now.
    pub fn model_of(&self, id: &str) -> Option<Snapshot> {
        self.lock().model.snapshots.get(id).cloned()
    }

    /// What was known when the stamp stood at `cut`.
    pub fn at(&self, cut: u64) -> Model {
        let mut model = Model::default();
        for call in self.lock().calls.iter().flatten() {
            let outcome = match &call.ended {
                Some((ended, outcome)) if *ended <= cut => outcome,
                _ if call.began <= cut => &Outcome::Unknown,
                _ => continue,
            };
            model.apply(&call.op, outcome);
        }
        model
    }

    /// An open snapshot that nobody works on; it belongs to the caller until [`Board::release`].
    pub fn claim_open(&self, dice: &mut Dice) -> Option<Id> {
        let mut inner = self.lock();
        let free: Vec<Id> = inner
            .model
            .snapshots
            .iter()
            .filter(|(id, snapshot)| {
                snapshot.stage == Stage::Open && !snapshot.deleting && !inner.owned.contains(*id)
            })
            .map(|(id, _)| id.clone())
            .collect();
        if free.is_empty() {
            return None;
        }
        let id = dice.pick(&free).clone();
        inner.owned.insert(id.clone());
        Some(id)
    }

    /// Takes a snapshot that was just started.
    pub fn claim(&self, id: &str) {
        self.lock().owned.insert(id.to_owned());
    }

    /// Gives a snapshot back.
    pub fn release(&self, id: &str) {
        self.lock().owned.remove(id);
    }

    /// Takes note that a snapshot can be read.
    pub fn readable(&self, id: &str) {
        let mut inner = self.lock();
        if inner.model.snapshots.contains_key(id) {
            inner.readable.insert(id.to_owned());
        }
    }

    /// A snapshot that can be read, with its blocks; it is not deleted until [`Board::unpin`].
    pub fn pin(&self, dice: &mut Dice) -> Option<(Id, Content)> {
        let mut inner = self.lock();
        let free: Vec<Id> = inner
            .readable
            .iter()
            .filter(|id| !inner.owned.contains(*id))
            .cloned()
            .collect();
        if free.is_empty() {
            return None;
        }
        let id = dice.pick(&free).clone();
        let content = inner.model.snapshots.get(&id)?.content()?;
        *inner.pins.entry(id.clone()).or_default() += 1;
        Some((id, content))
    }

    /// Lets go of a snapshot.
    pub fn unpin(&self, id: &str) {
        let mut inner = self.lock();
        if let Some(count) = inner.pins.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                inner.pins.remove(id);
            }
        }
    }

    /// A snapshot to delete, when more than `keep` can be read. It belongs to the caller.
    pub fn claim_victim(&self, dice: &mut Dice, keep: usize) -> Option<Id> {
        let mut inner = self.lock();
        if inner.readable.len() <= keep {
            return None;
        }
        let free: Vec<Id> = inner
            .readable
            .iter()
            .filter(|id| !inner.owned.contains(*id) && !inner.pins.contains_key(*id))
            .cloned()
            .collect();
        if free.is_empty() {
            return None;
        }
        let id = dice.pick(&free).clone();
        inner.readable.remove(&id);
        inner.owned.insert(id.clone());
        Some(id)
    }

    /// After a crash nobody works on anything.
    pub fn everybody_left(&self) {
        let mut inner = self.lock();
        inner.owned.clear();
        inner.pins.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_cut_divides_what_is_certain_from_what_is_not() {
        let time = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&time);
        let board = Board::new(
            1,
            Arc::new(move || clock.load(Ordering::SeqCst)),
            Model::default(),
        );
        let at = |when| time.store(when, Ordering::SeqCst);
        let start = Op::Start {
            token: board.token(),
            parent: None,
        };
        at(1);
        board
            .perform(start, || {
                at(2);
                Ok(Outcome::Started("a".into()))
            })
            .unwrap();
        let put = |index| Op::Put {
            id: "a".into(),
            index,
            seed: 5,
        };
        at(3);
        board
            .perform(put(1), || {
                at(6);
                Ok(Outcome::Done)
            })
            .unwrap();
        at(7);
        let refused = Failure::Said(crate::wire::Answer {
            status: 400,
            code: String::new(),
            body: Vec::new(),
        });
        board.perform(put(2), || Err(refused)).unwrap_err();

        assert!(board.at(0).snapshots.is_empty() && board.at(0).unanswered.is_empty());
        assert_eq!(board.at(1).unanswered.len(), 1);
        assert!(board.at(2).snapshots["a"].own.is_empty());
        assert_eq!(board.at(5).snapshots["a"].own[&1], [None, Some(5)]);
        assert_eq!(board.at(6).snapshots["a"].own[&1], [Some(5)]);
        assert_eq!(board.at(9).snapshots["a"].own.len(), 1);
    }
}
