//! Makes a new map from a base and changes, by copying what lies above them.
//!
//! Changes come in index order, so one path of pages is open at a time: a page is finished when the first change beyond
//! it arrives, and its parent when all of its children are. The pages of the base that a run of changes falls into are
//! loaded first, level by level in batches; then the run is applied without waiting. The base is loaded only where
//! changes fall, and each page at most once.
//!
//! Invariants
//! - Pages come out after the pages that they name, and only when they differ from the base's page at their place.
//! - Memory is the open path, the base pages of one run (at most [`BASE_PAGES_MAX`]), and finished pages not yet taken.

use std::collections::HashMap;
use std::sync::Arc;

use types::{BlockIndex, Digest};

use crate::page::{EncodedPage, LEVELS, Page, ROOT_LEVEL, SLOTS, place_at, slot_at};
use crate::source::{Error, PageLoader, PageSource, let_others_run};

/// Leaves that one run of changes touches at most: enough to hide the time of single loads, and so few that other
/// tasks wait for half a millisecond at most, because finishing a page takes some 5 µs.
const RUN_LEAVES_MAX: usize = 32;

/// Base pages held for one run: its leaves, and no more of each inner level.
const BASE_PAGES_MAX: usize = RUN_LEAVES_MAX * ROOT_LEVEL as usize + 1;

/// A copy-on-write update in progress.
///
/// Nothing is stored here: the caller stores the pages, and may drop the update at any point.
#[derive(Debug)]
pub struct Update<'p, L> {
    pages: &'p PageSource<L>,
    base: Digest,
    last: Option<BlockIndex>,
    /// Open pages from the root down; empty before the first change.
    path: Vec<OpenPage>,
    /// Base pages that the current run touches.
    held: HashMap<(u8, Digest), Arc<Page>>,
    finished: Vec<EncodedPage>,
    /// The page that was finished last on each level.
    finished_last: [Option<Digest>; LEVELS as usize],
    added: u64,
}

/// What an update came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// Name of the new map; the base's when nothing differs from it.
    pub root: Digest,
    /// The new pages that were not taken before, children before parents; the root, if new, is the last.
    pub pages: Vec<EncodedPage>,
    /// Block indexes of the new map that the base does not have.
    pub added: u64,
}

impl<'p, L: PageLoader> Update<'p, L> {
    /// An update of the map named `base`, which may be that of [`crate::empty_root`].
    pub fn new(pages: &'p PageSource<L>, base: Digest) -> Self {
        Update {
            pages,
            base,
            last: None,
            path: Vec::new(),
            held: HashMap::new(),
            finished: Vec::new(),
            finished_last: [None; LEVELS as usize],
            added: 0,
        }
    }

    /// Sets entries, in strictly ascending order of block index, across calls too.
    ///
    /// Take the finished pages between calls; a call makes at most 3 for each change. After an error, or when the
    /// future was dropped, the update is of no further use.
    ///
    /// # Panics
    ///
    /// When the order is violated: the map would silently lack changes.
    pub async fn apply(&mut self, changes: &[(BlockIndex, Digest)]) -> Result<(), Error<L::Error>> {
        for (index, _) in changes {
            assert!(
                self.last < Some(*index),
                "{index} comes after {:?}",
                self.last
            );
            self.last = Some(*index);
        }
        for run in runs(changes) {
            self.hold_base_pages(run).await?;
            for (index, digest) in run {
                self.set(index.get(), *digest);
            }
            let_others_run().await;
        }
        Ok(())
    }

    /// The new pages that were finished since the last call, children before parents.
    pub fn take_pages(&mut self) -> Vec<EncodedPage> {
        std::mem::take(&mut self.finished)
    }

    /// Finishes the open pages and with them the map.
    ///
    /// Without any change this still loads the base's root, so that no result names a root that cannot be read.
    pub async fn finish(mut self) -> Result<Updated, Error<L::Error>> {
        if self.path.is_empty() {
            self.pages.page(self.base, ROOT_LEVEL).await?;
        }
        let mut root = self.base;
        while let Some(open) = self.path.pop() {
            if let Some(digest) = self.close(open) {
                root = digest;
            }
        }
        Ok(Updated {
            root,
            pages: self.finished,
            added: self.added,
        })
    }

