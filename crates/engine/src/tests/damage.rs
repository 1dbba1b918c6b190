//! Rotten bytes: named, kept apart, healed by the next put of the same content.

use super::{account, assert_holds, complete, completion, put, snapshot, start_child};
use crate::testing::TestEngine;
use crate::{Error, SnapshotState};
use catalog::DbExt;
use catalog::chunks::ChunkKey;
use chunkstore::{ChunkKind, ChunkStore};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use types::BlockIndex;

/// Flips a bit `distance` bytes behind the start of a frame.
pub(super) fn flip(directory: &Path, place: catalog::Location, distance: u64) {
    let name = format!("{:016x}", place.container);
    let segments = directory.join("segments");
    let path = ["blocks", "pages"]
        .map(|kind| segments.join(format!("{name}.{kind}")))
        .into_iter()
        .find(|path| path.exists())
        .unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let (mut byte, at) = ([0], place.offset + distance);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// Where the record of a chunk says that it is.
pub(super) async fn place(test: &TestEngine, key: ChunkKey) -> catalog::Location {
    let found = crate::touched::find(&*test.db, vec![key]).await.unwrap();
    found[&key].location
}

/// Lets the record of a chunk name another place.
pub(super) async fn set_place(test: &TestEngine, key: ChunkKey, to: catalog::Location) {
    let set = test.db.transact(move |txn| {
        Box::pin(async move {
            let mut record = catalog::chunks::find(txn, &[key]).await?[&key];
            record.location = to;
            catalog::chunks::put(txn, &[record]).await
        })
    });
    set.await.unwrap();
}

/// Changes the catalog behind the engine's back.
pub(super) async fn change(test: &TestEngine, sql: &'static str) {
    let changed = test.db.transact(move |txn| txn.execute(sql, Vec::new()));
    assert_ne!(changed.await.unwrap(), 0, "{sql}");
}

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

#[tokio::test]
async fn a_damaged_leaf_hides_no_block_but_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    // Three leaves: 0, 128 and 256 on.
    let blocks = [
        (0, "a"),
        (127, "b"),
        (130, "c"),
        (131, "d"),
        (300, "e"),
        (301, "f"),
    ];
    let id = snapshot(&test, &blocks).await;
    let leaf = leaf_of(&test, &[(2, "c"), (3, "d")]).await;
    let rotten = place(&test, leaf).await;
    close(test).await;
    flip(dir.path(), rotten, 260);

    let test = TestEngine::open(dir.path()).await;
    let list = |from: u32, limit| {
        let from = BlockIndex::new(from).unwrap();
        test.engine.list_blocks(account(), id, from, limit)
    };
    let first = list(0, 1_000).await.unwrap();
    let found: Vec<_> = first.blocks.iter().map(|(at, _)| at.get()).collect();
    assert_eq!((found, first.next), (vec![0, 127], BlockIndex::new(128)));
    let damaged = list(128, 1_000).await;
    assert!(matches!(damaged, Err(Error::MapDamaged { id: named, .. }) if named == id));
    let rest = list(256, 1_000).await.unwrap();
    let found: Vec<_> = rest.blocks.iter().map(|(at, _)| at.get()).collect();
    assert_eq!((found, rest.next), (vec![300, 301], None));
    for (at, text) in blocks {
        let digest = test.block(text).await.digest();
        let at = BlockIndex::new(at).unwrap();
        let read = test.engine.get_block(account(), id, at, digest).await;
        assert!(read.is_ok(), "who knows the digest needs no page: {read:?}");
    }
}

/// The key of the leaf with these blocks in these slots.
async fn leaf_of(test: &TestEngine, blocks: &[(u8, &str)]) -> ChunkKey {
    let mut digests = Vec::new();
    for (slot, text) in blocks {
        digests.push((*slot, test.block(text).await.digest()));
    }
    let records = test.db.view(|txn| {
        Box::pin(async move { catalog::chunks::records_after(txn, None, 1_000).await })
    });
    for record in records.await.unwrap() {
        if record.kind != 2 {
            continue;
        }
        let read = test.store.read(
            crate::pages::location(&record),
            crate::pages::chunk_id(&record, ChunkKind::Page),
        );
        let page = blockmap::Page::decode(&read.await.unwrap()).unwrap();
        if page.level() == 0 && page.slots().collect::<Vec<_>>() == digests {
            return record.key();
        }
    }
    panic!("no such leaf")
}

#[tokio::test]
async fn a_diff_answers_what_comes_before_a_damaged_page() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let first = snapshot(&test, &[(0, "a"), (130, "b"), (300, "c")]).await;
    let second = super::start_child(&test.engine, first).await;
    put(&test, second, &[(0, "x"), (130, "y"), (300, "z")]).await;
    complete(&test, second, 3).await;
    let rotten = place(&test, leaf_of(&test, &[(2, "y")]).await).await;
    close(test).await;
    flip(dir.path(), rotten, 260);

    let test = TestEngine::open(dir.path()).await;
    let changed = |from: u32| {
        let from = BlockIndex::new(from).unwrap();
        test.engine
            .list_changed_blocks(account(), first, second, from, 1_000)
    };
    let before = changed(0).await.unwrap();
    let found: Vec<_> = before
        .changed
        .iter()
        .map(|change| change.index.get())
        .collect();
    assert_eq!((found, before.next), (vec![0], BlockIndex::new(128)));
    let damaged = changed(128).await;
    assert!(
        matches!(damaged, Err(Error::MapDamaged { .. })),
        "{damaged:?}"
    );
    let rest = changed(256).await.unwrap();
    assert_eq!((rest.changed.len(), rest.next), (1, None));
}
