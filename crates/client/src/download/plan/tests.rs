//! The planner against a model that looks at every block by itself.

use super::{BlockStep, Keep, Lookup, Planner, Standing, Step, Walked};
use crate::api::ListedBlock;
use crate::runs::{DataRuns, end};
use crate::source::Extent;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};
use types::{BlockIndex, Digest};

const BLOCKS: u32 = 48;

/// A digest for each content; content 0 is zeros.
fn digest(content: u8) -> Digest {
    match content {
        0 => Digest::ZERO_BLOCK,
        content => Digest::of(&[content]),
    }
}

/// What is known of one block.
#[derive(Clone, Debug)]
struct Known {
    /// Listed, perhaps with a checksum, as changed or not.
    listed: Option<(Option<u8>, Option<bool>)>,
    /// What a journal says.
    written: Option<u8>,
    /// What a digest file says.
    of_base: Option<u8>,
    /// Whether the target may have anything but zeros.
    has_data: bool,
}

fn known() -> impl Strategy<Value = Known> {
    let content = || proptest::option::of(0u8..3);
    let listed = proptest::option::of((content(), any::<bool>()));
    (listed, content(), content(), any::<bool>()).prop_map(
        |(listed, written, of_base, has_data)| Known {
            listed: listed.map(|(content, changed)| (content, Some(changed))),
            written,
            of_base,
            has_data,
        },
    )
}

/// What is known of the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Unknown,
    Digests,
    Trust,
    Neither,
}

/// When a listed block may stay, block by block.
fn expected(known: &Known, before: Before) -> Keep {
    let (listed, changed) = known.listed.expect("asked of listed blocks");
    let as_written = match (listed, known.written) {
        (Some(listed), Some(written)) => (listed == written).then_some(written),
        (None, written) => written,
        (Some(_), None) => None,
    };
    if before == Before::Unknown {
        return as_written.map_or(Keep::No, |content| Keep::If(digest(content)));
    }
    let content = match listed.or(known.written) {
        Some(content) => Some(content),
        None if changed == Some(false) => match before {
            Before::Digests => known.of_base,
            Before::Trust if known.has_data => return Keep::Unread,
            Before::Trust => return Keep::No,
            Before::Unknown | Before::Neither => None,
        },
        None => None,
    };
    match content {
        None => Keep::No,
        Some(0) if !known.has_data => Keep::Unread,
        Some(_) if !known.has_data => Keep::No,
        Some(content) => Keep::If(digest(content)),
    }
}

fn lookup(blocks: &[Known], content: impl Fn(&Known) -> Option<u8>) -> Lookup {
    let all = (0..)
        .zip(blocks)
        .filter_map(|(index, known)| Some((BlockIndex::new(index)?, digest(content(known)?))));
    let mut all = all.collect::<Vec<_>>().into_iter();
    Lookup::over(move || Ok(all.next()))
}

fn standing(blocks: &[Known], before: Before) -> Standing {
    let data: BTreeSet<u32> = (0..)
        .zip(blocks)
        .filter(|(_, known)| known.has_data)
        .map(|(index, _)| index)
        .collect();
    let next_data = move |from| {
        let start = data.range(from..).next().copied();
        Ok(start.map(|start| Extent {
            start,
            count: (start..).take_while(|index| data.contains(index)).count() as u32,
        }))
    };
    match before {
        Before::Unknown => Standing::Unknown,
        before => Standing::Base {
            data: DataRuns::new(next_data),
            digests: (before == Before::Digests).then(|| lookup(blocks, |known| known.of_base)),
            trusted: match before {
                Before::Trust => u32::MAX,
                _ => 0,
            },
        },
    }
}

fn walked(blocks: &[Known]) -> Vec<Walked> {
    let listed = (0..).zip(blocks).filter_map(|(index, known)| {
        let (content, changed) = known.listed?;
        let block = ListedBlock {
            index: BlockIndex::new(index)?,
            token: String::new(),
            digest: content.map(digest),
        };
        Some(Walked::Block { block, changed })
    });
    listed.collect()
}

