//! Giving space back: holes in segments of blocks, whole containers, and what recovery found to be dead.
//!
//! Invariants
//! - F1: only what the caller names is given back; a hole never touches the frame beside it.
//! - F2: each of these may be repeated after a crash, since a location is never written twice.
//! - F3: when a call has returned, what it gave back stays given back after a power cut: the caller forgets it.

use super::LocalStore;
use super::keeper::truncate;
use super::recovery::RecoveredSegment;
use super::segment::SEGMENT_HEADER_BYTES;
use super::shared::Shared;
use crate::{
    ContainerId, ContainerKind, ContainerState, ContainerStatus, Error, Location, frame, layout,
};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

impl LocalStore {
    /// Seals a segment that [`LocalStore::open`] answered: gives the space of what is dead back, cuts the tail off behind
    /// the last thing that is not dead, and removes the segment when nothing is left. `dead` holds locations of
    /// frames and gaps of that segment that no record names. May be repeated, also after a crash.
    pub async fn finish_recovery(
        &self,
        segment: ContainerId,
        dead: Vec<Location>,
    ) -> Result<(), Error> {
        let Some(found) = self.recovered().get(&segment).cloned() else {
            return Ok(());
        };
        let end = found.live_end(&dead);
        if end == SEGMENT_HEADER_BYTES as u64 {
            self.remove(ContainerStatus {
                id: segment,
                kind: found.kind,
                state: ContainerState::Open,
                bytes: end,
            })
            .await?;
        } else {
            let dead: Vec<Location> = dead
                .into_iter()
                .filter(|location| location.offset < end)
                .collect();
            if found.kind == ContainerKind::Blocks {
                self.free_locations(dead).await?;
            }
            let shared = Arc::clone(&self.shared);
            let name = layout::segment_name(segment, found.kind);
            self.chore(move || truncate(&shared, &name, end)).await?;
            let state = ContainerState::Sealed;
            let status = ContainerStatus {
                id: segment,
                kind: found.kind,
                state,
                bytes: end,
            };
            self.shared.registry.record(status).await?;
            self.shared.remember(status);
        }
        self.recovered().remove(&segment);
        Ok(())
    }

    /// The status of a container that nothing is appended to any more.
    pub(super) fn complete(&self, container: ContainerId) -> Result<ContainerStatus, Error> {
        let status = self.shared.status(container);
        let status = status.ok_or(Error::NotFound { container })?;
        if status.state.is_complete() {
            return Ok(status);
        }
        let reason = format!("segment {} may still be appended to", container.0);
        Err(Error::Closed { reason })
    }

    /// Removes a segment in which nothing is live.
    ///
    /// In this order: cut the file down to its header, so that what a crash leaves behind is known to hold nothing;
    /// removed in the registry; then the file itself.
    pub(super) async fn remove(&self, status: ContainerStatus) -> Result<(), Error> {
        let name = layout::segment_name(status.id, status.kind);
        let shared = Arc::clone(&self.shared);
        let cut = name.clone();
        self.chore(move || truncate(&shared, &cut, SEGMENT_HEADER_BYTES as u64))
            .await?;
        self.shared
            .registry
            .record(ContainerStatus {
                state: ContainerState::Removed,
                ..status
            })
            .await?;
        self.shared.forget(status.id);
        self.reader.close(status.id);
        let shared = Arc::clone(&self.shared);
        self.chore(move || {
            shared
                .io
                .remove(&name)
                .map_err(|source| shared.io_error("removing a segment", source))?;
            let synced = shared.io.sync_dir();
            synced.map_err(|source| shared.io_error("syncing the segment directory", source))
        })
        .await?;
        self.shared.metrics.freed_bytes.add(status.bytes);
        Ok(())
    }

    /// Checks that a block's frame can be where this location says, so that nothing else is ever punched.
    fn check_punchable(&self, location: Location) -> Result<(), Error> {
        let alignment = u64::from(frame::BLOCK_ALIGNMENT);
        let aligned = location.offset.is_multiple_of(alignment)
            && u64::from(location.length).is_multiple_of(alignment);
        if aligned && location.offset >= SEGMENT_HEADER_BYTES as u64 {
            return Ok(());
        }
        Err(Error::Corrupt {
            location,
            reason: "no frame of a block can lie there".to_owned(),
        })
    }

    pub(super) async fn free_locations(&self, mut locations: Vec<Location>) -> Result<(), Error> {
        locations.sort_unstable_by_key(|location| (location.container, location.offset));
        let mut runs: BTreeMap<ContainerId, Vec<(u64, u64)>> = BTreeMap::new();
        for location in locations {
            match self.shared.status(location.container) {
                // Pages are given back with their container, all at once.
                None
                | Some(ContainerStatus {
                    kind: ContainerKind::Pages,
                    ..
                }) => continue,
                Some(ContainerStatus {
                    kind: ContainerKind::Blocks,
                    ..
                }) => {}
            }
            self.check_punchable(location)?;
            let runs = runs.entry(location.container).or_default();
            let (offset, bytes) = (location.offset, u64::from(location.length));
            match runs.last_mut() {
                Some((start, length)) if *start + *length == offset => *length += bytes,
                _ => runs.push((offset, bytes)),
            }
        }
        let shared = Arc::clone(&self.shared);
        self.chore(move || {
            runs.into_iter()
                .try_for_each(|(id, runs)| punch(&shared, id, &runs))
        })
        .await
    }

    fn recovered(&self) -> MutexGuard<'_, BTreeMap<ContainerId, RecoveredSegment>> {
        self.recovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives runs of bytes back, durably, so that the caller may forget them.
fn punch(shared: &Shared, container: ContainerId, runs: &[(u64, u64)]) -> Result<(), Error> {
    let Some(status) = shared.status(container) else {
        return Ok(());
    };
    let failed = |operation| move |source| shared.io_error(operation, source);
    let name = layout::segment_name(container, status.kind);
    let file = match shared.io.open_writer(&name) {
        // Removed since we looked.
        Err(_) if shared.status(container).is_none() => return Ok(()),
        opened => opened.map_err(failed("opening a segment"))?,
    };
    for (offset, bytes) in runs {
        file.punch(*offset, *bytes)
            .map_err(failed("punching a hole"))?;
        shared.metrics.freed_bytes.add(*bytes);
    }
    file.sync().map_err(failed("syncing holes"))
}
