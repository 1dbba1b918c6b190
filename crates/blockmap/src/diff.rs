//! Finds where two maps differ, without reading what they share.
//!
//! Both trees are walked together, in index order. Two places with the same digest hold the same entries, whatever maps
//! they belong to, and are passed over; so each pair of pages that is visited holds a difference, and the cost follows
//! the differences, not the volumes or the distance of the two snapshots.
//!
//! The pairs still to be visited wait on a stack, the lowest on top. A step takes the pairs on top that are of one level,
//! as many as its read-ahead allows, loads them in one batch and puts their differing children in their place. The
//! read-ahead of a level starts at a few pairs and doubles with every step, so a short answer visits little more than it
//! needs, and a long one takes few round trips. The stack holds at most the children of one batch for each level.
//!
//! A page that cannot be loaded fails only the call that cannot answer anything without it: a batch that fails is taken apart, and
//! what was found before the page is answered.

use types::{BlockIndex, Digest};

use crate::page::{LEVELS, Page, ROOT_LEVEL, entries_max, lowest};
use crate::source::{BATCH_MAX, Error, PageLoader, PageSource};

/// Pages of the longest descent: one pair on each level.
const DESCENT_PAGES: usize = 2 * LEVELS as usize;

/// Pairs that the first step on a level takes: what it visits in vain at worst is no more than a few changes cost.
const AHEAD_FIRST: usize = 4;

/// Pairs that a step takes at most: one batch of pages. Their children take half a megabyte on the stack.
const AHEAD_MAX: usize = BATCH_MAX / 2;

/// A block index at which two maps differ. At least one of them has an entry there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub index: BlockIndex,
    /// The entry of the first map.
    pub first: Option<Digest>,
    /// The entry of the second map.
    pub second: Option<Digest>,
}

/// How much one call of [`diff`] does at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffLimit {
    /// Changes returned; 0 counts as 1.
    pub changes: usize,
    /// Pages visited, cached ones included; less than the 8 of one descent counts as 8, so that every call gets on.
    pub pages: usize,
}

/// A part of the difference of two maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// Changes in ascending order.
    pub changes: Vec<Change>,
    /// Where to resume, after all of `changes` and after `from`; `None` when there are no more.
    ///
    /// May come without any change, when the page limit was reached first. Also comes early, behind at least one change, when the
    /// page that is needed next cannot be loaded: who resumes there meets the error.
    pub next: Option<BlockIndex>,
}

/// The changes at or after `from` that lead from the map named `first` to the map named `second`.
///
/// Works for any two maps. A block that was rewritten with the same data is no change. A difference of k changes takes
/// at most 6k + 2 page visits in all when it is not cut into parts; a part of k changes takes at most 6k + 20.
pub async fn diff<L: PageLoader>(
    pages: &PageSource<L>,
    first: Digest,
    second: Digest,
    from: BlockIndex,
    limit: DiffLimit,
) -> Result<Diff, Error<L::Error>> {
    compare(pages, Some(first), Some(second), from, limit).await
}

/// [`diff`] where either map may be none at all.
pub(crate) async fn compare<L: PageLoader>(
    pages: &PageSource<L>,
    first: Option<Digest>,
    second: Option<Digest>,
    from: BlockIndex,
    limit: DiffLimit,
) -> Result<Diff, Error<L::Error>> {
    let mut comparison = Comparison {
        from: from.get(),
        pending: Vec::new(),
        ahead: [AHEAD_FIRST; LEVELS as usize],
        pages_left: limit.pages.max(DESCENT_PAGES),
        changes_max: limit.changes.max(1),
        changes: Vec::new(),
    };
    if first != second {
        comparison.pending.push(Pair {
            level: ROOT_LEVEL,
            start: 0,
            first,
            second,
        });
    }
    while let Some(top) = comparison.pending.last() {
        let (level, resume) = (top.level, top.start.max(comparison.from));
        let batch = comparison.take_batch(level);
        if batch.is_empty() {
            return Ok(comparison.stop_at(resume));
        }
        let digests: Vec<_> = batch.iter().flat_map(Pair::digests).collect();
        let mut loaded = match pages.pages(&digests, level).await {
            Ok(loaded) => loaded.into_iter(),
            // It may be the read-ahead that failed.
            Err(_) if batch.len() > 1 => {
                comparison.put_back(level, batch);
                continue;
            }
            Err(_) if !comparison.changes.is_empty() => return Ok(comparison.stop_at(resume)),
            Err(error) => return Err(error),
        };
        let mut page_of = |digest: Option<Digest>| digest.and_then(|_| loaded.next());
        let batch: Vec<_> = batch
            .into_iter()
            .map(|pair| (pair.start, page_of(pair.first), page_of(pair.second)))
            .collect();
        if level > 0 {
            for (start, first, second) in batch.iter().rev() {
                comparison.descend(level, *start, first.as_deref(), second.as_deref());
            }
            continue;
        }
        for (start, first, second) in &batch {
            if let Err(Full { next }) =
                comparison.collect(*start, first.as_deref(), second.as_deref())
            {
                return Ok(comparison.stop_at(next));
            }
        }
    }
    Ok(Diff {
        changes: comparison.changes,
        next: None,
    })
}

