//! The one rule by which a transaction may refer to chunks.
//!
//! - A live chunk may be referred to; a condemned one is revived; both get the stamp of the epoch that the transaction holds.
//! - A damaged or absent chunk may be referred to only by who brings a frame of it; the damaged frame is freed.
//! - A frame that was brought in vain, since the chunk is there already, is freed. The frame that the record names is never freed:
//!   it may be our own, of an attempt whose outcome was unknown.
//! - A frame whose container has been closed since it was stored gets no name: it counts as not brought, and is freed with all
//!   that is unnamed there.
//! - `live_bytes` of containers changes with the names, in the same transaction.

use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::{Location, Txn};
use chunkstore::ChunkKind;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The chunk records that a transaction works on.
pub(crate) struct References {
    known: HashMap<ChunkKey, ChunkRecord>,
    epoch: i64,
    written: BTreeSet<ChunkKey>,
    stamped: BTreeSet<ChunkKey>,
    /// Containers of the frames brought, as far as these may get names.
    nameable: BTreeSet<u64>,
    frees: Vec<Location>,
    /// Bytes that get names, by container.
    named: BTreeMap<u64, u64>,
    /// Bytes that lose theirs.
    unnamed: BTreeMap<u64, u64>,
}

impl References {
    /// Holds the epoch, reads the records of `keys`, and learns which of the frames `brought` may get names.
    pub(crate) async fn begin(
        txn: &mut dyn Txn,
        keys: &[ChunkKey],
        brought: impl Iterator<Item = &ChunkRecord>,
    ) -> Result<References, catalog::Error> {
        let epoch = txn.hold_epoch_shared().await?;
        let containers: BTreeSet<u64> = brought.map(|record| record.location.container).collect();
        let containers: Vec<u64> = containers.into_iter().collect();
        let nameable = catalog::containers::nameable(txn, &containers).await?;
        Ok(References {
            known: catalog::chunks::find(txn, keys).await?,
            epoch,
            written: BTreeSet::new(),
            stamped: BTreeSet::new(),
            nameable: nameable.into_iter().collect(),
            frees: Vec::new(),
            named: BTreeMap::new(),
            unnamed: BTreeMap::new(),
        })
    }

    /// Whether the chunk has a record, and is of this kind.
    pub(crate) fn is_of_kind(&self, key: &ChunkKey, kind: ChunkKind) -> bool {
        let record = self.known.get(key);
        record.is_some_and(|record| record.kind == kind as u8)
    }

    /// Makes the chunk one that may be referred to, with the frame in `stored` if one was brought; false when one is needed.
    pub(crate) fn refer_to(&mut self, key: ChunkKey, stored: Option<&ChunkRecord>) -> bool {
        let nameable = &self.nameable;
        let stored = stored.filter(|stored| nameable.contains(&stored.location.container));
        if let Some(record) = self.known.get_mut(&key) {
            if record.state != ChunkState::Damaged {
                if record.state == ChunkState::Condemned || record.epoch < self.epoch {
                    record.state = ChunkState::Live;
                    record.epoch = self.epoch;
                    self.stamped.insert(key);
                }
                let named = record.location;
                self.frees.extend(
                    stored
                        .map(|stored| stored.location)
                        .filter(|location| *location != named),
                );
                return true;
            }
            let damaged = record.location;
            if stored.is_none_or(|stored| stored.location == damaged) {
                return false;
            }
            self.frees.push(damaged);
            *self.unnamed.entry(damaged.container).or_default() += u64::from(damaged.length);
        }
        let Some(stored) = stored else { return false };
        let named = stored.location;
        *self.named.entry(named.container).or_default() += u64::from(named.length);
        self.known.insert(
            key,
            ChunkRecord {
                epoch: self.epoch,
                ..*stored
            },
        );
        self.written.insert(key);
        true
    }

    /// Frees a frame that was brought for a reference that is not made.
    pub(crate) fn discard(&mut self, stored: &ChunkRecord) {
        let named = self.known.get(&stored.key());
        if named.is_none_or(|record| record.location != stored.location) {
            self.frees.push(stored.location);
        }
    }

