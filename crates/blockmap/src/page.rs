//! One node of a block map's tree, and its bytes.
//!
//! ```text
//! offset  size  field
//!      0     8  magic     "DRYSPAGE": a page is never taken for anything else
//!      8     2  version   1; what follows is laid out as that version says
//!     10     1  level     0 leaf (slots are blocks), 1 and 2 inner, 3 root (slots are pages)
//!     11     5  unused    zero
//!     16    16  present   bit s (bit s % 8 of byte s / 8) is set when slot s is present
//!     32  32*n  digests   SHA-256 of each present slot's content, in slot order; n = bits set in present
//! ```
//!
//! Integers are little-endian. A page is 32 to 4,128 bytes, and its name is the SHA-256 digest of all of them.
//!
//! Slot s of a page at level l covers the block indexes whose bits 7l to 7l+6 are s; the bits above are
//! the page's place in the map, which is not written in the page, so equal contents at two places are one page.
//!
//! Pages are canonical: one content has one encoding. So a decoder refuses trailing or missing bytes, unused
//! bytes that are not zero, an empty page other than the root of an empty map, and a slot that lies wholly
//! beyond the largest volume (root slots from 64 on: four levels have room for 128 TiB, a volume ends at 64).
//! No checksum is needed inside: whoever reads a page knows its digest.
//!
//! Versions: 1 is the only one. Golden files: `testdata/*.hex`.

use std::sync::LazyLock;

use bytes::Bytes;
use types::{BlockIndex, Digest};

/// Slots of a page.
pub const SLOTS: usize = 1 << SLOT_BITS;

/// Levels of the tree; every path from the root to a block visits one page of each.
pub const LEVELS: u8 = 4;

/// Bytes of a page with every slot present.
pub const PAGE_BYTES_MAX: usize = v1::DIGESTS_AT + SLOTS * Digest::BYTES;

/// Level of every root page.
pub(crate) const ROOT_LEVEL: u8 = LEVELS - 1;

/// Bits of a block index that choose a slot at one level.
const SLOT_BITS: u32 = 7;

/// Slots of a root page that hold block indexes of the largest volume.
const ROOT_SLOTS: u32 = BlockIndex::COUNT_MAX / entries_max(ROOT_LEVEL - 1);

/// A decoded page: a level and 1 to 128 digests by slot (none in the root of an empty map).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    level: u8,
    present: u128,
    /// One digest for each bit of `present`, lowest first.
    digests: Box<[Digest]>,
}

/// A page as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPage {
    /// SHA-256 of `bytes`: the name of the page.
    pub digest: Digest,
    /// The page's canonical encoding, at most [`PAGE_BYTES_MAX`] bytes.
    pub bytes: Bytes,
}

/// Why some bytes are not the page that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The bytes are those of something else, or of a page that was changed.
    #[error("digest of the bytes is {found}")]
    Digest {
        /// What the bytes really are.
        found: Digest,
    },
    /// The length is not what header and bitmap say.
    #[error("page of {found} bytes, expected {expected}")]
    Length {
        /// Bytes that the page should have; those of a header when there are too few to tell.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The first bytes are not those of any page.
    #[error("not a page: wrong magic")]
    Magic,
    /// Written by a newer release, or not by Drystone.
    #[error("page format version {0} is not known")]
    Version(u16),
    /// The level is not one of the four.
    #[error("page level {0} does not exist")]
    Level(u8),
    /// A sound page, but of another level than its place in the tree demands.
    #[error("page of level {found} where level {expected} belongs")]
    Misplaced {
        /// Level of the place.
        expected: u8,
        /// Level of the page.
        found: u8,
    },
    /// Bytes that this version does not use are not zero.
    #[error("unused bytes of the page header are not zero")]
    Unused,
    /// Only the root of an empty map has no slots.
    #[error("page of level {0} without slots")]
    Empty(u8),
    /// A root slot that lies beyond the largest volume.
    #[error("root slot {0} lies beyond the largest volume")]
    Beyond(u8),
}

impl Page {
    /// Reads a page: total over all bytes, and exact, so that encoding the result gives `bytes` again.
    ///
    /// Does not compare digests; [`crate::PageSource`] does.
    pub fn decode(bytes: &[u8]) -> Result<Page, PageError> {
        v1::decode(bytes)
    }

    /// The canonical bytes of this page.
    pub fn encode(&self) -> Vec<u8> {
        v1::encode(self)
    }

    /// The canonical bytes of this page, with their digest.
    pub fn encode_named(&self) -> EncodedPage {
        let bytes = self.encode();
        EncodedPage {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
        }
    }

