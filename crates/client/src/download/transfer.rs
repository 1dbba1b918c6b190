//! Keeps as many blocks on the way as the server and the memory allow, and notes what was done.
//!
//! Files and devices are written as blocks come. A stream is written in order: blocks that came early wait, each in its buffer,
//! while the next one in order is still on its way. No more are started than there are buffers, so that one always has the
//! buffer that it needs, and all others can wait for it.

use super::plan::{Planner, Step};
use super::steps::{BATCHES_WAITING, Changes, plan_all};
use super::units::{Next, Unit, Units};
use super::work::{Ready, Work, Written, Zeros, apply, fetch};
use crate::journal::Journal;
use crate::runs::{Runs, end};
use crate::source::Extent;
use crate::target::Target;
use crate::tasks::{Task, Tasks, blocking};
use crate::verify::EXTENTS_MAX;
use crate::walk::Walk;
use crate::{Counter, Error};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use types::{BlockIndex, Digest};

/// Most places on blocking threads. A device that is written wants a few writes at once, hashing as many threads as there are cores.
const PLACES: usize = 8;

/// Most places.
pub(crate) fn places() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.max(PLACES)
}

/// A download on its way.
pub(super) struct Transfer {
    work: Arc<Work>,
    planning: Option<Task<()>>,
    steps: mpsc::Receiver<Vec<Step>>,
    units: Units,
    tasks: Tasks<Outcome>,
    tasks_max: usize,
    is_stream: bool,
    journal: Option<Journal>,
    bad: Runs,
}

enum Outcome {
    Ready(Ready),
    Written(Written),
}

impl Transfer {
    /// Begins to plan; nothing is fetched or written yet.
    pub(super) fn new(
        work: Arc<Work>,
        walk: Walk,
        changes: Option<Changes>,
        planner: Planner,
        journal: Option<Journal>,
    ) -> Transfer {
        let (sender, steps) = mpsc::channel(BATCHES_WAITING);
        let planning = plan_all(walk, changes, planner, Arc::clone(&work.local), sender);
        let is_stream = work.target.is_stream();
        let in_flight_max = work.api.in_flight_max();
        Transfer {
            planning: Some(Task::start(planning)),
            steps,
            units: Units::default(),
            tasks: Tasks::new(is_stream),
            tasks_max: in_flight_max.min(work.api.buffers().total()).max(1),
            is_stream,
            journal,
            bad: Runs::new(EXTENTS_MAX),
            work,
        }
    }

    /// Runs until everything is written. Must be followed by [`Transfer::finish`] or [`Transfer::abandon`].
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        loop {
            let has_room = self.tasks.len() < self.tasks_max;
            if has_room && let Some(unit) = self.units.next() {
                match unit {
                    Next::Unit(unit) => self.start(unit),
                    Next::Holes(count) => self.count(Counter::Zero, count),
                }
                continue;
            }
            let wants_steps = has_room && self.planning.is_some();
            tokio::select! {
                biased;
                Some(outcome) = self.tasks.next() => self.settle(outcome?).await?,
                steps = self.steps.recv(), if wants_steps => match steps {
                    Some(steps) => self.units.extend(steps),
                    None => {
                        if let Some(planning) = self.planning.take() {
                            planning.await?;
                        }
                    }
                },
                else => return Ok(()),
            }
        }
    }

    /// Makes the target durable, and gives a file its name. Answers what was lost.
    pub(super) async fn finish(self) -> Result<(Vec<Extent>, bool), Error> {
        let Transfer { work, bad, .. } = self;
        let work = Arc::into_inner(work).expect("all tasks have ended, with what they shared");
        blocking(move || work.target.finish()).await?;
        Ok(bad.into_extents())
    }

    /// Stops everything, and removes a file that did not get its name, unless it is to be kept.
    pub(super) async fn abandon(mut self, keep: bool) {
        self.work.stopped.store(true, Ordering::Relaxed);
        if let Some(planning) = self.planning.take() {
            drop(planning);
        }
        self.tasks.stop().await;
        if self.is_stream {
            // There is nothing to remove, and whoever reads the stream may never take what is being written.
            return;
        }
        let places = u32::try_from(places()).unwrap_or(u32::MAX);
        let all = self.work.local.acquire_many(places).await;
        drop(all.expect("nobody closes the semaphore"));
        drop(self.journal.take());
        if let Some(work) = Arc::into_inner(self.work) {
            let removed = blocking(move || {
                Target::abandon(work.target, keep);
                Ok(())
            });
            // The error that led here matters more.
            let _ = removed.await;
        }
    }

    fn start(&mut self, unit: Unit) {
        let work = Arc::clone(&self.work);
        let is_stream = self.is_stream;
        self.tasks.start(async move {
            let ready = fetch(&work, unit).await?;
            match is_stream {
                true => Ok(Outcome::Ready(ready)),
                false => apply(&work, ready).await.map(Outcome::Written),
            }
        });
    }

    async fn settle(&mut self, outcome: Outcome) -> Result<(), Error> {
        let written = match outcome {
            Outcome::Ready(ready) => apply(&self.work, ready).await?,
            Outcome::Written(written) => written,
        };
        match written {
            Written::Kept { extent, why } => match why {
                Zeros::Gap => self.count(Counter::Zero, extent.count),
                Zeros::Listed => self.count(Counter::Same, extent.count),
                Zeros::Lost => self.lost(extent),
            },
            Written::Zeros { extent, why } => match why {
                Zeros::Gap => {}
                Zeros::Lost => self.lost(extent),
                Zeros::Listed => {
                    self.count(Counter::Zeroed, extent.count);
                    for index in (extent.start..end(extent)).filter_map(BlockIndex::new) {
                        self.note(index, Digest::ZERO_BLOCK)?;
                    }
                }
            },
            Written::Data { index, digest } => {
                self.count(Counter::Moved, 1);
                self.note(index, digest)?;
            }
        }
        Ok(())
    }

    fn lost(&mut self, extent: Extent) {
        self.count(Counter::Bad, extent.count);
        self.bad.add(extent);
    }

    /// Appends to the journal what was written. If the machine stops before it is durable, its digest will not be found there.
    fn note(&mut self, index: BlockIndex, digest: Digest) -> Result<(), Error> {
        match &mut self.journal {
            Some(journal) => journal.append(index, digest),
            None => Ok(()),
        }
    }

    fn count(&self, counter: Counter, blocks: u32) {
        let meter = self.work.api.meter();
        meter.add(counter, u64::from(blocks));
        meter.add(Counter::Done, u64::from(blocks));
    }
}
