//! Which chunks are certainly not stored: a Bloom filter over all names, so that new content needs no look-up.
//!
//! Most blocks of a first upload are new. To learn that from the catalog takes a read transaction on another thread for each, 50 µs
//! of processor time; here it takes four bits.
//!
//! Safety: a wrong "perhaps" costs that look-up, a wrong "no" a frame that the put's transaction finds stored in vain and frees. So
//! the filter may be stale, overfull, or not loaded yet (then it says "perhaps" to everything), and needs no format.

use crate::Engine;
use crate::worker::Backoff;
use catalog::DbExt;
use catalog::chunks::ChunkKey;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Words of 64 bits: 16 MiB of memory, taken as it fills. At 12 bits each it serves 11 million chunks (5 TiB) with one wrong "perhaps" in
/// 250; a store of ten times that asks the catalog for nearly every block again.
const WORDS: usize = 1 << 21;

/// Words whose memory is taken at once.
const STRIPE: usize = 512;

/// Names read in one transaction while loading.
const PAGE: u32 = 10_000;

pub(crate) struct ChunkFilter {
    stripes: Vec<OnceLock<Box<[AtomicU64]>>>,
    loaded: AtomicBool,
}

impl ChunkFilter {
    /// Knows nothing yet.
    pub(crate) fn new() -> ChunkFilter {
        ChunkFilter {
            stripes: std::iter::repeat_with(OnceLock::new)
                .take(WORDS / STRIPE)
                .collect(),
            loaded: AtomicBool::new(false),
        }
    }

    /// Whether the chunk is certainly not stored.
    pub(crate) fn excludes(&self, key: &ChunkKey) -> bool {
        self.loaded.load(Ordering::Acquire)
            && bits(key).any(|(word, bit)| self.word(word) & bit == 0)
    }

    /// Notes a chunk that is stored.
    pub(crate) fn insert(&self, key: &ChunkKey) {
        for (word, bit) in bits(key) {
            let stripe = self.stripes[word / STRIPE].get_or_init(|| {
                let words = std::iter::repeat_with(AtomicU64::default);
                words.take(STRIPE).collect()
            });
            stripe[word % STRIPE].fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn word(&self, word: usize) -> u64 {
        let stripe = self.stripes[word / STRIPE].get();
        stripe.map_or(0, |words| words[word % STRIPE].load(Ordering::Relaxed))
    }
}

/// Four places, from the four words of the name: it is a digest, so they are as good as random.
fn bits((domain, name): &ChunkKey) -> impl Iterator<Item = (usize, u64)> {
    let domain = domain.number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, _) = name.as_bytes().as_chunks::<8>();
    words.iter().map(move |word| {
        let hash = u64::from_le_bytes(*word) ^ domain;
        ((hash >> 6) as usize % WORDS, 1 << (hash % 64))
    })
}

impl Engine {
    /// Fills the filter with what is stored, once, in short transactions; new chunks are noted meanwhile by their puts.
    pub(crate) async fn load_filter(&self) {
        let mut backoff = Backoff::default();
        let mut after = None;
        loop {
            let names = self
                .inner
                .db
                .view(move |txn| {
                    Box::pin(async move { catalog::chunks::keys_after(txn, after, PAGE).await })
                })
                .await;
            match names {
                Ok(names) => {
                    names.iter().for_each(|key| self.inner.filter.insert(key));
                    after = names.last().copied();
                    if names.len() < PAGE as usize {
                        break;
                    }
                    backoff.reset();
                }
                Err(error) => {
                    tracing::error!(%error, "the names of chunks cannot be read; will retry");
                    backoff.pause().await;
                }
            }
        }
        self.inner.filter.loaded.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{ChunkName, Digest, Domain};

    #[test]
    fn what_was_noted_is_never_excluded_and_nearly_all_else_is() {
        let filter = ChunkFilter::new();
        let key = |n: u32| {
            (
                Domain::STORE,
                ChunkName::plain(Digest::of(&n.to_le_bytes())),
            )
        };
        (0..50_000).for_each(|n| filter.insert(&key(n)));
        assert!(!filter.excludes(&key(70_000)), "not loaded: perhaps");
        filter.loaded.store(true, Ordering::Release);
        assert!((0..50_000).all(|n| !filter.excludes(&key(n))));
        let wrong = (50_000..100_000)
            .filter(|n| !filter.excludes(&key(*n)))
            .count();
        assert_eq!(wrong, 0, "200,000 of 134 million bits are set");
        let elsewhere = (Domain::from_number(1), key(0).1);
        assert!(filter.excludes(&elsewhere));
    }
}
