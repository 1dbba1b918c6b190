//! The finisher meets a delete.

use crate::testing::TestEngine;
use crate::{CompleteSnapshot, StartSnapshot};
use catalog::DbExt;
use types::{AccountId, BlockIndex, VolumeSize};

/// The finisher has read the record; the snapshot is deleted and purged; the finisher goes on.
#[tokio::test]
async fn a_snapshot_deleted_while_it_is_finished_leaves_nothing_listed() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::without_workers(dir.path()).await;
    let account = AccountId::parse("123456789012").unwrap();
    let request = StartSnapshot {
        account,
        volume_size: VolumeSize::from_gib(1).unwrap(),
        parent: None,
        tags: None,
        description: None,
        client_token: None,
        timeout_minutes: None,
        encrypted: None,
    };
    for changed_blocks in [1, 2] {
        let id = test
            .engine
            .start_snapshot(request.clone())
            .await
            .unwrap()
            .id;
        let permit = test
            .engine
            .admit_put(account, id, BlockIndex::ZERO)
            .await
            .unwrap();
        test.engine
            .put_block(permit, test.block("a").await, None)
            .await
            .unwrap();
        let completion = CompleteSnapshot {
            account,
            id,
            changed_blocks,
            checksum: None,
        };
        test.engine.complete_snapshot(completion).await.unwrap();
        let record = test
            .db
            .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }))
            .await
            .unwrap();
        let record = record.unwrap();
        let pages = test.engine.entries(id, BlockIndex::ZERO).await.unwrap();
        test.engine.delete_snapshot(account, id).await.unwrap();
        // The purge runs between the finisher's last read of entries and its pages.
        while test.engine.purge_some().await.unwrap() {}
        let source = test.engine.pages(record.domain);
        let mut update = blockmap::Update::new(&source, record.base_root);
        update.apply(&pages).await.unwrap();
        let updated = update.finish().await.unwrap();
        test.engine
            .store_pages(record.domain, id, &updated.pages)
            .await
            .unwrap();
        test.engine.fail(id, "wrong").await.unwrap();
        test.engine
            .commit_root(record, updated.root, 1, 1)
            .await
            .unwrap();
    }
    let left = test
        .rows(&["snapshots", "listed_pages", "chunks WHERE kind = 2"])
        .await;
    assert_eq!(left, 0);
    assert_eq!(test.engine.metrics().snapshots_failed.get(), 0);
}
