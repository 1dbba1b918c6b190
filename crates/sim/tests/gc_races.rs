//! Garbage collection against every other operation: the rows of the second table of `docs/concurrency.md`.
//!
//! Each test prepares a store in which one collection meets every step of the table's columns: it has something to condemn, something to
//! sweep, a container to close, one to settle, one to compact and one to remove. Then the collection and the operation of the row are
//! interleaved in every way that one hold allows: the one is held before or after its n-th call of the catalog or the chunk store, for
//! every n, while the other runs as far as it gets. Afterwards everything must be as the model allows, and two more collections
//! must leave exactly what snapshots refer to. A usual run tries some of the ways, `cargo xtask sim --thorough` all of them.
//! The table's last row, kill and power cut, is `crash_points.rs`.

use catalog::DbExt;
use sim::clients::{Called, Story};
use sim::contents::Content;
use sim::model::Wrong;
use sim::scene::Scene;
use sim::thorough::is_thorough;
use std::panic::Location;
use std::time::Duration;
use types::{ChunkName, Domain};

/// The completed snapshot that is always there: contents 1 and 4.
const KEPT: u32 = 2;
/// The completed snapshot whose blocks nobody else has, contents 7 and 8: a parent to start from, and to delete.
const PARENT: u32 = 8;
/// A pending snapshot with contents 1 and 9.
const PENDING: u32 = 9;

/// Brings a machine to where the next collection has something to do in each of its steps.
fn prepare(scene: &mut Scene) -> Result<(), Wrong> {
    // A segment of blocks that will hold nothing that is live.
    scene.live_through(async |story| {
        story.completed(None, &[(0, 20), (1, 21)]).await?;
        story.quiet().await;
        Ok(())
    })?;
    // Pages of many snapshots in one segment, most of them garbage; frames without a name beside them.
    scene.live_through(async |story| {
        story.completed(None, &[(0, 1), (300, 4)]).await?;
        for content in 2..5 {
            story
                .completed(None, &[(content, content), (400, 5), (900, 0)])
                .await?;
        }
        story.completed(None, &[(0, 2), (1, 3)]).await?;
        for number in [1, 3, 4, 5] {
            story.remove(number).await?;
        }
        story.quiet().await;
        Ok(())
    })?;
    // The collection before: condemns, and closes what was sealed by the restarts.
    scene.live_through(async |story| {
        story.quiet().await;
        story.collect_times(1).await?;
        story.completed(Some(KEPT), &[(5, 6)]).await?;
        story.completed(None, &[(0, 7), (500, 8)]).await?;
        let pending = story.begin_for(0, None, 3).await?;
        story.put_all(pending, &[(3, 1), (4, 9)]).await?;
        // Fresh garbage.
        story.remove(6).await?;
        story.remove(7).await?;
        story.quiet().await;
        Ok(())
    })
}

/// What happens beside the operation of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beside {
    /// One collection.
    Collection,
    /// Two: what the first condemns, the second sweeps, while the operation is held.
    TwoCollections,
}

impl Beside {
    fn times(self) -> u32 {
        match self {
            Beside::Collection => 1,
            Beside::TwoCollections => 2,
        }
    }
}

/// Holds of a usual run, of those that are possible: each so many-th, beginning with another one for each test.
const STRIDE: u64 = 17;

