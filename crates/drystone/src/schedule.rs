//! What the server does by itself, now and then: garbage collection and scrub.
//!
//! Policy
//! - A cycle of collection is due when its span has passed since the last one ended, and the engine knows of something that may
//!   be garbage: what was deleted, failed or expired since, or what the last one condemned.
//! - When puts have found no space and there may be garbage, it is due at once. If that cycle condemns something, a second
//!   one follows and sweeps it. Then the disk is full of what is in use, and the next such pair waits for a delete.
//! - A scrub is due when its span has passed since the last one ended; what was never scrubbed is due. One that was cut off
//!   goes on where it was.
//! - Nothing but a full disk begins in the first [`START_DELAY`]: clients that come back have the machine first.
//!
//! Invariants
//! - The times of the last ends are in the catalog, whoever ran them: a restart neither repeats a job nor puts it off.
//! - A wall clock that steps back puts a job off by its span of the server's time at most.
//! - At most one job of each kind is begun at a time, and the next look comes after its end.
//!
//! Failure: the engine logs and counts what its jobs find and why they fail; here they are tried again after [`RETRY_PAUSE`], a collection
//! after twice as long each time, up to its span: what a page that cannot be read costs is a whole mark.

use crate::metrics::StoreHealth;
use crate::settings::{Every, Span};
use catalog::{Db, DbExt, meta};
use engine::{CollectMode, CollectReport, Engine, Error, ScrubOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;
use types::{Clock, UnixMillis};

/// How long the server serves before it begins a job by itself.
const START_DELAY: Duration = Duration::from_secs(5 * 60);

/// How often it is looked whether a job is due: two short reads of the catalog.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// From the end of a collection to the next one for a full disk: deletes that come one by one are collected together.
const FULL_PAUSE: Duration = Duration::from_secs(60);

/// From a failure to the next attempt, and from the end of a job to the next look at all.
const RETRY_PAUSE: Duration = Duration::from_secs(5 * 60);

/// What a schedule is made of.
#[derive(Clone)]
pub struct ScheduleOptions {
    /// What collects and scrubs.
    pub engine: Engine,
    /// Where the times of the last ends are kept.
    pub db: Arc<dyn Db>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where outcomes are counted.
    pub health: Arc<StoreHealth>,
    /// How often to collect.
    pub collection: Every,
    /// How often to scrub.
    pub scrub: Every,
    /// Stored bytes that a scrub reads in a second, at most.
    pub scrub_rate: u64,
}

/// The running schedule; it stops, wherever it is, when this is dropped.
pub struct Schedule {
    tasks: JoinSet<()>,
}

impl Schedule {
    /// Starts it.
    pub fn start(options: ScheduleOptions) -> Schedule {
        let mut tasks = JoinSet::new();
        let collection = Collection::new(options.clone());
        let scrub = Scrub::new(options.clone());
        tasks.spawn(collection.run());
        tasks.spawn(scrub.run());
        tasks.spawn(watch(options));
        Schedule { tasks }
    }

    /// Resolves when a part of it has died, which only a bug can do.
    pub async fn died(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) | None => "a schedule returned".to_owned(),
        }
    }
}

/// Why a collection begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    /// Its span has passed.
    Span,
    /// Puts find no space.
    Full,
}

struct Collection {
    options: ScheduleOptions,
    /// When this process began to watch, or ended its last cycle.
    watched_from: Duration,
    /// How many cycles have failed since one did not.
    failures: u32,
    /// How many puts had found no space when the last cycle for that began.
    full_seen: u64,
    full_not_before: Duration,
    not_before: Duration,
}

impl Collection {
    fn new(options: ScheduleOptions) -> Collection {
        let started = options.clock.monotonic();
        Collection {
            full_seen: options.engine.metrics().puts_without_space.get(),
            watched_from: started,
            failures: 0,
            full_not_before: started,
            not_before: started + START_DELAY,
            options,
        }
    }

    async fn run(mut self) {
        loop {
            sleep(LOOK_EVERY).await;
            if let Some(reason) = self.due().await {
                self.collect(reason).await;
            }
        }
    }

