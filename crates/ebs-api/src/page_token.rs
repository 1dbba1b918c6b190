//! Page tokens: where a listing goes on (SPEC 3.10).
//!
//! Like a block token (`block_token.rs`) it is stateless and sealed; it is bound to the operation and to its snapshot, or pair
//! of snapshots, and lives 60 minutes.
//!
//! Version 1, 40 bytes, as 55 letters and digits of base 62:
//!
//! ```text
//! offset  bytes
//!      0      1  version, 1
//!      1      3  id of the token key, big-endian
//!      4     12  salt, random
//!     16      4  expiry, seconds since 1970, rounded up, little-endian
//!     20      4  the block index to go on with, little-endian, encrypted
//!     24     16  tag
//! ```
//!
//! AES-256-GCM under a key derived from the token key, the kind and the salt; that key seals this one token. Authenticated with
//! it: the first 20 bytes, the kind and the snapshot ids.

use crate::base62;
use crate::block_token::{cipher, expiry_seconds};
use auth::TokenKeys;
use ring::aead::{Aad, NONCE_LEN, Nonce};
use types::limits::PAGE_TOKEN_LIFE;
use types::{BlockIndex, Random, SnapshotId, UnixMillis};

const VERSION: u8 = 1;
const SALT_BYTES: usize = 12;
const HEADER_BYTES: usize = 20;
const TAG_AT: usize = HEADER_BYTES + 4;
const TOKEN_BYTES: usize = TAG_AT + 16;
const BOUND_BYTES: usize = HEADER_BYTES + 1 + 8 + 8;

/// The listing that a page token belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Listing {
    /// The blocks of a snapshot.
    Blocks(SnapshotId),
    /// The changed blocks of a pair.
    ChangedBlocks {
        /// The first snapshot.
        first: SnapshotId,
        /// The second snapshot.
        second: SnapshotId,
    },
}

impl Listing {
    fn kind(self) -> u8 {
        match self {
            Listing::Blocks(_) => b'P',
            Listing::ChangedBlocks { .. } => b'C',
        }
    }

    fn ids(self) -> [u64; 2] {
        match self {
            Listing::Blocks(snapshot) => [snapshot.number(), 0],
            Listing::ChangedBlocks { first, second } => [first.number(), second.number()],
        }
    }
}

/// A token to go on with `next` in this listing.
pub(crate) fn make(
    keys: &TokenKeys,
    random: &Random,
    now: UnixMillis,
    listing: Listing,
    next: BlockIndex,
) -> String {
    let key = keys.current();
    let life = i64::try_from(PAGE_TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX);
    let mut token = [0; TOKEN_BYTES];
    token[0] = VERSION;
    token[1..4].copy_from_slice(&key.id().to_be_bytes()[1..]);
    token[4..16].copy_from_slice(&random.bytes::<SALT_BYTES>());
    token[16..20].copy_from_slice(&expiry_seconds(now.saturating_add(life)).to_le_bytes());
    token[HEADER_BYTES..TAG_AT].copy_from_slice(&next.get().to_le_bytes());
    let (header, sealed) = token.split_at_mut(HEADER_BYTES);
    let (next, tag_out) = sealed.split_at_mut(4);
    let tag = cipher(&key.derive(&[&[listing.kind()], &header[4..16]]))
        .seal_in_place_separate_tag(nonce(listing), Aad::from(bound(header, listing)), next)
        .expect("4 bytes are fewer than AES-GCM can seal");
    tag_out.copy_from_slice(tag.as_ref());
    let mut text = Vec::with_capacity(TOKEN_BYTES / base62::GROUP_BYTES * base62::GROUP_CHARS);
    base62::encode(&token, &mut text);
    text.iter().copied().map(char::from).collect()
}

/// The block index to go on with, from a token that was made for this listing and has not expired; `None` for anything else.
pub(crate) fn open(
    token: &str,
    keys: &TokenKeys,
    now: UnixMillis,
    listing: Listing,
) -> Option<BlockIndex> {
    let mut token = base62::decode::<TOKEN_BYTES>(token)?;
    let (header, sealed) = token.split_at_mut(HEADER_BYTES);
    let [version, id_a, id_b, id_c, ..] = *header else {
        return None;
    };
    if version != VERSION {
        return None;
    }
    let key = keys.by_id(u32::from_be_bytes([0, id_a, id_b, id_c]))?;
    let cipher = cipher(&key.derive(&[&[listing.kind()], &header[4..16]]));
    let next = cipher
        .open_in_place(nonce(listing), Aad::from(bound(header, listing)), sealed)
        .ok()?;
    let expires = header[16..HEADER_BYTES]
        .try_into()
        .map(u32::from_le_bytes)
        .ok()?;
    if now >= i64::from(expires) * 1000 {
        return None;
    }
    (&*next)
        .try_into()
        .ok()
        .and_then(|next| BlockIndex::new(u32::from_le_bytes(next)))
}

fn nonce(listing: Listing) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = listing.kind();
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated beside the index: header, kind, snapshots.
fn bound(header: &[u8], listing: Listing) -> [u8; BOUND_BYTES] {
    let [first, second] = listing.ids();
    let mut bound = [0; BOUND_BYTES];
    bound[..HEADER_BYTES].copy_from_slice(header);
    bound[HEADER_BYTES] = listing.kind();
    bound[HEADER_BYTES + 1..HEADER_BYTES + 9].copy_from_slice(&first.to_le_bytes());
    bound[HEADER_BYTES + 9..].copy_from_slice(&second.to_le_bytes());
    bound
}

#[cfg(test)]
mod tests;
