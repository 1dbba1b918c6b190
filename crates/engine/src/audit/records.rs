//! What is referred to against the chunk records, and each record against its container.
//!
//! References and records are both read in the order of keys, each once. What does not fit is looked up again; a reference that still leads
//! to something wrong is confirmed by walking the block maps to it, which also tells which blocks of which snapshots it is. When there are too
//! many of them to hold, they are confirmed by finding all references once more.

use super::containers::{Containers, container_kind};
use super::findings::Flaw;
use super::places::{Named, Places};
use super::{Audit, Fault, ROWS};
use crate::gc::mark::Marked;
use crate::gc::reference::{self, Owner, Reference};
use crate::scrub::Touched;
use crate::scrub::check::kind_of;
use crate::sorter::MEMORY_BYTES;
use crate::touched::{self, Touches};
use catalog::DbExt;
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::containers::ContainerUse;
use chunkstore::{ChunkKind, ContainerState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use types::{Digest, Domain};

/// References in the order of their keys.
struct References {
    sorted: reference::Sorted,
    window: std::vec::IntoIter<Reference>,
    next: Option<Reference>,
    count: u64,
}

/// References that looked wrong, with what they take the chunk for.
type Wrong = BTreeMap<ChunkKey, ChunkKind>;

/// References that still looked wrong at a second look.
struct Suspects {
    sorter: reference::Sorter,
    count: u64,
}

pub(super) async fn compare(
    audit: &mut Audit,
    marked: Marked,
    containers: &mut Containers,
    places: &mut Places,
) -> Result<(), Fault> {
    let unreadable = marked.unreadable.clone();
    let mut references = References::begin(marked.references).await?;
    let scratch = Arc::clone(&audit.scratch);
    let mut suspects = Suspects {
        sorter: reference::Sorter::new(scratch, MEMORY_BYTES, reference::combine),
        count: 0,
    };
    let (mut count, mut unreferenced, mut after) = (0, 0, None);
    loop {
        let records = audit.db.view(move |txn| {
            Box::pin(async move { catalog::chunks::records_after(txn, after, ROWS).await })
        });
        let records = records.await?;
        let Some(last) = records.last() else { break };
        after = Some(last.key());
        count += records.len() as u64;
        let mut wrong = Wrong::new();
        let mut misplaced = Vec::new();
        for record in &records {
            while let Some(reference) = references.next_before(Some(record.key())) {
                wrong.insert(reference.key(), reference.kind);
                references.advance().await?;
            }
            match references.next.filter(|next| next.key() == record.key()) {
                Some(reference) => {
                    if reference_fault(reference.kind, Some(record)).is_some() {
                        wrong.insert(reference.key(), reference.kind);
                    }
                    references.advance().await?;
                }
                None => unreferenced += 1,
            }
            if record_fault(record, containers.get(record.location.container)).is_some() {
                misplaced.push(record.key());
            }
        }
        look_at_records_again(audit, misplaced, containers).await?;
        for record in &records {
            let place = record.location;
            containers.name(place.container, place.length);
            // What is wrong by itself need not be compared.
            if record_fault(record, containers.get(place.container)).is_none() {
                places.push(Named::of_record(record)).await?;
            }
        }
        look_at_references_again(audit, wrong, &mut suspects).await?;
    }
    loop {
        let mut wrong = Wrong::new();
        while let Some(reference) = references.next_before(None)
            && wrong.len() < ROWS as usize
        {
            wrong.insert(reference.key(), reference.kind);
            references.advance().await?;
        }
        if wrong.is_empty() {
            break;
        }
        look_at_references_again(audit, wrong, &mut suspects).await?;
    }
    audit.saw("references", references.count);
    audit.saw("chunk records", count);
    audit.saw("chunks that nothing refers to", unreferenced);
    confirm(audit, suspects, unreadable).await
}

impl References {
    async fn begin(sorted: reference::Sorted) -> Result<References, Fault> {
        let mut references = References {
            sorted,
            window: Vec::new().into_iter(),
            next: None,
            count: 0,
        };
        references.advance().await?;
        Ok(references)
    }

    async fn advance(&mut self) -> Result<(), Fault> {
        self.next = self.window.next();
        if self.next.is_none() {
            let more = self.sorted.next(ROWS as usize).await?;
            let more: Vec<_> = more.iter().map(Reference::decode).collect();
            self.count += more.len() as u64;
            self.window = more.into_iter();
            self.next = self.window.next();
        }
        Ok(())
    }

    /// The next reference, if its key comes before this one; any, without one.
    fn next_before(&self, key: Option<ChunkKey>) -> Option<Reference> {
        self.next
            .filter(|next| key.is_none_or(|key| next.key() < key))
    }
}

/// What is wrong with what a reference leads to.
fn reference_fault(kind: ChunkKind, record: Option<&ChunkRecord>) -> Option<Flaw> {
    let Some(record) = record else {
        return Some(Flaw::ChunkMissing);
    };
    match record.state {
        ChunkState::Condemned => Some(Flaw::ChunkCondemned),
        ChunkState::Damaged => Some(Flaw::ChunkDamaged),
        // One of no kind at all is told by itself.
        ChunkState::Live if kind_of(record.kind).is_some_and(|found| found != kind) => {
            Some(Flaw::ChunkKind)
        }
        ChunkState::Live => None,
    }
}

/// What is wrong with the place that a record names.
fn record_fault(record: &ChunkRecord, container: Option<&ContainerUse>) -> Option<Flaw> {
    match kind_of(record.kind) {
        Some(kind) => place_fault(kind, record.location, container),
        None => Some(Flaw::ChunkKind),
    }
}

/// What is wrong with a place for a chunk of this kind.
pub(super) fn place_fault(
    kind: ChunkKind,
    place: catalog::Location,
    container: Option<&ContainerUse>,
) -> Option<Flaw> {
    let container = container.map(|found| found.container);
    let removed = ContainerState::Removed as u8;
    let Some(container) = container.filter(|container| container.state != removed) else {
        return Some(Flaw::FrameContainer);
    };
    if container.kind != container_kind(kind) as u8 {
        return Some(Flaw::FrameContainerKind);
    }
    let end = place.offset.checked_add(u64::from(place.length));
    if end.is_none_or(|end| end > container.bytes) {
        return Some(Flaw::FrameBeyondEnd);
    }
    None
}

async fn look_at_records_again(
    audit: &mut Audit,
    keys: Vec<ChunkKey>,
    containers: &mut Containers,
) -> Result<(), Fault> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys = Arc::new(keys);
    let found = audit.db.view(move |txn| {
        let keys = Arc::clone(&keys);
        Box::pin(async move {
            let records = catalog::chunks::find(txn, &keys).await?;
            let mut found = Vec::with_capacity(records.len());
            let mut known = HashMap::new();
            for record in records.into_values() {
                let id = record.location.container;
                if let std::collections::hash_map::Entry::Vacant(unknown) = known.entry(id) {
                    unknown.insert(catalog::containers::get(txn, id).await?);
                }
                found.push((record, known[&id]));
            }
            Ok(found)
        })
    });
    for (record, container) in found.await? {
        let place = record.location;
        if let Some(flaw) = record_fault(&record, container.as_ref()) {
            audit.find(flaw, || {
                format!("{} in {}", chunk_words(record.key()), place_words(place))
            });
        }
        containers.learn(place.container, container);
    }
    Ok(())
}

