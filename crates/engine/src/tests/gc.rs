//! Garbage collection: everything that is referred to stays, everything else goes, and space returns.

use super::{
    account, assert_holds, complete, completion, listed, put, snapshot, start, start_child, try_put,
};
use crate::testing::TestEngine;
use crate::{CollectMode, CollectReport, Error, SnapshotUsage};
use catalog::DbExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use types::{BLOCK_BYTES, SnapshotId};

async fn cycle(test: &TestEngine) -> CollectReport {
    test.engine.collect(CollectMode::Cycle).await.unwrap()
}

async fn delete(test: &TestEngine, id: SnapshotId) {
    test.engine.delete_snapshot(account(), id).await.unwrap();
    test.engine.purge_now().await.unwrap();
}

/// Bytes that the segments take on the disk.
fn du(directory: &Path) -> u64 {
    std::fs::read_dir(directory.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().blocks() * 512)
        .sum()
}

async fn usage(test: &TestEngine, id: SnapshotId) -> SnapshotUsage {
    let all = test.engine.usage_of_snapshots(None, 100).await.unwrap();
    *all.iter().find(|usage| usage.id == id).unwrap()
}

/// Texts of blocks that are all different.
fn texts(prefix: &str, count: u32) -> Vec<(u32, String)> {
    (0..count)
        .map(|n| (n, format!("{prefix} {n:08} ")))
        .collect()
}

fn borrowed(texts: &[(u32, String)]) -> Vec<(u32, &str)> {
    texts
        .iter()
        .map(|(at, text)| (*at, text.as_str()))
        .collect()
}

#[tokio::test]
async fn what_nothing_refers_to_goes_in_the_second_cycle_and_its_space_returns() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let kept = snapshot(&test, &[(0, "kept"), (1, "shared"), (9, "")]).await;
    let many = texts("garbage", 60);
    let mut blocks = borrowed(&many);
    blocks.push((100, "shared"));
    let gone = snapshot(&test, &blocks).await;
    let full = du(dir.path());
    delete(&test, gone).await;

    let first = cycle(&test).await;
    assert_eq!((first.condemned.count, first.swept.count), (60 + 4, 0));
    assert_eq!((first.revived, first.missing), (0, 0));
    assert_eq!((first.live_blocks.count, first.live_pages.count), (2, 4));
    let second = cycle(&test).await;
    assert_eq!((second.condemned.count, second.swept.count), (0, 64));
    assert_eq!(
        test.rows(&["chunks", "frees", "put_entries", "listed_pages"])
            .await,
        2 + 4
    );
    cycle(&test).await;
    let left = du(dir.path());
    assert!(
        full - left >= 60 * BLOCK_BYTES as u64,
        "{full} bytes before, {left} after"
    );
    assert_holds(&test, kept, &[(0, "kept"), (1, "shared"), (9, "")]).await;
    let again = cycle(&test).await;
    assert_eq!(
        (
            again.condemned.count,
            again.swept.count,
            again.removed.count
        ),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn empty_containers_are_removed_and_their_ids_never_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let many = texts("garbage", 40);
    let gone = snapshot(&test, &borrowed(&many)).await;
    let files = || {
        std::fs::read_dir(dir.path().join("segments"))
            .unwrap()
            .count()
    };
    let before = files();
    delete(&test, gone).await;
    let mut removed = 0;
    for _ in 0..3 {
        removed += cycle(&test).await.removed.count;
    }
    assert!(
        removed >= 3,
        "40 blocks fill several segments, {removed} removed"
    );
    assert_eq!(files() as u64, before as u64 - removed);
    assert_eq!(
        test.rows(&["containers WHERE state = 3"]).await,
        i64::try_from(removed).unwrap()
    );
    drop(test);

    let test = TestEngine::open(dir.path()).await;
    let next = snapshot(&test, &borrowed(&many)).await;
    assert_holds(&test, next, &borrowed(&many)).await;
    let reused = test
        .rows(&["chunks WHERE container IN (SELECT container FROM containers WHERE state = 3)"]);
    assert_eq!(reused.await, 0);
}

