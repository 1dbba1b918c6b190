//! Whether two snapshots, each on its own server, have the same content, as far as the servers say.

use crate::Error;
use crate::api::{Api, Description, ListedBlock};
use crate::listing::Blocks;
use types::{BlockIndex, Digest};

/// What came of a comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    /// They hold the same.
    Equal,
    /// They do not, for this reason.
    Differ(String),
    /// One of the servers does not say.
    Unknown,
}

/// Compares root digests, which are equal only for equal content, and then, since a block of zeros may be listed on one side and missing
/// on the other, the listings.
pub(super) async fn compare(
    from: &Api,
    here: &Description,
    to: &Api,
    there: &Description,
) -> Result<Comparison, Error> {
    if here.volume_size != there.volume_size
        && here.volume_size.is_some()
        && there.volume_size.is_some()
    {
        return Ok(Comparison::Differ("another volume size".to_owned()));
    }
    // Who tells no lineage lists no checksums either, and may charge for listing.
    let (Some(own), Some(other)) = (&here.lineage, &there.lineage) else {
        return Ok(Comparison::Unknown);
    };
    if own.root.is_some() && own.root == other.root {
        return Ok(Comparison::Equal);
    }
    let mut left = Blocks::begin(from, &here.id, BlockIndex::ZERO).await?;
    if !left.extensions().block_checksums {
        return Ok(Comparison::Unknown);
    }
    let mut right = Blocks::begin(to, &there.id, BlockIndex::ZERO).await?;
    if !right.extensions().block_checksums {
        return Ok(Comparison::Unknown);
    }
    let mut merge = Merge::default();
    loop {
        if merge.wants_left() {
            match left.next().await?.map(known).transpose() {
                Err(Silent) => return Ok(Comparison::Unknown),
                Ok(next) => merge.left = Side::of(next),
            }
        }
        if merge.wants_right() {
            match right.next().await?.map(known).transpose() {
                Err(Silent) => return Ok(Comparison::Unknown),
                Ok(next) => merge.right = Side::of(next),
            }
        }
        match merge.step() {
            Step::On => {}
            Step::End => return Ok(Comparison::Equal),
            Step::Differ(index) => {
                return Ok(Comparison::Differ(format!("block {index} is not the same")));
            }
        }
    }
}

/// A block whose checksum is not told.
struct Silent;

fn known(block: ListedBlock) -> Result<(BlockIndex, Digest), Silent> {
    block
        .digest
        .map(|digest| (block.index, digest))
        .ok_or(Silent)
}

/// The next block of one listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Side {
    #[default]
    Unread,
    Block(BlockIndex, Digest),
    End,
}

impl Side {
    fn of(next: Option<(BlockIndex, Digest)>) -> Side {
        next.map_or(Side::End, |(index, digest)| Side::Block(index, digest))
    }
}

/// Two listings side by side. A block that is missing reads as zeros.
#[derive(Debug, Default)]
struct Merge {
    left: Side,
    right: Side,
}

#[derive(PartialEq, Eq, Debug)]
enum Step {
    On,
    End,
    Differ(BlockIndex),
}

impl Merge {
    fn wants_left(&self) -> bool {
        self.left == Side::Unread
    }

    fn wants_right(&self) -> bool {
        self.right == Side::Unread
    }

    fn step(&mut self) -> Step {
        let (index, left, right) = match (self.left, self.right) {
            (Side::Block(a, x), Side::Block(b, y)) if a == b => (a, Some(x), Some(y)),
            (Side::Block(a, x), Side::Block(b, _)) if a < b => (a, Some(x), None),
            (Side::Block(a, x), Side::End) => (a, Some(x), None),
            (Side::Block(..) | Side::End, Side::Block(b, y)) => (b, None, Some(y)),
            (Side::End, Side::End) => return Step::End,
            (Side::Unread, _) | (_, Side::Unread) => return Step::On,
        };
        if left.is_some() {
            self.left = Side::Unread;
        }
        if right.is_some() {
            self.right = Side::Unread;
        }
        let content = |side: Option<Digest>| side.unwrap_or(Digest::ZERO_BLOCK);
        if content(left) == content(right) {
            Step::On
        } else {
            Step::Differ(index)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: &[(u32, u8)], right: &[(u32, u8)], expected: Option<u32>) {
        let side = |blocks: &[(u32, u8)]| -> Vec<(BlockIndex, Digest)> {
            let block = |(index, letter): &(u32, u8)| {
                let digest = match letter {
                    b'0' => Digest::ZERO_BLOCK,
                    letter => Digest::of(&[*letter]),
                };
                (BlockIndex::new(*index).expect("in range"), digest)
            };
            blocks.iter().map(block).collect()
        };
        let (mut lefts, mut rights) = (side(left).into_iter(), side(right).into_iter());
        let mut merge = Merge::default();
        let found = loop {
            if merge.wants_left() {
                merge.left = Side::of(lefts.next());
            }
            if merge.wants_right() {
                merge.right = Side::of(rights.next());
            }
            match merge.step() {
                Step::On => {}
                Step::End => break None,
                Step::Differ(index) => break Some(index.get()),
            }
        };
        assert_eq!(found, expected, "{left:?} {right:?}");
    }

    #[test]
    fn zeros_are_as_good_as_nothing_and_nothing_else_is() {
        check(&[], &[], None);
        check(&[(0, b'a'), (5, b'b')], &[(0, b'a'), (5, b'b')], None);
        check(&[(0, b'a'), (3, b'0')], &[(0, b'a')], None);
        check(&[(7, b'0')], &[(2, b'0'), (9, b'0')], None);
        check(&[(1, b'a')], &[(1, b'b')], Some(1));
        check(&[(1, b'a')], &[(2, b'a')], Some(1));
        check(&[(2, b'a')], &[(1, b'a')], Some(1));
        check(&[(1, b'a'), (4, b'c')], &[(1, b'a')], Some(4));
        check(&[(1, b'a')], &[(1, b'a'), (4, b'c')], Some(4));
    }
}
