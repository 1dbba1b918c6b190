//! The power is cut at every step of a life, and the store is opened again.

use super::options;
use crate::contract::chunk;
use crate::faulty::FaultyIo;
use crate::local::{LocalOptions, LocalStore, RecoveredSegment};
use crate::{
    ChunkKind, ChunkStore, ContainerState, Error, Location, MemoryRegistry, NewChunk, Stored,
};
use futures_util::future::join_all;
use std::collections::HashSet;
use std::sync::Arc;

/// Chunks that were acknowledged and not freed since.
#[derive(Default)]
struct Acknowledged(Vec<(Stored, NewChunk)>);

fn small(io: &FaultyIo, registry: &Arc<MemoryRegistry>) -> LocalOptions {
    LocalOptions {
        segment_bytes_min: 2 << 20,
        segment_bytes_max: 4 << 20,
        ..options(Arc::new(io.clone()), registry)
    }
}

/// The chunks of a life: for each round one batch for each of four callers.
fn rounds() -> Vec<Vec<Vec<NewChunk>>> {
    let batch = |round: u64, caller: u64| {
        let pages = caller == 3;
        let (kind, bytes) = if pages {
            (ChunkKind::Page, 4000)
        } else {
            (ChunkKind::Block, 250_000)
        };
        let seed = round * 100 + caller * 10;
        (0..2)
            .map(|number| chunk(kind, seed + number, bytes))
            .collect()
    };
    (0..3)
        .map(|round| (0..4).map(|caller| batch(round, caller)).collect())
        .collect()
}

/// A life: batches of blocks and pages side by side until segments roll over, freeing, and removing a container.
async fn live(
    store: &LocalStore,
    rounds: &[Vec<Vec<NewChunk>>],
    acknowledged: &mut Acknowledged,
) -> Result<(), Error> {
    for batches in rounds {
        let outcomes = join_all(batches.iter().map(|batch| store.append(batch.clone()))).await;
        for (outcome, batch) in outcomes.into_iter().zip(batches) {
            acknowledged
                .0
                .extend(outcome?.into_iter().zip(batch.iter().cloned()));
        }
        let freed = acknowledged.0.swap_remove(0).0.location;
        store.free(vec![freed]).await?;
    }
    let containers = store.containers().await?;
    let sealed = containers
        .iter()
        .find(|status| status.state == ContainerState::Sealed);
    if let Some(sealed) = sealed {
        acknowledged
            .0
            .retain(|(stored, _)| stored.location.container != sealed.id);
        store.remove_container(sealed.id).await?;
    }
    Ok(())
}

/// Everything acknowledged is there, however the crash went, and the store can be used.
async fn check_survivor(
    io: &FaultyIo,
    registry: &Arc<MemoryRegistry>,
    acknowledged: &Acknowledged,
) {
    let (store, recovered) = LocalStore::open(small(io, registry)).await.unwrap();
    check_content(&store, acknowledged).await;
    let fresh = chunk(ChunkKind::Block, 9999, 7000);
    let stored = store.append(vec![fresh.clone()]).await.unwrap()[0];
    let live: HashSet<Location> = acknowledged
        .0
        .iter()
        .map(|(stored, _)| stored.location)
        .collect();
    for segment in recovered {
        assert_ne!(
            segment.container, stored.location.container,
            "never appended to again"
        );
        let dead = dead_of(&segment, &live);
        store
            .finish_recovery(segment.container, dead.clone())
            .await
            .unwrap();
        store
            .finish_recovery(segment.container, dead)
            .await
            .unwrap();
    }
    check_content(&store, acknowledged).await;
    store.close().await;
    drop(store);
    let (store, recovered) = LocalStore::open(small(io, registry)).await.unwrap();
    assert_eq!(recovered.len(), 1, "only what was opened since");
    assert_eq!(recovered[0].frames.len(), 1);
    check_content(&store, acknowledged).await;
    assert_eq!(
        store.read(stored.location, fresh.id).await.unwrap(),
        fresh.data
    );
}

fn dead_of(segment: &RecoveredSegment, live: &HashSet<Location>) -> Vec<Location> {
    let found = segment
        .frames
        .iter()
        .map(|frame| frame.location)
        .chain(segment.gaps.clone());
    found.filter(|location| !live.contains(location)).collect()
}

async fn check_content(store: &LocalStore, acknowledged: &Acknowledged) {
    for (stored, chunk) in &acknowledged.0 {
        let content = store.read(stored.location, chunk.id).await;
        assert!(content.unwrap() == chunk.data, "{:?}", stored.location);
    }
}

#[tokio::test]
async fn the_power_may_be_cut_at_any_step() {
    let rounds = rounds();
    let (io, registry) = (FaultyIo::new(1 << 40), Arc::new(MemoryRegistry::new()));
    let (store, _) = LocalStore::open(small(&io, &registry)).await.unwrap();
    live(&store, &rounds, &mut Acknowledged::default())
        .await
        .unwrap();
    store.close().await;
    let steps = io.steps();
    assert!(steps > 40, "the life is too short: {steps} steps");
    for step in 1..=steps {
        let (io, registry) = (FaultyIo::new(1 << 40), Arc::new(MemoryRegistry::new()));
        io.cut_power_at(step);
        let mut acknowledged = Acknowledged::default();
        let (store, _) = LocalStore::open(small(&io, &registry)).await.unwrap();
        let _ = live(&store, &rounds, &mut acknowledged).await;
        store.close().await;
        for seed in 0..3 {
            let after = io.reboot(step * 10 + seed);
            let registry = Arc::new(registry.restored_copy());
            check_survivor(&after, &registry, &acknowledged).await;
        }
    }
}

#[tokio::test]
async fn the_process_may_end_at_any_call_of_the_registry() {
    let rounds = rounds();
    for calls in 0..16 {
        let (io, registry) = (FaultyIo::new(1 << 40), Arc::new(MemoryRegistry::new()));
        let mut acknowledged = Acknowledged::default();
        let (store, _) = LocalStore::open(small(&io, &registry)).await.unwrap();
        registry.fail_after(calls);
        let _ = live(&store, &rounds, &mut acknowledged).await;
        store.close().await;
        registry.fail_after(u64::MAX);
        let after = io.reboot(calls);
        check_survivor(&after, &registry, &acknowledged).await;
    }
}
