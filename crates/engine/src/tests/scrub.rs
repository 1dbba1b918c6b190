//! Scrub: everything is read, damage is found, named and healed, and the work goes on where it stopped.

use super::damage::{change, flip, place, set_place};
use super::{account, assert_holds, complete, index, put, snapshot, start_child};
use crate::scrub::check::Checked;
use crate::scrub::position::{self, Next, Position};
use crate::testing::{START, TestEngine};
use crate::{DamagedChunk, Engine, ScrubOptions, ScrubReport, Touched};
use catalog::DbExt;
use catalog::chunks::{ChunkKey, ChunkState};
use chunkstore::ChunkStore;
use std::time::Duration;
use types::{ChunkName, Digest, Domain, SnapshotId};

const FAST: ScrubOptions = ScrubOptions {
    bytes_per_second: u64::MAX,
    restart: false,
};

/// Containers whose `live_bytes` are not what records say.
const MISCOUNTED: &[&str] = &[
    "(SELECT containers.container FROM containers WHERE live_bytes <> \
     (SELECT COALESCE(SUM(frame_length), 0) FROM chunks WHERE chunks.container = containers.container) + \
     (SELECT COALESCE(SUM(frame_length), 0) FROM snapshots WHERE frame_container = containers.container))",
];

async fn scrub(engine: &Engine) -> ScrubReport {
    engine.scrub(FAST).await.unwrap()
}

async fn key(test: &TestEngine, text: &str) -> ChunkKey {
    let digest = test.block(text).await.digest();
    (Domain::of_account(account()), ChunkName::plain(digest))
}

async fn state(test: &TestEngine, key: ChunkKey) -> Option<ChunkState> {
    crate::touched::find(&*test.db, vec![key])
        .await
        .unwrap()
        .remove(&key)
        .map(|record| record.state)
}

fn touched(snapshot: SnapshotId, start: u32, count: u32) -> Touched {
    Touched {
        snapshot,
        start: index(start),
        count,
    }
}

fn touches(damaged: &DamagedChunk) -> (&'static str, Vec<Touched>, u64) {
    (damaged.kind, damaged.touches.clone(), damaged.touches_count)
}

#[tokio::test]
async fn a_sound_store_is_read_once_and_the_end_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    assert_eq!(test.engine.last_scrub().await.unwrap(), None);
    let first = snapshot(&test, &[(0, "a"), (1, ""), (700, "b")]).await;
    let second = start_child(&test.engine, first).await;
    put(&test, second, &[(2, "c")]).await;
    complete(&test, second, 1).await;

    let reads = test.store.metrics().reads.get();
    let records = test.rows(&["chunks", "snapshots"]).await as u64;
    let (one, other) = tokio::join!(scrub(&test.engine), scrub(&test.engine));
    assert_eq!(one, other, "who asks meanwhile gets the same report");
    assert_eq!(test.store.metrics().reads.get() - reads, records);
    assert_eq!(
        (one.chunks, one.damaged_count, one.healed, one.damaged),
        (records, 0, 0, Vec::new())
    );
    let live = test.rows(&["(SELECT 1 FROM chunks WHERE kind = 1)"]).await as u64;
    assert!(one.bytes > live * 524_288, "{}", one.bytes);
    assert_eq!(test.engine.last_scrub().await.unwrap(), Some((START, 0)));
    assert_eq!(test.engine.scrub_progress(), None);
    assert_eq!(test.engine.damage().await.unwrap(), []);
    assert_eq!(
        scrub(&test.engine).await.chunks,
        records,
        "the next one begins anew"
    );
}

#[tokio::test]
async fn a_damaged_block_is_found_and_named_with_all_that_it_touches() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let blocks = [
        (3, "bad"),
        (4, "bad"),
        (5, "good"),
        (6, "bad"),
        (900, "bad"),
    ];
    let parent = snapshot(&test, &blocks).await;
    let child = start_child(&test.engine, parent).await;
    put(&test, child, &[(4, "other"), (2_047, "bad")]).await;
    complete(&test, child, 2).await;
    let pending = super::start(&test.engine).await;
    put(&test, pending, &[(9, "bad"), (10, "bad"), (12, "good")]).await;
    let unrelated = snapshot(&test, &[(3, "good")]).await;

    let bad = key(&test, "bad").await;
    flip(dir.path(), place(&test, bad).await, 5_000);
    for _ in 0..2 {
        let report = scrub(&test.engine).await;
        assert_eq!((report.damaged_count, report.healed), (1, 0));
        let mut expected = vec![
            touched(parent, 3, 2),
            touched(parent, 6, 1),
            touched(parent, 900, 1),
            touched(child, 3, 1),
            touched(child, 6, 1),
            touched(child, 900, 1),
            touched(child, 2_047, 1),
            touched(pending, 9, 2),
        ];
        expected.sort();
        assert_eq!(touches(&report.damaged[0]), ("block", expected, 8));
        assert_eq!((report.damaged[0].domain, report.damaged[0].name), bad);
        assert!(
            report.damaged[0].reason.contains("checksum"),
            "{}",
            report.damaged[0].reason
        );
        let known = test.engine.damage().await.unwrap();
        assert_eq!(touches(&known[0]), touches(&report.damaged[0]));
        assert_eq!(test.engine.last_scrub().await.unwrap(), Some((START, 1)));
    }
    assert_eq!(state(&test, bad).await, Some(ChunkState::Damaged));
    assert_eq!(
        test.engine.metrics().damaged_chunks.get(),
        1,
        "counted once"
    );
    assert_holds(&test, unrelated, &[(3, "good")]).await;
}

