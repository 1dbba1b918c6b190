//! All frames that records name, in the order of their places, which only a sorter outside memory can give.
//!
//! Frames may not overlap, since a location is given out once; what is noted to be freed may not be named; and in complete
//! containers the headers are read, one after the other, and compared with what the records say.

use super::containers::Containers;
use super::findings::Flaw;
use super::records::{chunk_words, place_words};
use super::{Audit, AuditDepth, Fault, ROWS};
use crate::pages::store_location;
use crate::sorter::{MEMORY_BYTES, Sorter};
use crate::touched::{self, is_damage};
use catalog::chunks::ChunkRecord;
use catalog::{DbExt, Location};
use chunkstore::{ChunkId, ChunkKind, ContainerId, FoundFrame};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use types::{ChunkName, Digest, Domain, SnapshotId};

/// Headers read at a time.
const FRAMES: usize = 1_000;

/// Bytes of a [`Named`] as it is sorted: container, offset, kind, owner and name are its key.
const NAMED_BYTES: usize = KEY_BYTES + 17;
const KEY_BYTES: usize = 57;

/// A frame that a record names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Named {
    place: Location,
    owner: Owner,
    domain: Domain,
    name: ChunkName,
    /// Stored bytes and codec; a snapshot's record does not say them.
    encoding: Option<(u32, u8)>,
}

/// Which record names a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// That of the chunk, with its kind's number.
    Chunk(u8),
    /// That of the snapshot.
    Snapshot(SnapshotId),
}

impl Named {
    pub(super) fn of_record(record: &ChunkRecord) -> Named {
        Named {
            place: record.location,
            owner: Owner::Chunk(record.kind),
            domain: record.domain,
            name: record.name,
            encoding: Some((record.stored_bytes, record.codec)),
        }
    }

    pub(super) fn of_snapshot(snapshot: SnapshotId, frame: ChunkId, place: Location) -> Named {
        Named {
            place,
            owner: Owner::Snapshot(snapshot),
            domain: frame.domain,
            name: frame.name,
            encoding: None,
        }
    }

    fn encode(&self) -> [u8; NAMED_BYTES] {
        let (kind, owner) = match self.owner {
            Owner::Chunk(kind) => (kind, self.domain.number()),
            Owner::Snapshot(id) => (ChunkKind::Snapshot as u8, id.number()),
        };
        let (stored, codec) = self.encoding.unwrap_or_default();
        let mut bytes = [0; NAMED_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.place.container.to_be_bytes());
        put(8, &self.place.offset.to_be_bytes());
        put(16, &[kind]);
        put(17, &owner.to_be_bytes());
        put(25, self.name.as_bytes());
        put(57, &self.place.length.to_be_bytes());
        put(61, &stored.to_be_bytes());
        put(65, &[codec]);
        put(66, &self.domain.number().to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; NAMED_BYTES]) -> Named {
        let number = |at: usize| u64::from_be_bytes(field(bytes, at));
        let small = |at: usize| u32::from_be_bytes(field(bytes, at));
        let snapshot = match bytes[16] == ChunkKind::Snapshot as u8 {
            true => SnapshotId::from_number(number(17)),
            false => None,
        };
        Named {
            place: Location {
                container: number(0),
                offset: number(8),
                length: small(57),
            },
            owner: snapshot.map_or(Owner::Chunk(bytes[16]), Owner::Snapshot),
            domain: Domain::from_number(number(66)),
            name: ChunkName::plain(Digest::from_bytes(field(bytes, 25))),
            encoding: snapshot.is_none().then(|| (small(61), bytes[65])),
        }
    }

    fn end(&self) -> u64 {
        end(self.place)
    }

    fn words(&self) -> String {
        let place = place_words(self.place);
        match self.owner {
            Owner::Chunk(_) => format!("{} in {place}", chunk_words((self.domain, self.name))),
            Owner::Snapshot(id) => format!("the frame of {id} in {place}"),
        }
    }

    /// Whether a header is that of this frame.
    fn is(&self, frame: &FoundFrame) -> bool {
        let Owner::Chunk(kind) = self.owner else {
            // The frames of snapshots have been read as a whole.
            return frame.location.offset == self.place.offset;
        };
        let encoding = (frame.stored_bytes, frame.codec as u8);
        frame.location == store_location(self.place)
            && (frame.id.domain, frame.id.name) == (self.domain, self.name)
            && frame.id.kind as u8 == kind
            && self.encoding == Some(encoding)
    }

