//! Looking at a store without changing it.

use super::{Bench, STORE};
use crate::contract::{append_one, check_read, chunk};
use crate::faulty::FaultyIo;
use crate::local::{ReadOnlyStore, SegmentIo, segment_store_ids};
use crate::{
    ChunkKind, ChunkStore, ContainerId, ContainerState, Error, FileIo, Location, NewChunk, Stored,
    layout,
};
use std::collections::BTreeMap;
use std::sync::Arc;

fn look(io: &FaultyIo) -> ReadOnlyStore {
    ReadOnlyStore::new(STORE, Arc::new(io.clone()))
}

/// A store that is still open, with a block and a page in it.
async fn used() -> (Bench, Vec<(Stored, NewChunk)>) {
    let bench = Bench::new().await;
    let mut held = Vec::new();
    for (kind, seed) in [(ChunkKind::Block, 1), (ChunkKind::Page, 2)] {
        let chunk = chunk(kind, seed, 5000);
        held.push((append_one(&bench.store, &chunk).await, chunk));
    }
    (bench, held)
}

#[tokio::test]
async fn reads_and_lists_what_was_left_open_and_changes_nothing() {
    let (bench, held) = used().await;
    bench.store.close().await;
    let before = (bench.io.steps(), bench.io.list().unwrap());

    let store = look(&bench.io);
    for (stored, chunk) in &held {
        check_read(&store, stored, chunk).await;
    }
    let containers = store.containers().await.unwrap();
    assert!(containers.is_sorted_by_key(|status| status.id));
    let mut found = Vec::new();
    for status in &containers {
        assert_eq!(status.state, ContainerState::Sealed);
        found.extend(store.frames(status.id, 0, 10).await.unwrap());
    }
    let mut expected: Vec<_> = held.iter().map(|(stored, _)| stored.location).collect();
    expected.sort_by_key(|location| (location.container, location.offset));
    let locations: Vec<_> = found.iter().map(|frame| frame.location).collect();
    assert_eq!(locations, expected);

    let (stored, chunk) = &held[0];
    let refused = [
        store.append(vec![chunk.clone()]).await.map(drop),
        store.free(vec![stored.location]).await,
        store.remove_container(stored.location.container).await,
    ];
    for answer in refused {
        assert!(matches!(answer, Err(Error::Closed { .. })), "{answer:?}");
    }
    assert_eq!((bench.io.steps(), bench.io.list().unwrap()), before);
}

#[tokio::test]
async fn follows_a_store_that_goes_on() {
    let (bench, held) = used().await;
    let store = look(&bench.io);
    check_read(&store, &held[0].0, &held[0].1).await;
    let later = chunk(ChunkKind::Block, 3, 9000);
    let stored = append_one(&bench.store, &later).await;
    check_read(&store, &stored, &later).await;

    let gone = stored.location.container;
    let status = store.containers().await.unwrap();
    let kind = status.iter().find(|status| status.id == gone).unwrap().kind;
    bench.io.remove(&layout::segment_name(gone, kind)).unwrap();
    let read = store.read(stored.location, later.id).await;
    // A file that is open stays readable until the directory is looked at again.
    assert!(read.is_ok() || matches!(read, Err(Error::NotFound { .. })));
    let left = store.containers().await.unwrap();
    assert!(left.iter().all(|status| status.id != gone), "{left:?}");
    let frames = store.frames(gone, 0, 1).await;
    assert!(matches!(frames, Err(Error::NotFound { .. })), "{frames:?}");
    let read = store.read(stored.location, later.id).await;
    assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
}

#[tokio::test]
async fn damage_and_absence_are_told_apart() {
    let (bench, held) = used().await;
    bench.store.close().await;
    let store = look(&bench.io);
    let (stored, chunk) = &held[0];
    let absent = Location {
        container: ContainerId(99),
        ..stored.location
    };
    let read = store.read(absent, chunk.id).await;
    assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
    let elsewhere = Location {
        offset: stored.location.offset + 4096,
        ..stored.location
    };
    let read = store.read(elsewhere, chunk.id).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    let others = ReadOnlyStore::new([1; 16], Arc::new(bench.io.clone()));
    let read = others.read(stored.location, chunk.id).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    let container = stored.location.container;
    assert_eq!(others.frames(container, 0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn segments_tell_whose_they_are() {
    let (bench, _) = used().await;
    let segments = bench.io.list().unwrap().len() as u64;
    assert!(segments >= 2);
    let ids = segment_store_ids(&bench.io).unwrap();
    assert_eq!(ids, BTreeMap::from([(STORE, segments)]));
}

#[test]
fn a_directory_opened_to_read_gets_no_trial_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("direct-io-trial"), b"somebody's").unwrap();
    let io = FileIo::open_to_read(dir.path()).unwrap();
    assert_eq!(io.list().unwrap(), ["direct-io-trial"]);
}
