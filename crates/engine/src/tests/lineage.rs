//! Children, merged views, differences.

use super::{account, assert_holds, complete, index, listed, put, snapshot, start_child};
use crate::Error;
use crate::testing::TestEngine;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{ProptestConfig, proptest};
use std::collections::BTreeMap;
use types::{BlockIndex, SnapshotId};

async fn changed(
    test: &TestEngine,
    first: SnapshotId,
    second: SnapshotId,
) -> Vec<(u32, bool, bool)> {
    let list = test
        .engine
        .list_changed_blocks(account(), first, second, BlockIndex::ZERO, 10_000)
        .await
        .unwrap();
    assert_eq!(list.next, None);
    list.changed
        .iter()
        .map(|block| {
            (
                block.index.get(),
                block.first.is_some(),
                block.second.is_some(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_child_shows_its_own_blocks_over_inherited_ones() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let parent = snapshot(&test, &[(0, "a"), (1, "b"), (2, "c")]).await;
    let child = start_child(&test.engine, parent).await;
    put(&test, child, &[(1, "B"), (2, "c"), (9, "new")]).await;
    complete(&test, child, 3).await;
    assert_holds(&test, child, &[(0, "a"), (1, "B"), (2, "c"), (9, "new")]).await;
    assert_holds(&test, parent, &[(0, "a"), (1, "b"), (2, "c")]).await;

    assert_eq!(
        changed(&test, parent, child).await,
        [(1, true, true), (9, false, true)]
    );
    assert_eq!(
        changed(&test, child, parent).await,
        [(1, true, true), (9, true, false)]
    );
    assert_eq!(changed(&test, child, child).await, []);
    let view = test
        .engine
        .snapshots_by_id(account(), &[child])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (view.full_block_count, view.parent),
        (Some(4), Some(parent))
    );

    test.engine
        .delete_snapshot(account(), parent)
        .await
        .unwrap();
    assert_holds(&test, child, &[(0, "a"), (1, "B"), (2, "c"), (9, "new")]).await;
    let grandchild = start_child(&test.engine, child).await;
    complete(&test, grandchild, 0).await;
    assert_eq!(changed(&test, child, grandchild).await, []);
}

#[tokio::test]
async fn siblings_compare_and_strangers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let parent = snapshot(&test, &[(0, "a")]).await;
    let (one, two) = (
        start_child(&test.engine, parent).await,
        start_child(&test.engine, parent).await,
    );
    put(&test, one, &[(1, "x")]).await;
    put(&test, two, &[(2, "y")]).await;
    complete(&test, one, 1).await;
    complete(&test, two, 1).await;
    assert_eq!(
        changed(&test, one, two).await,
        [(1, true, false), (2, false, true)]
    );
    let stranger = snapshot(&test, &[(0, "a")]).await;
    let refused = test.engine.comparable(account(), parent, stranger).await;
    assert!(matches!(refused, Err(Error::Unrelated { .. })));
}

#[tokio::test]
async fn lists_go_on_from_where_they_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let texts: Vec<_> = (0..300_u32)
        .map(|at| (at * 5, if at % 3 == 0 { "a" } else { "" }))
        .collect();
    let id = snapshot(&test, &texts).await;
    let whole = listed(&test.engine, id).await;
    for limit in [1, 7, 100, 299, 300] {
        let (mut from, mut found) = (Some(BlockIndex::ZERO), BTreeMap::new());
        while let Some(start) = from {
            let page = test
                .engine
                .list_blocks(account(), id, start, limit)
                .await
                .unwrap();
            assert!(page.blocks.len() <= limit);
            found.extend(page.blocks.iter().map(|(at, digest)| (at.get(), *digest)));
            from = page.next;
        }
        assert_eq!(found, whole);
    }
    let rest = test
        .engine
        .list_blocks(account(), id, index(1_491), 10)
        .await
        .unwrap();
    assert_eq!(rest.blocks.len(), 1);
}

#[tokio::test]
async fn a_long_chain_reads_like_a_short_one() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let mut last = snapshot(&test, &[(0, "first")]).await;
    let first = last;
    for depth in 1..=120 {
        let child = start_child(&test.engine, last).await;
        put(&test, child, &[(depth, "more")]).await;
        complete(&test, child, 1).await;
        last = child;
    }
    assert_eq!(listed(&test.engine, last).await.len(), 121);
    assert_eq!(changed(&test, first, last).await.len(), 120);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Snapshots in a chain, each with its own puts, against maps.
    #[test]
    fn chains_of_snapshots_behave_like_maps(
        chain in vec(btree_map(0_u32..40, 0_u8..4, 0..12), 1..5),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            const TEXTS: [&str; 4] = ["", "one", "two", "three"];
            let dir = tempfile::tempdir().unwrap();
            let test = TestEngine::open(dir.path()).await;
            let mut model: Vec<(SnapshotId, BTreeMap<u32, u8>)> = Vec::new();
            for puts in &chain {
                let mut view = BTreeMap::new();
                let id = match model.last() {
                    None => super::start(&test.engine).await,
                    Some((parent, blocks)) => {
                        view = blocks.clone();
                        start_child(&test.engine, *parent).await
                    }
                };
                let blocks: Vec<_> =
                    puts.iter().map(|(at, text)| (*at, TEXTS[usize::from(*text)])).collect();
                put(&test, id, &blocks).await;
                complete(&test, id, blocks.len() as u64).await;
                view.extend(puts);
                model.push((id, view));
            }
            for (id, view) in &model {
                let blocks: Vec<_> =
                    view.iter().map(|(at, text)| (*at, TEXTS[usize::from(*text)])).collect();
                assert_holds(&test, *id, &blocks).await;
            }
            for (first, before) in &model {
                for (second, after) in &model {
                    let keys: std::collections::BTreeSet<_> =
                        before.keys().chain(after.keys()).copied().collect();
                    let expected: Vec<_> = keys
                        .into_iter()
                        .filter(|at| before.get(at) != after.get(at))
                        .map(|at| (at, before.contains_key(&at), after.contains_key(&at)))
                        .collect();
                    assert_eq!(changed(&test, *first, *second).await, expected);
                }
            }
        });
    }
}
