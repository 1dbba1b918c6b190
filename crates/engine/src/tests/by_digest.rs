//! Puts by digest: what they find, what they must not tell, and what a collection makes of them.

use super::damage::change;
use super::{account, assert_holds, complete, completion, index, put, snapshot, start, try_put};
use crate::put_batch::{Content, PutItem, PutOutcome};
use crate::testing::TestEngine;
use crate::{ByDigest, CollectMode, DedupScope, Error, SnapshotState, StartSnapshot};
use types::{AccountId, ChunkName, Digest, Domain, SnapshotId};

fn stranger() -> AccountId {
    AccountId::parse("210987654321").unwrap()
}

async fn digest(test: &TestEngine, text: &str) -> Digest {
    test.block(text).await.digest()
}

async fn put_digest(
    test: &TestEngine,
    id: SnapshotId,
    at: u32,
    digest: Digest,
) -> Result<ByDigest, Error> {
    let permit = test.engine.admit_put(account(), id, index(at)).await?;
    test.engine.put_by_digest(permit, digest, None).await
}

/// Puts by digest the block of this text.
async fn by_digest(test: &TestEngine, id: SnapshotId, at: u32, text: &str) -> ByDigest {
    let digest = digest(test, text).await;
    put_digest(test, id, at, digest).await.unwrap()
}

/// What the put's transaction says when the hint has said that this chunk is stored.
async fn committed(test: &TestEngine, id: SnapshotId, digest: Digest) -> PutOutcome {
    let item = PutItem {
        id,
        index: index(0),
        digest,
        content: Content::Known((Domain::of_account(account()), ChunkName::plain(digest))),
        progress: None,
    };
    test.engine.record_put(item).await.unwrap()
}

#[tokio::test]
async fn what_the_account_has_is_put_and_what_it_has_not_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    snapshot(&test, &[(0, "a")]).await;
    let id = start(&test.engine).await;
    assert_eq!(by_digest(&test, id, 7, "a").await, ByDigest::Put);
    assert_eq!(by_digest(&test, id, 8, "\0").await, ByDigest::Put);
    assert_eq!(by_digest(&test, id, 9, "new").await, ByDigest::DataRequired);
    put(&test, id, &[(9, "new")]).await;
    // What another put to the same pending snapshot has stored is there too.
    assert_eq!(by_digest(&test, id, 10, "new").await, ByDigest::Put);
    // The last put to a block wins, whichever way it came.
    put(&test, id, &[(7, "other"), (11, "other")]).await;
    assert_eq!(by_digest(&test, id, 11, "a").await, ByDigest::Put);
    complete(&test, id, 5).await;
    let blocks = [(7, "other"), (8, ""), (9, "new"), (10, "new"), (11, "a")];
    assert_holds(&test, id, &blocks).await;
    let metrics = test.engine.metrics();
    let counts = [&metrics.by_digest_hits, &metrics.by_digest_misses].map(|count| count.get());
    assert_eq!(counts, [4, 1]);
    assert_eq!(
        (metrics.dedup_hits.get(), metrics.zero_blocks.get()),
        (4, 1)
    );
    assert_eq!(metrics.blocks_put.get(), 8);
}

#[tokio::test]
async fn an_account_never_learns_what_another_has() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let request = StartSnapshot {
        account: stranger(),
        ..super::plain_start()
    };
    let theirs = test.engine.start_snapshot(request).await.unwrap().id;
    let permit = test.engine.admit_put(stranger(), theirs, index(0)).await;
    let block = test.block("secret").await;
    test.engine
        .put_block(permit.unwrap(), block, None)
        .await
        .unwrap();
    let id = start(&test.engine).await;
    let asked = by_digest(&test, id, 0, "secret").await;
    assert_eq!(asked, ByDigest::DataRequired);
    let secret = digest(&test, "secret").await;
    assert!(matches!(
        committed(&test, id, secret).await,
        PutOutcome::NeedsData
    ));
    complete(&test, id, 0).await;
}

#[tokio::test]
async fn a_shared_store_looks_at_nothing_whenever_the_snapshot_began() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    assert!(test.engine.puts_by_digest());
    let own = start(&test.engine).await;
    put(&test, own, &[(0, "a")]).await;
    drop(test);

    let test = TestEngine::sharing(dir.path(), DedupScope::Store).await;
    assert!(!test.engine.puts_by_digest());
    let shared = start(&test.engine).await;
    put(&test, shared, &[(0, "a")]).await;
    for id in [own, shared] {
        for text in ["a", "\0", "b"] {
            assert_eq!(by_digest(&test, id, 1, text).await, ByDigest::DataRequired);
        }
    }
    drop(test);

    let test = TestEngine::open(dir.path()).await;
    assert_eq!(by_digest(&test, own, 1, "a").await, ByDigest::Put);
    for text in ["a", "\0"] {
        let asked = by_digest(&test, shared, 1, text).await;
        assert_eq!(asked, ByDigest::DataRequired);
    }
    complete(&test, shared, 1).await;
}

