//! The contract of [`ChunkStore`] as tests: what its doc comment promises, line by line.
//!
//! Each backend calls [`run`] with a way to make an empty store. The functions panic where a promise is broken.

use crate::{
    BATCH_CHUNKS_MAX, CHUNK_BYTES_MAX, ChunkId, ChunkKind, ChunkStore, ContainerId, ContainerState,
    Error, Location, NewChunk, Stored,
};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use std::collections::HashSet;
use std::sync::Arc;
use types::{ChunkName, Digest, Domain, Random};

/// Makes an empty store, different from all before it.
pub type Factory<'a> = &'a dyn Fn() -> BoxFuture<'a, Arc<dyn ChunkStore>>;

/// Runs the whole suite, each part on a store of its own.
pub async fn run(factory: Factory<'_>) {
    what_is_appended_is_read(factory().await.as_ref()).await;
    an_empty_batch_is_stored(factory().await.as_ref()).await;
    answers_come_in_order(factory().await.as_ref()).await;
    a_full_batch_is_stored(factory().await.as_ref()).await;
    concurrent_appends_do_not_meet(factory().await.as_ref()).await;
    the_same_chunk_twice_has_two_places(factory().await.as_ref()).await;
    a_read_proves_the_identity(factory().await.as_ref()).await;
    a_wrong_location_is_never_content(factory().await.as_ref()).await;
    an_unknown_container_is_not_found(factory().await.as_ref()).await;
    freeing_leaves_the_rest(factory().await.as_ref()).await;
    containers_are_listed(factory().await.as_ref()).await;
}

/// A chunk of `bytes` bytes that no other seed gives, in memory that is not aligned.
pub fn chunk(kind: ChunkKind, seed: u64, bytes: usize) -> NewChunk {
    let random = Random::seeded(seed);
    let mut content: Vec<u8> = Vec::with_capacity(bytes + 32);
    let line: [u8; 32] = random.bytes();
    while content.len() < bytes {
        content.extend(line);
        let at = content.len() - 32;
        content[at..at + 8].copy_from_slice(&(at as u64).to_le_bytes());
    }
    content.truncate(bytes);
    let digest = Digest::of(&content);
    let id = ChunkId {
        domain: Domain::from_number(7),
        name: ChunkName::plain(digest),
        kind,
    };
    NewChunk {
        id,
        digest,
        data: Bytes::from(content),
    }
}

/// Appends one chunk.
///
/// # Panics
/// When the store fails.
pub async fn append_one(store: &dyn ChunkStore, chunk: &NewChunk) -> Stored {
    let stored = store
        .append(vec![chunk.clone()])
        .await
        .expect("the append succeeds");
    assert_eq!(stored.len(), 1, "one answer per chunk");
    stored[0]
}

/// Reads a chunk and compares it.
///
/// # Panics
/// When the store fails or answers other content.
pub async fn check_read(store: &dyn ChunkStore, stored: &Stored, chunk: &NewChunk) {
    let content = store
        .read(stored.location, chunk.id)
        .await
        .expect("the read succeeds");
    assert!(
        content == chunk.data,
        "{:?} holds other content",
        stored.location
    );
}

async fn what_is_appended_is_read(store: &dyn ChunkStore) {
    let sizes = [
        0,
        1,
        63,
        64,
        65,
        255,
        256,
        4095,
        4096,
        4097,
        100_000,
        CHUNK_BYTES_MAX,
    ];
    for kind in [ChunkKind::Block, ChunkKind::Page, ChunkKind::Snapshot] {
        for (seed, bytes) in (1..).zip(sizes) {
            let chunk = chunk(kind, seed, bytes);
            let stored = append_one(store, &chunk).await;
            assert!(stored.stored_bytes as usize <= bytes);
            assert!(stored.location.length > stored.stored_bytes);
            check_read(store, &stored, &chunk).await;
            check_read(store, &stored, &chunk).await;
        }
    }
}

