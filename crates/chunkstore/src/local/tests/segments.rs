//! The life of segments: growth, sealing, holes, removal, recovery, and the format of their header.

use super::{Bench, STORE, options};
use crate::contract::{append_one, check_read, chunk};
use crate::faulty::FaultyIo;
use crate::frame::StoreKey;
use crate::local::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError};
use crate::local::{FileIo, LocalOptions, LocalStore, SegmentIo, WriteMode};
use crate::{
    BufferPool, CHUNK_BYTES_MAX, ChunkKind, ChunkStore, Codec, CodecSetting, ContainerId,
    ContainerKind, ContainerState, ContainerStatus, Error, MemoryRegistry, NewChunk, layout,
};
use proptest::prelude::{any, proptest};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

async fn blocks(store: &LocalStore) -> Vec<ContainerStatus> {
    let mut containers = store.containers().await.unwrap();
    containers.retain(|status| status.kind == ContainerKind::Blocks);
    containers
}

#[tokio::test]
async fn segments_roll_over_grow_and_are_sealed() {
    let bench = Bench::new().await;
    let mut written = Vec::new();
    for seed in 0..60 {
        let chunk = chunk(ChunkKind::Block, seed, CHUNK_BYTES_MAX);
        written.push((append_one(&bench.store, &chunk).await, chunk));
    }
    bench.store.close().await;
    let containers = blocks(&bench.store).await;
    let sizes: Vec<u64> = containers
        .iter()
        .map(|status| {
            let name = layout::segment_name(status.id, status.kind);
            let header = bench.io.bytes_of(&name, 0, SEGMENT_HEADER_BYTES);
            SegmentHeader::decode(&StoreKey::new(STORE), &header)
                .unwrap()
                .allocated_bytes
                >> 20
        })
        .collect();
    assert!(sizes.is_sorted(), "sizes follow what is stored: {sizes:?}");
    assert_eq!(
        (sizes.first(), sizes.last()),
        (Some(&4), Some(&16)),
        "{sizes:?}"
    );
    for status in containers
        .iter()
        .filter(|status| status.state == ContainerState::Sealed)
    {
        let last = written
            .iter()
            .filter(|(stored, _)| stored.location.container == status.id);
        let end =
            last.map(|(stored, _)| stored.location.offset + u64::from(stored.location.length));
        assert_eq!(end.max(), Some(status.bytes), "the tail is cut off");
        let name = layout::segment_name(status.id, status.kind);
        assert_eq!(
            bench.io.bytes_of(&name, status.bytes, 1),
            [],
            "the tail is cut off"
        );
    }
    let sealed = containers
        .iter()
        .filter(|status| status.state == ContainerState::Sealed)
        .count();
    assert!(sealed >= containers.len() - 2);
    for (stored, chunk) in &written {
        check_read(&bench.store, stored, chunk).await;
    }
}

#[tokio::test]
async fn an_old_location_is_never_written_again() {
    let mut bench = Bench::new().await;
    let mut ends: Vec<(ContainerId, u64)> = Vec::new();
    for seed in 0..4 {
        let stored = append_one(&bench.store, &chunk(ChunkKind::Block, seed, 5000)).await;
        assert!(ends.iter().all(|(id, _)| *id != stored.location.container));
        ends.push((stored.location.container, stored.location.offset));
        bench.store.free(vec![stored.location]).await.unwrap();
        (bench, _) = bench.reopen().await;
    }
}