    /// Writes what was decided. Answers the live records, for the cache, and whether anything is to be freed.
    pub(crate) async fn commit(
        self,
        txn: &mut dyn Txn,
    ) -> Result<(Vec<ChunkRecord>, bool), catalog::Error> {
        let written: Vec<_> = self
            .written
            .iter()
            .filter_map(|key| self.known.get(key))
            .copied()
            .collect();
        let stamped: Vec<_> = self.stamped.difference(&self.written).copied().collect();
        catalog::chunks::put(txn, &written).await?;
        catalog::chunks::stamp(txn, &stamped, self.epoch).await?;
        catalog::containers::insert_frees(txn, &self.frees).await?;
        for (container, bytes) in self.named {
            catalog::containers::add_live(txn, container, bytes).await?;
        }
        for (container, bytes) in self.unnamed {
            catalog::containers::sub_live(txn, container, bytes).await?;
        }
        let live = self
            .known
            .into_values()
            .filter(|record| record.state == ChunkState::Live);
        Ok((live.collect(), !self.frees.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{ChunkName, Digest, Domain};

    fn record(state: ChunkState, epoch: i64, offset: u64) -> ChunkRecord {
        ChunkRecord {
            domain: Domain::STORE,
            name: ChunkName::plain(Digest::of(b"x")),
            kind: 1,
            state,
            location: Location {
                container: 1,
                offset,
                length: 4_096,
            },
            stored_bytes: 1,
            codec: 0,
            data_key: 0,
            epoch,
        }
    }

    /// What comes of referring to a chunk with this record and this brought frame, in epoch 5:
    /// (allowed, frame written, stamped, offsets freed).
    fn check(
        known: Option<ChunkRecord>,
        stored: Option<ChunkRecord>,
    ) -> (bool, Option<u64>, bool, Vec<u64>) {
        let key = record(ChunkState::Live, 0, 0).key();
        let mut references = References {
            known: known.into_iter().map(|record| (key, record)).collect(),
            epoch: 5,
            written: BTreeSet::new(),
            stamped: BTreeSet::new(),
            nameable: BTreeSet::from([1]),
            frees: Vec::new(),
            named: BTreeMap::new(),
            unnamed: BTreeMap::new(),
        };
        let allowed = references.refer_to(key, stored.as_ref());
        let written = references
            .written
            .first()
            .map(|key| references.known[key].location.offset);
        if allowed {
            assert_eq!(
                (references.known[&key].state, references.known[&key].epoch),
                (ChunkState::Live, 5)
            );
        }
        assert_eq!(references.named.contains_key(&1), written.is_some());
        let replaced = known.is_some_and(|record| record.state == ChunkState::Damaged) && allowed;
        assert_eq!(references.unnamed.contains_key(&1), replaced);
        let freed = references
            .frees
            .iter()
            .map(|location| location.offset)
            .collect();
        (allowed, written, !references.stamped.is_empty(), freed)
    }

    #[test]
    fn every_state_with_and_without_a_frame() {
        use ChunkState::{Condemned, Damaged, Live};
        let old = |state| Some(record(state, 4, 100));
        let new = Some(record(Live, 0, 200));
        let own = Some(record(Live, 0, 100));
        assert_eq!(check(None, None), (false, None, false, vec![]));
        assert_eq!(check(None, new), (true, Some(200), false, vec![]));
        assert_eq!(
            check(Some(record(Live, 5, 100)), None),
            (true, None, false, vec![])
        );
        assert_eq!(check(old(Live), None), (true, None, true, vec![]));
        assert_eq!(check(old(Live), new), (true, None, true, vec![200]));
        assert_eq!(check(old(Live), own), (true, None, true, vec![]));
        assert_eq!(check(old(Condemned), None), (true, None, true, vec![]));
        assert_eq!(check(old(Damaged), None), (false, None, false, vec![]));
        assert_eq!(
            check(old(Damaged), new),
            (true, Some(200), false, vec![100])
        );
        assert_eq!(check(old(Damaged), own), (false, None, false, vec![]));
        let mut closed = record(Live, 0, 200);
        closed.location.container = 2;
        assert_eq!(check(None, Some(closed)), (false, None, false, vec![]));
        assert_eq!(
            check(old(Live), Some(closed)),
            (true, None, true, vec![]),
            "what is unnamed in a closed container is freed with it"
        );
        assert_eq!(
            check(old(Damaged), Some(closed)),
            (false, None, false, vec![])
        );
    }
}
