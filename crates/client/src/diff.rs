//! Where two snapshots differ.
//!
//! Servers compare snapshots of one lineage. Others are compared here, by the checksums of all their blocks, where those are
//! listed. Either way runs are told as blocks come: memory does not depend on how much differs.

use crate::api::{Api, ChangedBlock, ListedBlock};
use crate::listing::ChangedBlocks;
use crate::walk::{Listed, Lost, Walk};
use crate::{Error, Refusal, SnapshotId};
use std::cmp::Ordering;
use types::{BlockIndex, VolumeSize};

/// How the blocks of a run differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Both have them, with different content.
    Changed,
    /// Only the second has them.
    Added,
    /// Only the first has them.
    Removed,
}

/// A run of blocks that differ in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangedExtent {
    /// The first block.
    pub start: u32,
    /// How many.
    pub count: u32,
    /// How they differ.
    pub change: Change,
}

/// The totals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiffTotals {
    /// Blocks that both have, with different content.
    pub changed: u64,
    /// Blocks that only the second has.
    pub added: u64,
    /// Blocks that only the first has.
    pub removed: u64,
    /// Runs.
    pub extents: u64,
    /// Size of the second snapshot's volume.
    pub volume_size: Option<VolumeSize>,
}

/// Compares, and gives each run to `each` as it is found. Unrelated snapshots are compared by their checksums where the
/// server lists them.
///
/// # Errors
/// What the server answers, and what `each` does. Unrelated snapshots on servers without checksums: [`Error::Refused`] with
/// reason `UNRELATED_SNAPSHOTS`.
pub async fn diff(
    api: &Api,
    first: &SnapshotId,
    second: &SnapshotId,
    each: &mut (dyn FnMut(ChangedExtent) -> Result<(), Error> + Send),
) -> Result<DiffTotals, Error> {
    let mut runs = ChangedRuns::new(each);
    let volume_size = match begin(api, first, second).await {
        Ok((mut changed, mut block)) => {
            while let Some(found) = block {
                if let Some(change) = change(&found) {
                    runs.add(found.index, change)?;
                }
                block = changed.next().await?;
            }
            changed.volume_size()
        }
        Err(Error::Refused(refusal)) if refusal.reason.as_deref() == Some(UNRELATED) => {
            Some(compare(api, first, second, *refusal, &mut runs).await?)
        }
        Err(error) => return Err(error),
    };
    let totals = runs.finish()?;
    Ok(DiffTotals {
        volume_size,
        ..totals
    })
}

/// The reason that a server gives for not comparing (SPEC 2.6).
const UNRELATED: &str = "UNRELATED_SNAPSHOTS";

/// The listing, with its first block.
async fn begin(
    api: &Api,
    first: &SnapshotId,
    second: &SnapshotId,
) -> Result<(ChangedBlocks, Option<ChangedBlock>), Error> {
    let mut changed = ChangedBlocks::begin(api, first, second, BlockIndex::ZERO).await?;
    let block = changed.next().await?;
    Ok((changed, block))
}

/// How a listed block differs. A server may list one that was written again with the same content.
fn change(block: &ChangedBlock) -> Option<Change> {
    match (&block.first, &block.second) {
        (Some((_, Some(first))), Some((_, Some(second)))) if first == second => None,
        (Some(_), Some(_)) => Some(Change::Changed),
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (None, None) => None,
    }
}

/// Compares the listings of two snapshots.
async fn compare(
    api: &Api,
    first: &SnapshotId,
    second: &SnapshotId,
    refusal: Refusal,
    runs: &mut ChangedRuns<'_>,
) -> Result<VolumeSize, Error> {
    let mut first = Walk::begin(api, first, Lost::Fail).await?;
    let mut second = Walk::begin(api, second, Lost::Fail).await?;
    let (mut left, mut right) = (block(&mut first).await?, block(&mut second).await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(second.volume_size()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.index.cmp(&right.index),
        };
        match (order, &left, &right) {
            (Ordering::Less, Some(left), _) => runs.add(left.index, Change::Removed)?,
            (Ordering::Greater, _, Some(right)) => runs.add(right.index, Change::Added)?,
            (_, Some(left), Some(right)) => match (left.digest, right.digest) {
                (Some(one), Some(other)) if one == other => {}
                (Some(_), Some(_)) => runs.add(left.index, Change::Changed)?,
                _ => return Err(without_checksums(refusal)),
            },
            _ => unreachable!("the side that comes first is there"),
        }
        if order != Ordering::Greater {
            left = block(&mut first).await?;
        }
        if order != Ordering::Less {
            right = block(&mut second).await?;
        }
    }
}