    async fn due(&mut self) -> Option<Reason> {
        let Every::Each(span) = self.options.collection else {
            return None;
        };
        if !self.options.engine.may_hold_garbage() {
            return None;
        }
        let monotonic = self.options.clock.monotonic();
        let full = self.options.engine.metrics().puts_without_space.get();
        if full != self.full_seen && monotonic >= self.full_not_before {
            self.full_seen = full;
            return Some(Reason::Full);
        }
        if monotonic < self.not_before {
            return None;
        }
        let last = last_end(&self.options, meta::COLLECTION_FINISHED_AT).await?;
        let watched = monotonic.saturating_sub(self.watched_from);
        has_passed(self.options.clock.now(), last, span, watched).then_some(Reason::Span)
    }

    async fn collect(&mut self, reason: Reason) {
        let collected = match reason {
            Reason::Span => self.cycle().await,
            Reason::Full => {
                tracing::warn!("puts find no space: collecting garbage now");
                self.cycle_twice().await
            }
        };
        let now = self.options.clock.monotonic();
        self.watched_from = now;
        self.failures = match collected {
            Ok(_) => 0,
            Err(_) => self.failures.saturating_add(1),
        };
        let doubled = RETRY_PAUSE.saturating_mul(1 << self.failures.saturating_sub(1).min(16));
        let longest = match self.options.collection {
            Every::Each(span) => span.duration().max(RETRY_PAUSE),
            Every::Off => RETRY_PAUSE,
        };
        self.not_before = now + doubled.min(longest);
        self.full_not_before = now + FULL_PAUSE;
    }

    async fn cycle(&self) -> Result<CollectReport, Error> {
        self.options.engine.collect(CollectMode::Cycle).await
    }

    async fn cycle_twice(&self) -> Result<CollectReport, Error> {
        let report = self.cycle().await?;
        match report.condemned.count {
            0 => Ok(report),
            _ => self.cycle().await,
        }
    }
}

struct Scrub {
    options: ScheduleOptions,
    /// When this process began to watch, or ended its last scrub.
    watched_from: Duration,
    not_before: Duration,
}

impl Scrub {
    fn new(options: ScheduleOptions) -> Scrub {
        let started = options.clock.monotonic();
        Scrub {
            watched_from: started,
            not_before: started + START_DELAY,
            options,
        }
    }

    async fn run(mut self) {
        loop {
            sleep(LOOK_EVERY).await;
            if self.is_due().await {
                self.scrub().await;
            }
        }
    }

    async fn is_due(&self) -> bool {
        let Every::Each(span) = self.options.scrub else {
            return false;
        };
        let monotonic = self.options.clock.monotonic();
        if monotonic < self.not_before {
            return false;
        }
        let watched = monotonic.saturating_sub(self.watched_from);
        match last_end(&self.options, meta::SCRUB_FINISHED_AT).await {
            Some(last) => has_passed(self.options.clock.now(), last, span, watched),
            None => false,
        }
    }

    async fn scrub(&mut self) {
        let scrubbed = self.options.engine.scrub(ScrubOptions {
            bytes_per_second: self.options.scrub_rate,
            restart: false,
        });
        let scrubbed = scrubbed.await;
        self.watched_from = self.options.clock.monotonic();
        self.not_before = self.watched_from + RETRY_PAUSE;
        if let Err(error) = scrubbed {
            self.options.health.scrub_failed();
            tracing::error!(%error, "the scrub did not come to its end; it goes on later");
        }
    }
}

/// Keeps what is told at /metrics up to date.
async fn watch(options: ScheduleOptions) {
    loop {
        let (engine, db) = (&options.engine, &*options.db);
        if let Err(error) = options.health.observe(engine, db).await {
            tracing::warn!(%error, "usage cannot be told at /metrics");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// When a job ended last: nothing inside when it never did, nothing at all when the catalog does not tell.
async fn last_end(options: &ScheduleOptions, name: &'static str) -> Option<Option<UnixMillis>> {
    let read = options
        .db
        .view(move |txn| Box::pin(async move { meta::number(txn, name).await }));
    match read.await {
        Ok(last) => Some(last),
        Err(error) => {
            tracing::warn!(%error, name, "the catalog does not tell when a job ended last");
            None
        }
    }
}

/// Whether the span has passed since `last`. A `last` in the future tells that the wall clock has stepped back: then the time
/// counts that this process has watched.
fn has_passed(now: UnixMillis, last: Option<UnixMillis>, span: Span, watched: Duration) -> bool {
    let Some(last) = last else {
        return true;
    };
    let passed = match u64::try_from(now.saturating_sub(last)) {
        Ok(ms) => Duration::from_millis(ms),
        Err(_) => watched,
    };
    passed >= span.duration()
}

#[cfg(test)]
mod tests;
