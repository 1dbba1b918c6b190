//! Files and catalogs that do not belong together.

use super::{Bench, options};
use crate::contract::{append_one, check_read, chunk};
use crate::faulty::{Call, FaultyIo};
use crate::frame::StoreKey;
use crate::local::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::local::{LocalStore, SegmentIo};
use crate::{
    ChunkKind, ContainerId, ContainerKind, ContainerRegistry, Error, MemoryRegistry, layout,
};
use std::sync::Arc;

async fn check_foreign(
    io: &FaultyIo,
    registry: &Arc<MemoryRegistry>,
    store_id: [u8; 16],
    words: &str,
) {
    let before = (io.steps(), io.list().unwrap());
    let options = crate::LocalOptions {
        store_id,
        ..options(Arc::new(io.clone()), registry)
    };
    let error = LocalStore::open(options).await.unwrap_err();
    let Error::Foreign { reason } = &error else {
        panic!("{error:?}")
    };
    assert!(
        reason.contains(words) && reason.contains("drystone rescue"),
        "{reason}"
    );
    assert_eq!(
        (io.steps(), io.list().unwrap()),
        before,
        "a foreign store is left alone"
    );
}

/// A store with an open and, behind it, a sealed segment of blocks.
async fn used() -> Bench {
    let bench = Bench::new().await;
    append_one(&bench.store, &chunk(ChunkKind::Block, 1, 5000)).await;
    let (bench, recovered) = bench.reopen().await;
    bench
        .store
        .finish_recovery(recovered[0].container, Vec::new())
        .await
        .unwrap();
    append_one(&bench.store, &chunk(ChunkKind::Block, 2, 5000)).await;
    bench.store.close().await;
    bench
}

#[tokio::test]
async fn a_missing_file_is_foreign_open_or_sealed() {
    for id in [1, 2] {
        let bench = used().await;
        bench
            .io
            .remove(&layout::segment_name(
                ContainerId(id),
                ContainerKind::Blocks,
            ))
            .unwrap();
        check_foreign(&bench.io, &bench.registry, super::STORE, "file is missing").await;
    }
}

#[tokio::test]
async fn another_store_id_is_foreign() {
    let bench = used().await;
    check_foreign(
        &bench.io,
        &bench.registry,
        [9; 16],
        "belongs to another store",
    )
    .await;
}

#[tokio::test]
async fn an_empty_catalog_is_foreign() {
    let bench = used().await;
    let empty = Arc::new(MemoryRegistry::new());
    check_foreign(
        &bench.io,
        &empty,
        super::STORE,
        "newer than anything in the catalog",
    )
    .await;
    for _ in 0..5 {
        empty.reserve().await.unwrap();
    }
    check_foreign(
        &bench.io,
        &empty,
        super::STORE,
        "the catalog does not know it",
    )
    .await;
}

#[tokio::test]
async fn an_older_catalog_is_foreign() {
    let bench = Bench::new().await;
    append_one(&bench.store, &chunk(ChunkKind::Block, 1, 5000)).await;
    let backup = Arc::new(bench.registry.restored_copy());
    append_one(&bench.store, &chunk(ChunkKind::Page, 2, 5000)).await;
    bench.store.close().await;
    check_foreign(
        &bench.io,
        &backup,
        super::STORE,
        "newer than anything in the catalog",
    )
    .await;
}

#[tokio::test]
async fn a_file_under_another_name_is_foreign() {
    let bench = used().await;
    let names = [1, 2].map(|id| layout::segment_name(ContainerId(id), ContainerKind::Blocks));
    let other = bench.io.bytes_of(&names[0], 0, SEGMENT_HEADER_BYTES);
    bench.io.overwrite(&names[1], 0, &other);
    check_foreign(
        &bench.io,
        &bench.registry,
        super::STORE,
        "says that it is number 1",
    )
    .await;
}

#[tokio::test]
async fn a_file_of_a_new_format_is_refused() {
    let bench = used().await;
    let name = layout::segment_name(ContainerId(2), ContainerKind::Blocks);
    let mut block = bench.io.bytes_of(&name, 0, SEGMENT_HEADER_BYTES);
    block[8] = 2;
    let checksum = StoreKey::new(super::STORE).checksum(&block[..4080]);
    block[4080..].copy_from_slice(&checksum);
    bench.io.overwrite(&name, 0, &block);
    check_foreign(&bench.io, &bench.registry, super::STORE, "format version 2").await;
}

#[tokio::test]
async fn what_a_crash_leaves_is_not_foreign() {
    let bench = used().await;
    let key = StoreKey::new(super::STORE);
    let mut block = vec![0; SEGMENT_HEADER_BYTES];
    let ids = [(); 4].map(|()| bench.registry.reserve());
    let ids = futures_util::future::try_join_all(ids).await.unwrap();
    let header = SegmentHeader {
        id: ids[0],
        kind: ContainerKind::Blocks,
        allocated_bytes: 4 << 20,
    };
    header.encode(&key, &mut block);
    let torn: Vec<u8> = block[..2048].iter().copied().chain([0; 2048]).collect();
    let name = |number: usize| layout::segment_name(ids[number], ContainerKind::Blocks);
    bench.io.overwrite(&name(0), 0, &block);
    bench.io.overwrite(&name(1), 0, &torn);
    bench.io.overwrite(&name(2), 0, &[]);
    bench.io.create(&name(3), 4 << 20).unwrap();
    bench.io.overwrite("notes.txt", 0, b"not a segment");
    let known = bench.io.list().unwrap().len();
    let (bench, _) = bench.reopen().await;
    assert_eq!(
        bench.io.list().unwrap().len(),
        known - 4,
        "and nothing else is removed"
    );
}

#[tokio::test]
async fn a_damaged_segment_header_costs_nothing_but_itself() {
    let bench = Bench::new().await;
    let block = chunk(ChunkKind::Block, 1, 5000);
    let stored = append_one(&bench.store, &block).await;
    let name = layout::segment_name(stored.location.container, ContainerKind::Blocks);
    bench.io.flip_bit(&name, 100, 1);
    let (bench, recovered) = bench.reopen().await;
    assert_eq!(recovered[0].frames.len(), 1);
    check_read(&bench.store, &stored, &block).await;
}

/// Sealed segments are not even opened, but for the first and the last.
#[tokio::test]
async fn start_up_does_not_read_sealed_segments() {
    let mut bench = Bench::new().await;
    for seed in 0..6 {
        append_one(&bench.store, &chunk(ChunkKind::Block, seed, 5000)).await;
        let recovered;
        (bench, recovered) = bench.reopen().await;
        for segment in recovered {
            bench
                .store
                .finish_recovery(segment.container, Vec::new())
                .await
                .unwrap();
        }
    }
    let before = (bench.io.count(Call::Open), bench.io.count(Call::Read));
    let (bench, recovered) = bench.reopen().await;
    assert_eq!(recovered, []);
    assert_eq!(bench.io.count(Call::Open) - before.0, 2);
    assert_eq!(bench.io.count(Call::Read) - before.1, 2);
}
