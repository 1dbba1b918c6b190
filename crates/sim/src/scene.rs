//! A machine without chance, for tests that write down step by step what happens.

use crate::clients::puts::{believed, start_request};
use crate::clients::{Called, Story, accounts};
use crate::contents::Content;
use crate::dice::Dice;
use crate::faulty_db::DbFaults;
use crate::history::History;
use crate::machine::{End, Life, Machine};
use crate::model::{Model, Seen, Snapshot, Wrong};
use crate::pauses::Pace;
use crate::plan::{Plan, Trouble, Verb};
use crate::story::epilogue;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Shorter than the time between two looks of the expiry, which never ends.
const WHILE: Duration = Duration::from_secs(15);

/// A machine, its model, and the lives that a test gives it.
pub struct Scene {
    /// The machine.
    pub machine: Machine,
    /// The truth.
    pub model: RefCell<Model>,
    counts: RefCell<BTreeMap<Verb, (u64, u64)>>,
}

/// Nothing goes wrong, and nothing takes time.
fn calm_plan() -> Plan {
    Plan {
        trouble: Trouble::None,
        clients: 1,
        calls: 0,
        contents: 0,
        indexes: Vec::new(),
        one_domain: false,
        compressed: false,
        pace: Pace {
            yields: 0,
            slow: 0,
            stuck: 0,
        },
        db: DbFaults::default(),
        disk: BTreeMap::new(),
        capacity_bytes: 1 << 40,
        life_calls: 0,
        cuts: 0,
        flips: 0,
        by_digest: 0,
        weights: Vec::new(),
    }
}

impl Scene {
    /// A new machine; the seed decides what survives power cuts.
    pub fn new(seed: u64) -> Scene {
        Scene::with(seed, |_| {})
    }

    /// The same with another plan.
    pub fn with(seed: u64, change: impl FnOnce(&mut Plan)) -> Scene {
        let mut plan = calm_plan();
        change(&mut plan);
        let history = Rc::new(History::new(false));
        Scene {
            machine: Machine::new(plan, Dice::new(seed), history),
            model: RefCell::default(),
            counts: RefCell::default(),
        }
    }

    /// One life, which is killed when the script is through.
    ///
    /// # Errors
    /// What must not be.
    pub fn live<T>(
        &mut self,
        script: impl AsyncFnOnce(&Story<'_>) -> Result<T, Wrong>,
    ) -> Result<End<T>, Wrong> {
        let (model, counts) = (&self.model, &self.counts);
        let (history, plan) = (
            Rc::clone(&self.machine.history),
            Rc::clone(&self.machine.plan),
        );
        let left = Cell::new(0);
        let end = self.machine.live(async |life: &Life| {
            let story = Story {
                life,
                model,
                history,
                plan,
                left: &left,
                counts,
            };
            script(&story).await
        });
        self.model.borrow_mut().life_ended();
        match end? {
            End::Told(told) => Ok(End::Told(told?)),
            End::Broke => Ok(End::Broke),
            End::NeverBegan(reason) => Ok(End::NeverBegan(reason)),
        }
    }

    /// One life that must come to the end of its script.
    ///
    /// # Errors
    /// What must not be.
    pub fn live_through<T>(
        &mut self,
        script: impl AsyncFnOnce(&Story<'_>) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        match self.live(script)? {
            End::Told(told) => Ok(told),
            End::Broke => Err("the life broke".to_owned()),
            End::NeverBegan(reason) => Err(format!("the life never began: {reason}")),
        }
    }

    /// The last checks: everything is there, nothing else is, and space is exact; also after one more start.
    ///
    /// # Errors
    /// What must not be.
    pub fn check(&mut self) -> Result<(), Wrong> {
        epilogue(&mut self.machine, &self.model).map(drop)
    }
}

impl Story<'_> {
    /// Starts a snapshot of the first account.
    ///
    /// # Errors
    /// What must not be.
    pub async fn begin(&self, parent: Option<u32>) -> Result<u32, Wrong> {
        self.begin_for(0, parent, 60).await
    }

    /// Starts a snapshot of an account, which times out after some minutes.
    ///
    /// # Errors
    /// What must not be.
    pub async fn begin_for(
        &self,
        account: usize,
        parent: Option<u32>,
        minutes: u32,
    ) -> Result<u32, Wrong> {
        let parent = parent.map(|parent| self.one(parent));
        let mut request = start_request(accounts()[account], parent.as_ref());
        request.timeout_minutes = Some(minutes);
        let parent = parent.map(|parent| parent.number);
        let number = self
            .model
            .borrow_mut()
            .start_called(request, parent, self.at());
        self.start_call(0, number, true).await?;
        Ok(number)
    }

