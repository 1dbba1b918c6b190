//! Runs of blocks: collected in any order, bounded; and runs of data, cut to where they are asked for.
//!
//! Invariants
//! - A [`Runs`] holds no two runs that touch, and never more than it was allowed: memory does not follow the damage.
//! - A block is noted once by whoever collects, so the count is that of the blocks, also of those whose run was cut.

use crate::Error;
use crate::source::Extent;
use std::collections::BTreeMap;

/// Runs of blocks that are noted as they are found, in any order.
#[derive(Debug)]
pub(crate) struct Runs {
    /// Start and end (exclusive) of each run.
    runs: BTreeMap<u32, u32>,
    runs_max: usize,
    blocks: u64,
    cut: bool,
}

impl Runs {
    /// None yet; never more than `runs_max`.
    pub(crate) fn new(runs_max: usize) -> Runs {
        Runs {
            runs: BTreeMap::new(),
            runs_max,
            blocks: 0,
            cut: false,
        }
    }

    /// Notes a run that was not noted before, not even in part. One that touches no other is left out, and only counted, when
    /// there are too many.
    pub(crate) fn add(&mut self, extent: Extent) {
        if extent.count == 0 {
            return;
        }
        self.blocks += u64::from(extent.count);
        let (mut start, mut end) = (extent.start, end(extent));
        if let Some((&before, &before_end)) = self.runs.range(..start).next_back()
            && before_end == start
        {
            self.runs.remove(&before);
            start = before;
        }
        if let Some(after_end) = self.runs.remove(&end) {
            end = after_end;
        }
        if self.runs.len() < self.runs_max {
            self.runs.insert(start, end);
        } else {
            self.cut = true;
        }
    }

    /// Number of blocks noted.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The runs in ascending order, and whether some were left out.
    pub(crate) fn into_extents(self) -> (Vec<Extent>, bool) {
        let extents = self.runs.into_iter().map(|(start, end)| Extent {
            start,
            count: end - start,
        });
        (extents.collect(), self.cut)
    }
}

/// Answers the next run of data from a block on, which may begin before that block.
type NextData = Box<dyn FnMut(u32) -> Result<Option<Extent>, Error> + Send>;

/// Runs of data in ascending order, as something that is asked block by block, from low to high.
pub(crate) struct DataRuns {
    next_data: NextData,
    /// The run found last.
    found: Option<Extent>,
    /// From here on nobody has looked.
    unseen: Option<u32>,
}

impl DataRuns {
    /// Over a function that answers the next run from a block on, which may begin before that block.
    pub(crate) fn new(
        next_data: impl FnMut(u32) -> Result<Option<Extent>, Error> + Send + 'static,
    ) -> DataRuns {
        DataRuns {
            next_data: Box::new(next_data),
            found: None,
            unseen: Some(0),
        }
    }

    /// The first run of data within these blocks. Blocks that were asked about must not be asked about again, except the
    /// rest of the run that was answered.
    pub(crate) fn first_in(&mut self, within: Extent) -> Result<Option<Extent>, Error> {
        let (from, to) = (within.start, end(within));
        if from >= to {
            return Ok(None);
        }
        loop {
            if let Some(found) = self.found {
                if found.start >= to {
                    return Ok(None);
                }
                if end(found) > from {
                    let start = found.start.max(from);
                    let count = end(found).min(to) - start;
                    return Ok(Some(Extent { start, count }));
                }
            }
            let Some(unseen) = self.unseen else {
                return Ok(None);
            };
            self.found = (self.next_data)(unseen.max(from))?.filter(|found| found.count > 0);
            self.unseen = self.found.map(end);
        }
    }
}

/// The block after the last.
pub(crate) fn end(extent: Extent) -> u32 {
    extent.start.saturating_add(extent.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    /// The maximal runs of a set of blocks.
    fn runs_of(blocks: &BTreeSet<u32>) -> Vec<Extent> {
        let mut runs: Vec<Extent> = Vec::new();
        for &block in blocks {
            match runs.last_mut() {
                Some(run) if end(*run) == block => run.count += 1,
                _ => runs.push(Extent {
                    start: block,
                    count: 1,
                }),
            }
        }
        runs
    }

    #[test]
    fn too_many_runs_are_cut_and_counted() {
        let mut runs = Runs::new(2);
        for start in [4, 0, 8, 5, 9] {
            runs.add(Extent { start, count: 1 });
        }
        assert_eq!(runs.blocks(), 5);
        let (extents, cut) = runs.into_extents();
        let run = |start, count| Extent { start, count };
        assert_eq!((extents, cut), (vec![run(0, 1), run(4, 2)], true));
    }

    #[test]
    fn the_last_block_of_the_largest_volume_has_an_end() {
        let mut runs = Runs::new(2);
        runs.add(Extent {
            start: types::BlockIndex::COUNT_MAX - 1,
            count: 1,
        });
        assert_eq!(runs.into_extents().0[0].count, 1);
    }

    fn shuffled_blocks() -> impl Strategy<Value = Vec<u32>> {
        proptest::collection::btree_set(0u32..64, 0..48)
            .prop_flat_map(|blocks| Just(blocks.into_iter().collect::<Vec<_>>()).prop_shuffle())
    }

    proptest! {
        #[test]
        fn runs_are_those_of_the_set_in_whatever_order(blocks in shuffled_blocks()) {
            let mut runs = Runs::new(64);
            for &start in &blocks {
                runs.add(Extent { start, count: 1 });
            }
            let set: BTreeSet<u32> = blocks.into_iter().collect();
            prop_assert_eq!(runs.blocks(), set.len() as u64);
            prop_assert_eq!(runs.into_extents(), (runs_of(&set), false));
        }

        #[test]
        fn data_is_found_where_it_is(
            data in proptest::collection::btree_set(0u32..64, 0..48),
            cuts in proptest::collection::btree_set(1u32..64, 0..16),
            early in any::<bool>(),
        ) {
            let all = runs_of(&data);
            let mut asked = DataRuns::new(move |from| {
                let next = all.iter().find(|run| end(**run) > from).copied();
                Ok(next.map(|run| {
                    // A source may begin its answer at the block that was asked for, or where the run really begins.
                    let start = if early { run.start } else { run.start.max(from) };
                    Extent { start, count: end(run) - start }
                }))
            });
            let mut found = BTreeSet::new();
            let mut bounds: Vec<u32> = [0, 64].into_iter().chain(cuts).collect();
            bounds.sort_unstable();
            for pair in bounds.windows(2) {
                let mut start = pair[0];
                while let Some(run) = asked.first_in(Extent { start, count: pair[1] - start })? {
                    prop_assert_eq!(run.start >= start && end(run) <= pair[1] && run.count > 0, true);
                    found.extend(run.start..end(run));
                    start = end(run);
                }
            }
            prop_assert_eq!(found, data);
        }
    }
}
