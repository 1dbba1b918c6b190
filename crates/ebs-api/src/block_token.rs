//! Block tokens: what a listing hands out and a read of a block needs (SPEC 3.10, 8.31).
//!
//! A token is stateless. It holds the digest of a block's content, sealed and bound to snapshot, index and expiry, so that a
//! read needs no walk of the block map, and nobody learns a digest or makes up a token. It holds no location: chunks move.
//!
//! Version 1, 72 bytes, as 99 letters and digits of base 62:
//!
//! ```text
//! offset  bytes
//!      0      1  version, 1
//!      1      3  id of the token key, big-endian
//!      4     12  salt of the listing, random
//!     16      4  expiry, seconds since 1970, rounded up, little-endian
//!     20      4  block index, little-endian
//!     24     32  digest, encrypted
//!     56     16  tag
//! ```
//!
//! Each listing derives a key of its own from the token key and the salt (HMAC-SHA256), which makes 10,000 tokens cheap:
//! AES-256-GCM with the kind of token and the block index as nonce. A nonce never repeats under one key, because a listing
//! names each index once for a snapshot. Authenticated with it: the first 24 bytes, the snapshot id and the kind.

use crate::base62;
use auth::TokenKeys;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use types::limits::BLOCK_TOKEN_LIFE;
use types::{BlockIndex, Digest, Random, SnapshotId, UnixMillis};

const VERSION: u8 = 1;
const KIND: u8 = b'B';
const SALT_BYTES: usize = 12;
const LISTING_BYTES: usize = 20;
const HEADER_BYTES: usize = 24;
const TAG_AT: usize = HEADER_BYTES + Digest::BYTES;
const TOKEN_BYTES: usize = TAG_AT + 16;

/// Characters of a token.
pub(crate) const TOKEN_CHARS: usize = TOKEN_BYTES / base62::GROUP_BYTES * base62::GROUP_CHARS;

/// Makes the tokens of one snapshot in one listing; they expire together.
pub(crate) struct BlockTokenMint {
    cipher: LessSafeKey,
    listing: [u8; LISTING_BYTES],
    snapshot: SnapshotId,
}

impl BlockTokenMint {
    /// Draws a salt and derives the listing's key. The tokens live until [`expiry`] of `now`.
    pub(crate) fn new(
        keys: &TokenKeys,
        random: &Random,
        now: UnixMillis,
        snapshot: SnapshotId,
    ) -> BlockTokenMint {
        let key = keys.current();
        let salt = random.bytes::<SALT_BYTES>();
        let mut listing = [0; LISTING_BYTES];
        listing[0] = VERSION;
        listing[1..4].copy_from_slice(&key.id().to_be_bytes()[1..]);
        listing[4..16].copy_from_slice(&salt);
        listing[16..20].copy_from_slice(&expiry_seconds(expiry(now)).to_le_bytes());
        BlockTokenMint {
            cipher: cipher(&key.derive(&[&[KIND], &salt])),
            listing,
            snapshot,
        }
    }

    /// Appends the token for this block with this content. To be called once per index.
    pub(crate) fn append(&self, index: BlockIndex, digest: Digest, out: &mut Vec<u8>) {
        let mut token = [0; TOKEN_BYTES];
        token[..LISTING_BYTES].copy_from_slice(&self.listing);
        token[LISTING_BYTES..HEADER_BYTES].copy_from_slice(&index.get().to_le_bytes());
        token[HEADER_BYTES..TAG_AT].copy_from_slice(digest.as_bytes());
        let (header, sealed) = token.split_at_mut(HEADER_BYTES);
        let (digest, tag_out) = sealed.split_at_mut(Digest::BYTES);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(
                nonce(index),
                Aad::from(bound(header, self.snapshot)),
                digest,
            )
            .expect("32 bytes are fewer than AES-GCM can seal");
        tag_out.copy_from_slice(tag.as_ref());
        base62::encode(&token, out);
    }
}

/// When tokens made now expire.
pub(crate) fn expiry(now: UnixMillis) -> UnixMillis {
    now.saturating_add(i64::try_from(BLOCK_TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX))
}

/// The digest in a token that was made for this snapshot and index and has not expired; `None` for anything else.
pub(crate) fn open(
    token: &str,
    keys: &TokenKeys,
    now: UnixMillis,
    snapshot: SnapshotId,
    index: BlockIndex,
) -> Option<Digest> {
    let mut token = base62::decode::<TOKEN_BYTES>(token)?;
    let (header, sealed) = token.split_at_mut(HEADER_BYTES);
    let [version, id_a, id_b, id_c, ..] = *header else {
        return None;
    };
    if version != VERSION || header[LISTING_BYTES..] != index.get().to_le_bytes() {
        return None;
    }
    let key = keys.by_id(u32::from_be_bytes([0, id_a, id_b, id_c]))?;
    let cipher = cipher(&key.derive(&[&[KIND], &header[4..4 + SALT_BYTES]]));
    let digest = cipher
        .open_in_place(nonce(index), Aad::from(bound(header, snapshot)), sealed)
        .ok()?;
    let expires = header[16..LISTING_BYTES]
        .try_into()
        .map(u32::from_le_bytes)
        .ok()?;
    if now >= i64::from(expires) * 1000 {
        return None;
    }
    Digest::from_slice(digest)
}

/// The expiry as tokens hold it; years after 2105 are cut to that.
pub(crate) fn expiry_seconds(expires: UnixMillis) -> u32 {
    let rounded_up = expires.saturating_add(999).div_euclid(1000);
    u32::try_from(rounded_up.max(0)).unwrap_or(u32::MAX)
}

/// A cipher with a derived key.
pub(crate) fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are an AES-256 key"))
}

fn nonce(index: BlockIndex) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = KIND;
    nonce[1..5].copy_from_slice(&index.get().to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated beside the digest: header, snapshot, kind.
fn bound(header: &[u8], snapshot: SnapshotId) -> [u8; HEADER_BYTES + 9] {
    let mut bound = [0; HEADER_BYTES + 9];
    bound[..HEADER_BYTES].copy_from_slice(header);
    bound[HEADER_BYTES..HEADER_BYTES + 8].copy_from_slice(&snapshot.number().to_le_bytes());
    bound[HEADER_BYTES + 8] = KIND;
    bound
}

#[cfg(test)]
mod tests;
