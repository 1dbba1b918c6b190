//! Decoded pages in memory, shared by all readers and bounded by bytes.
//!
//! Policy
//! - Second chance: pages leave in the order in which they came, but one that was used since it came or was last
//!   passed over stays for another round. The upper levels of busy maps stay; a long walk does not push them out.
//! - Shards by digest, each with a lock held for a look-up only, so that readers seldom meet.
//!
//! Invariants
//! - The pages held count at most `bytes_max` bytes, their keys and list entries included.
//! - A page is here only after its digest was verified: what the cache gives needs no check but that of its level.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use types::Digest;

use crate::page::Page;

/// A shard must hold a fair number of pages, or pages that fall into the same one push each other out.
const SHARD_BYTES_MIN: usize = 1 << 20;

/// More would not help: a look-up takes well under a microsecond.
const SHARDS_MAX: usize = 16;

/// A bounded cache of pages; share it by [`Arc`] between the [`crate::PageSource`]s of a process.
#[derive(Debug)]
pub struct PageCache {
    shards: Box<[Mutex<Shard>]>,
    shard_bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Digest, Entry>,
    /// Every key of `entries` once, the next candidate to leave first.
    queue: VecDeque<Digest>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    page: Arc<Page>,
    used: bool,
}

impl PageCache {
    /// An empty cache for at most `bytes_max` bytes of pages; 0 caches nothing.
    pub fn new(bytes_max: usize) -> PageCache {
        let count = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        PageCache {
            shards: std::iter::repeat_with(Mutex::default).take(count).collect(),
            shard_bytes_max: bytes_max / count,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Look-ups that found their page, since the start.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Look-ups that did not, since the start.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes).sum()
    }

    pub(crate) fn get(&self, digest: Digest) -> Option<Arc<Page>> {
        let page = lock(self.shard(digest)).get(digest);
        let counter = if page.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        page
    }

    pub(crate) fn insert(&self, digest: Digest, page: Arc<Page>) {
        lock(self.shard(digest)).insert(digest, page, self.shard_bytes_max);
    }

    fn shard(&self, digest: Digest) -> &Mutex<Shard> {
        let [first, ..] = digest.as_bytes();
        &self.shards[usize::from(*first) % self.shards.len()]
    }
}

impl Shard {
    fn get(&mut self, digest: Digest) -> Option<Arc<Page>> {
        let entry = self.entries.get_mut(&digest)?;
        entry.used = true;
        Some(Arc::clone(&entry.page))
    }

    fn insert(&mut self, digest: Digest, page: Arc<Page>, bytes_max: usize) {
        let bytes = charge(&page);
        if bytes > bytes_max || self.entries.contains_key(&digest) {
            return;
        }
        while self.bytes + bytes > bytes_max {
            self.make_room();
        }
        self.entries.insert(digest, Entry { page, used: false });
        self.queue.push_back(digest);
        self.bytes += bytes;
    }

    /// Looks at the next candidate: it leaves, or loses its mark and goes to the end of the queue.
    fn make_room(&mut self) {
        let digest = self
            .queue
            .pop_front()
            .expect("bytes are held, so something is queued");
        let entry = self
            .entries
            .get_mut(&digest)
            .expect("what is queued is held");
        if std::mem::take(&mut entry.used) {
            self.queue.push_back(digest);
        } else {
            self.bytes -= charge(&entry.page);
            self.entries.remove(&digest);
        }
    }
}

/// Bytes that a page counts: itself, its entry with half as much spare room in the table, its place in the queue.
fn charge(page: &Page) -> usize {
    let entry = size_of::<(Digest, Entry)>();
    page.memory_bytes() + 2 * size_of::<usize>() + entry + entry / 2 + 2 * size_of::<Digest>()
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard
        .lock()
        .expect("a shard's invariants hold at every point where its code could panic")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;
    use crate::page::SLOTS;
    use crate::testing::digest;

    /// A leaf with `count` slots, and its name.
    fn leaf(number: u64, count: usize) -> (Digest, Arc<Page>) {
        let mut slots = [None; SLOTS];
        slots[..count].fill(Some(digest(number)));
        let page = Page::of_slots(0, &slots);
        (page.encode_named().digest, Arc::new(page))
    }

    fn cache_of_full_pages(count: usize) -> PageCache {
        PageCache::new(count * charge(&leaf(0, SLOTS).1))
    }

    #[test]
    fn counts_hits_and_misses() {
        let cache = cache_of_full_pages(2);
        let (name, page) = leaf(1, SLOTS);
        assert_eq!(cache.get(name), None);
        cache.insert(name, Arc::clone(&page));
        assert_eq!(cache.get(name), Some(page));
        assert_eq!((cache.hits(), cache.misses()), (1, 1));
    }

    #[test]
    fn what_is_used_outlives_what_is_only_passed_by() {
        let cache = cache_of_full_pages(4);
        let (kept, page) = leaf(0, SLOTS);
        cache.insert(kept, page);
        for passing in 1..1000 {
            assert!(cache.get(kept).is_some(), "after {passing} others");
            let (name, page) = leaf(passing, SLOTS);
            cache.insert(name, page);
        }
    }

    #[test]
    fn what_is_used_no_longer_leaves() {
        let cache = cache_of_full_pages(4);
        let (old, page) = leaf(0, SLOTS);
        cache.insert(old, page);
        assert!(cache.get(old).is_some());
        for passing in 1..9 {
            let (name, page) = leaf(passing, SLOTS);
            cache.insert(name, page);
        }
        assert!(cache.get(old).is_none());
    }

    #[test]
    fn without_room_nothing_is_cached() {
        let cache = PageCache::new(0);
        let (name, page) = leaf(1, 1);
        cache.insert(name, page);
        assert_eq!((cache.get(name), cache.bytes()), (None, 0));
    }

    #[test]
    fn large_caches_use_their_room_over_all_shards() {
        let bytes_max = SHARDS_MAX * SHARD_BYTES_MIN;
        let cache = PageCache::new(bytes_max);
        for number in 0..5000 {
            let (name, page) = leaf(number, SLOTS);
            cache.insert(name, page);
        }
        assert!(cache.bytes() <= bytes_max);
        assert!(
            cache.bytes() > bytes_max / 100 * 99,
            "{} of {bytes_max}",
            cache.bytes()
        );
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds_and_gives_what_was_put(
            pages_max in 0_usize..20,
            steps in vec((0_u64..40, 1_usize..=SLOTS, any::<bool>()), 1..300),
        ) {
            let cache = cache_of_full_pages(pages_max);
            for (number, count, insert) in steps {
                let (name, page) = leaf(number, count);
                if insert {
                    cache.insert(name, Arc::clone(&page));
                }
                if let Some(found) = cache.get(name) {
                    prop_assert!(found == page);
                }
                for shard in &cache.shards {
                    let shard = lock(shard);
                    let bytes: usize = shard.entries.values().map(|entry| charge(&entry.page)).sum();
                    prop_assert!(bytes == shard.bytes && bytes <= cache.shard_bytes_max);
                    prop_assert!(shard.queue.len() == shard.entries.len());
                    prop_assert!(shard.queue.iter().all(|name| shard.entries.contains_key(name)));
                }
            }
        }
    }
}