/// Keeps of these references those that still lead to something wrong.
async fn look_at_references_again(
    audit: &Audit,
    wrong: Wrong,
    suspects: &mut Suspects,
) -> Result<(), Fault> {
    if wrong.is_empty() {
        return Ok(());
    }
    let records = touched::find(&*audit.db, wrong.keys().copied().collect()).await?;
    for ((domain, name), kind) in wrong {
        if reference_fault(kind, records.get(&(domain, name))).is_some() {
            let reference = Reference {
                domain,
                digest: Digest::from_bytes(*name.as_bytes()),
                kind,
                owner: Owner::Several,
            };
            suspects.sorter.push(reference.encode()).await?;
            suspects.count += 1;
        }
    }
    Ok(())
}

/// Finds out what still refers to what looks wrong: what nothing refers to any more was only on its way out.
async fn confirm(
    audit: &mut Audit,
    suspects: Suspects,
    domains: BTreeSet<Domain>,
) -> Result<(), Fault> {
    let many = suspects.count > audit.suspects_max;
    let mut suspects = References::begin(suspects.sorter.sorted().await?).await?;
    if many {
        return confirm_many(audit, suspects, domains).await;
    }
    let mut all = Wrong::new();
    while let Some(suspect) = suspects.next {
        all.insert(suspect.key(), suspect.kind);
        suspects.advance().await?;
    }
    walk(audit, all, domains).await
}