async fn an_empty_batch_is_stored(store: &dyn ChunkStore) {
    assert_eq!(
        store
            .append(Vec::new())
            .await
            .expect("nothing can be stored"),
        []
    );
}

async fn answers_come_in_order(store: &dyn ChunkStore) {
    let kinds = [
        ChunkKind::Block,
        ChunkKind::Page,
        ChunkKind::Block,
        ChunkKind::Snapshot,
    ];
    let batch: Vec<NewChunk> = (0..40_u64)
        .map(|number| {
            chunk(
                kinds[number as usize % 4],
                number,
                1000 + 100 * number as usize,
            )
        })
        .collect();
    let stored = store
        .append(batch.clone())
        .await
        .expect("the append succeeds");
    assert_eq!(stored.len(), batch.len());
    for (stored, chunk) in stored.iter().zip(&batch) {
        check_read(store, stored, chunk).await;
    }
}

async fn a_full_batch_is_stored(store: &dyn ChunkStore) {
    let batch: Vec<NewChunk> = (0..BATCH_CHUNKS_MAX as u64)
        .map(|number| chunk(ChunkKind::Block, number, 100 + number as usize * 8))
        .collect();
    let stored = store
        .append(batch.clone())
        .await
        .expect("the append succeeds");
    let places: HashSet<Location> = stored.iter().map(|stored| stored.location).collect();
    assert_eq!(places.len(), BATCH_CHUNKS_MAX);
    for (stored, chunk) in stored.iter().zip(&batch).step_by(50) {
        check_read(store, stored, chunk).await;
    }
}

async fn concurrent_appends_do_not_meet(store: &dyn ChunkStore) {
    let batches: Vec<Vec<NewChunk>> = (0..32_u64)
        .map(|caller| {
            let kind = if caller % 3 == 0 {
                ChunkKind::Page
            } else {
                ChunkKind::Block
            };
            (0..=caller % 5)
                .map(|number| chunk(kind, caller * 100 + number, 20_000))
                .collect()
        })
        .collect();
    let outcomes = join_all(batches.iter().map(|batch| store.append(batch.clone()))).await;
    let mut places: Vec<Location> = Vec::new();
    for (outcome, batch) in outcomes.into_iter().zip(&batches) {
        for (stored, chunk) in outcome.expect("the append succeeds").iter().zip(batch) {
            check_read(store, stored, chunk).await;
            places.push(stored.location);
        }
    }
    places.sort_by_key(|place| (place.container, place.offset));
    for pair in places.windows(2) {
        let end = pair[0].offset + u64::from(pair[0].length);
        assert!(
            pair[0].container != pair[1].container || end <= pair[1].offset,
            "{pair:?} meet"
        );
    }
}

async fn the_same_chunk_twice_has_two_places(store: &dyn ChunkStore) {
    let chunk = chunk(ChunkKind::Block, 1, 5000);
    let stored = store
        .append(vec![chunk.clone(), chunk.clone()])
        .await
        .expect("it succeeds");
    let again = append_one(store, &chunk).await;
    assert_ne!(stored[0].location, stored[1].location);
    assert_ne!(again.location, stored[1].location);
    store
        .free(vec![stored[0].location])
        .await
        .expect("freeing succeeds");
    check_read(store, &stored[1], &chunk).await;
    check_read(store, &again, &chunk).await;
}

async fn a_read_proves_the_identity(store: &dyn ChunkStore) {
    for kind in [ChunkKind::Block, ChunkKind::Page] {
        let chunk = chunk(kind, 1, 5000);
        let stored = append_one(store, &chunk).await;
        let others = [
            ChunkId {
                domain: Domain::STORE,
                ..chunk.id
            },
            ChunkId {
                name: ChunkName::plain(Digest::ZERO_BLOCK),
                ..chunk.id
            },
            ChunkId {
                kind: ChunkKind::Snapshot,
                ..chunk.id
            },
        ];
        for other in others {
            let read = store.read(stored.location, other).await;
            assert!(
                matches!(read, Err(Error::Corrupt { .. })),
                "{other:?}: {read:?}"
            );
        }
    }
}

