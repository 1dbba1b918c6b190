//! Names and sizes of snapshots and their owners.

use crate::{BLOCKS_PER_GIB, BlockIndex};
use std::fmt;

/// The id of a snapshot: `snap-` and 17 hex digits, the first of them 0 (SPEC 2.0).
///
/// Other ids are well formed on the wire (`^snap-[0-9a-f]+$`) but never name a snapshot of ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(u64);

impl SnapshotId {
    /// An id from random bits; the highest is cleared, so that the number fits a signed 64-bit column.
    pub fn from_random(bits: u64) -> SnapshotId {
        SnapshotId(bits & (u64::MAX >> 1))
    }

    /// The id in a record, or `None` when it is not one that [`SnapshotId::from_random`] makes.
    pub fn from_number(number: u64) -> Option<SnapshotId> {
        (number <= u64::MAX >> 1).then_some(SnapshotId(number))
    }

    /// The number that records and frames hold; below 2^63.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Reads an id as it is written on the wire; `None` for any text that we never issue.
    pub fn parse(text: &str) -> Option<SnapshotId> {
        let digits = text.strip_prefix("snap-0")?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 16 || !digits.bytes().all(lower_hex) {
            return None;
        }
        u64::from_str_radix(digits, 16)
            .ok()
            .and_then(Self::from_number)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snap-0{:016x}", self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotId({self})")
    }
}

/// The size of a volume in GiB, 1 to 65,536 (SPEC 2.0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VolumeSize(u32);

impl VolumeSize {
    /// The largest volume: 64 TiB.
    pub const GIB_MAX: u32 = 65_536;

    /// A size of `gib` GiB, or `None` outside 1 to 65,536.
    pub fn from_gib(gib: u64) -> Option<VolumeSize> {
        let gib = u32::try_from(gib).ok()?;
        (1..=Self::GIB_MAX)
            .contains(&gib)
            .then_some(VolumeSize(gib))
    }

    /// The size in GiB.
    pub fn gib(self) -> u32 {
        self.0
    }

    /// Number of blocks; every valid block index is below it.
    pub fn block_count(self) -> u32 {
        self.0 * BLOCKS_PER_GIB
    }

    /// Whether the block lies inside the volume.
    pub fn contains(self, index: BlockIndex) -> bool {
        index.get() < self.block_count()
    }
}

/// An account: a number of 12 decimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u64);

impl AccountId {
    const COUNT: u64 = 1_000_000_000_000;

    /// An account from random bits, never below 100,000,000,000, so that it always shows 12 digits
    /// even where a tool drops leading zeros.
    pub fn from_random(bits: u64) -> AccountId {
        AccountId(100_000_000_000 + bits % (Self::COUNT - 100_000_000_000))
    }

    /// The account in a record; `None` when it has more than 12 digits or is 0.
    pub fn from_number(number: u64) -> Option<AccountId> {
        (1..Self::COUNT)
            .contains(&number)
            .then_some(AccountId(number))
    }

    /// Reads exactly 12 decimal digits.
    pub fn parse(text: &str) -> Option<AccountId> {
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().and_then(Self::from_number)
    }

    /// The account as a number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    #[test]
    fn only_ids_of_our_own_form_parse() {
        let refused = [
            "snap-0e2c477186c5c34b",
            "snap-0e2c477186c5c34b77",
            "snap-1e2c477186c5c34b7",
            "snap-0E2c477186c5c34b7",
            "snap-0+2c477186c5c34b7",
            "snap-0ffffffffffffffff",
            "vol-0e2c477186c5c34b7",
            "",
        ];
        for text in refused {
            assert_eq!(SnapshotId::parse(text), None, "{text}");
        }
        assert!(SnapshotId::parse("snap-00e2c477186c5c34b").is_some());
    }

    #[test]
    fn volume_sizes_run_from_1_to_65536_gib() {
        assert_eq!(VolumeSize::from_gib(0), None);
        assert_eq!(VolumeSize::from_gib(65_537), None);
        assert_eq!(VolumeSize::from_gib(u64::MAX), None);
        assert_eq!(
            VolumeSize::from_gib(65_536).map(VolumeSize::block_count),
            Some(1 << 27)
        );
    }

    proptest! {
        #[test]
        fn ids_and_accounts_survive_their_text(bits in any::<u64>()) {
            let id = SnapshotId::from_random(bits);
            assert_eq!(SnapshotId::parse(&id.to_string()), Some(id));
            let account = AccountId::from_random(bits);
            assert_eq!(AccountId::parse(&account.to_string()), Some(account));
        }
    }
}
