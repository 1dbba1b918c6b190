//! Gives containers back: closes the sealed ones, frees frames without a name, copies the last pages out of those that are mostly
//! garbage, and removes those in which nothing is live.
//!
//! ```text
//!              close                 settle                        remove
//!   Sealed ------------> Closed -----------------> Settled ---------------------> Removed
//!            no frame gets      every frame without     live_bytes = 0, and no record
//!            a name any more    a name is freed         was seen to name a frame
//! ```
//!
//! Safety
//! - A put whose frame was stored before its container closed, and that commits after, finds it closed in its transaction and stores its
//!   bytes again. So what has no name in a closed container never gets one.
//! - A container is removed only if it was closed before this cycle looked at any record, if no record named it then or all that did were
//!   swept or moved since, and if the transactional count says the same.
//! - A page moves by a transaction that changes its record from the old place to the new one, if it still is at the old one. A reader that
//!   looked at the record before finds the old frame, or fails and reads the record again.
//!
//! A crash anywhere leaves a state of the picture; the next cycle goes on from there. Frames that were copied and got no name are garbage.

use super::Amount;
use super::pace::Pace;
use crate::error::chain;
use crate::pages::catalog_location;
use crate::snapshot_frame::SnapshotFrame;
use crate::{Engine, limits};
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::containers::ContainerUse;
use catalog::{DbExt, Location, Txn};
use chunkstore::{ChunkKind, ContainerId, ContainerKind, ContainerState, FoundFrame, NewChunk};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Frames looked at in one step.
const FRAMES: usize = 256;

/// What was given back.
#[derive(Clone, Default)]
pub(crate) struct Reclaimed {
    pub(crate) leaked: Amount,
    pub(crate) moved: Amount,
    pub(crate) removed: Amount,
    /// Whether containers were closed that the next cycle may give back.
    pub(crate) unsettled: bool,
}

/// Why containers could not be given back. What was done stays done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReclaimFault {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Chunks(#[from] chunkstore::Error),
}

/// A frame that is to move, and what names it.
#[derive(Clone, Copy)]
enum Named {
    Chunk(ChunkRecord),
    Snapshot(types::SnapshotId),
}

