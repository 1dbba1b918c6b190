//! How fast background work goes: it rests after each step, longer while requests wait.

use crate::limits;
use crate::metrics::Metrics;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use types::Clock;

/// How far a long job has come, for people who wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What it does, in a few words.
    pub step: &'static str,
    /// How many items of this step are done.
    pub done: u64,
}

/// The speed of one job, and what it tells of itself.
#[derive(Clone)]
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    /// Says whether requests wait; nothing where there are none.
    metrics: Option<Metrics>,
    progress: Arc<Mutex<Option<Progress>>>,
    /// When the last rest ended.
    since: Duration,
}

impl Pace {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        metrics: Option<Metrics>,
        progress: Arc<Mutex<Option<Progress>>>,
    ) -> Pace {
        let since = clock.monotonic();
        Pace {
            clock,
            metrics,
            progress,
            since,
        }
    }

    /// Begins a step.
    pub(crate) fn step(&self, step: &'static str) {
        self.tell(Some(Progress { step, done: 0 }));
    }

    /// The job is over.
    pub(crate) fn end(&self) {
        self.tell(None);
    }

    /// After each small piece of work: notes it, and rests in proportion to how long it took.
    pub(crate) async fn done(&mut self, items: u64) {
        if let Some(progress) = self.progress().as_mut() {
            progress.done += items;
        }
        let worked = self.clock.monotonic().saturating_sub(self.since);
        let share = match self.requests_wait() {
            true => limits::REST_WHEN_BUSY,
            false => limits::REST_WHEN_IDLE,
        };
        let rest = worked.mul_f64(share).min(limits::REST_MAX);
        if rest.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(rest).await;
        }
        self.since = self.clock.monotonic();
    }

    fn requests_wait(&self) -> bool {
        self.metrics
            .as_ref()
            .is_some_and(|metrics| metrics.puts_waiting.get() + metrics.gets_under_way.get() > 0)
    }

    fn tell(&self, progress: Option<Progress>) {
        *self.progress() = progress;
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