/// Interleaves `operation` with collections in every way that one hold allows; in a usual run, in some of them.
#[track_caller]
fn check(operation: impl AsyncFn(&Story<'_>) -> Result<(), Wrong>) {
    let (first, stride) = match is_thorough() {
        true => (0, 1),
        false => (u64::from(Location::caller().line()) % STRIDE, STRIDE),
    };
    let orders = [
        (true, Beside::Collection),
        (true, Beside::TwoCollections),
        // While a collection is held the operation runs once.
        (false, Beside::Collection),
    ];
    let mut ways = 0;
    for (operation_first, beside) in orders {
        let mut calls = first;
        while held_at(calls, beside, operation_first, &operation).unwrap_or_else(|wrong| {
            let held = match operation_first {
                true => "the operation",
                false => "the collection",
            };
            panic!("{held} was held after {calls} calls, beside {beside:?}: {wrong}")
        }) {
            calls += stride;
            ways += 1;
        }
    }
    eprintln!("{ways} ways");
    assert!(ways >= 40 / stride, "only {ways} ways");
}

fn held_at(
    calls: u64,
    beside: Beside,
    operation_first: bool,
    operation: &impl AsyncFn(&Story<'_>) -> Result<(), Wrong>,
) -> Result<bool, Wrong> {
    let mut scene = Scene::new(1);
    prepare(&mut scene)?;
    scene.live_through(async |story| {
        let collect = story.collect_times(beside.times());
        let held = if operation_first {
            story.interleave(calls, operation(story), collect).await?
        } else {
            story.interleave(calls, collect, operation(story)).await?
        };
        story.check_now().await?;
        Ok(held)
    })
}

#[test]
fn the_next_collection_meets_every_step() {
    let mut scene = Scene::new(1);
    prepare(&mut scene).unwrap();
    let report = scene.live_through(async |story| {
        story.quiet().await;
        let report = story.life.engine.collect(engine::CollectMode::Cycle).await;
        report.map_err(|error| error.to_string())
    });
    let report = report.unwrap();
    let done = [report.condemned, report.swept, report.moved, report.removed];
    assert!(done.iter().all(|amount| amount.count > 0), "{report:?}");
}

#[test]
fn put_of_new_content() {
    check(async |story| {
        story.life.settled().await;
        story.put_all(PENDING, &[(0, 10), (1, 11)]).await
    });
}

#[test]
fn put_of_known_content() {
    check(async |story| {
        story.life.settled().await;
        // Live; garbage that is not condemned yet; condemned.
        story
            .put_all(PENDING, &[(0, 1), (1, 6), (2, 2), (6, 3)])
            .await
    });
}

#[test]
fn put_by_digest() {
    check(async |story| {
        story.life.settled().await;
        // Live; garbage that is not condemned yet; condemned; zeros; and one that is not there.
        let blocks = [(0, 1), (1, 6), (2, 2), (6, 3), (7, 0), (8, 12)];
        story.put_digests(PENDING, &blocks).await
    });
}

#[test]
fn complete() {
    check(async |story| {
        story.life.settled().await;
        must_go_well(story.seal(PENDING).await?)
    });
}

#[test]
fn finisher() {
    check(async |story| {
        story.life.settled().await;
        // The pages that this makes are those of a snapshot that is garbage.
        let number = story.begin(None).await?;
        story.put_all(number, &[(2, 2), (400, 5), (900, 0)]).await?;
        story.finish(number).await
    });
}

#[test]
fn start_of_a_child_whose_parent_is_deleted() {
    check(async |story| {
        story.life.settled().await;
        let child = story.begin(Some(PARENT)).await?;
        must_go_well(story.remove(PARENT).await?)?;
        story.put_all(child, &[(1, 2)]).await?;
        story.finish(child).await
    });
}

#[test]
fn get_list_and_diff() {
    check(async |story| {
        story.life.settled().await;
        let (kept, parent) = (story.one(KEPT), story.one(PARENT));
        for (snapshot, index, content) in [(&kept, 0, 1), (&parent, 500, 8), (&kept, 300, 4)] {
            match story.read(snapshot, index, Content(content)).await {
                Ok(true) => {}
                other => return Err(format!("a block reads as {other:?}")),
            }
        }
        let looked = story.look_at(&kept, 1).await?;
        looked.map_err(|error| error.to_string())
    });
}

#[test]
fn get_and_list_of_a_snapshot_that_is_deleted() {
    check(async |story| {
        story.life.settled().await;
        let parent = story.one(PARENT);
        let delete = story.remove(PARENT);
        let reads = async {
            for index in [0, 500, 0, 500] {
                let content = if index == 0 { 7 } else { 8 };
                match story.read(&parent, index, Content(content)).await {
                    Ok(true) | Err(engine::Error::SnapshotNotFound { .. }) => {}
                    other => {
                        return Err(format!("a block of a deleted snapshot reads as {other:?}"));
                    }
                }
            }
            match story.look_at(&parent, 1).await? {
                Ok(()) | Err(engine::Error::SnapshotNotFound { .. }) => Ok(()),
                Err(error) => Err(format!("listing a deleted snapshot: {error}")),
            }
        };
        let (deleted, read) = futures_util::future::join(delete, reads).await;
        must_go_well(deleted?)?;
        read
    });
}

#[test]
fn delete() {
    check(async |story| {
        story.life.settled().await;
        must_go_well(story.remove(PARENT).await?)?;
        must_go_well(story.remove(PENDING).await?)
    });
}

#[test]
fn expiry_and_purge() {
    check(async |story| {
        story.life.settled().await;
        tokio::time::sleep(Duration::from_secs(4 * 60 + 30)).await;
        Ok(())
    });
}

#[test]
fn frees() {
    check(async |story| {
        story.life.settled().await;
        story
            .life
            .engine
            .free_now()
            .await
            .map_err(|error| error.to_string())
    });
}

/// The life has just begun, and the segments of the last one are not settled yet.
#[test]
fn recovery() {
    check(async |story| {
        story.life.settled().await;
        Ok(())
    });
}

#[test]
fn scrub() {
    check(async |story| story.scrub(0).await.map(drop));
}

/// A block of a snapshot rots and is found damaged; a put of the same content heals it.
#[test]
fn mark_damaged_and_heal() {
    check(async |story| {
        story.life.settled().await;
        let kept = story.one(KEPT);
        let key = (
            Domain::of_account(kept.account()),
            ChunkName::plain(Content(4).digest()),
        );
        let found = story
            .life
            .db
            .view(move |txn| Box::pin(async move { catalog::chunks::find(txn, &[key]).await }));
        let found = found.await.map_err(|error| error.to_string())?;
        let frame = found.get(&key).ok_or("the block has a record")?.location;
        let segment = format!("{:016x}.blocks", frame.container);
        story.life.io.flip_bit(&segment, frame.offset + 70_000, 3);
        match story.read(&kept, 300, Content(4)).await {
            Err(engine::Error::BlockDamaged { .. }) => {}
            other => return Err(format!("a block with a flipped bit reads as {other:?}")),
        }
        must_go_well(story.put_one(PENDING, 8, 4).await?)?;
        match story.read(&kept, 300, Content(4)).await {
            Ok(true) => Ok(()),
            other => Err(format!("a healed block reads as {other:?}")),
        }
    });
}

#[test]
fn audit() {
    check(async |story| {
        story.life.settled().await;
        story.audit(0).await.map(drop)
    });
}

#[test]
fn dry_run() {
    check(async |story| {
        story.life.settled().await;
        story
            .collect(0, engine::CollectMode::DryRun)
            .await
            .map(drop)
    });
}

fn must_go_well(called: Called) -> Result<(), Wrong> {
    match called {
        Called::Well => Ok(()),
        other => Err(format!("it ended {other:?}")),
    }
}