    /// Loads the base pages that `run` falls into, except those held already, and holds these alone.
    async fn hold_base_pages(
        &mut self,
        run: &[(BlockIndex, Digest)],
    ) -> Result<(), Error<L::Error>> {
        let mut before = std::mem::take(&mut self.held);
        let mut wanted = vec![(0, self.base)];
        for level in (0..=ROOT_LEVEL).rev() {
            let missing: Vec<_> = wanted
                .iter()
                .map(|(_, digest)| *digest)
                .filter(|digest| !before.contains_key(&(level, *digest)))
                .collect();
            let loaded = self.pages.pages(&missing, level).await?;
            let keys = missing.into_iter().map(|digest| (level, digest));
            before.extend(keys.zip(loaded));
            let mut children = Vec::new();
            for (place, digest) in wanted {
                let page = Arc::clone(&before[&(level, digest)]);
                if level > 0 {
                    children.extend(touched(run, level, place, &page));
                }
                self.held.insert((level, digest), page);
            }
            wanted = children;
        }
        debug_assert!(self.held.len() <= BASE_PAGES_MAX);
        Ok(())
    }

    fn set(&mut self, index: u32, digest: Digest) {
        while let Some(done) = self
            .path
            .pop_if(|open| open.place != place_at(open.level, index))
        {
            self.close(done);
        }
        if self.path.is_empty() {
            self.open(ROOT_LEVEL, index, Some(self.base));
        }
        while let Some(open) = self.path.last_mut() {
            let slot = usize::from(slot_at(open.level, index));
            let before = open.slots[slot];
            if open.level > 0 {
                let below = open.level - 1;
                self.open(below, index, before);
                continue;
            }
            self.added += u64::from(before.is_none());
            open.changed |= before != Some(digest);
            open.slots[slot] = Some(digest);
            break;
        }
    }

    /// Opens the page at `level` that covers `index`, as the base has it.
    fn open(&mut self, level: u8, index: u32, base: Option<Digest>) {
        let mut slots = Box::new([None; SLOTS]);
        if let Some(base) = base {
            for (slot, digest) in self.held[&(level, base)].slots() {
                slots[usize::from(slot)] = Some(digest);
            }
        }
        self.path.push(OpenPage {
            level,
            place: place_at(level, index),
            changed: false,
            slots,
        });
    }

    /// Finishes a page that was taken off the path; its digest, if it is new.
    fn close(&mut self, done: OpenPage) -> Option<Digest> {
        if !done.changed {
            return None;
        }
        let page = Page::of_slots(done.level, &done.slots).encode_named();
        let digest = page.digest;
        if let Some(parent) = self.path.last_mut() {
            parent.changed = true;
            parent.slots[done.place as usize % SLOTS] = Some(digest);
        }
        // Long stretches of one content, zeros above all, make the same page over and over.
        let last = self.finished_last[usize::from(done.level)].replace(digest);
        if last != Some(digest) {
            self.finished.push(page);
        }
        Some(digest)
    }
}

#[derive(Debug)]
struct OpenPage {
    level: u8,
    place: u32,
    /// Whether any slot differs from the base's page here. A page that the base lacks is opened for a change.
    changed: bool,
    slots: Box<[Option<Digest>; SLOTS]>,
}

/// Splits changes into runs that touch at most [`RUN_LEAVES_MAX`] leaves each.
fn runs(mut changes: &[(BlockIndex, Digest)]) -> impl Iterator<Item = &[(BlockIndex, Digest)]> {
    std::iter::from_fn(move || {
        let mut leaves = changes.chunk_by(|(a, _), (b, _)| leaf_of(*a) == leaf_of(*b));
        let length = leaves.by_ref().take(RUN_LEAVES_MAX).map(<[_]>::len).sum();
        let (run, rest) = changes.split_at(length);
        changes = rest;
        (!run.is_empty()).then_some(run)
    })
}

/// The children of an inner page of the base that `run` falls into: their places and digests.
fn touched(run: &[(BlockIndex, Digest)], level: u8, place: u32, page: &Page) -> Vec<(u32, Digest)> {
    let from = run.partition_point(|(index, _)| place_at(level, index.get()) < place);
    let to = run.partition_point(|(index, _)| place_at(level, index.get()) <= place);
    run[from..to]
        .chunk_by(|(a, _), (b, _)| place_at(level - 1, a.get()) == place_at(level - 1, b.get()))
        .filter_map(|changes| {
            let (index, _) = changes.first()?;
            let digest = page.get(slot_at(level, index.get()))?;
            Some((place_at(level - 1, index.get()), digest))
        })
        .collect()
}

fn leaf_of(index: BlockIndex) -> u32 {
    place_at(0, index.get())
}

#[cfg(test)]
mod tests;
