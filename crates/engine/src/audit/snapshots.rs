//! Snapshots: the own frames of completed ones, and their counts against their block maps.

use super::containers::Containers;
use super::counts::Counts;
use super::findings::Flaw;
use super::places::{Named, Places};
use super::records::{place_fault, place_words};
use super::{Audit, AuditDepth, Fault, ROWS};
use crate::error::chain;
use crate::pages::store_location;
use crate::scrub::check::own_frame;
use crate::touched::is_damage;
use catalog::DbExt;
use catalog::containers::ContainerUse;
use catalog::snapshots::{SnapshotRecord, State};
use chunkstore::ChunkKind;
use types::{Digest, SnapshotId};

pub(super) async fn look(
    audit: &mut Audit,
    containers: &mut Containers,
    places: &mut Places,
) -> Result<(), Fault> {
    let mut counts = Counts::default();
    let mut count = 0;
    for state in [State::Open, State::Sealed, State::Completed] {
        let mut after = None;
        loop {
            let snapshots = audit.db.view(move |txn| {
                Box::pin(async move { catalog::snapshots::in_state(txn, state, after, ROWS).await })
            });
            let snapshots = snapshots.await?;
            let Some(last) = snapshots.last() else { break };
            after = Some(last.id);
            count += snapshots.len() as u64;
            for snapshot in snapshots {
                look_at_count(audit, &mut counts, &snapshot).await?;
                if state == State::Completed {
                    look_at_frame(audit, containers, places, snapshot).await?;
                }
            }
        }
    }
    audit.saw("snapshots", count);
    Ok(())
}

/// The block map of a snapshot, or of its base, and the number of blocks that its record says.
fn map_of(snapshot: &SnapshotRecord) -> Option<(Digest, u64)> {
    match snapshot.state {
        State::Open | State::Sealed => Some((snapshot.base_root, snapshot.base_count)),
        State::Completed => snapshot
            .finished
            .map(|finished| (finished.root, finished.full_count)),
        State::Failed => None,
    }
}

async fn look_at_count(
    audit: &mut Audit,
    counts: &mut Counts,
    snapshot: &SnapshotRecord,
) -> Result<(), Fault> {
    let Some((root, recorded)) = map_of(snapshot) else {
        return Ok(());
    };
    // Pages that cannot be read have been told.
    let Some(counted) = counts.of_map(audit, snapshot.domain, root).await? else {
        return Ok(());
    };
    if u64::from(counted) == recorded {
        return Ok(());
    }
    let now = get(audit, snapshot.id).await?;
    if now.as_ref().and_then(map_of) == Some((root, recorded)) {
        audit.find(Flaw::SnapshotCount, || {
            format!(
                "{}: its record says {recorded} blocks, its block map has {counted}",
                snapshot.id
            )
        });
    }
    Ok(())
}

async fn look_at_frame(
    audit: &mut Audit,
    containers: &mut Containers,
    places: &mut Places,
    snapshot: SnapshotRecord,
) -> Result<(), Fault> {
    // One without a root has ended the mark.
    let Some((frame, place)) = own_frame(&snapshot) else {
        return Ok(());
    };
    if place_fault(ChunkKind::Snapshot, place, containers.get(place.container)).is_some() {
        look_at_place_again(audit, containers, snapshot.id).await?;
    }
    containers.name(place.container, place.length);
    // What is wrong by itself need not be compared.
    if place_fault(ChunkKind::Snapshot, place, containers.get(place.container)).is_none() {
        let named = Named::of_snapshot(snapshot.id, frame.id, place);
        places.push(named).await?;
    }
    if audit.depth == AuditDepth::Catalog {
        return Ok(());
    }
    let read = audit.chunks.read(store_location(place), frame.id).await;
    let reason = match read {
        Ok(bytes) if bytes == frame.data => return Ok(()),
        Ok(_) => "it says something else than the record".to_owned(),
        Err(error) if is_damage(&error) => chain(&error),
        Err(error) => return Err(error.into()),
    };
    // It may have moved, or gone with its snapshot.
    let now = get(audit, snapshot.id).await?;
    if now.and_then(|now| now.finished) == snapshot.finished {
        audit.find(Flaw::SnapshotFrame, || {
            format!("{} in {}: {reason}", snapshot.id, place_words(place))
        });
    }
    Ok(())
}

async fn look_at_place_again(
    audit: &mut Audit,
    containers: &mut Containers,
    id: SnapshotId,
) -> Result<(), Fault> {
    let found = audit.db.view(move |txn| {
        Box::pin(async move {
            let snapshot = catalog::snapshots::get(txn, id).await?;
            let Some(finished) = snapshot.and_then(|snapshot| snapshot.finished) else {
                return Ok(None);
            };
            let container = catalog::containers::get(txn, finished.frame.container).await?;
            Ok(Some((finished.frame, container)))
        })
    });
    let found: Option<(catalog::Location, Option<ContainerUse>)> = found.await?;
    let Some((place, container)) = found else {
        return Ok(());
    };
    if let Some(flaw) = place_fault(ChunkKind::Snapshot, place, container.as_ref()) {
        audit.find(flaw, || {
            format!("the frame of {id} in {}", place_words(place))
        });
    }
    containers.learn(place.container, container);
    Ok(())
}

async fn get(audit: &Audit, id: SnapshotId) -> Result<Option<SnapshotRecord>, Fault> {
    let found = audit
        .db
        .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }));
    Ok(found.await?)
}
