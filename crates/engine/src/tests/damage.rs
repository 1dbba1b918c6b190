//! Rotten bytes: named, kept apart, healed by the next put of the same content.

use super::{account, assert_holds, complete, completion, put, snapshot, start_child};
use crate::testing::TestEngine;
use crate::{Error, SnapshotState};
use std::path::Path;
use types::BlockIndex;

/// Flips a bit `distance` bytes behind each place where `text` stands in the directory's segments; answers how many.
fn rot(directory: &Path, text: &[u8], distance: usize) -> usize {
    let mut rotten = 0;
    for entry in std::fs::read_dir(directory.join("segments")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<_> = (0..bytes.len().saturating_sub(text.len()))
            .filter(|at| bytes[*at] == text[0] && bytes[*at..].starts_with(text))
            .collect();
        for at in &places {
            bytes[at + distance] ^= 1;
        }
        if !places.is_empty() {
            std::fs::write(&path, bytes).unwrap();
        }
        rotten += places.len();
    }
    rotten
}

async fn close(test: TestEngine) {
    test.store.close().await;
    drop(test);
}

#[tokio::test]
async fn a_damaged_block_is_named_and_healed_by_the_next_put_of_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let id = snapshot(&test, &[(0, "precious data 1 "), (1, "other")]).await;
    let digest = test.block("precious data 1 ").await.digest();
    close(test).await;
    // Every repetition of the text in the one block.
    assert_eq!(rot(dir.path(), b"precious data 1 ", 3), 524_288 / 16);

    let test = TestEngine::open(dir.path()).await;
    for _ in 0..2 {
        let read = test
            .engine
            .get_block(account(), id, BlockIndex::ZERO, digest)
            .await;
        let Err(Error::BlockDamaged {
            id: named,
            index: BlockIndex::ZERO,
            ..
        }) = read
        else {
            panic!("{read:?}")
        };
        assert_eq!(named, id);
    }
    assert_eq!(
        test.engine.metrics().damaged_chunks.get(),
        1,
        "found once, counted once"
    );
    let good = test.block("other").await.digest();
    let other = BlockIndex::new(1).unwrap();
    test.engine
        .get_block(account(), id, other, good)
        .await
        .unwrap();

    let again = snapshot(&test, &[(9, "precious data 1 ")]).await;
    assert_holds(&test, again, &[(9, "precious data 1 ")]).await;
    assert_holds(&test, id, &[(0, "precious data 1 "), (1, "other")]).await;
}

#[tokio::test]
async fn a_damaged_page_is_named_and_healed_by_the_same_map_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let blocks = [(0, "a"), (5_00, "b")];
    let id = snapshot(&test, &blocks).await;
    close(test).await;
    assert!(
        rot(dir.path(), b"DRYSPAGE", 40) >= 4,
        "a root, two inner pages, leaves"
    );

    let test = TestEngine::open(dir.path()).await;
    let listed = test
        .engine
        .list_blocks(account(), id, BlockIndex::ZERO, 10)
        .await;
    assert!(matches!(listed, Err(Error::MapDamaged { id: named, .. }) if named == id));
    // Each upload finds and replaces the pages that were found damaged when the one before was read.
    for _ in 0..6 {
        let again = snapshot(&test, &blocks).await;
        let _ = test
            .engine
            .list_blocks(account(), again, BlockIndex::ZERO, 10)
            .await;
    }
    let healed = snapshot(&test, &blocks).await;
    assert_holds(&test, healed, &blocks).await;
    assert_holds(&test, id, &blocks).await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_finished_keeps_no_other_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let parent = snapshot(&test, &[(0, "a")]).await;
    close(test).await;
    assert!(rot(dir.path(), b"DRYSPAGE", 40) > 0);

    let test = TestEngine::open(dir.path()).await;
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let child = start_child(&test.engine, parent).await;
        put(&test, child, &[(1, "b")]).await;
        test.engine
            .complete_snapshot(completion(child, 1))
            .await
            .unwrap();
        stuck.push(child);
    }
    let other = super::start(&test.engine).await;
    put(&test, other, &[(3, "c")]).await;
    complete(&test, other, 1).await;
    for child in stuck {
        let view = test
            .engine
            .snapshots_by_id(account(), &[child])
            .await
            .unwrap()
            .remove(0);
        assert_eq!(
            view.state,
            SnapshotState::Pending,
            "retried, never failed for our faults"
        );
        test.engine.delete_snapshot(account(), child).await.unwrap();
    }
}
