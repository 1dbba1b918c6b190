//! Page tokens open for their listing, for an hour.

use super::*;
use crate::block_token::{self, BlockTokenMint};
use crate::testing::{Keyring, START, keyring};
use std::time::Duration;
use types::{Clock, Digest};

fn snapshot(number: u64) -> SnapshotId {
    SnapshotId::from_number(number).unwrap()
}

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

fn token(ring: &Keyring, listing: Listing) -> String {
    make(
        &ring.keys,
        &ring.random,
        ring.clock.now(),
        listing,
        index(9),
    )
}

fn opened(ring: &Keyring, token: &str, listing: Listing) -> Option<BlockIndex> {
    open(token, &ring.keys, ring.clock.now(), listing)
}

fn listings() -> [Listing; 6] {
    let changed = |first, second| Listing::ChangedBlocks {
        first: snapshot(first),
        second: snapshot(second),
    };
    [
        Listing::Blocks(snapshot(1)),
        Listing::Blocks(snapshot(2)),
        changed(1, 2),
        changed(2, 1),
        changed(1, 1),
        changed(1, 0),
    ]
}

#[tokio::test]
async fn a_token_opens_for_its_listing_alone() {
    let ring = keyring().await;
    for made_for in listings() {
        let token = token(&ring, made_for);
        assert!(token.len() <= 128 && token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        for listing in listings() {
            let expected = (listing == made_for).then_some(index(9));
            assert_eq!(
                opened(&ring, &token, listing),
                expected,
                "{made_for:?} {listing:?}"
            );
        }
    }
}

#[tokio::test]
async fn no_altered_byte_goes_unseen() {
    let ring = keyring().await;
    let listing = Listing::Blocks(snapshot(1));
    let bytes = base62::decode::<TOKEN_BYTES>(&token(&ring, listing)).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut altered = bytes;
            altered[at] ^= 1 << bit;
            let mut text = Vec::new();
            base62::encode(&altered, &mut text);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(opened(&ring, &text, listing), None, "byte {at} bit {bit}");
        }
    }
}

#[tokio::test]
async fn a_token_lives_an_hour() {
    let ring = keyring().await;
    let listing = Listing::Blocks(snapshot(1));
    let token = token(&ring, listing);
    ring.clock.step_to(START + 3_600_000);
    assert_eq!(opened(&ring, &token, listing), Some(index(9)));
    ring.clock.advance(Duration::from_millis(430));
    assert_eq!(opened(&ring, &token, listing), None);
}

#[tokio::test]
async fn the_two_sorts_of_token_do_not_stand_in_for_each_other() {
    let ring = keyring().await;
    let page = token(&ring, Listing::Blocks(snapshot(1)));
    assert_eq!(
        block_token::open(&page, &ring.keys, START, snapshot(1), index(9)),
        None
    );
    let mut block = Vec::new();
    let mint = BlockTokenMint::new(&ring.keys, &ring.random, START, snapshot(1));
    mint.append(index(9), Digest::ZERO_BLOCK, &mut block);
    let block = String::from_utf8(block).unwrap();
    for listing in listings() {
        assert_eq!(opened(&ring, &block, listing), None);
        assert_eq!(opened(&ring, &block[..page.len()], listing), None);
        assert_eq!(opened(&ring, "", listing), None);
    }
}
