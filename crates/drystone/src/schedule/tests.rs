//! When jobs are due: after spans, restarts, failures, steps of the clock, and when the disk is full.

use super::{Collection, FULL_PAUSE, Reason, START_DELAY, ScheduleOptions, Scrub, has_passed};
use crate::metrics::StoreHealth;
use crate::settings::{Every, Span};
use catalog::{DbExt, meta};
use engine::StartSnapshot;
use engine::testing::{START, TestEngine};
use std::sync::Arc;
use std::time::Duration;
use types::{AccountId, VolumeSize};

const HOUR: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

struct World {
    engine: TestEngine,
    directory: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("scratch")).expect("made");
        World {
            engine: TestEngine::open(directory.path()).await,
            directory,
        }
    }

    fn options(&self, every: Every) -> ScheduleOptions {
        ScheduleOptions {
            engine: self.engine.engine.clone(),
            db: Arc::clone(&self.engine.db),
            clock: Arc::clone(&self.engine.clock) as _,
            health: Arc::new(StoreHealth::new(self.directory.path().to_owned())),
            collection: every,
            scrub: every,
            scrub_rate: 1 << 30,
        }
    }

    fn hourly(&self) -> Collection {
        Collection::new(self.options(Every::Each(Span::seconds(HOUR.as_secs()))))
    }

    fn passes(&self, time: Duration) {
        self.engine.clock.advance(time);
    }

    /// As if a job had ended now, in this process or another.
    async fn ended(&self, name: &'static str, at: i64) {
        let set = self
            .engine
            .db
            .transact(move |txn| Box::pin(async move { meta::set_number(txn, name, at).await }));
        set.await.expect("written");
    }

    async fn run(&self, statement: &'static str) {
        let ran = self
            .engine
            .db
            .transact(move |txn| Box::pin(async move { txn.execute(statement, Vec::new()).await }));
        ran.await.expect("it runs");
    }

    /// Leaves something that may be garbage.
    async fn delete_something(&self) {
        let (engine, account) = (&self.engine.engine, AccountId::from_random(7));
        let started = engine.start_snapshot(StartSnapshot {
            account,
            volume_size: VolumeSize::from_gib(1).expect("a size"),
            parent: None,
            tags: None,
            description: None,
            client_token: None,
            timeout_minutes: None,
            encrypted: None,
        });
        let id = started.await.expect("started").id;
        engine.delete_snapshot(account, id).await.expect("deleted");
        engine.purge_now().await.expect("purged");
    }
}

#[tokio::test]
async fn a_collection_is_due_after_its_span_if_something_happened() {
    let world = World::new().await;
    let mut collection = world.hourly();
    assert_eq!(collection.due().await, None, "clients come first");
    world.passes(START_DELAY);
    assert_eq!(
        collection.due().await,
        Some(Reason::Span),
        "there was never one"
    );
    collection.collect(Reason::Span).await;

    assert_eq!(collection.due().await, None);
    world.delete_something().await;
    world.passes(HOUR - MINUTE);
    assert_eq!(collection.due().await, None, "the span has not passed");
    world.passes(MINUTE);
    assert_eq!(collection.due().await, Some(Reason::Span));
    collection.collect(Reason::Span).await;
    world.passes(HOUR * 24);
    assert_eq!(collection.due().await, None, "nothing has happened");
}

#[tokio::test]
async fn a_restart_neither_repeats_a_collection_nor_puts_it_off() {
    let world = World::new().await;
    world.ended(meta::COLLECTION_FINISHED_AT, START).await;
    let mut collection = world.hourly();
    world.passes(START_DELAY);
    assert_eq!(collection.due().await, None);
    world.passes(HOUR - START_DELAY);
    assert_eq!(collection.due().await, Some(Reason::Span));
}

#[tokio::test]
async fn a_full_disk_does_not_wait_and_is_not_tried_in_vain() {
    let world = World::new().await;
    let mut collection = world.hourly();
    let full = || world.engine.engine.metrics().puts_without_space.inc();
    assert_eq!(collection.due().await, None);
    full();
    assert_eq!(collection.due().await, Some(Reason::Full));
    collection.collect(Reason::Full).await;

    full();
    world.passes(FULL_PAUSE);
    assert_eq!(collection.due().await, None, "all of it is in use");
    world.delete_something().await;
    assert_eq!(collection.due().await, Some(Reason::Full));
    collection.collect(Reason::Full).await;

    world.delete_something().await;
    full();
    assert_eq!(collection.due().await, None, "deletes come together");
    world.passes(FULL_PAUSE);
    assert_eq!(collection.due().await, Some(Reason::Full));
}

#[tokio::test]
async fn a_collection_that_fails_is_tried_again_after_ever_longer_pauses() {
    let world = World::new().await;
    let mut collection = Collection::new(world.options(Every::Each(Span::seconds(HOUR.as_secs()))));
    world.delete_something().await;
    world.passes(HOUR);
    let broken = "ALTER TABLE put_entries RENAME TO hidden";
    world.run(broken).await;
    for pause in [5, 10, 20, 40, 60, 60] {
        assert_eq!(collection.due().await, Some(Reason::Span));
        collection.collect(Reason::Span).await;
        world.passes(MINUTE * pause - MINUTE);
        assert_eq!(collection.due().await, None, "{pause} minutes");
        world.passes(MINUTE);
    }
    world.run("ALTER TABLE hidden RENAME TO put_entries").await;
    collection.collect(Reason::Span).await;
    assert_eq!(collection.failures, 0);
}

#[tokio::test]
async fn what_is_off_is_never_due() {
    let world = World::new().await;
    let mut collection = Collection::new(world.options(Every::Off));
    let scrub = Scrub::new(world.options(Every::Off));
    world.engine.engine.metrics().puts_without_space.inc();
    world.passes(HOUR * 10_000);
    assert_eq!(collection.due().await, None);
    assert!(!scrub.is_due().await);
}

#[tokio::test]
async fn a_scrub_is_due_when_there_was_none_and_after_its_span() {
    let world = World::new().await;
    let hourly = || Scrub::new(world.options(Every::Each(Span::seconds(HOUR.as_secs()))));
    let mut scrub = hourly();
    assert!(!scrub.is_due().await, "clients come first");
    world.passes(START_DELAY);
    assert!(scrub.is_due().await);
    scrub.scrub().await;
    assert!(!scrub.is_due().await);

    let restarted = hourly();
    world.passes(HOUR - MINUTE);
    assert!(!scrub.is_due().await && !restarted.is_due().await);
    world.passes(MINUTE);
    assert!(scrub.is_due().await && restarted.is_due().await);
}

#[test]
fn a_clock_that_steps_back_puts_a_job_off_by_a_span_at_most() {
    let span = Span::seconds(HOUR.as_secs());
    let check = |now, last, watched, due| {
        assert_eq!(has_passed(now, last, span, watched), due, "{now} {last:?}");
    };
    check(START, None, Duration::ZERO, true);
    check(START, Some(START), HOUR * 2, false);
    check(START, Some(START - 3_600_000), Duration::ZERO, true);
    check(START, Some(START + 1), HOUR - MINUTE, false);
    check(START, Some(START + 1), HOUR, true);
    check(0, Some(i64::MAX), HOUR, true);
}
