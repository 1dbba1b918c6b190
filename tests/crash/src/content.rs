//! Blocks whose bytes follow from a number.

use crate::dice::Dice;
use types::{BLOCK_BYTES, Digest};

/// Names the bytes of a block; 0 is the block of zeros.
pub type Seed = u64;

/// The block of zeros.
pub const ZERO: Seed = 0;

/// The numbers of blocks that many snapshots share are below this.
const SHARED: u64 = 64;

/// The bytes of a block.
pub fn block(seed: Seed) -> Vec<u8> {
    if seed == ZERO {
        return vec![0; BLOCK_BYTES];
    }
    let mut dice = Dice::new(seed);
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    while bytes.len() < BLOCK_BYTES {
        bytes.extend_from_slice(&dice.roll().to_le_bytes());
    }
    bytes
}

/// The digest of a block.
pub fn digest(seed: Seed) -> Digest {
    Digest::of(&block(seed))
}

/// A block to write: mostly new, often one that is or was in other snapshots, sometimes zeros.
pub fn any(dice: &mut Dice) -> Seed {
    match dice.below(100) {
        0..60 => SHARED + (dice.roll() >> 1),
        60..90 => 1 + dice.below(SHARED - 1),
        _ => ZERO,
    }
}

/// The LINEAR aggregate of blocks in the order of their indexes (SPEC 3.4).
pub fn aggregate(seeds: impl Iterator<Item = Seed>) -> Digest {
    let mut joined = Vec::new();
    for seed in seeds {
        joined.extend_from_slice(digest(seed).as_bytes());
    }
    Digest::of(&joined)
}