/// The same by finding all references once more. The first are walked to, so that the examples say whose they are.
async fn confirm_many(
    audit: &mut Audit,
    mut suspects: References,
    mut domains: BTreeSet<Domain>,
) -> Result<(), Fault> {
    let marked = audit.mark().await?;
    domains.extend(&marked.unreadable);
    let mut references = References::begin(marked.references).await?;
    let (mut confirmed, mut to_walk) = (Wrong::new(), Some(domains));
    while let Some(suspect) = suspects.next {
        suspects.advance().await?;
        while references.next_before(Some(suspect.key())).is_some() {
            references.advance().await?;
        }
        let found = references.next.map(|next| next.key());
        if found != Some(suspect.key()) {
            continue;
        }
        let full = match to_walk {
            Some(_) => confirmed.len() as u64 >= audit.suspects_max,
            None => confirmed.len() >= ROWS as usize,
        };
        if full {
            settle(audit, std::mem::take(&mut confirmed), to_walk.take()).await?;
        }
        confirmed.insert(suspect.key(), suspect.kind);
    }
    settle(audit, confirmed, to_walk).await
}

async fn settle(
    audit: &mut Audit,
    confirmed: Wrong,
    to_walk: Option<BTreeSet<Domain>>,
) -> Result<(), Fault> {
    match to_walk {
        Some(domains) => walk(audit, confirmed, domains).await,
        None => tell(audit, confirmed).await,
    }
}

/// Tells of references that lead to something wrong without saying whose they are.
async fn tell(audit: &mut Audit, wrong: Wrong) -> Result<(), Fault> {
    let records = touched::find(&*audit.db, wrong.keys().copied().collect()).await?;
    for (key, kind) in wrong {
        if let Some(flaw) = reference_fault(kind, records.get(&key)) {
            audit.find(flaw, || chunk_words(key));
        }
    }
    Ok(())
}

/// Walks to what looks wrong and to the pages that cannot be read, and tells what it finds.
async fn walk(audit: &mut Audit, suspects: Wrong, domains: BTreeSet<Domain>) -> Result<(), Fault> {
    let keys = suspects.keys().copied().collect();
    let reach = touched::reach(&*audit.db, &*audit.chunks, &keys, &domains).await?;
    let records = touched::find(&*audit.db, keys.into_iter().collect()).await?;
    for (key, kind) in suspects {
        let Some(touches) = reach.touches.get(&key) else {
            continue;
        };
        if let Some(flaw) = reference_fault(kind, records.get(&key)) {
            audit.find(flaw, || words(key, touches));
        }
    }
    // Not those that are suspects: what their records say has been told.
    for (key, reason) in &reach.unreadable {
        let touches = reach.touches.get(key).cloned().unwrap_or_default();
        audit.find(Flaw::PageUnreadable, || {
            format!("{}: {reason}", words(*key, &touches))
        });
    }
    Ok(())
}

/// A chunk in words.
pub(super) fn chunk_words((domain, name): ChunkKey) -> String {
    format!("chunk {name} of domain {domain}")
}

/// A place in words.
pub(super) fn place_words(place: catalog::Location) -> String {
    format!("container {} at {}", place.container, place.offset)
}

fn words(key: ChunkKey, touches: &Touches) -> String {
    let mut words = chunk_words(key);
    for (number, touched) in touches.listed.iter().take(3).enumerate() {
        let Touched {
            snapshot,
            start,
            count,
        } = touched;
        words.push_str(if number == 0 { ": " } else { ", " });
        words.push_str(&match count {
            0 => format!("{snapshot}"),
            1 => format!("block {start} of {snapshot}"),
            count => format!("{count} blocks from {start} of {snapshot}"),
        });
    }
    if touches.count > 3 {
        words.push_str(", and more");
    }
    words
}