#[tokio::test]
async fn a_damaged_page_touches_all_that_it_covers_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    // Two leaves, at 0 and at 1,920: the volume of 1 GiB ends behind the second. One inner page above them.
    let id = snapshot(&test, &[(1, "a"), (1_950, "b")]).await;
    let mut covered = Vec::new();
    for page in pages(&test).await {
        flip(dir.path(), place(&test, page).await, 300);
        let report = scrub(&test.engine).await;
        let found = report
            .damaged
            .iter()
            .find(|damaged| damaged.name == page.1)
            .unwrap();
        assert_eq!((found.kind, found.touches_count), ("page", 1));
        covered.push(found.touches[0]);
        flip(dir.path(), place(&test, page).await, 300);
        let report = scrub(&test.engine).await;
        assert_eq!((report.damaged_count, report.healed), (0, 1));
    }
    covered.sort();
    let whole = touched(id, 0, 2_048);
    let expected = [
        touched(id, 0, 128),
        whole,
        whole,
        whole,
        touched(id, 1_920, 128),
    ];
    assert_eq!(covered, expected);
}

/// The keys of all recorded pages.
async fn pages(test: &TestEngine) -> Vec<ChunkKey> {
    let records = test.db.view(|txn| {
        Box::pin(async move { catalog::chunks::records_after(txn, None, 1_000).await })
    });
    let records = records.await.unwrap().into_iter();
    records
        .filter(|record| record.kind == 2)
        .map(|record| record.key())
        .collect()
}

#[tokio::test]
async fn the_list_of_what_is_touched_is_bounded_and_its_count_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let blocks: Vec<_> = (0..150).map(|at| (at * 2, "bad")).collect();
    let id = snapshot(&test, &blocks).await;
    let bad = key(&test, "bad").await;
    flip(dir.path(), place(&test, bad).await, 4_096);
    let report = scrub(&test.engine).await;
    assert_eq!(report.damaged[0].touches_count, 150);
    let listed: Vec<_> = (0..100).map(|at| touched(id, at * 2, 1)).collect();
    assert_eq!(report.damaged[0].touches, listed);
}

#[tokio::test]
async fn bytes_that_come_back_and_bytes_that_are_put_again_heal() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = snapshot(&test, &[(0, "a"), (1, "b")]).await;
    let (a, b) = (key(&test, "a").await, key(&test, "b").await);
    let place_of_a = place(&test, a).await;
    flip(dir.path(), place_of_a, 4_100);
    flip(dir.path(), place(&test, b).await, 4_100);
    assert_eq!(scrub(&test.engine).await.damaged_count, 2);

    flip(dir.path(), place_of_a, 4_100);
    snapshot(&test, &[(7, "b")]).await;
    let report = scrub(&test.engine).await;
    assert_eq!(
        (report.damaged_count, report.healed),
        (0, 1),
        "the put has healed b"
    );
    assert_eq!(state(&test, a).await, Some(ChunkState::Live));
    assert_holds(&test, id, &[(0, "a"), (1, "b")]).await;
}

#[tokio::test]
async fn content_that_is_not_what_its_name_says_is_damage_though_its_checksum_matches() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    snapshot(&test, &[(0, "a")]).await;
    let a = key(&test, "a").await;
    // A frame of another content under the name: as if memory had failed between the digest and the disk.
    let id = chunkstore::ChunkId {
        domain: a.0,
        name: a.1,
        kind: chunkstore::ChunkKind::Block,
    };
    let chunk = chunkstore::NewChunk {
        id,
        digest: Digest::of(b"whatever"),
        data: vec![7; 524_288].into(),
    };
    let stored = test.store.append(vec![chunk]).await.unwrap();
    set_place(&test, a, crate::pages::catalog_location(stored[0].location)).await;
    let report = scrub(&test.engine).await;
    assert_eq!(report.damaged_count, 1);
    assert!(report.damaged[0].reason.contains("digest"), "{report:?}");
}