async fn block(walk: &mut Walk) -> Result<Option<ListedBlock>, Error> {
    loop {
        match walk.next().await? {
            None => return Ok(None),
            Some(Listed::Block(block)) => return Ok(Some(block)),
            // Does not occur in a walk that fails instead.
            Some(Listed::Unlisted(_)) => {}
        }
    }
}

fn without_checksums(refusal: Refusal) -> Error {
    Error::from(Refusal {
        message: format!(
            "{} The server lists no checksums, so only their data could tell: download one, and verify it against the other.",
            refusal.message
        ),
        ..refusal
    })
}

/// Makes runs of blocks that come in ascending order.
struct ChangedRuns<'a> {
    each: &'a mut (dyn FnMut(ChangedExtent) -> Result<(), Error> + Send),
    run: Option<ChangedExtent>,
    totals: DiffTotals,
}

impl<'a> ChangedRuns<'a> {
    fn new(each: &'a mut (dyn FnMut(ChangedExtent) -> Result<(), Error> + Send)) -> Self {
        ChangedRuns {
            each,
            run: None,
            totals: DiffTotals::default(),
        }
    }

    fn add(&mut self, index: BlockIndex, change: Change) -> Result<(), Error> {
        match change {
            Change::Changed => self.totals.changed += 1,
            Change::Added => self.totals.added += 1,
            Change::Removed => self.totals.removed += 1,
        }
        let start = index.get();
        if let Some(run) = &mut self.run
            && (run.start + run.count, run.change) == (start, change)
        {
            run.count += 1;
            return Ok(());
        }
        let count = 1;
        self.give(Some(ChangedExtent {
            start,
            count,
            change,
        }))
    }

    fn give(&mut self, next: Option<ChangedExtent>) -> Result<(), Error> {
        let Some(run) = std::mem::replace(&mut self.run, next) else {
            return Ok(());
        };
        self.totals.extents += 1;
        (self.each)(run)
    }

    fn finish(mut self) -> Result<DiffTotals, Error> {
        self.give(None)?;
        Ok(self.totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, Strategy, prop_assert_eq, prop_oneof, proptest};
    use std::collections::BTreeMap;
    use types::Digest;

    fn changes() -> impl Strategy<Value = BTreeMap<u32, Change>> {
        let change = prop_oneof![
            Just(Change::Changed),
            Just(Change::Added),
            Just(Change::Removed)
        ];
        proptest::collection::btree_map(0u32..40, change, 0..40)
    }

    proptest! {
        #[test]
        fn runs_are_maximal_and_say_the_same(changes in changes()) {
            let mut found = Vec::new();
            let mut each = |run| {
                found.push(run);
                Ok(())
            };
            let mut runs = ChangedRuns::new(&mut each);
            for (index, change) in &changes {
                runs.add(BlockIndex::new(*index).unwrap(), *change)?;
            }
            let totals = runs.finish()?;
            prop_assert_eq!(totals.extents, found.len() as u64);
            let count = |change| changes.values().filter(|found| **found == change).count() as u64;
            prop_assert_eq!(totals.changed, count(Change::Changed));
            prop_assert_eq!(totals.added, count(Change::Added));
            prop_assert_eq!(totals.removed, count(Change::Removed));
            let mut again = BTreeMap::new();
            for run in &found {
                again.extend((run.start..run.start + run.count).map(|index| (index, run.change)));
            }
            prop_assert_eq!(again, changes);
            for pair in found.windows(2) {
                let touch = pair[0].start + pair[0].count == pair[1].start;
                prop_assert_eq!(touch && pair[0].change == pair[1].change, false);
            }
        }
    }

    #[test]
    fn a_block_written_again_with_the_same_content_is_no_change() {
        let side = |content: &[u8]| Some((String::new(), Some(Digest::of(content))));
        let unknown = || Some((String::new(), None));
        let check = |first, second, expected| {
            let index = BlockIndex::ZERO;
            let block = ChangedBlock {
                index,
                first,
                second,
            };
            assert_eq!(change(&block), expected);
        };
        check(side(b"a"), side(b"a"), None);
        check(side(b"a"), side(b"b"), Some(Change::Changed));
        check(unknown(), unknown(), Some(Change::Changed));
        check(None, side(b"a"), Some(Change::Added));
        check(side(b"a"), None, Some(Change::Removed));
    }
}
