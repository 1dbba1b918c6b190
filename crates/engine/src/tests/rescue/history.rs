//! Random histories of snapshots: whatever was completed is there again, byte for byte.

use super::super::{complete, listed, plain_start, put};
use super::{Lost, account, close, collect_all};
use crate::testing::TestEngine;
use crate::{ChangedBlock, SnapshotView, StartSnapshot, Tag};
use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::sample::Index;
use std::collections::BTreeMap;
use types::{BlockIndex, Digest, SnapshotId, VolumeSize};

/// Block indexes that lie in one page, in two, and far apart; zeros are a block, too.
const INDEXES: [u32; 8] = [0, 1, 127, 128, 300, 2_047, 16_384, 100_000];
const TEXTS: [&str; 6] = ["", "a", "b", "some text ", "c", "d"];

/// What a client can see of a snapshot.
#[derive(Clone, PartialEq, Debug)]
struct Seen {
    view: SnapshotView,
    blocks: BTreeMap<u32, Digest>,
    changed: Vec<ChangedBlock>,
}

async fn see(test: &TestEngine, id: SnapshotId, parent: Option<SnapshotId>) -> Seen {
    let engine = &test.engine;
    let mut views = engine.snapshots_by_id(account(), &[id]).await.unwrap();
    let blocks = listed(engine, id).await;
    for (index, digest) in &blocks {
        let index = BlockIndex::new(*index).unwrap();
        let data = engine.get_block(account(), id, index, *digest).await;
        assert_eq!(Digest::of(&data.unwrap()), *digest);
    }
    let changed = match parent {
        Some(parent) => {
            let from = BlockIndex::ZERO;
            let list = engine.list_changed_blocks(account(), parent, id, from, 10_000);
            list.await.unwrap().changed
        }
        None => Vec::new(),
    };
    Seen {
        view: views.remove(0),
        blocks,
        changed,
    }
}

/// One snapshot: of which earlier one it is a child, and what is put to it.
type Made = (Option<Index>, Vec<(Index, Index)>, bool);

async fn make(
    test: &TestEngine,
    done: &[(SnapshotId, Option<SnapshotId>)],
    made: &Made,
) -> (SnapshotId, Option<SnapshotId>) {
    let (parent, puts, _) = made;
    let parent = match parent {
        Some(at) if !done.is_empty() => Some(at.get(done).0),
        _ => None,
    };
    let request = StartSnapshot {
        parent,
        volume_size: VolumeSize::from_gib(64).unwrap(),
        description: Some(format!("number {}", done.len())),
        tags: Some(vec![Tag {
            key: "number".to_owned(),
            value: done.len().to_string(),
        }]),
        ..plain_start()
    };
    let id = test.engine.start_snapshot(request).await.unwrap().id;
    let puts: BTreeMap<u32, &str> = puts
        .iter()
        .map(|(index, text)| (*index.get(&INDEXES), *text.get(&TEXTS)))
        .collect();
    let puts: Vec<_> = puts.into_iter().collect();
    put(test, id, &puts).await;
    complete(test, id, puts.len() as u64).await;
    (id, parent)
}

async fn check(history: Vec<Made>, deleted: Vec<Index>, keep_old: bool) {
    let mut lost = Lost::new();
    let test = TestEngine::open(lost.path()).await;
    let mut done = Vec::new();
    for made in &history {
        let one = make(&test, &done, made).await;
        done.push(one);
        if made.2 {
            test.clock.advance(std::time::Duration::from_secs(5));
        }
    }
    let mut gone = Vec::new();
    for at in deleted {
        let (id, _) = *at.get(&done);
        if !gone.contains(&id) {
            test.engine.delete_snapshot(account(), id).await.unwrap();
            gone.push(id);
        }
    }
    let pending = super::super::start(&test.engine).await;
    put(&test, pending, &[(7, "not completed")]).await;
    let there = |id: &SnapshotId| !gone.contains(id);
    let mut before = Vec::new();
    for (id, parent) in done.iter().filter(|(id, _)| there(id)) {
        before.push(see(&test, *id, parent.filter(there)).await);
    }
    close(test).await;

    lost.old = keep_old.then(|| lost.path().join("old"));
    let report = lost.rebuild().await;
    assert_eq!((report.incomplete_count, report.damaged), (0, 0));
    assert!(report.snapshots >= before.len() as u64);
    if let Some(unknown) = report.unknown_before {
        assert!(
            unknown.iter().all(|id| gone.contains(id)),
            "only deleted ones are new"
        );
        assert!(keep_old);
    }
    let test = TestEngine::open(lost.path()).await;
    let mut after = Vec::new();
    for (id, parent) in done.iter().filter(|(id, _)| there(id)) {
        after.push(see(&test, *id, parent.filter(there)).await);
    }
    if !keep_old {
        before.iter_mut().for_each(|seen| seen.view.tags.clear());
    }
    assert_eq!(before, after);
    // What has no name is garbage, and nothing else is.
    collect_all(&test, &lost).await;
    for (seen, (id, parent)) in after.iter().zip(done.iter().filter(|(id, _)| there(id))) {
        assert_eq!(*seen, see(&test, *id, parent.filter(there)).await);
    }
    // The store goes on: in new containers, with content of old and new.
    if let Some(seen) = after.first() {
        let request = StartSnapshot {
            parent: Some(seen.view.id),
            volume_size: seen.view.volume_size,
            ..plain_start()
        };
        let child = test.engine.start_snapshot(request).await.unwrap().id;
        put(&test, child, &[(3, "a"), (5, "never seen before")]).await;
        complete(&test, child, 2).await;
        assert_eq!(see(&test, child, Some(seen.view.id)).await.changed.len(), 2);
    }
    close(test).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn every_completed_snapshot_comes_back(
        history in proptest::collection::vec((any::<Option<Index>>(), proptest::collection::vec(any::<(Index, Index)>(), 0..6), any::<bool>()), 1..7),
        deleted in proptest::collection::vec(any::<Index>(), 0..3),
        keep_old in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(check(history, deleted, keep_old));
    }
}