#[tokio::test]
async fn a_chunk_that_moved_or_went_away_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    snapshot(&test, &[(0, "a"), (1, "b")]).await;
    let a = key(&test, "a").await;
    let now = crate::touched::find(&*test.db, vec![a]).await.unwrap()[&a];
    let mut before = now;
    before.location.offset = place(&test, key(&test, "b").await).await.offset;
    let outcome = test.engine.check_chunk(before).await.unwrap();
    assert_eq!(outcome, Checked::Sound, "found where it is now");

    change(&test, "DELETE FROM chunks WHERE kind = 1").await;
    let outcome = test.engine.check_chunk(before).await.unwrap();
    assert_eq!(outcome, Checked::Gone);
    assert_eq!(test.engine.metrics().damaged_chunks.get(), 0);
}

#[tokio::test]
async fn a_segment_that_was_taken_away_is_damage_and_keeps_no_other_from_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = snapshot(&test, &[(0, "a"), (1, "b")]).await;
    test.store.close().await;
    drop(test);
    let test = TestEngine::open(dir.path()).await;
    let container = place(&test, key(&test, "a").await).await.container;
    let name = format!("{container:016x}.blocks");
    std::fs::remove_file(dir.path().join("segments").join(name)).unwrap();
    let report = scrub(&test.engine).await;
    assert_eq!(report.damaged_count, 2, "both blocks");
    assert_eq!(report.damaged[0].touches[0].snapshot, id);
    let all = test.rows(&["chunks", "snapshots"]).await as u64;
    assert_eq!(report.chunks, all);
}

#[tokio::test]
async fn a_snapshots_own_frame_is_stored_anew_from_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = snapshot(&test, &[(0, "a")]).await;
    let frame = frame_of(&test, id).await;
    flip(dir.path(), frame, 300);
    let report = scrub(&test.engine).await;
    assert_eq!((report.damaged_count, report.healed), (0, 1));
    assert_ne!(frame_of(&test, id).await, frame);
    let report = scrub(&test.engine).await;
    assert_eq!((report.damaged_count, report.healed), (0, 0));
    assert_eq!(test.rows(MISCOUNTED).await, 0);
}

pub(super) async fn frame_of(test: &TestEngine, id: SnapshotId) -> catalog::Location {
    let record = test
        .db
        .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }));
    record.await.unwrap().unwrap().finished.unwrap().frame
}

#[tokio::test]
async fn goes_on_behind_its_position_unless_told_to_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    snapshot(&test, &[(0, "a"), (1, "b"), (2, "c")]).await;
    let all = test.rows(&["chunks", "snapshots"]).await as u64;
    let records = test.db.view(|txn| {
        Box::pin(async move { catalog::chunks::records_after(txn, None, 1_000).await })
    });
    let third = records.await.unwrap()[2].key();
    let save = || async {
        let save = test.db.transact(move |txn| {
            Box::pin(async move {
                let position = Position {
                    next: Next::Chunks(Some(third)),
                    took: Duration::from_secs(7),
                    chunks: 100,
                    ..Position::start(START)
                };
                position::save(txn, &position).await
            })
        });
        save.await.unwrap();
    };
    save().await;
    let report = scrub(&test.engine).await;
    assert_eq!(report.chunks, 100 + all - 3);
    assert_eq!(
        report.took,
        Duration::from_secs(7),
        "the clock stands still"
    );
    save().await;
    let options = ScrubOptions {
        restart: true,
        ..FAST
    };
    assert_eq!(test.engine.scrub(options).await.unwrap().chunks, all);
    assert_eq!(
        scrub(&test.engine).await.chunks,
        all,
        "the end forgets the position"
    );
}

#[tokio::test]
async fn a_scrub_that_is_cancelled_leaves_the_way_free() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    snapshot(&test, &[(0, "a"), (1, "b"), (2, "c")]).await;
    let engine = test.engine.clone();
    // The first chunk is read at once, the second after days.
    let slow = ScrubOptions {
        bytes_per_second: 1,
        restart: false,
    };
    let running = tokio::spawn(async move { engine.scrub(slow).await });
    while test
        .engine
        .scrub_progress()
        .is_none_or(|progress| progress.done == 0)
    {
        tokio::task::yield_now().await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(test.engine.scrub_progress(), None);
    let all = test.rows(&["chunks", "snapshots"]).await as u64;
    assert_eq!(scrub(&test.engine).await.chunks, all);
}

#[tokio::test]
async fn what_nothing_refers_to_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    snapshot(&test, &[(0, "a")]).await;
    let gone = snapshot(&test, &[(5, "bad")]).await;
    let bad = key(&test, "bad").await;
    flip(dir.path(), place(&test, bad).await, 4_096);
    test.engine.delete_snapshot(account(), gone).await.unwrap();
    let report = scrub(&test.engine).await;
    assert_eq!(report.damaged_count, 1);
    assert_eq!(touches(&report.damaged[0]), ("block", Vec::new(), 0));
}
