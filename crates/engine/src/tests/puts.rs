//! Putting, completing, reading.

use super::{
    account, aggregate, assert_holds, complete, completion, index, put, snapshot, start, try_put,
};
use crate::testing::TestEngine;
use crate::{Error, SnapshotState};
use std::sync::Arc;
use types::{AccountId, BlockIndex, Digest};

#[tokio::test]
async fn blocks_come_back_as_they_were_put() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let blocks = [(0, "b"), (3, "a"), (7, ""), (2047, "c")];
    let id = snapshot(&test, &blocks).await;
    assert_holds(&test, id, &blocks).await;
    let view = test
        .engine
        .snapshots_by_id(account(), &[id])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(view.full_block_count, Some(4));
}

#[tokio::test]
async fn the_last_of_several_puts_to_a_block_wins_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = start(&test.engine).await;
    put(
        &test,
        id,
        &[(5, "old"), (5, "new"), (5, "new"), (6, "x"), (6, "")],
    )
    .await;
    complete(&test, id, 2).await;
    assert_holds(&test, id, &[(5, "new"), (6, "")]).await;
}

#[tokio::test]
async fn equal_blocks_are_stored_once_and_zeros_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let blocks: Vec<_> = (0..8)
        .map(|at| (at, "same"))
        .chain((8..16).map(|at| (at, "")))
        .collect();
    let id = snapshot(&test, &blocks).await;
    assert_holds(&test, id, &blocks).await;
    let chunks = test.rows(&["chunks WHERE kind = 1"]).await;
    assert_eq!(chunks, 1);
    let metrics = test.engine.metrics();
    assert_eq!(metrics.dedup_hits.get(), 7);
    assert_eq!(metrics.zero_blocks.get(), 8);
}

#[tokio::test]
async fn concurrent_puts_of_everything_at_once_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let test = Arc::new(TestEngine::open(dir.path()).await);
    let id = start(&test.engine).await;
    let puts: Vec<_> = (0..64)
        .map(|at: u32| {
            let test = Arc::clone(&test);
            tokio::spawn(async move {
                try_put(&test, id, at, &format!("content {}", at % 16))
                    .await
                    .unwrap();
            })
        })
        .collect();
    for done in puts {
        done.await.unwrap();
    }
    complete(&test, id, 64).await;
    let texts: Vec<_> = (0..64).map(|at| format!("content {}", at % 16)).collect();
    let blocks: Vec<_> = (0..).zip(texts.iter().map(String::as_str)).collect();
    assert_holds(&test, id, &blocks).await;
}

#[tokio::test]
async fn a_put_is_refused_by_the_rules_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = start(&test.engine).await;
    let beyond = try_put(&test, id, 2048, "x").await;
    assert!(matches!(beyond, Err(Error::BlockBeyondVolume { .. })));
    let someone_else = AccountId::parse("210987654321").unwrap();
    let foreign = test.engine.admit_put(someone_else, id, index(0)).await;
    assert!(matches!(foreign, Err(Error::SnapshotNotFound { .. })));

    // Admitted before the seal, committed after it: the transaction has the last word.
    let permit = test
        .engine
        .admit_put(account(), id, index(0))
        .await
        .unwrap();
    let block = test.block("late").await;
    test.engine
        .complete_snapshot(completion(id, 0))
        .await
        .unwrap();
    let late = test.engine.put_block(permit, block, None).await;
    assert!(matches!(late, Err(Error::SnapshotSealed { .. })));
    assert_eq!(
        test.settled(account(), id).await.state,
        SnapshotState::Completed
    );
    assert_holds(&test, id, &[]).await;
    assert!(matches!(
        try_put(&test, id, 0, "x").await,
        Err(Error::SnapshotSealed { .. })
    ));
}

#[tokio::test]
async fn a_wrong_count_or_checksum_fails_the_snapshot_after_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let good = aggregate(&test, &["b", "a", "\0"]).await;
    let cases = [
        (3, None, None),
        (3, Some(good.clone()), None),
        (
            2,
            Some(good.clone()),
            Some("Changed blocks count mismatch for snapshot"),
        ),
        (
            u64::MAX,
            None,
            Some("Changed blocks count mismatch for snapshot"),
        ),
        (
            3,
            Some(good[..31].to_vec()),
            Some("Checksum mismatch for snapshot"),
        ),
        (
            3,
            Some(aggregate(&test, &["a"]).await),
            Some("Checksum mismatch for snapshot"),
        ),
    ];
    for (count, checksum, message) in cases {
        let id = start(&test.engine).await;
        put(&test, id, &[(9, ""), (0, "b"), (3, "a")]).await;
        let request = crate::CompleteSnapshot {
            checksum,
            ..completion(id, count)
        };
        let state = test
            .engine
            .complete_snapshot(request.clone())
            .await
            .unwrap();
        assert_eq!(state, SnapshotState::Pending);
        let view = test.settled(account(), id).await;
        assert_eq!(view.status_message.as_deref(), message);
        let again = test.engine.complete_snapshot(request).await.unwrap();
        let expected = if message.is_none() {
            SnapshotState::Completed
        } else {
            SnapshotState::Error
        };
        assert_eq!((view.state, again), (expected, expected));
    }
}

#[tokio::test]
async fn a_completed_snapshot_leaves_no_put_entries() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    snapshot(&test, &[(0, "a"), (1, "b")]).await;
    while test.engine.purge_some().await.unwrap() {}
    assert_eq!(
        test.rows(&["put_entries", "listed_pages", "purges"]).await,
        0
    );
}

#[tokio::test]
async fn a_digest_that_is_not_stored_is_damage_and_never_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = snapshot(&test, &[(0, "a")]).await;
    let read = test
        .engine
        .get_block(account(), id, BlockIndex::ZERO, Digest::of(b"?"))
        .await;
    assert!(matches!(
        read,
        Err(Error::BlockDamaged {
            index: BlockIndex::ZERO,
            ..
        })
    ));
}
