//! Devices that fail, fill up and lie.

use super::{Bench, STORE, options};
use crate::contract::{append_one, check_read, chunk};
use crate::faulty::{Call, FaultyIo};
use crate::frame::{HEADER_BYTES, StoreKey};
use crate::local::LocalStore;
use crate::{
    ChunkId, ChunkKind, ChunkStore, ContainerKind, Error, Location, MemoryRegistry, NewChunk,
    Stored, layout,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::io::ErrorKind;
use std::sync::Arc;

type Appending<'a> = BoxFuture<'a, Result<Vec<Stored>, Error>>;

fn begin<'a>(bench: &'a Bench, chunk: &NewChunk) -> Appending<'a> {
    let mut append = bench.store.append(vec![chunk.clone()]);
    assert!(append.as_mut().now_or_never().is_none());
    append
}

#[tokio::test]
async fn a_failed_sync_fails_what_is_in_flight_and_closes_the_segment() {
    let bench = Bench::new().await;
    let chunks: Vec<_> = (0..5)
        .map(|seed| chunk(ChunkKind::Block, seed, 5000))
        .collect();
    let before = append_one(&bench.store, &chunks[0]).await;
    bench.io.hold_syncs();
    let first = begin(&bench, &chunks[1]);
    bench.io.wait_for_held_syncs(1);
    let second = begin(&bench, &chunks[2]);
    bench.io.wait_for_held_syncs(2);
    let waiting = begin(&bench, &chunks[3]);
    bench.io.fail(Call::Sync, 0, 1, ErrorKind::Other);
    bench.io.release_syncs();
    assert!(
        matches!(first.await, Err(Error::Io { .. })),
        "in flight on the failed segment"
    );
    assert!(
        matches!(second.await, Err(Error::Io { .. })),
        "in flight on the failed segment"
    );
    let waiting = waiting.await.unwrap()[0];
    let after = append_one(&bench.store, &chunks[4]).await;
    for later in [waiting, after] {
        let same = later.location.container == before.location.container;
        assert!(!same, "the segment takes no more");
    }
    assert!(bench.store.metrics().segments_failed.get() >= 1);
    let io = bench.io.reboot(3);
    let opened = LocalStore::open(options(Arc::new(io), &bench.registry)).await;
    let (store, recovered) = opened.unwrap();
    assert_eq!(
        recovered.len(),
        2,
        "the failed segment and the one after it"
    );
    check_read(&store, &before, &chunks[0]).await;
    check_read(&store, &waiting, &chunks[3]).await;
    check_read(&store, &after, &chunks[4]).await;
}

#[tokio::test]
async fn a_failed_write_closes_its_segment_for_good() {
    let bench = Bench::new().await;
    let chunks: Vec<_> = (0..4)
        .map(|seed| chunk(ChunkKind::Block, seed, 5000))
        .collect();
    let before = append_one(&bench.store, &chunks[0]).await;
    bench.io.hold_syncs();
    let held = begin(&bench, &chunks[1]);
    bench.io.wait_for_held_syncs(1);
    bench.io.fail(Call::Write, 0, 1, ErrorKind::Other);
    let failed = bench.store.append(vec![chunks[2].clone()]).await;
    assert!(
        matches!(
            failed,
            Err(Error::Io {
                operation: "writing frames",
                ..
            })
        ),
        "{failed:?}"
    );
    bench.io.release_syncs();
    assert!(
        matches!(held.await, Err(Error::Io { .. })),
        "it was in flight when the other failed"
    );
    let after = append_one(&bench.store, &chunks[3]).await;
    assert_ne!(after.location.container, before.location.container);
    check_read(&bench.store, &before, &chunks[0]).await;
    check_read(&bench.store, &after, &chunks[3]).await;
    assert_eq!(bench.store.metrics().batches_failed.get(), 2);
}

#[tokio::test]
async fn a_failed_read_is_neither_damage_nor_absence() {
    let bench = Bench::new().await;
    let chunk = chunk(ChunkKind::Block, 1, 5000);
    let stored = append_one(&bench.store, &chunk).await;
    bench.io.fail(Call::Read, 0, 1, ErrorKind::Other);
    let read = bench.store.read(stored.location, chunk.id).await;
    assert!(matches!(read, Err(Error::Io { .. })), "{read:?}");
    check_read(&bench.store, &stored, &chunk).await;
}