    /// Whether the record still names this place.
    async fn is_still_named(&self, audit: &Audit) -> Result<bool, Fault> {
        Ok(match self.owner {
            Owner::Chunk(_) => {
                let key = (self.domain, self.name);
                let found = touched::find(&*audit.db, vec![key]).await?;
                found
                    .get(&key)
                    .is_some_and(|record| record.location == self.place)
            }
            Owner::Snapshot(id) => {
                let found = audit.db.view(move |txn| {
                    Box::pin(async move { catalog::snapshots::get(txn, id).await })
                });
                let finished = found.await?.and_then(|record| record.finished);
                finished.is_some_and(|finished| finished.frame == self.place)
            }
        })
    }
}

/// Gathers the named frames.
pub(super) struct Places(Sorter<NAMED_BYTES, KEY_BYTES>);

impl Places {
    pub(super) fn new(scratch: Arc<Path>) -> Places {
        // Equal keys are one record that was read twice.
        Places(Sorter::new(scratch, MEMORY_BYTES, |_, _| {}))
    }

    pub(super) async fn push(&mut self, named: Named) -> Result<(), Fault> {
        Ok(self.0.push(named.encode()).await?)
    }
}

/// Compares the named frames with each other, with the notes of what to free, and with the headers.
pub(super) async fn compare(
    audit: &mut Audit,
    places: Places,
    containers: &Containers,
) -> Result<(), Fault> {
    let mut sorted = places.0.sorted().await?;
    let (mut frees, mut headers) = (Frees::default(), Headers::default());
    let mut furthest: Option<Named> = None;
    let mut count = 0;
    loop {
        let batch = sorted.next(ROWS as usize).await?;
        if batch.is_empty() {
            break;
        }
        count += batch.len() as u64;
        for named in batch.iter().map(Named::decode) {
            let before = furthest.filter(|before| before.place.container == named.place.container);
            if let Some(before) = before.filter(|before| before.end() > named.place.offset)
                && before.is_still_named(audit).await?
                && named.is_still_named(audit).await?
            {
                audit.find(Flaw::FramesOverlap, || {
                    format!("{} and {}", before.words(), named.words())
                });
            }
            if before.is_none_or(|before| before.end() < named.end()) {
                furthest = Some(named);
            }
            frees.compare(audit, &named).await?;
            if audit.depth == AuditDepth::Headers {
                headers.compare(audit, &named, containers).await?;
            }
        }
    }
    audit.saw("named frames", count);
    frees.end(audit).await?;
    audit.saw("frames to be freed", frees.count);
    if audit.depth == AuditDepth::Headers {
        headers.end(audit).await?;
        audit.saw("headers", headers.compared);
        audit.saw("frames without a name", headers.unnamed);
        audit.saw(
            "frames in open containers, passed over",
            headers.passed_over,
        );
    }
    Ok(())
}

/// The notes of what to free, in the order of places.
#[derive(Default)]
struct Frees {
    window: VecDeque<Location>,
    after: Option<(u64, u64)>,
    ended: bool,
    count: u64,
}

impl Frees {
    async fn peek(&mut self, audit: &Audit) -> Result<Option<Location>, Fault> {
        if self.window.is_empty() && !self.ended {
            let after = self.after;
            let rows = audit.db.view(move |txn| {
                Box::pin(async move { catalog::audit::frees_after(txn, after, ROWS).await })
            });
            self.window = rows.await?.into();
            self.ended = self.window.is_empty();
            let last = self.window.back().map(|last| (last.container, last.offset));
            self.after = last.or(self.after);
            self.count += self.window.len() as u64;
        }
        Ok(self.window.front().copied())
    }

    /// Takes the notes that begin before the end of this frame.
    async fn compare(&mut self, audit: &mut Audit, named: &Named) -> Result<(), Fault> {
        while let Some(free) = self.peek(audit).await? {
            if (free.container, free.offset) >= (named.place.container, named.end()) {
                break;
            }
            self.window.pop_front();
            let overlaps =
                free.container == named.place.container && end(free) > named.place.offset;
            if overlaps && named.is_still_named(audit).await? {
                let noted = audit.db.view(move |txn| {
                    Box::pin(async move { catalog::audit::is_to_be_freed(txn, free).await })
                });
                // A note stays until its frame is freed, and a frame is never named again: the order of these two looks tells.
                if noted.await? && named.is_still_named(audit).await? {
                    audit.find(Flaw::FrameFreed, || named.words());
                }
            }
        }
        Ok(())
    }

    /// Counts the rest.
    async fn end(&mut self, audit: &Audit) -> Result<(), Fault> {
        while self.peek(audit).await?.is_some() {
            self.window.clear();
        }
        Ok(())
    }
}

/// The headers of one container after the other.
#[derive(Default)]
struct Headers {
    /// The container that is read; nothing when it cannot be, or before the first.
    container: Option<u64>,
    readable: bool,
    window: VecDeque<FoundFrame>,
    from: u64,
    ended: bool,
    compared: u64,
    unnamed: u64,
    passed_over: u64,
}