/// All steps, from a listing that comes in batches.
fn plan(blocks: &[Known], before: Before, batch: usize) -> Vec<Step> {
    let written = lookup(blocks, |known| known.written);
    let end = blocks.len() as u32;
    let mut planner = Planner::new(end, standing(blocks, before), Some(written));
    let mut steps = Vec::new();
    let mut walked = walked(blocks).into_iter().peekable();
    loop {
        planner.feed(
            walked.by_ref().take(batch).collect(),
            walked.peek().is_none(),
        );
        loop {
            let taken = planner.take(batch).unwrap();
            assert!(taken.len() <= batch);
            if taken.is_empty() {
                break;
            }
            steps.extend(taken);
        }
        if walked.peek().is_none() {
            return steps;
        }
    }
}

proptest! {
    #[test]
    fn each_block_gets_what_it_needs(
        blocks in proptest::collection::vec(known(), BLOCKS as usize),
        before in 0..4u8,
        batch in 1..9usize,
    ) {
        let before = [Before::Unknown, Before::Digests, Before::Trust, Before::Neither][usize::from(before)];
        let mut next = 0;
        let mut seen: BTreeMap<u32, Keep> = BTreeMap::new();
        for step in plan(&blocks, before, batch) {
            let extent = match &step {
                Step::Zeros(extent) | Step::Check(extent) | Step::Holes(extent) => *extent,
                Step::Unlisted(extent) => *extent,
                Step::Block(BlockStep { block, keep }) => {
                    seen.insert(block.index.get(), *keep);
                    Extent { start: block.index.get(), count: 1 }
                }
            };
            prop_assert_eq!(extent.start, next, "every block once, in order");
            prop_assert!(extent.count > 0);
            next = end(extent);
            for known in &blocks[extent.start as usize..next as usize] {
                match step {
                    Step::Block(_) => prop_assert!(known.listed.is_some()),
                    Step::Zeros(_) => prop_assert!(known.listed.is_none() && before == Before::Unknown),
                    Step::Check(_) => prop_assert!(known.listed.is_none() && known.has_data),
                    Step::Holes(_) => prop_assert!(known.listed.is_none() && !known.has_data),
                    Step::Unlisted(_) => prop_assert!(false, "all is listed"),
                }
            }
        }
        prop_assert_eq!(next, BLOCKS);
        for (index, keep) in seen {
            prop_assert_eq!(keep, expected(&blocks[index as usize], before), "block {}", index);
        }
    }
}

#[test]
fn what_is_not_listed_is_told_as_such() {
    let mut planner = Planner::new(10, Standing::Unknown, None);
    let lost = Extent { start: 4, count: 3 };
    planner.feed(vec![Walked::Unlisted(lost)], true);
    let run = |start, count| Step::Zeros(Extent { start, count });
    assert_eq!(
        planner.take(9).unwrap(),
        [run(0, 4), Step::Unlisted(lost), run(7, 3)]
    );
    assert!(planner.take(9).unwrap().is_empty());
}

#[test]
fn a_gap_ends_where_more_of_the_listing_is_awaited() {
    let mut planner = Planner::new(10, Standing::Unknown, None);
    planner.feed(Vec::new(), false);
    assert!(planner.take(9).unwrap().is_empty());
    planner.feed(Vec::new(), true);
    assert_eq!(
        planner.take(9).unwrap(),
        [Step::Zeros(Extent {
            start: 0,
            count: 10
        })]
    );
}

#[test]
fn what_is_behind_the_trusted_part_is_fetched() {
    let standing = Standing::Base {
        data: DataRuns::new(|from| {
            Ok((from < 4).then(|| Extent {
                start: from,
                count: 4 - from,
            }))
        }),
        digests: None,
        trusted: 2,
    };
    let mut planner = Planner::new(4, standing, None);
    let same = Known {
        listed: Some((None, Some(false))),
        written: None,
        of_base: None,
        has_data: true,
    };
    planner.feed(walked(&vec![same; 4]), true);
    let keeps = planner.take(4).unwrap().into_iter().map(|step| match step {
        Step::Block(step) => step.keep,
        other => panic!("{other:?}"),
    });
    let expected = [Keep::Unread, Keep::Unread, Keep::No, Keep::No];
    assert_eq!(keeps.collect::<Vec<_>>(), expected);
}