    /// Puts these contents to these blocks, one after the other.
    ///
    /// # Errors
    /// What must not be.
    pub async fn put_all(&self, number: u32, blocks: &[(u32, u32)]) -> Result<(), Wrong> {
        for (index, content) in blocks {
            self.put_one(number, *index, *content).await?;
        }
        Ok(())
    }

    /// Puts a content to a block.
    ///
    /// # Errors
    /// What must not be.
    pub async fn put_one(&self, number: u32, index: u32, content: u32) -> Result<Called, Wrong> {
        let snapshot = self.one(number);
        self.put_call(0, &snapshot, index, Content(content), None)
            .await
    }

    /// Puts these contents to these blocks by their digests, with their data where that is asked for.
    ///
    /// # Errors
    /// What must not be.
    pub async fn put_digests(&self, number: u32, blocks: &[(u32, u32)]) -> Result<(), Wrong> {
        for (index, content) in blocks {
            let snapshot = self.one(number);
            let put = self.put_digest_call(0, &snapshot, *index, Content(*content));
            if put.await? == Called::Not {
                self.put_one(number, *index, *content).await?;
            }
        }
        Ok(())
    }

    /// Completes a snapshot with the right promise, and waits for its end.
    ///
    /// # Errors
    /// What must not be.
    pub async fn finish(&self, number: u32) -> Result<(), Wrong> {
        self.seal(number).await?;
        while self.one(number).seen == Seen::Pending {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let looked = self.look_at(&self.one(number), 1_000).await?;
            if let Err(error) = looked
                && !self.excuses(&error)
            {
                return Err(format!("looking at {number} failed: {error}"));
            }
        }
        Ok(())
    }

    /// Completes a snapshot with the right promise.
    ///
    /// # Errors
    /// What must not be.
    pub async fn seal(&self, number: u32) -> Result<Called, Wrong> {
        let snapshot = self.one(number);
        let promise = Snapshot::promise_of(&believed(&snapshot));
        self.complete_call(0, &snapshot, promise).await
    }

    /// A completed snapshot with these blocks.
    ///
    /// # Errors
    /// What must not be.
    pub async fn completed(
        &self,
        parent: Option<u32>,
        blocks: &[(u32, u32)],
    ) -> Result<u32, Wrong> {
        let number = self.begin(parent).await?;
        self.put_all(number, blocks).await?;
        self.finish(number).await?;
        Ok(number)
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// What must not be.
    pub async fn remove(&self, number: u32) -> Result<Called, Wrong> {
        self.delete_call(0, &self.one(number)).await
    }

    /// Collects some times.
    ///
    /// # Errors
    /// What must not be.
    pub async fn collect_times(&self, times: u32) -> Result<(), Wrong> {
        for _ in 0..times {
            self.collect(0, engine::CollectMode::Cycle).await?;
        }
        Ok(())
    }

    /// Waits until the workers have nothing to do.
    pub async fn quiet(&self) {
        self.life.settled().await;
        loop {
            let before = self.life.io.steps();
            tokio::time::sleep(WHILE).await;
            if self.life.io.steps() <= before + 1 {
                return;
            }
        }
    }

    /// Runs `first` up to the call after `calls` others, then all of `second`, then the rest of `first`. When `second` has to wait for
    /// `first`, they go on together. Answers whether `first` was held before its end.
    ///
    /// # Errors
    /// What must not be.
    pub async fn interleave(
        &self,
        calls: u64,
        first: impl Future<Output = Result<(), Wrong>>,
        second: impl Future<Output = Result<(), Wrong>>,
    ) -> Result<bool, Wrong> {
        let gate = &self.life.gate;
        let (mut first, mut second) = (pin!(first), pin!(second));
        gate.hold_after(calls);
        let ended = tokio::select! {
            biased;
            ended = &mut first => Some(ended),
            () = gate.held() => None,
        };
        if let Some(ended) = ended {
            gate.release();
            ended?;
            second.await?;
            return Ok(false);
        }
        let ended = tokio::time::timeout(WHILE, &mut second).await;
        gate.release();
        match ended {
            Ok(ended) => {
                ended?;
                first.await?;
            }
            Err(_) => {
                let (first, second) = futures_util::future::join(first, second).await;
                first.and(second)?;
            }
        }
        Ok(true)
    }

    /// Checks, without another start, that everything is there, nothing else is, and that no chunk more is kept.
    ///
    /// # Errors
    /// What must not be.
    pub async fn check_now(&self) -> Result<(), Wrong> {
        self.quiet().await;
        self.check_everything().await?;
        self.check_all_settled()?;
        self.check_chunks().await?;
        match self.audited(|_| true).await? {
            found if found.is_empty() => Ok(()),
            found => Err(format!("the audit found {found:?}")),
        }
    }

    /// A snapshot of the model.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn one(&self, number: u32) -> Snapshot {
        self.model.borrow_mut().snapshot(number).clone()
    }
}