impl Headers {
    async fn compare(
        &mut self,
        audit: &mut Audit,
        named: &Named,
        containers: &Containers,
    ) -> Result<(), Fault> {
        let container = named.place.container;
        if self.container != Some(container) {
            self.end(audit).await?;
            self.container = Some(container);
            // What is wrong with the container itself has been told.
            self.readable = containers.get(container).is_some();
            self.from = 0;
            self.ended = false;
        }
        while self.readable {
            self.fill(audit).await?;
            match self.window.front() {
                Some(frame) if frame.location.offset < named.place.offset => {
                    self.window.pop_front();
                    self.unnamed += 1;
                }
                Some(frame) if named.is(frame) => {
                    self.window.pop_front();
                    self.compared += 1;
                    return Ok(());
                }
                Some(_) | None if self.readable => {
                    self.compared += 1;
                    return match named.owner {
                        Owner::Chunk(_) => look_again(audit, named).await,
                        Owner::Snapshot(_) => Ok(()),
                    };
                }
                Some(_) | None => {}
            }
        }
        self.passed_over += 1;
        Ok(())
    }

    async fn fill(&mut self, audit: &mut Audit) -> Result<(), Fault> {
        let Some(container) = self.container else {
            return Ok(());
        };
        if !self.window.is_empty() || self.ended || !self.readable {
            return Ok(());
        }
        match audit
            .chunks
            .frames(ContainerId(container), self.from, FRAMES)
            .await
        {
            Ok(frames) => {
                self.ended = frames.len() < FRAMES;
                let last = frames.last().map(|last| last.location);
                self.from = last.map_or(self.from, |last| last.offset + u64::from(last.length));
                self.window = frames.into();
            }
            // Still open; or gone since.
            Err(chunkstore::Error::Closed { .. }) => self.readable = false,
            Err(error) if is_damage(&error) => {
                self.readable = false;
                let recorded = audit.db.view(move |txn| {
                    Box::pin(async move { catalog::containers::get(txn, container).await })
                });
                let removed = chunkstore::ContainerState::Removed as u8;
                let there = recorded.await?;
                if there.is_some_and(|there| there.container.state != removed) {
                    audit.find(Flaw::ContainerMissing, || {
                        format!("container {container}: {error}")
                    });
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The rest of a container has no name.
    async fn end(&mut self, audit: &mut Audit) -> Result<(), Fault> {
        loop {
            self.fill(audit).await?;
            if self.window.is_empty() {
                return Ok(());
            }
            self.unnamed += self.window.len() as u64;
            self.window.clear();
        }
    }
}

/// Reads the header once more, and then the record: a frame is freed only after its record has gone.
async fn look_again(audit: &mut Audit, named: &Named) -> Result<(), Fault> {
    let place = named.place;
    let frames = audit
        .chunks
        .frames(ContainerId(place.container), place.offset, 1);
    let found = match frames.await {
        Ok(found) => found
            .first()
            .filter(|found| found.location.offset == place.offset)
            .copied(),
        Err(error) if is_damage(&error) => None,
        Err(error) => return Err(error.into()),
    };
    if found.is_some_and(|found| named.is(&found)) || !named.is_still_named(audit).await? {
        return Ok(());
    }
    match found {
        Some(found) => audit.find(Flaw::FrameDifferent, || {
            let there = chunk_words((found.id.domain, found.id.name));
            format!("{}: there is {there}", named.words())
        }),
        None => audit.find(Flaw::FrameMissing, || named.words()),
    }
    Ok(())
}

fn end(place: Location) -> u64 {
    place.offset.saturating_add(u64::from(place.length))
}

fn field<const N: usize>(bytes: &[u8; NAMED_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_sorts_by_its_place(
            a in any::<(u64, u64, u32, u64, [u8; 32], bool)>(),
            b in any::<(u64, u64, u32, u64, [u8; 32], bool)>(),
        ) {
            let named = |(container, offset, length, number, name, is_chunk): (_, _, _, u64, _, bool)| {
                let place = Location { container, offset, length };
                let snapshot = SnapshotId::from_random(number);
                Named {
                    place,
                    owner: if is_chunk { Owner::Chunk(1) } else { Owner::Snapshot(snapshot) },
                    domain: Domain::from_number(number),
                    name: ChunkName::plain(Digest::from_bytes(name)),
                    encoding: is_chunk.then_some((length, 1)),
                }
            };
            let (a, b) = (named(a), named(b));
            assert_eq!(Named::decode(&a.encode()), a);
            let places = [a, b].map(|one| (one.place.container, one.place.offset));
            if places[0] != places[1] {
                assert_eq!(a.encode().cmp(&b.encode()), places[0].cmp(&places[1]));
            }
        }
    }
}