impl Engine {
    /// Every container that exists, as the catalog has it.
    pub(crate) async fn containers_in_use(&self) -> Result<Vec<ContainerUse>, catalog::Error> {
        let mut all: Vec<ContainerUse> = Vec::new();
        loop {
            let after = all.last().map_or(0, |last| last.container.id);
            let page = self.inner.db.view(move |txn| {
                Box::pin(async move { catalog::containers::in_use(txn, after, 5_000).await })
            });
            let page = page.await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Gives back what can be. `before` are the containers as they were before any record was looked at, `named` the bytes that
    /// records were seen to name, by container.
    pub(crate) async fn reclaim(
        &self,
        before: &[ContainerUse],
        named: &mut HashMap<u64, u64>,
        pace: &mut Pace,
    ) -> Result<Reclaimed, ReclaimFault> {
        let mut total = Reclaimed::default();
        pace.step("giving containers back");
        for seen in before {
            let id = seen.container.id;
            let state = state(seen.container.state);
            if state == Some(ContainerState::Sealed) {
                self.set_state(id, ContainerState::Sealed, ContainerState::Closed)
                    .await?;
                total.unsettled = true;
            } else if state.is_some_and(ContainerState::is_complete) {
                match self.reclaim_closed(seen, named, pace, &mut total).await {
                    Ok(()) => {}
                    // One that cannot be read or written does not keep the others from it.
                    Err(ReclaimFault::Chunks(error)) => {
                        self.inner.metrics.reclaims_failed.inc();
                        tracing::error!(
                            container = id,
                            error = chain(&error),
                            "a container could not be given back; the next collection tries again"
                        );
                    }
                    Err(fault @ ReclaimFault::Catalog(_)) => return Err(fault),
                }
            }
            pace.done(1).await;
        }
        Ok(total)
    }

    async fn reclaim_closed(
        &self,
        seen: &ContainerUse,
        named: &mut HashMap<u64, u64>,
        pace: &mut Pace,
        total: &mut Reclaimed,
    ) -> Result<(), ReclaimFault> {
        let id = seen.container.id;
        let Some(now) = self.container(id).await? else {
            return Ok(());
        };
        // Names only leave a closed container, so there are at most as many as were seen.
        let seen_named = named.get(&id).copied().unwrap_or(0);
        let Some(live_bytes) = u64::try_from(now.live_bytes)
            .ok()
            .filter(|live_bytes| *live_bytes <= seen_named)
        else {
            tracing::error!(
                container = id,
                live_bytes = now.live_bytes,
                seen_named,
                "the catalog miscounts what lives in a container, which is kept: run an audit"
            );
            return Ok(());
        };
        if live_bytes == 0 && seen_named == 0 {
            return self.remove(&now, total).await;
        }
        if state(now.container.state) == Some(ContainerState::Closed) {
            self.settle(&now, pace, total).await?;
        }
        let is_pages = now.container.kind == ContainerKind::Pages as u8;
        let mostly_garbage = live_bytes * 100 < now.container.bytes * limits::COMPACT_BELOW_PERCENT;
        if is_pages && mostly_garbage {
            let moved = self.compact(id, pace).await?;
            total.moved.count += moved.count;
            total.moved.bytes += moved.bytes;
            if let Some(named) = named.get_mut(&id) {
                *named = named.saturating_sub(moved.bytes);
            }
            let left = named.get(&id).copied().unwrap_or(0);
            if left == 0
                && let Some(now) = self.container(id).await?
                && now.live_bytes == 0
            {
                self.remove(&now, total).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, now: &ContainerUse, total: &mut Reclaimed) -> Result<(), ReclaimFault> {
        let id = ContainerId(now.container.id);
        self.inner.chunks.remove_container(id).await?;
        total.removed.add(now.container.bytes);
        self.inner.metrics.removed_containers.inc();
        tracing::debug!(container = id.0, bytes = now.container.bytes, "removed");
        Ok(())
    }

    async fn container(&self, id: u64) -> Result<Option<ContainerUse>, catalog::Error> {
        let found = self
            .inner
            .db
            .view(move |txn| Box::pin(async move { catalog::containers::get(txn, id).await }))
            .await?;
        Ok(found.filter(|found| found.container.state != ContainerState::Removed as u8))
    }

    async fn set_state(
        &self,
        id: u64,
        from: ContainerState,
        to: ContainerState,
    ) -> Result<bool, catalog::Error> {
        let changed = self.inner.db.transact(move |txn| {
            Box::pin(
                async move { catalog::containers::set_state(txn, id, from as u8, to as u8).await },
            )
        });
        changed.await
    }

    /// Frees the frames that no record names: puts that failed after their frame was stored. Pages are not freed one by one.
    async fn settle(
        &self,
        closed: &ContainerUse,
        pace: &mut Pace,
        total: &mut Reclaimed,
    ) -> Result<(), ReclaimFault> {
        let id = closed.container.id;
        if closed.container.kind == ContainerKind::Blocks as u8 {
            self.free_leaked(id, pace, total).await?;
        }
        self.set_state(id, ContainerState::Closed, ContainerState::Settled)
            .await?;
        Ok(())
    }

    async fn free_leaked(
        &self,
        id: u64,
        pace: &mut Pace,
        total: &mut Reclaimed,
    ) -> Result<(), ReclaimFault> {
        let mut from = 0;
        loop {
            let frames = self
                .inner
                .chunks
                .frames(ContainerId(id), from, FRAMES)
                .await?;
            let Some(last) = frames.last() else {
                return Ok(());
            };
            from = last.location.offset + u64::from(last.location.length);
            let freed = self.inner.db.transact(move |txn| {
                let frames = frames.clone();
                Box::pin(async move { free_unnamed(txn, &frames).await })
            });
            let freed = freed.await?;
            total.leaked.count += freed.count;
            total.leaked.bytes += freed.bytes;
            if freed.count > 0 {
                self.inner.frees.notify_one();
            }
            pace.done(0).await;
        }
    }

    /// Copies the frames that records name out of a closed container of pages. Condemned chunks stay: the next cycle sweeps them.
    async fn compact(&self, id: u64, pace: &mut Pace) -> Result<Amount, ReclaimFault> {
        let mut moved = Amount::default();
        let mut from = 0;
        loop {
            let frames = self
                .inner
                .chunks
                .frames(ContainerId(id), from, FRAMES)
                .await?;
            let Some(last) = frames.last() else {
                return Ok(moved);
            };
            from = last.location.offset + u64::from(last.location.length);
            let done = self.move_frames(frames).await?;
            moved.count += done.count;
            moved.bytes += done.bytes;
            self.inner.metrics.moved_chunks.inc_by(done.count);
            pace.done(0).await;
        }
    }

    async fn move_frames(&self, frames: Vec<FoundFrame>) -> Result<Amount, ReclaimFault> {
        let records = self.records_of(&frames).await?;
        let (mut batch, mut moves) = (Vec::new(), Vec::new());
        for frame in &frames {
            let from = catalog_location(frame.location);
            let record = records.get(&(frame.id.domain, frame.id.name));
            let record = record.filter(|record| record.location == from);
            let is_snapshot = frame.id.kind == ChunkKind::Snapshot;
            if record.is_some_and(|record| record.state != ChunkState::Live)
                || (record.is_none() && !is_snapshot)
            {
                continue;
            }
            let data = match self.inner.chunks.read(frame.location, frame.id).await {
                Ok(data) => data,
                Err(error @ chunkstore::Error::Corrupt { .. }) => {
                    // It stays where rescue may look at it, and keeps its container. A scrub marks and names it.
                    tracing::error!(
                        chunk = %frame.id.name,
                        error = chain(&error),
                        "a frame cannot be moved"
                    );
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let named = match record {
                Some(record) => Named::Chunk(*record),
                None => match SnapshotFrame::decode(&data) {
                    Ok(snapshot) => Named::Snapshot(snapshot.id),
                    Err(_) => continue,
                },
            };
            if let Named::Snapshot(id) = named
                && !self.is_frame_of(id, from).await?
            {
                continue;
            }
            moves.push((named, from));
            batch.push(NewChunk {
                id: frame.id,
                digest: frame.digest,
                data,
            });
        }
        if batch.is_empty() {
            return Ok(Amount::default());
        }
        let stored = self.inner.chunks.append(batch).await?;
        let moves: Arc<Vec<_>> = Arc::new(
            moves
                .into_iter()
                .zip(stored)
                .map(|((named, from), stored)| (named, from, stored))
                .collect(),
        );
        let keys: Vec<_> = moves
            .iter()
            .filter_map(|(named, ..)| match named {
                Named::Chunk(record) => Some(record.key()),
                Named::Snapshot(_) => None,
            })
            .collect();
        let snapshots: Vec<_> = moves
            .iter()
            .filter_map(|(named, ..)| match named {
                Named::Chunk(_) => None,
                Named::Snapshot(id) => Some(*id),
            })
            .collect();
        let moved = self.inner.db.transact(move |txn| {
            let moves = Arc::clone(&moves);
            Box::pin(async move { rename(txn, &moves).await })
        });
        let moved = moved.await?;
        for key in keys {
            self.inner.known_chunks.forget(&key);
        }
        for id in snapshots {
            self.inner.snapshots.forget(id);
        }
        Ok(moved)
    }

    async fn records_of(
        &self,
        frames: &[FoundFrame],
    ) -> Result<HashMap<ChunkKey, ChunkRecord>, catalog::Error> {
        let keys: Arc<Vec<ChunkKey>> = Arc::new(
            frames
                .iter()
                .map(|frame| (frame.id.domain, frame.id.name))
                .collect(),
        );
        let records = self.inner.db.view(move |txn| {
            let keys = Arc::clone(&keys);
            Box::pin(async move { catalog::chunks::find(txn, &keys).await })
        });
        records.await
    }

    async fn is_frame_of(
        &self,
        id: types::SnapshotId,
        frame: Location,
    ) -> Result<bool, catalog::Error> {
        let record = self
            .inner
            .db
            .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }))
            .await?;
        let finished = record.and_then(|record| record.finished);
        Ok(finished.is_some_and(|finished| finished.frame == frame))
    }
}

fn state(number: u8) -> Option<ContainerState> {
    [
        ContainerState::Open,
        ContainerState::Sealed,
        ContainerState::Closed,
        ContainerState::Settled,
    ]
    .into_iter()
    .find(|state| *state as u8 == number)
}

/// Notes those of the frames that no record names to be freed.
async fn free_unnamed(txn: &mut dyn Txn, frames: &[FoundFrame]) -> Result<Amount, catalog::Error> {
    let keys: Vec<ChunkKey> = frames
        .iter()
        .map(|frame| (frame.id.domain, frame.id.name))
        .collect();
    let records = catalog::chunks::find(txn, &keys).await?;
    let mut unnamed = Vec::new();
    for frame in frames {
        let location = catalog_location(frame.location);
        let record = records.get(&(frame.id.domain, frame.id.name));
        if record.is_none_or(|record| record.location != location) {
            unnamed.push(location);
        }
    }
    let mut freed = Amount::default();
    for location in unnamed {
        // Those that were swept, and only wait to be freed, are noted already.
        if catalog::containers::insert_frees(txn, &[location]).await? == 1 {
            freed.add(u64::from(location.length));
        }
    }
    Ok(freed)
}

/// Gives names from old frames to new ones. What was swept, deleted or found damaged meanwhile keeps what it has.
async fn rename(
    txn: &mut dyn Txn,
    moves: &[(Named, Location, chunkstore::Stored)],
) -> Result<Amount, catalog::Error> {
    let mut moved = Amount::default();
    let containers: Vec<u64> = moves
        .iter()
        .map(|(_, _, stored)| stored.location.container.0)
        .collect();
    let nameable = catalog::containers::nameable(txn, &containers).await?;
    let keys: Vec<ChunkKey> = moves
        .iter()
        .filter_map(|(named, ..)| match named {
            Named::Chunk(record) => Some(record.key()),
            Named::Snapshot(_) => None,
        })
        .collect();
    let records = catalog::chunks::find(txn, &keys).await?;
    let mut written = Vec::new();
    let (mut left, mut reached) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, u64>::new());
    for (named, from, stored) in moves {
        let to = catalog_location(stored.location);
        if !nameable.contains(&to.container) {
            continue;
        }
        let renamed = match named {
            Named::Chunk(record) => match records.get(&record.key()) {
                Some(now) if now.location == *from && now.state != ChunkState::Damaged => {
                    written.push(ChunkRecord {
                        location: to,
                        stored_bytes: stored.stored_bytes,
                        codec: stored.codec as u8,
                        ..*now
                    });
                    true
                }
                Some(_) | None => false,
            },
            Named::Snapshot(id) => catalog::snapshots::move_frame(txn, *id, *from, to).await?,
        };
        if renamed {
            moved.add(u64::from(from.length));
            *left.entry(from.container).or_default() += u64::from(from.length);
            *reached.entry(to.container).or_default() += u64::from(to.length);
        }
    }
    for (container, bytes) in left {
        catalog::containers::sub_live(txn, container, bytes).await?;
    }
    for (container, bytes) in reached {
        catalog::containers::add_live(txn, container, bytes).await?;
    }
    catalog::chunks::put(txn, &written).await?;
    Ok(moved)
}
