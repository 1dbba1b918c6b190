//! What an engine that was dropped in the middle leaves to the next one.

use super::{
    account, assert_holds, complete, completion, put, snapshot, start, start_child, try_put,
};
use crate::testing::TestEngine;
use crate::{Error, SnapshotState};
use catalog::DbExt;

#[tokio::test]
async fn acknowledged_puts_and_snapshots_survive_any_number_of_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let done = snapshot(&test, &[(0, "a"), (1, "b")]).await;
    let pending = start_child(&test.engine, done).await;
    put(&test, pending, &[(1, "B")]).await;
    drop(test);
    for round in 2..5_u32 {
        let test = TestEngine::open(dir.path()).await;
        assert_holds(&test, done, &[(0, "a"), (1, "b")]).await;
        put(&test, pending, &[(round, "more")]).await;
        drop(test);
    }
    let test = TestEngine::open(dir.path()).await;
    complete(&test, pending, 4).await;
    let expected = [(0, "a"), (1, "B"), (2, "more"), (3, "more"), (4, "more")];
    assert_holds(&test, pending, &expected).await;
}

#[tokio::test]
async fn a_sealed_snapshot_is_finished_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::without_workers(dir.path()).await;
    let id = start(&test.engine).await;
    put(&test, id, &[(0, "a"), (77, "b")]).await;
    test.engine
        .complete_snapshot(completion(id, 2))
        .await
        .unwrap();
    drop(test);
    let test = TestEngine::open(dir.path()).await;
    assert_eq!(
        test.settled(account(), id).await.state,
        SnapshotState::Completed
    );
    assert_holds(&test, id, &[(0, "a"), (77, "b")]).await;
}

#[tokio::test]
async fn a_snapshot_deleted_while_sealed_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::without_workers(dir.path()).await;
    let id = start(&test.engine).await;
    put(&test, id, &[(0, "a")]).await;
    test.engine
        .complete_snapshot(completion(id, 1))
        .await
        .unwrap();
    test.engine.delete_snapshot(account(), id).await.unwrap();
    drop(test);
    let test = TestEngine::open(dir.path()).await;
    let other = snapshot(&test, &[(0, "a")]).await;
    assert_holds(&test, other, &[(0, "a")]).await;
    assert!(matches!(
        try_put(&test, id, 0, "a").await,
        Err(Error::SnapshotNotFound { .. })
    ));
}

/// The root is committed last: whatever the finisher did before it can be done again.
#[tokio::test]
async fn a_finisher_that_lost_its_last_step_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = start(&test.engine).await;
    let blocks: Vec<_> = (0..40).map(|at| (at * 50, "x")).collect();
    put(&test, id, &blocks).await;
    complete(&test, id, 40).await;
    let root_before = root(&test, id).await;
    test.db
        .transact(|txn| {
            Box::pin(async move {
                txn.execute("UPDATE snapshots SET state = 2, root = NULL", vec![])
                    .await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    drop(test);
    // The entries may have been purged already: then the count is wrong, so put them back first.
    let test = TestEngine::without_workers(dir.path()).await;
    let digest = test.block("x").await.digest();
    test.db
        .transact(move |txn| {
            Box::pin(async move {
                let entries: Vec<_> = (0..40)
                    .map(|at| catalog::put_entries::PutEntry {
                        snapshot: id,
                        index: super::index(at * 50),
                        digest,
                    })
                    .collect();
                catalog::put_entries::put(txn, &entries).await?;
                txn.execute("DELETE FROM purges", vec![]).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    drop(test);
    let test = TestEngine::open(dir.path()).await;
    assert_eq!(
        test.settled(account(), id).await.state,
        SnapshotState::Completed
    );
    assert_eq!(root(&test, id).await, root_before);
    assert_holds(&test, id, &blocks).await;
}

async fn root(test: &TestEngine, id: types::SnapshotId) -> types::Digest {
    let record = test
        .db
        .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }))
        .await
        .unwrap();
    record.unwrap().finished.unwrap().root
}