#[tokio::test]
async fn children_keep_what_they_need_of_a_deleted_parent_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let parent = snapshot(&test, &[(0, "a"), (1, "b"), (2_000, "far")]).await;
    let completed = start_child(&test.engine, parent).await;
    put(&test, completed, &[(0, "a2")]).await;
    complete(&test, completed, 1).await;
    let pending = start_child(&test.engine, parent).await;
    put(&test, pending, &[(1, "b2")]).await;
    delete(&test, parent).await;
    for _ in 0..3 {
        cycle(&test).await;
    }
    assert_holds(&test, completed, &[(0, "a2"), (1, "b"), (2_000, "far")]).await;
    complete(&test, pending, 1).await;
    assert_holds(&test, pending, &[(0, "a"), (1, "b2"), (2_000, "far")]).await;
    delete(&test, completed).await;
    for _ in 0..3 {
        cycle(&test).await;
    }
    assert_holds(&test, pending, &[(0, "a"), (1, "b2"), (2_000, "far")]).await;
    assert_eq!(test.rows(&["chunks WHERE kind = 1"]).await, 3);
}

#[tokio::test]
async fn an_open_snapshot_keeps_its_puts_and_a_failed_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let open = start(&test.engine).await;
    put(&test, open, &[(0, "first"), (1, "overwritten")]).await;
    put(&test, open, &[(1, "second")]).await;
    let failed = start(&test.engine).await;
    put(&test, failed, &[(0, "failed"), (1, "first")]).await;
    test.engine
        .complete_snapshot(completion(failed, 7))
        .await
        .unwrap();
    test.settled(account(), failed).await;
    test.engine.purge_now().await.unwrap();
    for _ in 0..2 {
        cycle(&test).await;
    }
    assert_eq!(test.rows(&["chunks"]).await, 2, "first and second");
    complete(&test, open, 2).await;
    assert_holds(&test, open, &[(0, "first"), (1, "second")]).await;
}

#[tokio::test]
async fn a_put_revives_a_condemned_chunk_and_stores_a_swept_one_again() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let old = snapshot(&test, &[(0, "condemned"), (1, "swept")]).await;
    delete(&test, old).await;
    cycle(&test).await;
    assert_eq!(test.rows(&["chunks WHERE state = 2 AND kind = 1"]).await, 2);
    let new = start(&test.engine).await;
    put(&test, new, &[(0, "condemned")]).await;
    assert_eq!(
        test.engine.metrics().dedup_hits.get(),
        1,
        "nothing was stored"
    );
    let report = cycle(&test).await;
    assert_eq!(report.revived, 0, "the put did it, not the mark");
    put(&test, new, &[(1, "swept")]).await;
    assert_eq!(
        test.engine.metrics().dedup_hits.get(),
        1,
        "its record was gone"
    );
    complete(&test, new, 2).await;
    for _ in 0..2 {
        cycle(&test).await;
    }
    assert_holds(&test, new, &[(0, "condemned"), (1, "swept")]).await;
}

#[tokio::test]
async fn a_page_that_cannot_be_read_ends_the_cycle_and_nothing_is_condemned() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let kept = snapshot(&test, &[(0, "kept")]).await;
    let gone = snapshot(&test, &[(0, "gone")]).await;
    delete(&test, gone).await;
    let page = listed(&test.engine, kept).await;
    assert_eq!(page.len(), 1);
    // Its leaf: the only page that names the block.
    test.db
        .transact(|txn| {
            Box::pin(async move {
                txn.execute(
                    "UPDATE chunks SET frame_offset = frame_offset + 64 WHERE kind = 2",
                    Vec::new(),
                )
                .await
            })
        })
        .await
        .unwrap();
    let error = test.engine.collect(CollectMode::Cycle).await;
    assert!(matches!(error, Err(Error::Internal { .. })), "{error:?}");
    assert_eq!(test.rows(&["chunks WHERE state = 2"]).await, 0);
    assert_eq!(test.engine.metrics().collections_failed.get(), 1);
    assert_eq!(test.engine.collect_progress(), None);
}

