//! Clients: each calls verbs, one after the other, and tells the model what became of them.

mod by_digest;
mod calls;
mod looks;
pub mod puts;

use crate::dice::Dice;
use crate::history::History;
use crate::machine::Life;
use crate::model::{Model, Snapshot, Wrong};
use crate::plan::{Plan, Trouble, Verb};
use engine::Error;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use types::{AccountId, Clock};

/// What the clients of one life share.
pub struct Story<'life> {
    /// The process they call.
    pub life: &'life Life,
    /// The truth.
    pub model: &'life RefCell<Model>,
    /// What happened.
    pub history: Rc<History>,
    /// What the seed decided.
    pub plan: Rc<Plan>,
    /// Calls that are left.
    pub left: &'life Cell<u64>,
    /// Calls by verb, with how many went well.
    pub counts: &'life RefCell<BTreeMap<Verb, (u64, u64)>>,
}

/// How a call ended for its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Called {
    /// Well.
    Well,
    /// Refused, or failed, as it may.
    Not,
    /// There was nothing to call it with.
    Nothing,
}

/// The owners of snapshots.
pub fn accounts() -> [AccountId; 2] {
    [11, 22].map(AccountId::from_random)
}

impl Story<'_> {
    /// One client's life.
    pub async fn client(&self, number: u64, mut dice: Dice) -> Result<(), Wrong> {
        while self.left.get() > 0 && !self.life.has_broken() {
            self.left.set(self.left.get() - 1);
            if dice.hits(self.plan.flips) {
                self.flip_a_bit(&mut dice).await;
            }
            let verb = self.choose(&mut dice);
            let called = self.call(number, verb, &mut dice).await?;
            self.count(verb, called);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Puts by digest are puts that a sequence of chance of its own has chosen: without them a seed's story is as it was before.
    fn choose(&self, dice: &mut Dice) -> Verb {
        match Verb::ALL[dice.weighted(&self.plan.weights)] {
            Verb::Put if dice.fork("by digest").hits(self.plan.by_digest) => Verb::PutByDigest,
            verb => verb,
        }
    }

    fn count(&self, verb: Verb, called: Called) {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(verb).or_default();
        match called {
            Called::Well => *count = (count.0 + 1, count.1 + 1),
            Called::Not => count.0 += 1,
            Called::Nothing => {}
        }
    }

    async fn call(&self, client: u64, verb: Verb, dice: &mut Dice) -> Result<Called, Wrong> {
        match verb {
            Verb::Start => self.start(client, dice).await,
            Verb::Put => self.put(client, dice).await,
            Verb::Complete => self.complete(client, dice).await,
            Verb::Get => self.get(client, dice).await,
            Verb::List => self.list(client, dice).await,
            Verb::Diff => self.diff(client, dice).await,
            Verb::Describe => self.describe(client, dice).await,
            Verb::Tag => self.tag(client, dice).await,
            Verb::Untag => self.untag(client, dice).await,
            Verb::Delete => self.delete(client, dice).await,
            Verb::Wait => self.wait(client, dice).await,
            Verb::Collect => self.collect(client, engine::CollectMode::Cycle).await,
            Verb::DryRun => self.collect(client, engine::CollectMode::DryRun).await,
            Verb::Scrub => self.scrub(client).await,
            Verb::Audit => self.audit(client).await,
            Verb::PutByDigest => self.put_digest(client, dice).await,
        }
    }

    /// Adds a line to the history.
    pub fn note(&self, client: u64, what: impl std::fmt::Display) {
        let (at, steps) = (self.life.clock.monotonic(), self.life.io.steps());
        self.history.note(format!(
            "{:>9} ms, step {steps:>4}: client {client} {what}",
            at.as_millis()
        ));
    }

    /// The time.
    pub fn at(&self) -> Duration {
        self.life.clock.monotonic()
    }

    /// One of the snapshots that this holds for, with a known id.
    pub fn pick(&self, dice: &mut Dice, suits: impl Fn(&Snapshot) -> bool) -> Option<Snapshot> {
        self.pick_any(dice, |snapshot| snapshot.id.is_some() && suits(snapshot))
    }

    /// The same, whether or not its id is known.
    pub fn pick_any(&self, dice: &mut Dice, suits: impl Fn(&Snapshot) -> bool) -> Option<Snapshot> {
        let model = self.model.borrow();
        let suitable: Vec<_> = model
            .snapshots
            .values()
            .filter(|snapshot| suits(snapshot))
            .collect();
        dice.pick(&suitable).map(|snapshot| (*snapshot).clone())
    }

    /// Whether the machine's troubles are reason enough for this error.
    pub fn excuses(&self, error: &Error) -> bool {
        let plan = &self.plan;
        let trouble = plan.trouble;
        let rots = trouble == Trouble::Rot;
        let reads_fail = plan
            .disk
            .get(&chunkstore::faulty::Call::Read)
            .is_some_and(|rate| *rate > 0);
        let over = self.life.has_broken();
        let fails = matches!(trouble, Trouble::Disk | Trouble::Catalog | Trouble::All) || over;
        match error {
            Error::NoSpace { .. } => plan.capacity_bytes < 1 << 40 || plan.db.no_space > 0,
            Error::Internal { reason } if reason.contains("died") => false,
            Error::Internal { .. } | Error::Unavailable { .. } => fails || rots,
            Error::BlockDamaged { .. } => reads_fail || rots,
            // A page that the catalog or the disk could not give counts as damaged.
            Error::MapDamaged { .. } => reads_fail || rots || fails,
            _ => false,
        }
    }
}
