//! Tokens open where they belong and nowhere else.

use super::*;
use crate::testing::{Keyring, START, keyring};
use proptest::prelude::{any, prop_assert_eq, proptest};
use std::collections::HashSet;
use std::time::Duration;
use types::Clock;

const DIGEST: Digest = Digest::ZERO_BLOCK;

fn snapshot(number: u64) -> SnapshotId {
    SnapshotId::from_number(number).unwrap()
}

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

fn token(ring: &Keyring, id: SnapshotId, at: BlockIndex, digest: Digest) -> String {
    let mut out = Vec::new();
    BlockTokenMint::new(&ring.keys, &ring.random, ring.clock.now(), id)
        .append(at, digest, &mut out);
    String::from_utf8(out).unwrap()
}

fn opened(ring: &Keyring, token: &str, id: SnapshotId, at: BlockIndex) -> Option<Digest> {
    open(token, &ring.keys, ring.clock.now(), id, at)
}

#[tokio::test]
async fn a_token_opens_for_its_snapshot_and_index_alone() {
    let ring = keyring().await;
    let token = token(&ring, snapshot(1), index(7), DIGEST);
    assert_eq!(token.len(), TOKEN_CHARS);
    assert!(token.len() <= 128 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(opened(&ring, &token, snapshot(1), index(7)), Some(DIGEST));
    assert_eq!(opened(&ring, &token, snapshot(2), index(7)), None);
    assert_eq!(opened(&ring, &token, snapshot(1), index(8)), None);
}

#[tokio::test]
async fn no_altered_byte_and_no_altered_character_goes_unseen() {
    let ring = keyring().await;
    let token = token(&ring, snapshot(1), index(7), DIGEST);
    let bytes = base62::decode::<TOKEN_BYTES>(&token).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut altered = bytes;
            altered[at] ^= 1 << bit;
            let mut text = Vec::new();
            base62::encode(&altered, &mut text);
            let text = String::from_utf8(text).unwrap();
            // Also for the index that the altered header names.
            let named = u32::from_le_bytes(altered[20..24].try_into().unwrap());
            let named = BlockIndex::new(named).unwrap_or(index(7));
            assert_eq!(
                opened(&ring, &text, snapshot(1), index(7)),
                None,
                "byte {at} bit {bit}"
            );
            assert_eq!(
                opened(&ring, &text, snapshot(1), named),
                None,
                "byte {at} bit {bit}"
            );
        }
    }
    for at in 0..token.len() {
        for other in ["0", "z", "+", "\u{e9}", ""] {
            let altered = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            let expected = (altered == token).then_some(DIGEST);
            assert_eq!(
                opened(&ring, &altered, snapshot(1), index(7)),
                expected,
                "{altered}"
            );
        }
    }
    assert_eq!(
        opened(&ring, &format!("{token}0"), snapshot(1), index(7)),
        None
    );
}

#[tokio::test]
async fn a_token_lives_seven_days_through_rotations_of_keys() {
    let ring = keyring().await;
    let first = token(&ring, snapshot(1), index(7), DIGEST);
    for _day in 0..6 {
        ring.clock.advance(Duration::from_secs(24 * 60 * 60));
        ring.keys.rotate_if_due().await.unwrap();
    }
    let later = token(&ring, snapshot(1), index(7), DIGEST);
    let key_id = |token: &str| base62::decode::<TOKEN_BYTES>(token).unwrap()[1..4].to_vec();
    assert_ne!(key_id(&first), key_id(&later), "another key seals");
    assert_eq!(opened(&ring, &first, snapshot(1), index(7)), Some(DIGEST));
    // The expiry is rounded up to the second.
    let expires = expiry(START) + 999 - (expiry(START) + 999) % 1000;
    ring.clock.step_to(expires - 1);
    assert_eq!(opened(&ring, &first, snapshot(1), index(7)), Some(DIGEST));
    ring.clock.step_to(expires);
    assert_eq!(opened(&ring, &first, snapshot(1), index(7)), None);
    assert_eq!(opened(&ring, &later, snapshot(1), index(7)), Some(DIGEST));
}

#[tokio::test]
async fn a_token_of_another_store_is_strange() {
    let (ring, other) = (keyring().await, keyring_of_another_store().await);
    let token = token(&ring, snapshot(1), index(7), DIGEST);
    assert_eq!(opened(&other, &token, snapshot(1), index(7)), None);
}

#[tokio::test]
async fn tokens_hide_their_digest_and_listings_differ() {
    let ring = keyring().await;
    let (one, two) = (
        token(&ring, snapshot(1), index(7), DIGEST),
        token(&ring, snapshot(1), index(7), DIGEST),
    );
    assert_ne!(one, two, "each listing has its own salt");
    let bytes = base62::decode::<TOKEN_BYTES>(&one).unwrap();
    assert!(!bytes.windows(32).any(|window| window == DIGEST.as_bytes()));
}

#[tokio::test]
async fn one_listing_seals_every_index_differently() {
    let ring = keyring().await;
    let mint = BlockTokenMint::new(&ring.keys, &ring.random, START, snapshot(1));
    let mut sealed = HashSet::new();
    for at in 0..1_000 {
        let mut out = Vec::new();
        mint.append(index(at), DIGEST, &mut out);
        let bytes = base62::decode::<TOKEN_BYTES>(std::str::from_utf8(&out).unwrap()).unwrap();
        assert!(
            sealed.insert(bytes[HEADER_BYTES..].to_vec()),
            "equal content, equal bytes: {at}"
        );
    }
}

#[test]
fn any_snapshot_index_and_digest_come_back() {
    let ring = block_on(keyring());
    proptest!(|(id in any::<u64>(), at in 0..BlockIndex::COUNT_MAX, digest in any::<[u8; 32]>())| {
        let (id, at, digest) = (SnapshotId::from_random(id), index(at), Digest::from_bytes(digest));
        let token = token(&ring, id, at, digest);
        prop_assert_eq!(opened(&ring, &token, id, at), Some(digest));
    });
}

#[test]
fn any_text_is_refused_without_a_panic() {
    let ring = block_on(keyring());
    proptest!(|(text in "\\PC{0,130}", token in "[0-9A-Za-z]{99}")| {
        prop_assert_eq!(opened(&ring, &text, snapshot(1), index(7)), None);
        prop_assert_eq!(opened(&ring, &token, snapshot(1), index(7)), None);
    });
}

async fn keyring_of_another_store() -> Keyring {
    let mut ring = keyring().await;
    let (db, directory) = crate::testing::empty_catalog().await;
    let random = Random::seeded(12);
    let path = directory.path().join("root.key");
    let root_key = std::sync::Arc::new(auth::RootKey::load_or_create(&path, &random).unwrap());
    ring.keys = TokenKeys::load(db, root_key, ring.clock.clone(), random)
        .await
        .unwrap();
    ring
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
