//! The containers of the catalog, against those of the store and against what records name in them.

use super::findings::Flaw;
use super::{Audit, Fault, ROWS};
use crate::touched::is_damage;
use catalog::DbExt;
use catalog::containers::ContainerUse;
use chunkstore::{ContainerId, ContainerKind, ContainerState, ContainerStatus};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

const REMOVED: u8 = ContainerState::Removed as u8;

/// Containers whose sums are compared in one transaction.
const SUMS: usize = 128;

/// A container, and what was found of it.
struct Held {
    recorded: ContainerUse,
    /// Bytes that records were seen to name.
    named: i64,
}

/// Every container that is not removed, as the audit found them.
pub(super) struct Containers(BTreeMap<u64, Held>);

impl Containers {
    pub(super) async fn read(audit: &Audit) -> Result<Containers, Fault> {
        let recorded = all_recorded(audit).await?.into_iter();
        let held = recorded.map(|recorded| {
            let held = Held { recorded, named: 0 };
            (held.recorded.container.id, held)
        });
        Ok(Containers(held.collect()))
    }

    /// The container as it was recorded when it was last looked at; nothing when it does not exist.
    pub(super) fn get(&self, id: u64) -> Option<&ContainerUse> {
        self.0.get(&id).map(|held| &held.recorded)
    }

    /// Takes over what a later read has found.
    pub(super) fn learn(&mut self, id: u64, recorded: Option<ContainerUse>) {
        if let Some(recorded) = recorded.filter(|found| found.container.state != REMOVED) {
            let held = Held { recorded, named: 0 };
            self.0.entry(id).or_insert(held);
        }
    }

    /// Counts a frame that a record names.
    pub(super) fn name(&mut self, id: u64, bytes: u32) {
        if let Some(held) = self.0.get_mut(&id) {
            held.named += i64::from(bytes);
        }
    }

    pub(super) async fn compare_with_store(&self, audit: &mut Audit) -> Result<(), Fault> {
        audit.saw("containers", self.0.len() as u64);
        let last = audit
            .db
            .view(|txn| Box::pin(async move { catalog::containers::last_reserved(txn).await }));
        let last = last.await?;
        for id in self.0.range(last.saturating_add(1)..).map(|(id, _)| *id) {
            // One that was made since has raised the counter, too.
            let last = audit
                .db
                .view(|txn| Box::pin(async move { catalog::containers::last_reserved(txn).await }));
            let last = last.await?;
            if id > last {
                audit.find(Flaw::ContainerId, || {
                    format!("container {id}, and {last} was the last to be given out")
                });
            }
        }
        let recorded = |id: &u64| self.get(*id).map(|found| found.container);
        let there = listed(audit).await?;
        let ids: BTreeSet<u64> = self.0.keys().chain(there.keys()).copied().collect();
        let mut suspicious = Vec::new();
        for id in ids {
            let recorded = recorded(&id).into_iter().collect::<Vec<_>>();
            if faults(recorded.first(), there.get(&id)).next().is_some() {
                suspicious.push(id);
            }
        }
        if suspicious.is_empty() {
            return Ok(());
        }
        // Files first: a container is recorded after its file was made, and before it is removed.
        let there = listed(audit).await?;
        let last = last_reserved(audit).await?;
        for id in suspicious {
            let recorded = record_of(audit, id).await?.map(|found| found.container);
            let faults: Vec<_> = faults(recorded.as_ref(), there.get(&id)).collect();
            for flaw in faults {
                let flaw = match flaw {
                    Flaw::ContainerUnknown if id <= last && !holds_frames(audit, id).await? => {
                        Flaw::ContainerLeftover
                    }
                    flaw => flaw,
                };
                audit.find(flaw, || format!("container {id}"));
            }
        }
        Ok(())
    }