async fn a_wrong_location_is_never_content(store: &dyn ChunkStore) {
    for kind in [ChunkKind::Block, ChunkKind::Page] {
        let batch = vec![chunk(kind, 1, 5000), chunk(kind, 2, 5000)];
        let stored = store
            .append(batch.clone())
            .await
            .expect("the append succeeds");
        let (right, second) = (stored[0].location, stored[1].location);
        let wrong = [
            second,
            Location {
                offset: right.offset + 64,
                ..right
            },
            Location {
                offset: right.offset + 4096,
                ..right
            },
            Location {
                offset: 1 << 40,
                ..right
            },
            Location {
                offset: u64::MAX - 4096,
                ..right
            },
            Location { length: 0, ..right },
            Location {
                length: right.length + 64,
                ..right
            },
            Location {
                length: right.length - 64,
                ..right
            },
            Location {
                length: u32::MAX,
                ..right
            },
        ];
        for location in wrong {
            let read = store.read(location, batch[0].id).await;
            assert!(
                matches!(read, Err(Error::Corrupt { .. })),
                "{location:?}: {read:?}"
            );
        }
    }
}

async fn an_unknown_container_is_not_found(store: &dyn ChunkStore) {
    let chunk = chunk(ChunkKind::Block, 1, 5000);
    let stored = append_one(store, &chunk).await;
    let container = ContainerId(u64::MAX >> 8);
    let elsewhere = Location {
        container,
        ..stored.location
    };
    let read = store.read(elsewhere, chunk.id).await;
    assert!(matches!(read, Err(Error::NotFound { container: named }) if named == container));
    store
        .free(vec![elsewhere])
        .await
        .expect("what is gone is free");
}

async fn freeing_leaves_the_rest(store: &dyn ChunkStore) {
    for kind in [ChunkKind::Block, ChunkKind::Page] {
        let batch: Vec<NewChunk> = (0..9)
            .map(|number| chunk(kind, number, 10_000 + number as usize))
            .collect();
        let stored = store
            .append(batch.clone())
            .await
            .expect("the append succeeds");
        let freed = [1, 2, 5, 8];
        let locations: Vec<Location> = freed.iter().map(|at| stored[*at].location).collect();
        store
            .free(locations.clone())
            .await
            .expect("freeing succeeds");
        store.free(locations).await.expect("freeing again succeeds");
        for (number, (stored, chunk)) in stored.iter().zip(&batch).enumerate() {
            if freed.contains(&number) {
                match store.read(stored.location, chunk.id).await {
                    Ok(content) => assert!(content == chunk.data, "other content"),
                    Err(Error::Corrupt { .. } | Error::NotFound { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            } else {
                check_read(store, stored, chunk).await;
            }
        }
        let later = append_one(store, &batch[1]).await;
        assert!(
            stored
                .iter()
                .all(|earlier| earlier.location != later.location)
        );
        check_read(store, &later, &batch[1]).await;
    }
}

async fn containers_are_listed(store: &dyn ChunkStore) {
    let block = append_one(store, &chunk(ChunkKind::Block, 1, 5000))
        .await
        .location;
    let page = append_one(store, &chunk(ChunkKind::Page, 2, 5000))
        .await
        .location;
    assert_ne!(
        block.container, page.container,
        "pages are freed with their container"
    );
    let containers = store.containers().await.expect("listing succeeds");
    assert!(containers.is_sorted_by_key(|status| status.id));
    for location in [block, page] {
        let status = containers
            .iter()
            .find(|status| status.id == location.container);
        let status = status.expect("the container is listed");
        assert_ne!(status.state, ContainerState::Removed);
        assert!(location.offset + u64::from(location.length) <= status.bytes);
    }
}