#[tokio::test]
async fn recovery_names_frames_and_gaps_and_seals() {
    let bench = Bench::new().await;
    let chunks: Vec<_> = (0..5)
        .map(|seed| chunk(ChunkKind::Block, seed, 5000))
        .collect();
    let stored = bench.store.append(chunks.clone()).await.unwrap();
    let id = stored[0].location.container;
    let name = layout::segment_name(id, ContainerKind::Blocks);
    // The second frame is torn: its header was lost, its payload is there.
    bench
        .io
        .overwrite(&name, stored[1].location.offset, &[0; 4096]);
    let (bench, recovered) = bench.reopen().await;
    assert_eq!(recovered.len(), 1);
    let found: Vec<_> = recovered[0]
        .frames
        .iter()
        .map(|frame| frame.location)
        .collect();
    let places: Vec<_> = stored.iter().map(|stored| stored.location).collect();
    assert_eq!(found, [places[0], places[2], places[3], places[4]]);
    assert_eq!(recovered[0].frames[1].id, chunks[2].id);
    assert_eq!(recovered[0].frames[1].digest, chunks[2].digest);
    let gap = recovered[0].gaps[0];
    assert_eq!(
        (gap.offset, gap.length),
        (places[1].offset + 4096, places[1].length - 4096)
    );
    let dead = vec![places[0], gap, places[4]];
    bench.store.finish_recovery(id, dead).await.unwrap();
    let status = blocks(&bench.store)
        .await
        .into_iter()
        .find(|status| status.id == id)
        .unwrap();
    let end = places[3].offset + u64::from(places[3].length);
    assert_eq!((status.state, status.bytes), (ContainerState::Sealed, end));
    for dead in [0, 1, 4] {
        let read = bench.store.read(places[dead], chunks[dead].id).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    }
    for live in [2, 3] {
        check_read(&bench.store, &stored[live], &chunks[live]).await;
    }
}

#[tokio::test]
async fn a_recovered_segment_without_anything_live_is_removed() {
    for kind in [ChunkKind::Block, ChunkKind::Page] {
        let bench = Bench::new().await;
        let stored = append_one(&bench.store, &chunk(kind, 1, 5000)).await;
        let (bench, recovered) = bench.reopen().await;
        assert_eq!(bench.io.list().unwrap().len(), 1);
        let segment = recovered[0].container;
        bench
            .store
            .finish_recovery(segment, vec![stored.location])
            .await
            .unwrap();
        assert_eq!(bench.io.list().unwrap(), [""; 0]);
        assert_eq!(bench.store.containers().await.unwrap(), []);
        let read = bench
            .store
            .read(stored.location, chunk(kind, 1, 5000).id)
            .await;
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
    }
}

#[tokio::test]
async fn pages_are_recovered_one_by_one() {
    let bench = Bench::new().await;
    let pages: Vec<_> = (0..30)
        .map(|seed| chunk(ChunkKind::Page, seed, 100 * seed as usize))
        .collect();
    let mut stored = bench.store.append(pages[..20].to_vec()).await.unwrap();
    stored.extend(bench.store.append(pages[20..].to_vec()).await.unwrap());
    let name = layout::segment_name(stored[0].location.container, ContainerKind::Pages);
    bench.io.flip_bit(&name, stored[7].location.offset + 50, 2);
    let (bench, recovered) = bench.reopen().await;
    assert_eq!(recovered[0].frames.len(), 29);
    assert!(!recovered[0].gaps.is_empty());
    bench
        .store
        .finish_recovery(recovered[0].container, recovered[0].gaps.clone())
        .await
        .unwrap();
    for (number, (stored, page)) in stored.iter().zip(&pages).enumerate() {
        if number != 7 {
            check_read(&bench.store, stored, page).await;
        }
    }
}

#[tokio::test]
async fn a_container_is_removed_whole_and_for_good() {
    let bench = Bench::new().await;
    let page = chunk(ChunkKind::Page, 1, 5000);
    let stored = append_one(&bench.store, &page).await;
    let id = stored.location.container;
    let refused = bench.store.remove_container(id).await;
    assert!(matches!(refused, Err(Error::Closed { .. })), "{refused:?}");
    let (bench, recovered) = bench.reopen().await;
    bench
        .store
        .finish_recovery(recovered[0].container, Vec::new())
        .await
        .unwrap();
    check_read(&bench.store, &stored, &page).await;
    bench.store.remove_container(id).await.unwrap();
    bench.store.remove_container(id).await.unwrap();
    let read = bench.store.read(stored.location, page.id).await;
    assert!(
        matches!(read, Err(Error::NotFound { container }) if container == id),
        "{read:?}"
    );
    assert_eq!(bench.io.list().unwrap(), [""; 0]);
    bench.store.free(vec![stored.location]).await.unwrap();
    let (bench, recovered) = bench.reopen().await;
    assert_eq!(recovered, []);
    let again = append_one(&bench.store, &page).await;
    assert_ne!(again.location.container, id, "ids are never used again");
}

