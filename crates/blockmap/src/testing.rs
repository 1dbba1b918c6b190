//! What the tests of this crate share: pages in memory, counted, and short ways to make and read maps.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, prop_oneof};
use types::{BlockIndex, Digest};

use crate::{
    Change, Diff, DiffLimit, EncodedPage, Error, LEVELS, Page, PageCache, PageLoader, PageSource,
    SLOTS, Update, Updated, Walk, diff, empty_root, get, walk,
};

/// What a map must hold.
pub(crate) type Model = BTreeMap<u32, u64>;

/// No limit at all.
pub(crate) const UNLIMITED: DiffLimit = DiffLimit {
    changes: usize::MAX,
    pages: usize::MAX,
};

/// Stored pages by digest, and counts of what was asked for.
#[derive(Debug, Default)]
pub(crate) struct MemoryPages {
    pages: Mutex<HashMap<Digest, Bytes>>,
    calls: AtomicUsize,
    loaded: AtomicUsize,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no page {0}")]
pub(crate) struct NoPage(pub(crate) Digest);

/// Maps whose pages are in memory.
pub(crate) struct Maps {
    pub(crate) pages: PageSource<Arc<MemoryPages>>,
}

impl PageLoader for Arc<MemoryPages> {
    type Error = NoPage;

    async fn load(&self, pages: &[Digest]) -> Result<Vec<Bytes>, NoPage> {
        assert!(
            (1..=128).contains(&pages.len()),
            "a batch of {} pages",
            pages.len()
        );
        let mut distinct = pages.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(
            distinct.len(),
            pages.len(),
            "pages asked for twice in one batch"
        );
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.loaded.fetch_add(pages.len(), Ordering::Relaxed);
        let stored = self.pages.lock().unwrap();
        pages
            .iter()
            .map(|page| stored.get(page).cloned().ok_or(NoPage(*page)))
            .collect()
    }
}

impl MemoryPages {
    pub(crate) fn put(&self, digest: Digest, bytes: Bytes) {
        self.pages.lock().unwrap().insert(digest, bytes);
    }

    pub(crate) fn take(&self, digest: Digest) {
        self.pages.lock().unwrap().remove(&digest).unwrap();
    }

    pub(crate) fn len(&self) -> usize {
        self.pages.lock().unwrap().len()
    }
}

impl Maps {
    /// No maps yet, and no cache: every visit of a page is a load.
    pub(crate) fn uncached() -> Maps {
        Maps::cached(0)
    }

    /// No maps yet, and a cache of so many bytes.
    pub(crate) fn cached(bytes_max: usize) -> Maps {
        let cache = Arc::new(PageCache::new(bytes_max));
        Maps {
            pages: PageSource::new(Arc::default(), cache),
        }
    }

    /// The pages as another process would see them: the same store, and an empty cache.
    pub(crate) fn reopened(&self) -> Maps {
        let cache = Arc::new(PageCache::new(0));
        Maps {
            pages: PageSource::new(Arc::clone(self.pages.loader()), cache),
        }
    }

    pub(crate) fn put(&self, page: EncodedPage) -> Digest {
        self.pages.loader().put(page.digest, page.bytes);
        page.digest
    }

    /// Applies the changes in calls of `step` changes each, and stores the pages as a caller would.
    pub(crate) fn update_by(
        &self,
        step: usize,
        base: Digest,
        changes: &[(BlockIndex, Digest)],
    ) -> Updated {
        run(async {
            let mut update = Update::new(&self.pages, base);
            let mut pages = Vec::new();
            for changes in changes.chunks(step) {
                update.apply(changes).await.unwrap();
                pages.append(&mut update.take_pages());
            }
            let mut updated = update.finish().await.unwrap();
            pages.append(&mut updated.pages);
            for page in &pages {
                self.put(page.clone());
            }
            updated.pages = pages;
            updated
        })
    }

    /// The root of a map with the same content at all 2^27 block indexes: four distinct pages.
    pub(crate) fn full(&self, content: u64) -> Digest {
        let mut below = digest(content);
        for level in 0..LEVELS {
            let mut slots = [Some(below); SLOTS];
            if level + 1 == LEVELS {
                slots[64..].fill(None);
            }
            below = self.put(Page::of_slots(level, &slots).encode_named());
        }
        below
    }

    pub(crate) fn update(&self, base: Digest, changes: &[(BlockIndex, Digest)]) -> Updated {
        self.update_by(1000, base, changes)
    }

    /// The root of a new map that holds what `model` says.
    pub(crate) fn build(&self, model: &Model) -> Digest {
        self.update(empty_root().digest, &entries(model)).root
    }

    pub(crate) fn walk(&self, root: Digest, from: u32, limit: usize) -> Walk {
        run(walk(&self.pages, root, index(from), limit)).unwrap()
    }

    pub(crate) fn diff(&self, first: Digest, second: Digest, from: u32, limit: DiffLimit) -> Diff {
        run(diff(&self.pages, first, second, index(from), limit)).unwrap()
    }

    pub(crate) fn get(&self, root: Digest, at: u32) -> Result<Option<Digest>, Error<NoPage>> {
        run(get(&self.pages, root, index(at)))
    }

    /// Pages loaded, and calls of the loader made, by `action`.
    pub(crate) fn counting<T>(&self, action: impl FnOnce() -> T) -> (T, usize, usize) {
        let loader = self.pages.loader();
        let counts = || {
            (
                loader.loaded.load(Ordering::Relaxed),
                loader.calls.load(Ordering::Relaxed),
            )
        };
        let before = counts();
        let value = action();
        let after = counts();
        (value, after.0 - before.0, after.1 - before.1)
    }
}

/// Runs a future that waits for nothing outside: whenever it yields, it can go on at once.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

pub(crate) fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

/// A digest that stands for content number `content`.
pub(crate) fn digest(content: u64) -> Digest {
    Digest::of(&content.to_le_bytes())
}

pub(crate) fn entries(model: &Model) -> Vec<(BlockIndex, Digest)> {
    model
        .iter()
        .map(|(at, content)| (index(*at), digest(*content)))
        .collect()
}

/// The difference of two models.
pub(crate) fn changes(first: &Model, second: &Model) -> Vec<Change> {
    let mut indexes: Vec<_> = first.keys().chain(second.keys()).copied().collect();
    indexes.sort();
    indexes.dedup();
    indexes
        .into_iter()
        .filter(|at| first.get(at) != second.get(at))
        .map(|at| Change {
            index: index(at),
            first: first.get(&at).copied().map(digest),
            second: second.get(&at).copied().map(digest),
        })
        .collect()
}

/// Block indexes where pages begin and end, close together, and anywhere.
pub(crate) fn any_index() -> impl Strategy<Value = u32> {
    let last = BlockIndex::COUNT_MAX - 1;
    prop_oneof![
        4 => 0_u32..600,
        2 => 16_300_u32..16_500,
        2 => 2_097_100_u32..2_097_200,
        1 => Just(0),
        1 => Just(last),
        3 => 0..=last,
    ]
}

/// A map of up to 200 entries with few distinct contents, so that equal pages occur.
pub(crate) fn any_model() -> impl Strategy<Value = Model> {
    proptest::collection::btree_map(any_index(), 0_u64..4, 0..200)
}

/// A fixed sequence that looks random (SplitMix64).
pub(crate) fn scattered() -> impl Iterator<Item = u64> {
    let mut state = 7_u64;
    std::iter::from_fn(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(mixed ^ (mixed >> 31))
    })
}
