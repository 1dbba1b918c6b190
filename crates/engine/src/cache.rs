//! What the engine remembers of the catalog.
//!
//! Invariants
//! - A chunk record from here is a hint: a put that relies on it is checked by its transaction, a read by the frame's
//!   own identity.
//! - A snapshot record from here is the truth: it is only kept where this process makes every change to the catalog, only in
//!   states whose changes pass through [`SnapshotCache::forget`], and never when a change came between its read and its keeping.

use catalog::chunks::{ChunkKey, ChunkRecord};
use catalog::snapshots::{SnapshotRecord, State};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::SnapshotId;

const SHARDS: usize = 16;

/// A bounded map in shards: when a shard is full, the older half of its keys makes room.
struct Bounded<K, V> {
    hasher: RandomState,
    shards: [Mutex<Generations<K, V>>; SHARDS],
    per_generation: usize,
}

/// Two generations: what is used moves to the young one; when that is full it becomes the old one, and the old one is dropped.
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> Bounded<K, V> {
    fn new(entries: usize) -> Bounded<K, V> {
        Bounded {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| {
                Mutex::new(Generations {
                    young: HashMap::new(),
                    old: HashMap::new(),
                })
            }),
            per_generation: (entries / SHARDS / 2).max(1),
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Generations<K, V>> {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key);
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(key)?;
        self.add(&mut shard, key.clone(), value.clone());
        Some(value)
    }

    fn insert(&self, key: K, value: V) {
        self.insert_if(key, value, || true);
    }

    /// Inserts if the condition holds, which is asked while nobody else can look at or change the key.
    fn insert_if(&self, key: K, value: V, condition: impl FnOnce() -> bool) {
        let mut shard = self.shard(&key);
        if condition() {
            shard.old.remove(&key);
            self.add(&mut shard, key, value);
        }
    }

    fn add(&self, shard: &mut Generations<K, V>, key: K, value: V) {
        if shard.young.len() >= self.per_generation && !shard.young.contains_key(&key) {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, value);
    }

    fn remove(&self, key: &K) {
        let mut shard = self.shard(key);
        shard.young.remove(key);
        shard.old.remove(key);
    }
}

/// Chunk records that were read or written lately.
pub(crate) struct ChunkCache(Bounded<ChunkKey, ChunkRecord>);

impl ChunkCache {
    pub(crate) fn new(entries: usize) -> ChunkCache {
        ChunkCache(Bounded::new(entries))
    }

    pub(crate) fn get(&self, key: &ChunkKey) -> Option<ChunkRecord> {
        self.0.get(key)
    }

    pub(crate) fn insert(&self, record: ChunkRecord) {
        self.0.insert(record.key(), record);
    }

    pub(crate) fn forget(&self, key: &ChunkKey) {
        self.0.remove(key);
    }
}

/// Records of open and completed snapshots.
pub(crate) struct SnapshotCache {
    records: Option<Bounded<SnapshotId, Arc<SnapshotRecord>>>,
    changes: AtomicU64,
}

/// Taken before a record is read from the catalog; says whether it may be kept afterwards.
pub(crate) struct ReadMark(u64);

impl SnapshotCache {
    /// A cache of `entries` records; of none unless this process alone changes the catalog.
    pub(crate) fn new(entries: usize, exclusive: bool) -> SnapshotCache {
        let records = exclusive.then(|| Bounded::new(entries));
        SnapshotCache {
            records,
            changes: AtomicU64::new(0),
        }
    }

    pub(crate) fn get(&self, id: SnapshotId) -> Option<Arc<SnapshotRecord>> {
        self.records.as_ref()?.get(&id)
    }

    pub(crate) fn before_read(&self) -> ReadMark {
        ReadMark(self.changes.load(Ordering::SeqCst))
    }

    /// Keeps a record, unless some snapshot changed since the mark was taken.
    pub(crate) fn keep(&self, mark: ReadMark, record: &Arc<SnapshotRecord>) {
        let Some(records) = &self.records else { return };
        if !matches!(record.state, State::Open | State::Completed) {
            return;
        }
        // A change counts itself first and then takes the record out: it does so after this, or is seen here.
        records.insert_if(record.id, Arc::clone(record), || {
            self.changes.load(Ordering::SeqCst) == mark.0
        });
    }

    /// To be called after each commit that changed a snapshot's state or removed it, before anyone is told.
    pub(crate) fn forget(&self, id: SnapshotId) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(records) = &self.records {
            records.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_map_keeps_what_is_used_and_never_grows_beyond_its_size() {
        let map = Bounded::new(SHARDS * 2 * 10);
        for key in 0..10_000_u32 {
            map.insert(key, key);
            assert_eq!(map.get(&0), Some(0), "0 is asked for all the time");
        }
        let held: usize = map
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap())
            .map(|shard| shard.young.len() + shard.old.len())
            .sum();
        assert!(held <= SHARDS * 2 * 10, "{held}");
        map.remove(&0);
        assert_eq!(map.get(&0), None);
    }
}
