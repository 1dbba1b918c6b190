//! The verbs against a real catalog and real segment files.

mod audit;
mod by_digest;
mod damage;
mod gc;
mod lineage;
mod puts;
mod rescue;
mod restarts;
mod scrub;
mod starts;

use crate::testing::TestEngine;
use crate::{CompleteSnapshot, Engine, Error, SnapshotState, StartSnapshot};
use std::collections::BTreeMap;
use types::{AccountId, BlockIndex, Digest, DigestContext, SnapshotId, VolumeSize};

fn account() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

fn plain_start() -> StartSnapshot {
    StartSnapshot {
        account: account(),
        volume_size: VolumeSize::from_gib(1).unwrap(),
        parent: None,
        tags: None,
        description: None,
        client_token: None,
        timeout_minutes: None,
        encrypted: None,
    }
}

async fn start(engine: &Engine) -> SnapshotId {
    engine.start_snapshot(plain_start()).await.unwrap().id
}

async fn start_child(engine: &Engine, parent: SnapshotId) -> SnapshotId {
    let request = StartSnapshot {
        parent: Some(parent),
        ..plain_start()
    };
    engine.start_snapshot(request).await.unwrap().id
}

/// Puts blocks that repeat the given texts; an empty text is a block of zeros.
async fn put(test: &TestEngine, id: SnapshotId, blocks: &[(u32, &str)]) {
    for (at, text) in blocks {
        try_put(test, id, *at, text).await.unwrap();
    }
}

async fn try_put(test: &TestEngine, id: SnapshotId, at: u32, text: &str) -> Result<(), Error> {
    let permit = test.engine.admit_put(account(), id, index(at)).await?;
    let text = if text.is_empty() { "\0" } else { text };
    test.engine
        .put_block(permit, test.block(text).await, None)
        .await
}

fn completion(id: SnapshotId, changed_blocks: u64) -> CompleteSnapshot {
    CompleteSnapshot {
        account: account(),
        id,
        changed_blocks,
        checksum: None,
    }
}

/// Completes the snapshot and waits for the finisher.
async fn complete(test: &TestEngine, id: SnapshotId, changed_blocks: u64) {
    test.engine
        .complete_snapshot(completion(id, changed_blocks))
        .await
        .unwrap();
    let view = test.settled(account(), id).await;
    assert_eq!(
        view.state,
        SnapshotState::Completed,
        "{:?}",
        view.status_message
    );
}

/// A completed snapshot of these blocks.
async fn snapshot(test: &TestEngine, blocks: &[(u32, &str)]) -> SnapshotId {
    let id = start(&test.engine).await;
    put(test, id, blocks).await;
    complete(test, id, blocks.len() as u64).await;
    id
}

async fn listed(engine: &Engine, id: SnapshotId) -> BTreeMap<u32, Digest> {
    let list = engine
        .list_blocks(account(), id, BlockIndex::ZERO, 10_000)
        .await
        .unwrap();
    assert_eq!(list.next, None);
    list.blocks
        .into_iter()
        .map(|(at, digest)| (at.get(), digest))
        .collect()
}

/// Checks that the merged view is exactly these blocks, by listing and reading.
async fn assert_holds(test: &TestEngine, id: SnapshotId, blocks: &[(u32, &str)]) {
    let list = listed(&test.engine, id).await;
    let indexes: Vec<_> = blocks.iter().map(|(at, _)| *at).collect();
    assert_eq!(list.keys().copied().collect::<Vec<_>>(), indexes);
    for (at, text) in blocks {
        let data = test
            .engine
            .get_block(account(), id, index(*at), list[at])
            .await
            .unwrap();
        let text = if text.is_empty() { "\0" } else { *text };
        let mut parts = data.chunks(text.len());
        assert!(
            parts.all(|part| *part == text.as_bytes()[..part.len()]),
            "block {at}"
        );
        assert_eq!(Digest::of(&data), list[at]);
    }
}

async fn aggregate(test: &TestEngine, texts: &[&str]) -> Vec<u8> {
    let mut aggregate = DigestContext::new();
    for text in texts {
        aggregate.update(test.block(text).await.digest().as_bytes());
    }
    aggregate.finish().as_bytes().to_vec()
}