    /// Containers whose sums did not agree all the time are compared once more, each with its records in one transaction.
    pub(super) async fn compare_live_bytes(&self, audit: &mut Audit) -> Result<(), Fault> {
        let mut suspicious = Vec::new();
        for now in all_recorded(audit).await? {
            let id = now.container.id;
            let agreed = self.0.get(&id).is_some_and(|held| {
                held.recorded.live_bytes == held.named && now.live_bytes == held.named
            });
            if !agreed {
                suspicious.push(id);
            }
        }
        for ids in suspicious.chunks(SUMS) {
            let ids: Arc<Vec<u64>> = Arc::new(ids.to_vec());
            let sums = audit.db.view(move |txn| {
                let ids = Arc::clone(&ids);
                Box::pin(async move {
                    let named = catalog::audit::named_bytes(txn, &ids).await?;
                    let mut sums = Vec::with_capacity(ids.len());
                    for id in ids.iter() {
                        let recorded = catalog::containers::get(txn, *id).await?;
                        let named = named.get(id).copied().unwrap_or(0);
                        let named = i64::try_from(named).unwrap_or(i64::MAX);
                        sums.extend(recorded.map(|recorded| (recorded, named)));
                    }
                    Ok(sums)
                })
            });
            for (recorded, named) in sums.await? {
                let (id, live) = (recorded.container.id, recorded.live_bytes);
                let flaw = match live.cmp(&named) {
                    std::cmp::Ordering::Less => Flaw::LiveBytesLow,
                    std::cmp::Ordering::Equal => continue,
                    std::cmp::Ordering::Greater => Flaw::LiveBytesHigh,
                };
                audit.find(flaw, || {
                    format!("container {id} counts {live} live bytes, records name {named}")
                });
            }
        }
        Ok(())
    }
}

/// What is wrong with a container, given what is recorded of it and what the store has.
fn faults(
    recorded: Option<&catalog::containers::ContainerRecord>,
    there: Option<&ContainerStatus>,
) -> impl Iterator<Item = Flaw> + use<> {
    let recorded = recorded.filter(|recorded| recorded.state != REMOVED);
    let faults = match (recorded, there) {
        (None, None) => [None, None],
        (Some(_), None) => [Some(Flaw::ContainerMissing), None],
        (None, Some(_)) => [Some(Flaw::ContainerUnknown), None],
        (Some(recorded), Some(there)) => {
            let other_kind = recorded.kind != there.kind as u8;
            // An open one is cut off before its end is recorded.
            let is_open = recorded.state == ContainerState::Open as u8;
            let short = !is_open && there.bytes < recorded.bytes;
            [
                other_kind.then_some(Flaw::ContainerKind),
                short.then_some(Flaw::ContainerShort),
            ]
        }
    };
    faults.into_iter().flatten()
}

async fn all_recorded(audit: &Audit) -> Result<Vec<ContainerUse>, Fault> {
    let mut all: Vec<ContainerUse> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.container.id);
        let page = audit.db.view(move |txn| {
            Box::pin(async move { catalog::containers::in_use(txn, after, ROWS).await })
        });
        let page = page.await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn last_reserved(audit: &Audit) -> Result<u64, Fault> {
    let last = audit
        .db
        .view(|txn| Box::pin(async move { catalog::containers::last_reserved(txn).await }));
    Ok(last.await?)
}

async fn record_of(audit: &Audit, id: u64) -> Result<Option<ContainerUse>, Fault> {
    let recorded = audit
        .db
        .view(move |txn| Box::pin(async move { catalog::containers::get(txn, id).await }));
    Ok(recorded.await?)
}

async fn listed(audit: &Audit) -> Result<HashMap<u64, ContainerStatus>, Fault> {
    let there = audit.chunks.containers().await?.into_iter();
    Ok(there.map(|status| (status.id.0, status)).collect())
}

/// Whether there is a frame in a container that is not recorded. One that cannot be told counts as one.
async fn holds_frames(audit: &Audit, id: u64) -> Result<bool, Fault> {
    match audit.chunks.frames(ContainerId(id), 0, 1).await {
        Ok(frames) => Ok(!frames.is_empty()),
        Err(chunkstore::Error::Closed { .. }) => Ok(true),
        Err(error) if is_damage(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The kind of container that a chunk belongs in.
pub(super) fn container_kind(kind: chunkstore::ChunkKind) -> ContainerKind {
    match kind {
        chunkstore::ChunkKind::Block => ContainerKind::Blocks,
        chunkstore::ChunkKind::Page | chunkstore::ChunkKind::Snapshot => ContainerKind::Pages,
    }
}