#[tokio::test]
async fn only_frames_can_be_freed() {
    let bench = Bench::new().await;
    let block = chunk(ChunkKind::Block, 1, 5000);
    let stored = append_one(&bench.store, &block).await;
    for (offset, length) in [(0, 4096), (stored.location.offset + 64, 4096), (4096, 100)] {
        let location = crate::Location {
            offset,
            length,
            ..stored.location
        };
        let freed = bench.store.free(vec![location]).await;
        assert!(matches!(freed, Err(Error::Corrupt { .. })), "{freed:?}");
    }
    check_read(&bench.store, &stored, &block).await;
}

#[tokio::test]
async fn freed_blocks_return_their_space() {
    for mode in [WriteMode::Detect, WriteMode::Buffered] {
        let dir = tempfile::tempdir().unwrap();
        let io = Arc::new(FileIo::open(dir.path(), mode).unwrap());
        let registry = Arc::new(MemoryRegistry::new());
        let (store, _) = LocalStore::open(options(io, &registry)).await.unwrap();
        let pool = BufferPool::new(6, CHUNK_BYTES_MAX);
        let mut batch = Vec::new();
        for seed in 0..6 {
            let mut buffer = pool.take().await;
            let chunk = chunk(ChunkKind::Block, seed, CHUNK_BYTES_MAX);
            buffer.copy_from_slice(&chunk.data);
            batch.push(NewChunk {
                data: buffer.freeze(),
                ..chunk
            });
        }
        let stored = store.append(batch.clone()).await.unwrap();
        let name = layout::segment_name(stored[0].location.container, ContainerKind::Blocks);
        let used = || std::fs::metadata(dir.path().join(&name)).unwrap().blocks() * 512;
        let before = used();
        let freed: Vec<_> = [0, 1, 3]
            .iter()
            .map(|at: &usize| stored[*at].location)
            .collect();
        store.free(freed.clone()).await.unwrap();
        let bytes: u64 = freed
            .iter()
            .map(|location| u64::from(location.length))
            .sum();
        assert!(
            before - used() >= bytes,
            "{} bytes came back of {bytes}",
            before - used()
        );
        assert_eq!(store.metrics().freed_bytes.get(), bytes);
        for at in 0..6 {
            let read = store.read(stored[at].location, batch[at].id).await;
            match at {
                0 | 1 | 3 => assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}"),
                _ => assert!(read.unwrap() == batch[at].data),
            }
        }
        drop(batch);
        assert_eq!(pool.in_use(), 0, "the store keeps no buffer");
    }
}

#[tokio::test]
async fn files_are_recovered_as_the_faulty_disk_says() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Arc::new(MemoryRegistry::new());
    let open = || async {
        let io = Arc::new(FileIo::open(dir.path(), WriteMode::Detect).unwrap());
        LocalStore::open(options(io, &registry)).await.unwrap()
    };
    let (store, _) = open().await;
    let chunks: Vec<_> = (0..6)
        .map(|seed| {
            chunk(
                if seed < 3 {
                    ChunkKind::Block
                } else {
                    ChunkKind::Page
                },
                seed,
                6000,
            )
        })
        .collect();
    let stored = store.append(chunks.clone()).await.unwrap();
    store.close().await;
    drop(store);
    let (store, recovered) = open().await;
    assert_eq!(
        recovered
            .iter()
            .map(|found| found.frames.len())
            .collect::<Vec<_>>(),
        [3, 3]
    );
    assert!(recovered.iter().all(|found| found.gaps.is_empty()));
    let dead = vec![stored[2].location];
    for found in recovered {
        store
            .finish_recovery(found.container, dead.clone())
            .await
            .unwrap();
    }
    for (number, (stored, chunk)) in stored.iter().zip(&chunks).enumerate() {
        if number != 2 {
            check_read(&store, stored, chunk).await;
        }
    }
    for status in store.containers().await.unwrap() {
        let path = dir
            .path()
            .join(layout::segment_name(status.id, status.kind));
        assert_eq!(std::fs::metadata(path).unwrap().len(), status.bytes);
    }
}