    /// 0 for a leaf, whose digests are those of blocks, to 3 for a root; above 0 they are those of pages.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// The present slots, ascending.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = (u8, Digest)> + '_ {
        let mut rest = self.present;
        self.digests.iter().map(move |digest| {
            let slot = lowest(rest);
            rest &= rest - 1;
            (slot, *digest)
        })
    }

    /// The digest in `slot`, or `None` when it is not present (or is no slot at all).
    pub fn get(&self, slot: u8) -> Option<Digest> {
        let bit = 1_u128.checked_shl(slot.into())?;
        let before = (self.present & (bit - 1)).count_ones() as usize;
        if self.present & bit == 0 {
            None
        } else {
            self.digests.get(before).copied()
        }
    }

    /// The page of these slots.
    ///
    /// The caller holds one rule of the format: only a root may be empty, and its slots are below 64.
    pub(crate) fn of_slots(level: u8, slots: &[Option<Digest>; SLOTS]) -> Page {
        let present = slots
            .iter()
            .enumerate()
            .filter(|(_, digest)| digest.is_some())
            .fold(0, |present, (slot, _)| present | 1_u128 << slot);
        let page = Page {
            level,
            present,
            digests: slots.iter().flatten().copied().collect(),
        };
        debug_assert_eq!(page.check(), Ok(()));
        page
    }

    /// Bit s is set when slot s is present.
    pub(crate) fn present(&self) -> u128 {
        self.present
    }

    /// Bytes of memory that this page holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Page>() + size_of_val(&*self.digests)
    }

    /// What must be true of every page, whatever its encoding.
    fn check(&self) -> Result<(), PageError> {
        if self.level > ROOT_LEVEL {
            return Err(PageError::Level(self.level));
        }
        if self.level < ROOT_LEVEL && self.present == 0 {
            return Err(PageError::Empty(self.level));
        }
        let beyond = self.present >> ROOT_SLOTS << ROOT_SLOTS;
        if self.level == ROOT_LEVEL && beyond != 0 {
            return Err(PageError::Beyond(lowest(beyond)));
        }
        Ok(())
    }
}

/// The root page of a map with no entries.
///
/// It is the base of a snapshot that has no parent. [`crate::PageSource`] knows it without loading it.
pub fn empty_root() -> EncodedPage {
    static EMPTY: LazyLock<EncodedPage> = LazyLock::new(|| {
        Page {
            level: ROOT_LEVEL,
            present: 0,
            digests: Box::default(),
        }
        .encode_named()
    });
    EMPTY.clone()
}

/// Block indexes that a page at `level` covers.
pub(crate) const fn entries_max(level: u8) -> u32 {
    1 << (SLOT_BITS * (level as u32 + 1))
}

/// The place of the page at `level` that covers `index`: the number of such pages before it.
pub(crate) fn place_at(level: u8, index: u32) -> u32 {
    index / entries_max(level)
}

/// The slot of `index` in the page at `level` that covers it.
pub(crate) fn slot_at(level: u8, index: u32) -> u8 {
    (index >> (SLOT_BITS * u32::from(level))) as u8 & (SLOTS - 1) as u8
}

/// The lowest bit that is set; one is.
pub(crate) fn lowest(bits: u128) -> u8 {
    bits.trailing_zeros() as u8
}

/// Layout of version 1.
mod v1 {
    use types::Digest;

    use super::{Page, PageError};

    const MAGIC: [u8; 8] = *b"DRYSPAGE";
    const VERSION: u16 = 1;
    pub(super) const DIGESTS_AT: usize = 32;

    pub(super) fn encode(page: &Page) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DIGESTS_AT + page.digests.len() * Digest::BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.push(page.level);
        bytes.extend_from_slice(&[0; 5]);
        bytes.extend_from_slice(&page.present.to_le_bytes());
        for digest in &page.digests {
            bytes.extend_from_slice(digest.as_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Page, PageError> {
        let too_short = PageError::Length {
            expected: DIGESTS_AT,
            found: bytes.len(),
        };
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(too_short.clone())?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or(too_short.clone())?;
        let ([level], rest) = rest.split_first_chunk::<1>().ok_or(too_short.clone())?;
        let (unused, rest) = rest.split_first_chunk::<5>().ok_or(too_short.clone())?;
        let (present, rest) = rest.split_first_chunk::<16>().ok_or(too_short)?;
        if *magic != MAGIC {
            return Err(PageError::Magic);
        }
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(PageError::Version(version));
        }
        if *unused != [0; 5] {
            return Err(PageError::Unused);
        }
        let present = u128::from_le_bytes(*present);
        let expected = DIGESTS_AT + present.count_ones() as usize * Digest::BYTES;
        if bytes.len() != expected {
            return Err(PageError::Length {
                expected,
                found: bytes.len(),
            });
        }
        let (digests, _) = rest.as_chunks::<{ Digest::BYTES }>();
        let digests = digests.iter().copied().map(Digest::from_bytes).collect();
        let page = Page {
            level: *level,
            present,
            digests,
        };
        page.check()?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
