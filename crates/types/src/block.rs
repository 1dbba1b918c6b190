//! The unit of a volume's address space.

use std::fmt;

/// Bytes of one block: 512 KiB (SPEC 3.1).
pub const BLOCK_BYTES: usize = 512 * 1024;

/// Blocks in one GiB of a volume.
pub const BLOCKS_PER_GIB: u32 = 2048;

/// The integer position of a block in a volume, always below 2^27 (64 TiB).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(u32);

impl BlockIndex {
    /// One more than the largest block index of the largest volume (SPEC 1.1).
    pub const COUNT_MAX: u32 = 1 << 27;

    /// The first block.
    pub const ZERO: BlockIndex = BlockIndex(0);

    /// The block index of this value, or `None` when it lies beyond the largest volume.
    pub fn new(value: u32) -> Option<BlockIndex> {
        (value < Self::COUNT_MAX).then_some(BlockIndex(value))
    }

    /// The position as a number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The next block index, or `None` at the end of the largest volume.
    pub fn next(self) -> Option<BlockIndex> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Debug for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockIndex({})", self.0)
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether all of these bytes are zero; of most blocks that are not, the first few tell.
pub fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|part| part == &ZEROS[..part.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_every_index_of_64_tib_and_no_more() {
        let last = BlockIndex::COUNT_MAX - 1;
        assert_eq!(
            BlockIndex::new(last).map(BlockIndex::get),
            Some(134_217_727)
        );
        assert_eq!(BlockIndex::new(BlockIndex::COUNT_MAX), None);
        assert_eq!(BlockIndex::new(u32::MAX), None);
        assert_eq!(BlockIndex::new(last).and_then(BlockIndex::next), None);
    }

    #[test]
    fn zeros_are_told_from_the_rest() {
        let mut block = vec![0; BLOCK_BYTES];
        assert!(is_zero(&block) && is_zero(&block[..5_000]) && is_zero(&[]));
        for at in [0, 4_095, 4_096, BLOCK_BYTES - 1] {
            block[at] = 1;
            assert!(!is_zero(&block), "{at}");
            block[at] = 0;
        }
    }
}