#[tokio::test]
async fn compression_is_per_chunk() {
    let (io, registry) = (FaultyIo::new(1 << 40), Arc::new(MemoryRegistry::new()));
    let codec = CodecSetting::Zstd { level: 1 };
    let (store, _) = LocalStore::open(LocalOptions {
        codec,
        ..options(Arc::new(io), &registry)
    })
    .await
    .unwrap();
    let compressible = chunk(ChunkKind::Block, 1, CHUNK_BYTES_MAX);
    let page = chunk(ChunkKind::Page, 2, 4000);
    let stored = store
        .append(vec![compressible.clone(), page.clone()])
        .await
        .unwrap();
    assert_eq!(
        stored.iter().map(|one| one.codec).collect::<Vec<_>>(),
        [Codec::Zstd, Codec::None]
    );
    assert!((stored[0].stored_bytes as usize) < CHUNK_BYTES_MAX / 2);
    let saved = store.metrics().codec_saved_bytes.get();
    assert_eq!(
        saved,
        (CHUNK_BYTES_MAX - stored[0].stored_bytes as usize) as u64
    );
    check_read(&store, &stored[0], &compressible).await;
    check_read(&store, &stored[1], &page).await;
}

fn golden_header() -> SegmentHeader {
    let (id, kind) = (ContainerId(0x0102), ContainerKind::Pages);
    SegmentHeader {
        id,
        kind,
        allocated_bytes: 64 << 20,
    }
}

#[test]
fn version_1_of_the_header_is_what_it_was() {
    let (start, checksum) = crate::golden::parse(include_str!("../../../testdata/segment_v1.hex"))
        .split_at_checked(52)
        .map(|(start, checksum)| (start.to_vec(), checksum.to_vec()))
        .unwrap();
    let mut golden = vec![0; SEGMENT_HEADER_BYTES];
    golden[..52].copy_from_slice(&start);
    golden[4080..].copy_from_slice(&checksum);
    let key = StoreKey::new(STORE);
    let mut encoded = vec![0; SEGMENT_HEADER_BYTES];
    golden_header().encode(&key, &mut encoded);
    assert_eq!(encoded[4080..], golden[4080..], "encoding changed");
    assert_eq!(encoded, golden, "encoding changed");
    assert_eq!(
        SegmentHeader::decode(&key, &golden),
        Ok(golden_header()),
        "decoding changed"
    );
    let other = SegmentHeader::decode(&StoreKey::new([0; 16]), &golden);
    assert_eq!(other, Err(SegmentHeaderError::OtherStore(STORE)));
}

proptest! {
    #[test]
    fn any_bytes_give_a_segment_header_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 4000..4200),
        seal in any::<bool>(),
    ) {
        let (mut bytes, key) = (bytes, StoreKey::new(STORE));
        if seal && bytes.len() >= SEGMENT_HEADER_BYTES {
            bytes[..8].copy_from_slice(b"DRYSEGMT");
            bytes[16..32].copy_from_slice(&STORE);
            let checksum = key.checksum(&bytes[..4080]);
            bytes[4080..4096].copy_from_slice(&checksum);
        }
        let _ = SegmentHeader::decode(&key, &bytes);
    }
}