#[tokio::test]
async fn usage_is_what_deleting_would_free() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let parent = snapshot(&test, &[(0, "a"), (1, "b"), (2, "")]).await;
    let child = start_child(&test.engine, parent).await;
    put(&test, child, &[(0, "a2"), (200, "new")]).await;
    complete(&test, child, 2).await;
    let alone = snapshot(&test, &[(5, "alone"), (6, "b")]).await;
    assert_eq!(test.engine.usage_totals().await.unwrap().computed_at, None);
    let report = test.engine.collect(CollectMode::DryRun).await.unwrap();
    assert_eq!((report.condemned.count, report.swept.count), (0, 0));

    let block = BLOCK_BYTES as u64;
    let totals = test.engine.usage_totals().await.unwrap();
    assert_eq!(totals.snapshots, 3);
    assert_eq!(totals.logical_bytes, (3 + 4 + 2) * block);
    assert_eq!(totals.unique_bytes, 5 * block, "a, b, a2, new, alone");
    assert_eq!(totals.garbage_bytes, 0);
    let blocks = |usage: SnapshotUsage| (usage.logical_bytes / block, usage.own_blocks);
    assert_eq!(blocks(usage(&test, parent).await), (3, 1), "a");
    assert_eq!(blocks(usage(&test, child).await), (4, 2), "a2, new");
    assert_eq!(blocks(usage(&test, alone).await), (2, 1), "alone");

    for (id, stored) in [(child, totals.stored_bytes), (alone, 0)] {
        let own = usage(&test, id).await.own_bytes;
        let before = match stored {
            0 => test.engine.usage_totals().await.unwrap().stored_bytes,
            stored => stored,
        };
        delete(&test, id).await;
        test.engine.collect(CollectMode::DryRun).await.unwrap();
        let after = test.engine.usage_totals().await.unwrap();
        assert_eq!(before - after.stored_bytes, own);
    }
    let last = usage(&test, parent).await;
    assert_eq!(last.own_blocks, 2, "b is its own now");
    assert_eq!(
        test.rows(&["snapshot_usage"]).await,
        1,
        "older rows are gone"
    );
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_a_cycle_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let gone = snapshot(&test, &[(0, "gone")]).await;
    delete(&test, gone).await;
    let dry = test.engine.collect(CollectMode::DryRun).await.unwrap();
    assert_eq!(test.rows(&["chunks WHERE state <> 1"]).await, 0);
    assert!(test.engine.may_hold_garbage());
    let wet = cycle(&test).await;
    assert_eq!(dry.condemned, wet.condemned);
    assert_eq!(wet.condemned.count, 1 + 4);
    let dry = test.engine.collect(CollectMode::DryRun).await.unwrap();
    assert_eq!(dry.swept, wet.condemned);
    assert_eq!(cycle(&test).await.swept, wet.condemned);
    assert!(!test.engine.may_hold_garbage());
}

#[tokio::test]
async fn frames_of_puts_that_failed_are_found_and_freed_once_their_segment_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    // A frame whose put never committed, in a segment that fills up behind it.
    let lost = test.block("lost").await;
    let chunk = chunkstore::NewChunk {
        id: chunkstore::ChunkId {
            domain: types::Domain::of_account(account()),
            name: types::ChunkName::plain(lost.digest()),
            kind: chunkstore::ChunkKind::Block,
        },
        digest: lost.digest(),
        data: lost.data.clone().unwrap(),
    };
    let store: &dyn chunkstore::ChunkStore = &*test.store;
    let stored = store.append(vec![chunk.clone()]).await.unwrap()[0];
    let many = texts("kept", 30);
    let kept = snapshot(&test, &borrowed(&many)).await;
    let mut leaked = 0;
    for _ in 0..3 {
        leaked += cycle(&test).await.leaked.count;
    }
    assert_eq!(leaked, 1);
    let read = store.read(stored.location, chunk.id).await;
    assert!(
        matches!(read, Err(chunkstore::Error::Corrupt { .. })),
        "{read:?}"
    );
    assert_holds(&test, kept, &borrowed(&many)).await;
}

