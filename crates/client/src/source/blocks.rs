//! A set of blocks: a bit for each, 16 MiB for the largest volume.

use super::Extent;
use super::disk::extent;
use std::sync::atomic::{AtomicU64, Ordering};

/// A set of block indexes below a bound; many threads may add to it.
#[derive(Debug)]
pub(crate) struct BlockSet {
    words: Vec<AtomicU64>,
    count: u64,
}

impl BlockSet {
    /// An empty set of indexes below `count`.
    pub(crate) fn new(count: u64) -> BlockSet {
        let words = count.div_ceil(64) as usize;
        BlockSet {
            words: std::iter::repeat_with(AtomicU64::default)
                .take(words)
                .collect(),
            count,
        }
    }

    /// Adds the indexes from `start` to before `end`, as far as they lie below the bound.
    pub(crate) fn insert(&self, start: u64, end: u64) {
        let end = end.min(self.count);
        let mut at = start;
        while at < end {
            let (word, bit) = (at / 64, at % 64);
            let bits = (end - at).min(64 - bit);
            let mask = (u64::MAX >> (64 - bits)) << bit;
            self.words[word as usize].fetch_or(mask, Ordering::Relaxed);
            at += bits;
        }
    }

    /// The next run from `from` on.
    pub(crate) fn next(&self, from: u32) -> Option<Extent> {
        self.next_before(from, self.count)
    }

    /// The next run from `from` on, as far as it lies before `bound`: what is behind that is not looked at.
    pub(crate) fn next_before(&self, from: u32, bound: u64) -> Option<Extent> {
        let bound = bound.min(self.count);
        let start = self.find(u64::from(from), bound, 0);
        let end = self.find(start, bound, u64::MAX);
        (start < end).then(|| extent(start, end))
    }

    /// The first index from `at` on whose bit differs from those of `all`; the bound if there is none.
    fn find(&self, at: u64, bound: u64, all: u64) -> u64 {
        let mut skipped = at % 64;
        for word in (at / 64)..bound.div_ceil(64) {
            let differing = (self.words[word as usize].load(Ordering::Relaxed) ^ all) >> skipped;
            if differing != 0 {
                let found = word * 64 + skipped + u64::from(differing.trailing_zeros());
                return found.min(bound);
            }
            skipped = 0;
        }
        bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, proptest};

    fn runs(set: &BlockSet) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(run) = set.next(from) {
            found.push((run.start, run.count));
            from = run.start + run.count;
        }
        found
    }

    #[test]
    fn runs_cross_words_and_end_at_the_bound() {
        let set = BlockSet::new(200);
        assert_eq!(runs(&set), []);
        set.insert(3, 4);
        set.insert(60, 130);
        set.insert(199, 1000);
        assert_eq!(runs(&set), [(3, 1), (60, 70), (199, 1)]);
        assert_eq!(set.next(200), None);
        assert_eq!(set.next(u32::MAX), None);
        assert_eq!(set.next_before(0, 3), None);
        assert_eq!(set.next_before(4, 62), Some(extent(60, 62)));
        assert_eq!(set.next_before(70, 60), None);
        assert_eq!(runs(&BlockSet::new(0)), []);
    }

    proptest! {
        #[test]
        fn is_what_was_inserted(
            count in 0..400_u64,
            ranges in proptest::collection::vec((0..400_u64, 0..400_u64), 0..8)
                .prop_map(|all| all.into_iter().filter(|(start, end)| start <= end).collect::<Vec<_>>()),
        ) {
            let set = BlockSet::new(count);
            for (start, end) in &ranges {
                set.insert(*start, *end);
            }
            let mut found = vec![false; count as usize];
            for (start, length) in runs(&set) {
                found[start as usize..(start + length) as usize].fill(true);
            }
            for (index, found) in (0..count).zip(found) {
                let expected = ranges.iter().any(|(start, end)| (*start..*end).contains(&index));
                assert_eq!(found, expected, "{index}");
            }
        }
    }
}
