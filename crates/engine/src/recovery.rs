//! After a crash: decides what the segments that were open still hold.
//!
//! The chunk store found their frames; the catalog says which of them have a name. The others are puts that were never
//! acknowledged, and torn writes: they are freed, and the segment is sealed. This may run beside requests, which
//! store their chunks in new segments and never give a name to an old frame.

use crate::pages::catalog_location;
use catalog::chunks::ChunkKey;
use catalog::{Db, DbExt};
use chunkstore::{ChunkKind, LocalStore, RecoveredSegment};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Look-ups in one transaction.
const KEYS: usize = 1_000;

/// Settles the segments that [`LocalStore::open`] answered. May be repeated.
///
/// # Errors
/// When catalog or store fail; the segments that were not settled stay open and are found again at the next start.
pub async fn settle_recovered(
    db: &dyn Db,
    store: &LocalStore,
    recovered: Vec<RecoveredSegment>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut outcome = Ok(());
    for segment in recovered {
        // One that cannot be settled does not keep the others open.
        if let Err(error) = settle(db, store, &segment).await {
            tracing::error!(
                segment = segment.container.0,
                error,
                "a segment could not be settled"
            );
            outcome = Err(error);
        }
    }
    outcome
}

async fn settle(
    db: &dyn Db,
    store: &LocalStore,
    segment: &RecoveredSegment,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (container, frames) = (segment.container, segment.frames.len());
    let dead = dead_ranges(db, segment).await?;
    let freed = dead.len();
    store.finish_recovery(container, dead).await?;
    tracing::info!(
        segment = container.0,
        frames,
        freed,
        "sealed a segment that was left open"
    );
    Ok(())
}

async fn dead_ranges(
    db: &dyn Db,
    segment: &RecoveredSegment,
) -> Result<Vec<chunkstore::Location>, catalog::Error> {
    let container = segment.container.0;
    let mut named = BTreeSet::new();
    for frames in segment.frames.chunks(KEYS) {
        let keys: Vec<ChunkKey> = frames
            .iter()
            .map(|frame| (frame.id.domain, frame.id.name))
            .collect();
        let keys = Arc::new(keys);
        let records = db
            .view(move |txn| {
                let keys = Arc::clone(&keys);
                Box::pin(async move { catalog::chunks::find(txn, &keys).await })
            })
            .await?;
        for frame in frames {
            let record = records.get(&(frame.id.domain, frame.id.name));
            if record.is_some_and(|record| record.location == catalog_location(frame.location)) {
                named.insert(frame.location.offset);
            }
        }
    }
    if segment
        .frames
        .iter()
        .any(|frame| frame.id.kind == ChunkKind::Snapshot)
    {
        let offsets = db
            .view(move |txn| {
                Box::pin(async move { catalog::snapshots::frames_in(txn, container).await })
            })
            .await?;
        named.extend(offsets);
    }
    let mut dead: Vec<_> = segment
        .frames
        .iter()
        .map(|frame| frame.location)
        .filter(|location| !named.contains(&location.offset))
        .collect();
    dead.extend(unnamed_gaps(db, segment).await?);
    Ok(dead)
}

/// The gaps in which no record's frame begins: a frame whose header rotted is kept for rescue.
async fn unnamed_gaps(
    db: &dyn Db,
    segment: &RecoveredSegment,
) -> Result<Vec<chunkstore::Location>, catalog::Error> {
    if segment.gaps.is_empty() {
        return Ok(Vec::new());
    }
    let container = segment.container.0;
    let recorded: Vec<u64> = db
        .view(move |txn| {
            Box::pin(async move {
                let chunks = catalog::chunks::locations_in(txn, container).await?;
                let mut offsets = catalog::snapshots::frames_in(txn, container).await?;
                offsets.extend(chunks.iter().map(|location| location.offset));
                Ok(offsets)
            })
        })
        .await?;
    let named = |gap: &chunkstore::Location| {
        let end = gap.offset + u64::from(gap.length);
        recorded
            .iter()
            .any(|offset| (gap.offset..end).contains(offset))
    };
    Ok(segment
        .gaps
        .iter()
        .filter(|gap| !named(gap))
        .copied()
        .collect())
}