/// Two pages of one level at one place, of which at least one exists, and which differ.
#[derive(Clone, Copy)]
struct Pair {
    level: u8,
    /// First block index of the place.
    start: u32,
    first: Option<Digest>,
    second: Option<Digest>,
}

/// As many changes as allowed were found; the next one is known.
struct Full {
    next: u32,
}

struct Comparison {
    from: u32,
    /// Disjoint places, the lowest last.
    pending: Vec<Pair>,
    /// Pairs that the next step on each level may take.
    ahead: [usize; LEVELS as usize],
    pages_left: usize,
    changes_max: usize,
    changes: Vec<Change>,
}

impl Pair {
    fn digests(&self) -> impl Iterator<Item = Digest> {
        [self.first, self.second].into_iter().flatten()
    }
}

impl Comparison {
    /// Takes pairs of `level` from the top of the stack, ascending; none when the page limit is reached.
    fn take_batch(&mut self, level: u8) -> Vec<Pair> {
        // Every pair holds a change, and one change more than wanted tells where to resume.
        let pairs_max = (self.changes_max - self.changes.len()).saturating_add(1);
        let ahead = &mut self.ahead[usize::from(level)];
        let pairs_max = pairs_max.min(*ahead);
        *ahead = (2 * *ahead).min(AHEAD_MAX);
        // What is taken here must leave enough to descend from one of the pairs to a leaf.
        let pages_max = self.pages_left.saturating_sub(2 * usize::from(level));
        let mut pages = 0;
        let mut batch = Vec::new();
        while let Some(pair) = self.pending.pop_if(|pair| {
            pair.level == level
                && batch.len() < pairs_max
                && pages + pair.digests().count() <= pages_max
        }) {
            pages += pair.digests().count();
            batch.push(pair);
        }
        self.pages_left -= pages;
        batch
    }

    /// Puts a batch back on the stack, to be taken in smaller parts.
    fn put_back(&mut self, level: u8, batch: Vec<Pair>) {
        self.pages_left += batch.iter().flat_map(Pair::digests).count();
        self.ahead[usize::from(level)] = 1;
        self.pending.extend(batch.into_iter().rev());
    }

    /// Puts the differing children of two inner pages on the stack.
    fn descend(&mut self, level: u8, start: u32, first: Option<&Page>, second: Option<&Page>) {
        let child_entries = entries_max(level - 1);
        let children = differing(first, second)
            .map(|(slot, first, second)| {
                let start = start + u32::from(slot) * child_entries;
                Pair {
                    level: level - 1,
                    start,
                    first,
                    second,
                }
            })
            .filter(|child| child.start + (child_entries - 1) >= self.from);
        let below = self.pending.len();
        self.pending.extend(children);
        self.pending[below..].reverse();
    }

    /// Appends the differing entries of two leaves.
    fn collect(
        &mut self,
        start: u32,
        first: Option<&Page>,
        second: Option<&Page>,
    ) -> Result<(), Full> {
        for (slot, first, second) in differing(first, second) {
            let index = start + u32::from(slot);
            if index < self.from {
                continue;
            }
            if self.changes.len() == self.changes_max {
                return Err(Full { next: index });
            }
            self.changes.push(Change {
                index: block_index(index),
                first,
                second,
            });
        }
        Ok(())
    }

    fn stop_at(self, next: u32) -> Diff {
        Diff {
            changes: self.changes,
            next: Some(block_index(next)),
        }
    }
}

/// The slots in which two pages differ, ascending.
fn differing<'p>(
    first: Option<&'p Page>,
    second: Option<&'p Page>,
) -> impl Iterator<Item = (u8, Option<Digest>, Option<Digest>)> + 'p {
    let present = |page: Option<&Page>| page.map_or(0, Page::present);
    let mut rest = present(first) | present(second);
    std::iter::from_fn(move || {
        while rest != 0 {
            let slot = lowest(rest);
            rest &= rest - 1;
            let of = |page: Option<&Page>| page.and_then(|page| page.get(slot));
            let (first, second) = (of(first), of(second));
            if first != second {
                return Some((slot, first, second));
            }
        }
        None
    })
}

fn block_index(value: u32) -> BlockIndex {
    BlockIndex::new(value).expect("no page has a slot beyond the largest volume")
}

#[cfg(test)]
mod tests;
