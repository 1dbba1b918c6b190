//! The scope in which equal blocks share one chunk.

use crate::{AccountId, Digest};
use std::fmt;

/// A deduplication domain: equal content of one domain is stored once (DESIGN 2).
///
/// The number is part of every frame, so a store can be rebuilt from its segments: a plain domain's
/// number is its account's, 0 is the one plain domain of a store that shares chunks between accounts.
/// Numbers from 2^40 up are free for encrypted domains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Domain(u64);

impl Domain {
    /// The plain domain of the whole store (`dedup = "store"`).
    pub const STORE: Domain = Domain(0);

    /// The plain domain of one account.
    pub fn of_account(account: AccountId) -> Domain {
        Domain(account.number())
    }

    /// A domain by its number, as read from a frame or a record.
    pub fn from_number(number: u64) -> Domain {
        Domain(number)
    }

    /// The number that frames and records hold.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a chunk is called within its domain: the plaintext's digest in plain domains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkName([u8; 32]);

impl ChunkName {
    /// The name of this content in a plain domain.
    pub fn plain(digest: Digest) -> ChunkName {
        ChunkName(*digest.as_bytes())
    }

    /// The name in `bytes`, or `None` unless there are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<ChunkName> {
        bytes.try_into().ok().map(ChunkName)
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkName({self})")
    }
}