/// The digest of a page is no secret: the lineage extension tells roots. As a block it could not be read.
#[tokio::test]
async fn a_page_is_no_block() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let parent = snapshot(&test, &[(0, "a")]).await;
    let views = test.engine.snapshots_by_id(account(), &[parent]).await;
    let root = views.unwrap()[0].root.unwrap();
    let id = start(&test.engine).await;
    let asked = put_digest(&test, id, 0, root).await.unwrap();
    assert_eq!(asked, ByDigest::DataRequired);
    // Nor where only the transaction notices.
    assert!(matches!(
        committed(&test, id, root).await,
        PutOutcome::NeedsData
    ));
    complete(&test, id, 0).await;
}

#[tokio::test]
async fn a_damaged_chunk_is_asked_for_and_healed_by_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let kept = snapshot(&test, &[(0, "a")]).await;
    change(&test, "UPDATE chunks SET state = 3 WHERE kind = 1").await;
    let id = start(&test.engine).await;
    // First by the hint of the cache and the transaction, then by the record.
    for _ in 0..2 {
        let asked = by_digest(&test, id, 1, "a").await;
        assert_eq!(asked, ByDigest::DataRequired);
    }
    put(&test, id, &[(0, "a")]).await;
    assert_eq!(by_digest(&test, id, 1, "a").await, ByDigest::Put);
    complete(&test, id, 2).await;
    assert_holds(&test, id, &[(0, "a"), (1, "a")]).await;
    assert_holds(&test, kept, &[(0, "a")]).await;
}

#[tokio::test]
async fn a_condemned_chunk_is_revived_and_a_swept_one_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let gone = snapshot(&test, &[(0, "a"), (1, "b")]).await;
    test.engine.delete_snapshot(account(), gone).await.unwrap();
    test.engine.purge_now().await.unwrap();
    test.engine.collect(CollectMode::Cycle).await.unwrap();
    assert_eq!(test.rows(&["chunks WHERE kind = 1 AND state = 2"]).await, 2);
    let id = start(&test.engine).await;
    assert_eq!(by_digest(&test, id, 0, "a").await, ByDigest::Put);
    assert_eq!(test.rows(&["chunks WHERE kind = 1 AND state = 2"]).await, 1);
    test.engine.collect(CollectMode::Cycle).await.unwrap();
    assert_eq!(by_digest(&test, id, 1, "b").await, ByDigest::DataRequired);
    complete(&test, id, 1).await;
    test.engine.collect(CollectMode::Cycle).await.unwrap();
    assert_holds(&test, id, &[(0, "a")]).await;
}

#[tokio::test]
async fn it_is_refused_as_any_put_is() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = start(&test.engine).await;
    put(&test, id, &[(0, "a")]).await;
    let a = digest(&test, "a").await;
    let beyond = put_digest(&test, id, 2048, a).await;
    assert!(matches!(beyond, Err(Error::BlockBeyondVolume { .. })));
    let foreign = test.engine.admit_put(stranger(), id, index(0)).await;
    assert!(matches!(foreign, Err(Error::SnapshotNotFound { .. })));

    // Admitted before the seal, and before the delete: the transaction has the last word.
    let permit = test.engine.admit_put(account(), id, index(1)).await;
    let permit = permit.unwrap();
    test.engine
        .complete_snapshot(completion(id, 1))
        .await
        .unwrap();
    for digest in [a, Digest::ZERO_BLOCK] {
        let late = test.engine.put_by_digest(permit, digest, None).await;
        assert!(matches!(late, Err(Error::SnapshotSealed { .. })));
    }
    assert_eq!(
        test.settled(account(), id).await.state,
        SnapshotState::Completed
    );
    assert_holds(&test, id, &[(0, "a")]).await;
    test.engine.delete_snapshot(account(), id).await.unwrap();
    let gone = test.engine.put_by_digest(permit, a, None).await;
    assert!(matches!(gone, Err(Error::SnapshotNotFound { .. })));
    assert!(matches!(
        try_put(&test, id, 0, "a").await,
        Err(Error::SnapshotNotFound { .. })
    ));
}