#[tokio::test]
async fn blocks_stop_at_the_reserve_and_pages_do_not() {
    let (io, registry) = (FaultyIo::new(64 << 20), Arc::new(MemoryRegistry::new()));
    let mut options = options(Arc::new(io.clone()), &registry);
    options.reserve_bytes = 32 << 20;
    let (store, _) = LocalStore::open(options).await.unwrap();
    let (block, page) = (
        chunk(ChunkKind::Block, 1, 5000),
        chunk(ChunkKind::Page, 2, 5000),
    );
    append_one(&store, &block).await;
    io.set_capacity(20 << 20);
    let refused = store.append(vec![block.clone()]).await;
    let Err(Error::NoSpace {
        free_bytes,
        reserve_bytes,
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((free_bytes, reserve_bytes), (16 << 20, 32 << 20));
    let stored = append_one(&store, &page).await;
    check_read(&store, &stored, &page).await;
    store.free(vec![stored.location]).await.unwrap();
    io.set_capacity(64 << 20);
    let stored = append_one(&store, &block).await;
    check_read(&store, &stored, &block).await;
    assert_eq!(
        store.metrics().segments_failed.get(),
        0,
        "a full disk is no fault"
    );
}

#[tokio::test]
async fn a_disk_that_fills_up_meanwhile_is_no_fault_either() {
    let bench = Bench::new().await;
    let block = chunk(ChunkKind::Block, 1, 5000);
    bench.io.fail(Call::Create, 0, 1, ErrorKind::StorageFull);
    let refused = bench.store.append(vec![block.clone()]).await;
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    let stored = append_one(&bench.store, &block).await;
    check_read(&bench.store, &stored, &block).await;
}

#[tokio::test]
async fn a_device_error_is_not_a_full_disk() {
    let bench = Bench::new().await;
    let block = chunk(ChunkKind::Block, 1, 5000);
    bench.io.fail(Call::Create, 0, 1, ErrorKind::Other);
    let refused = bench.store.append(vec![block.clone()]).await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    append_one(&bench.store, &block).await;
}

#[tokio::test]
async fn a_registry_that_fails_stores_nothing() {
    for calls in 0..2 {
        let bench = Bench::new().await;
        let block = chunk(ChunkKind::Block, 1, 5000);
        bench.registry.fail_after(calls);
        let refused = bench.store.append(vec![block.clone()]).await;
        assert!(matches!(refused, Err(Error::Registry(_))), "{refused:?}");
        bench.registry.fail_after(u64::MAX);
        let (bench, recovered) = bench.reopen().await;
        assert_eq!(recovered, [], "the file that was not recorded is gone");
        let stored = append_one(&bench.store, &block).await;
        check_read(&bench.store, &stored, &block).await;
    }
}

/// Stores two blocks and a page, lets `damage` change the file, and expects the read of the first to fail.
async fn check_damage(kind: ChunkKind, damage: impl Fn(&FaultyIo, &str, Location, Location)) {
    let bench = Bench::new().await;
    let batch = vec![chunk(kind, 1, 5000), chunk(kind, 2, 5000)];
    let stored = bench.store.append(batch.clone()).await.unwrap();
    let (first, second) = (stored[0].location, stored[1].location);
    let container_kind = crate::frame::container_kind(kind);
    damage(
        &bench.io,
        &layout::segment_name(first.container, container_kind),
        first,
        second,
    );
    let read = bench.store.read(first, batch[0].id).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    check_read(&bench.store, &stored[1], &batch[1]).await;
    assert_eq!(bench.store.metrics().reads_corrupt.get(), 1);
}

#[tokio::test]
async fn any_flipped_bit_is_seen() {
    for kind in [ChunkKind::Block, ChunkKind::Page] {
        for byte in [0, 9, 10, 16, 32, 40, 48, 60, 100, 120, 128, 200, 230, 255] {
            check_damage(kind, |io, name, first, _| {
                io.flip_bit(name, first.offset + byte, 3)
            })
            .await;
        }
        let payload = u64::from(
            crate::frame::Packing::of(crate::frame::container_kind(kind)).payload_offset(),
        );
        for byte in [0, 1000, 4999] {
            let damage = |io: &FaultyIo, name: &str, first: Location, _| {
                io.flip_bit(name, first.offset + payload + byte, 0);
            };
            check_damage(kind, damage).await;
        }
    }
}

#[tokio::test]
async fn a_moved_frame_is_seen() {
    check_damage(ChunkKind::Block, |io, name, first, second| {
        let moved = io.bytes_of(name, second.offset, second.length as usize);
        io.overwrite(name, first.offset, &moved);
    })
    .await;
}

#[tokio::test]
async fn a_lost_write_is_seen() {
    check_damage(ChunkKind::Block, |io, name, first, _| {
        io.overwrite(name, first.offset, &vec![0; first.length as usize]);
    })
    .await;
}

/// A block may be the image of a disk that holds another store, or this one: what lies in it is never a frame.
#[tokio::test]
async fn frames_inside_a_block_are_not_frames() {
    let bench = Bench::new().await;
    let inner = chunk(ChunkKind::Block, 1, 4096);
    let stored = append_one(&bench.store, &inner).await;
    let name = layout::segment_name(stored.location.container, ContainerKind::Blocks);
    let image = bench.io.bytes_of(&name, stored.location.offset, 8192);
    let digest = types::Digest::of(&image);
    let id = ChunkId {
        name: types::ChunkName::plain(digest),
        ..inner.id
    };
    let outer = NewChunk {
        id,
        digest,
        data: image.into(),
    };
    let outer_stored = append_one(&bench.store, &outer).await;
    let inside = Location {
        offset: outer_stored.location.offset + 4096,
        ..stored.location
    };
    let read = bench.store.read(inside, inner.id).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    // The outer frame's header is lost: the scan meets the copy inside, and knows that it is at the wrong place.
    bench.io.flip_bit(&name, outer_stored.location.offset, 0);
    let (bench, recovered) = bench.reopen().await;
    assert_eq!(recovered[0].frames.len(), 1);
    assert_eq!(recovered[0].gaps.len(), 1);
    check_read(&bench.store, &stored, &inner).await;
    let checksum = StoreKey::new(STORE).checksum(&[0; HEADER_BYTES]);
    assert_ne!(
        checksum,
        StoreKey::new([0; 16]).checksum(&[0; HEADER_BYTES])
    );
}
