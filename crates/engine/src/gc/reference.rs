//! A reference to a chunk, as it is sorted.
//!
//! ```text
//! offset  bytes  field
//!      0      8  domain, big endian
//!      8     32  name
//!     40      1  kind of the chunk
//!     41      4  who refers to it: the number of a snapshot, or all ones for several; big endian
//! ```
//!
//! Lives in memory and in files without a name, so it has no version. In plain domains a chunk's name is its content's digest.

use catalog::chunks::ChunkKey;
use chunkstore::ChunkKind;
use types::{ChunkName, Digest, Domain};

/// Bytes of a reference.
pub(crate) const REFERENCE_BYTES: usize = 45;

/// Bytes of its key.
pub(crate) const KEY_BYTES: usize = 40;

pub(crate) type Sorter = crate::sorter::Sorter<REFERENCE_BYTES, KEY_BYTES>;
pub(crate) type Sorted = crate::sorter::Sorted<REFERENCE_BYTES, KEY_BYTES>;

/// Who refers to a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// Only the snapshot that the mark has given this number.
    One(u32),
    /// Several snapshots.
    Several,
}

/// A reference to a chunk, or all references to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reference {
    pub(crate) domain: Domain,
    /// The content's digest.
    pub(crate) digest: Digest,
    pub(crate) kind: ChunkKind,
    pub(crate) owner: Owner,
}

impl Reference {
    pub(crate) fn key(&self) -> ChunkKey {
        (self.domain, ChunkName::plain(self.digest))
    }

    pub(crate) fn encode(&self) -> [u8; REFERENCE_BYTES] {
        let mut bytes = [0; REFERENCE_BYTES];
        bytes[..KEY_BYTES].copy_from_slice(&encode_key(&self.key()));
        bytes[40] = self.kind as u8;
        let owner = match self.owner {
            Owner::One(number) => number,
            Owner::Several => u32::MAX,
        };
        bytes[41..].copy_from_slice(&owner.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; REFERENCE_BYTES]) -> Reference {
        let (domain, name) = decode_key(bytes);
        let mut owner = [0; 4];
        owner.copy_from_slice(&bytes[41..]);
        Reference {
            domain,
            digest: Digest::from_bytes(*name.as_bytes()),
            kind: match bytes[40] {
                kind if kind == ChunkKind::Block as u8 => ChunkKind::Block,
                _ => ChunkKind::Page,
            },
            owner: match u32::from_be_bytes(owner) {
                u32::MAX => Owner::Several,
                number => Owner::One(number),
            },
        }
    }
}

/// A key so that bytes sort as the catalog sorts it.
pub(crate) fn encode_key((domain, name): &ChunkKey) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[..8].copy_from_slice(&domain.number().to_be_bytes());
    bytes[8..].copy_from_slice(name.as_bytes());
    bytes
}

/// The key that these bytes begin with.
pub(crate) fn decode_key(bytes: &[u8]) -> ChunkKey {
    let (mut domain, mut name) = ([0; 8], [0; 32]);
    domain.copy_from_slice(&bytes[..8]);
    name.copy_from_slice(&bytes[8..KEY_BYTES]);
    let name = ChunkName::plain(Digest::from_bytes(name));
    (Domain::from_number(u64::from_be_bytes(domain)), name)
}

/// Makes one of all references to a chunk.
pub(crate) fn combine(kept: &mut [u8; REFERENCE_BYTES], next: &[u8; REFERENCE_BYTES]) {
    if kept[41..] != next[41..] {
        kept[41..].fill(u8::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(domain: u64, digest: [u8; 32], owner: Option<u32>) -> Reference {
        Reference {
            domain: Domain::from_number(domain),
            digest: Digest::from_bytes(digest),
            kind: if owner.is_some() {
                ChunkKind::Block
            } else {
                ChunkKind::Page
            },
            owner: owner.map_or(Owner::Several, Owner::One),
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_sorts_like_its_key(
            a in any::<(u64, [u8; 32])>(), b in any::<(u64, [u8; 32])>(), owner in 0..u32::MAX,
        ) {
            let (a, b) = (reference(a.0, a.1, Some(owner)), reference(b.0, b.1, None));
            for one in [a, b] {
                assert_eq!(Reference::decode(&one.encode()), one);
                assert_eq!(decode_key(&one.encode()), one.key());
            }
            let bytes = a.encode()[..KEY_BYTES].cmp(&b.encode()[..KEY_BYTES]);
            assert_eq!(bytes, a.key().cmp(&b.key()));
        }
    }

    #[test]
    fn a_chunk_has_one_owner_or_several() {
        let owners = |one: Option<u32>, other: Option<u32>| {
            let mut kept = reference(1, [7; 32], one).encode();
            combine(&mut kept, &reference(1, [7; 32], other).encode());
            Reference::decode(&kept).owner
        };
        assert_eq!(owners(Some(3), Some(3)), Owner::One(3));
        assert_eq!(owners(Some(3), Some(4)), Owner::Several);
        assert_eq!(owners(Some(3), None), Owner::Several);
        assert_eq!(owners(None, Some(3)), Owner::Several);
    }
}