#[tokio::test]
async fn a_put_whose_segment_was_closed_under_it_stores_its_block_again() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::without_workers(dir.path()).await;
    let id = start(&test.engine).await;
    put(&test, id, &[(0, "opens a segment")]).await;
    test.db
        .transact(|txn| {
            Box::pin(async move {
                txn.execute("UPDATE containers SET state = 4 WHERE kind = 1", Vec::new())
                    .await
            })
        })
        .await
        .unwrap();
    let error = try_put(&test, id, 1, "stored in the closed segment").await;
    assert!(
        matches!(error, Err(Error::Unavailable { .. })),
        "every attempt lands in the one open segment: {error:?}"
    );
    assert_eq!(test.rows(&["put_entries", "chunks"]).await, 2);
    assert_eq!(test.rows(&["frees"]).await, 0, "settling frees them");
}

/// A completed snapshot of 64 GiB whose 1,024 leaf pages are all different: more than a container of pages holds.
async fn map_of_many_pages(test: &TestEngine, salt: u32) -> SnapshotId {
    let request = crate::StartSnapshot {
        volume_size: types::VolumeSize::from_gib(64).unwrap(),
        ..super::plain_start()
    };
    let id = test.engine.start_snapshot(request).await.unwrap().id;
    put(test, id, &[(0, "x")]).await;
    let block = test.block("x").await.digest();
    // Of two digests, by the bits of the page's number: putting so many blocks would take minutes.
    let entries: Vec<_> = (0..131_072_u32)
        .map(|at| {
            let bits = (at / 128 + 1_024 * salt).wrapping_mul(2_654_435_761) | 1;
            let digest = match bits >> (at % 32) & 1 {
                0 => types::Digest::ZERO_BLOCK,
                _ => block,
            };
            catalog::put_entries::PutEntry {
                snapshot: id,
                index: super::index(at),
                digest,
            }
        })
        .collect();
    let entries = std::sync::Arc::new(entries);
    test.db
        .transact(move |txn| {
            let entries = std::sync::Arc::clone(&entries);
            Box::pin(async move { catalog::put_entries::put(txn, &entries).await })
        })
        .await
        .unwrap();
    complete(test, id, 131_072).await;
    id
}

#[tokio::test]
async fn pages_move_out_of_containers_that_are_mostly_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let kept = snapshot(&test, &[(0, "kept"), (2_000, "far away")]).await;
    let gone = [
        map_of_many_pages(&test, 1).await,
        map_of_many_pages(&test, 2).await,
    ];
    let sealed = test
        .rows(&["containers WHERE kind = 2 AND state = 2"])
        .await;
    assert!(sealed > 0, "no container of pages is full");
    for id in gone {
        delete(&test, id).await;
    }
    let (mut moved, mut removed) = (0, 0);
    for _ in 0..4 {
        let report = cycle(&test).await;
        moved += report.moved.count;
        removed += report.removed.count;
    }
    assert!(
        moved > 0,
        "the pages and the frame of the first snapshot move"
    );
    assert!(removed > 0);
    assert_eq!(
        test.rows(&["containers WHERE kind = 2 AND state IN (2, 4, 5)"])
            .await,
        0
    );
    drop(test);
    let test = TestEngine::open(dir.path()).await;
    assert_holds(&test, kept, &[(0, "kept"), (2_000, "far away")]).await;
    delete(&test, kept).await;
}

#[tokio::test]
async fn live_bytes_follow_every_name_that_is_given_or_taken() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    const WRONG: &[&str] = &["containers WHERE live_bytes <> \
        COALESCE((SELECT SUM(frame_length) FROM chunks WHERE chunks.container = containers.container), 0) + \
        COALESCE((SELECT SUM(frame_length) FROM snapshots WHERE frame_container = containers.container), 0)"];
    let parent = snapshot(&test, &[(0, "a"), (1, "b"), (2, "a")]).await;
    assert_eq!(test.rows(WRONG).await, 0);
    let child = start_child(&test.engine, parent).await;
    put(&test, child, &[(1, "c"), (2, "b")]).await;
    complete(&test, child, 2).await;
    delete(&test, parent).await;
    assert_eq!(test.rows(WRONG).await, 0);
    for _ in 0..3 {
        cycle(&test).await;
        assert_eq!(test.rows(WRONG).await, 0);
    }
    drop(test);
    let test = TestEngine::open(dir.path()).await;
    assert_eq!(test.rows(WRONG).await, 0);
    assert_holds(&test, child, &[(0, "a"), (1, "c"), (2, "b")]).await;
}
