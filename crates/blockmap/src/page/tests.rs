//! Golden bytes, every refusal, and totality over arbitrary bytes.

use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use types::Digest;

use super::{PAGE_BYTES_MAX, Page, PageError, SLOTS, empty_root};
use crate::testing::digest;

/// SHA-256 of "abc".
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// The bytes of an annotated hex file: what stands before `#`, in any grouping.
fn golden(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .flat_map(|line| line.split('#').next())
        .flat_map(|line| line.split_whitespace())
        .collect();
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

fn page(level: u8, slots: &[(u8, Digest)]) -> Page {
    let mut all = [None; SLOTS];
    for (slot, digest) in slots {
        all[usize::from(*slot)] = Some(*digest);
    }
    Page::of_slots(level, &all)
}

#[track_caller]
fn check_golden(text: &str, page: &Page, name: &str) {
    let bytes = golden(text);
    assert_eq!(page.encode(), bytes, "encode");
    assert_eq!(Page::decode(&bytes).as_ref(), Ok(page), "decode");
    assert_eq!(page.encode_named().digest.to_string(), name);
    assert_eq!(page.encode_named().bytes, bytes);
}

#[test]
fn golden_empty_root() {
    let text = include_str!("../../testdata/empty_root.hex");
    check_golden(text, &page(3, &[]), EMPTY_ROOT);
    assert_eq!(empty_root(), page(3, &[]).encode_named());
}

#[test]
fn golden_leaf() {
    let abc = Digest::of(b"abc");
    assert_eq!(abc.to_string(), ABC);
    let leaf = page(
        0,
        &[(0, Digest::ZERO_BLOCK), (9, abc), (127, Digest::ZERO_BLOCK)],
    );
    check_golden(include_str!("../../testdata/leaf.hex"), &leaf, LEAF);
}

#[test]
fn golden_inner() {
    let leaf = Digest::of(&golden(include_str!("../../testdata/leaf.hex")));
    let inner = page(1, &[(8, leaf), (64, leaf)]);
    check_golden(include_str!("../../testdata/inner.hex"), &inner, INNER);
}

#[test]
fn golden_root() {
    let abc = Digest::of(b"abc");
    let root = page(3, &[(0, abc), (63, abc)]);
    check_golden(include_str!("../../testdata/root.hex"), &root, ROOT);
}

const EMPTY_ROOT: &str = "05378db6f98c8249ea38120321e47c35ddf320ca579988fd31f108a2e6386819";
const LEAF: &str = "14077db42a03db3b0a7d3d2f01f36e400295b4c54dea75b0074720346e1c0c1e";
const INNER: &str = "71b66ccbeddbe4753f150866b93f7ca11da11e8956a2eb22c958fb727c4928a0";
const ROOT: &str = "6cbb23814b063b2b43d28b6084446a5b13d11b23c81a70a2a1fc5f2f114a94e0";

#[test]
fn a_full_page_has_the_largest_size() {
    let slots: Vec<_> = (0..128).map(|slot| (slot, digest(slot.into()))).collect();
    let full = page(2, &slots);
    assert_eq!(full.encode().len(), PAGE_BYTES_MAX);
    assert_eq!(full.slots().collect::<Vec<_>>(), slots);
    assert!((0..128).all(|slot| full.get(slot) == Some(digest(slot.into()))));
    assert!((128..=255).all(|slot| full.get(slot).is_none()));
}

/// What decoding says after `change` was made to the bytes of a small page of `level`.
#[track_caller]
fn check_refused(level: u8, change: impl FnOnce(&mut Vec<u8>), expected: PageError) {
    let mut bytes = page(level, &[(5, digest(1)), (6, digest(2))]).encode();
    change(&mut bytes);
    assert_eq!(Page::decode(&bytes), Err(expected));
}

#[test]
fn refuses_what_is_not_canonical() {
    let length = |expected, found| PageError::Length { expected, found };
    check_refused(0, |bytes| bytes.clear(), length(32, 0));
    check_refused(0, |bytes| bytes.truncate(31), length(32, 31));
    check_refused(0, |bytes| bytes.truncate(32), length(96, 32));
    check_refused(0, |bytes| bytes.truncate(95), length(96, 95));
    check_refused(0, |bytes| bytes.push(0), length(96, 97));
    check_refused(0, |bytes| bytes[0] = b'd', PageError::Magic);
    check_refused(0, |bytes| bytes[8] = 2, PageError::Version(2));
    check_refused(0, |bytes| bytes[9] = 1, PageError::Version(257));
    check_refused(0, |bytes| bytes[8] = 0, PageError::Version(0));
    check_refused(0, |bytes| bytes[10] = 4, PageError::Level(4));
    for unused in 11..16 {
        check_refused(0, |bytes| bytes[unused] = 0x80, PageError::Unused);
    }
    check_refused(0, |bytes| bytes[31] = 0x80, length(128, 96));
    for level in 0..3 {
        let emptied = |bytes: &mut Vec<u8>| {
            bytes.truncate(32);
            bytes[16] = 0;
        };
        check_refused(level, emptied, PageError::Empty(level));
    }
    let moved_up = |bytes: &mut Vec<u8>| {
        bytes[16] = 0;
        bytes[24] = 3;
    };
    check_refused(3, moved_up, PageError::Beyond(64));
}

/// Any page that the format allows.
fn any_page() -> impl Strategy<Value = Page> {
    let level = prop_oneof![Just(0_u8), Just(1), Just(2), Just(3)];
    (level, btree_map(0_u8..128, any::<u64>(), 1..=128)).prop_map(|(level, slots)| {
        let slots: Vec<_> = slots
            .into_iter()
            .filter(|(slot, _)| level < 3 || *slot < 64)
            .map(|(slot, content)| (slot, digest(content)))
            .collect();
        page(if slots.is_empty() { 3 } else { level }, &slots)
    })
}

proptest! {
    #[test]
    fn decoding_gives_what_was_encoded(page in any_page()) {
        let bytes = page.encode();
        prop_assert_eq!(Page::decode(&bytes), Ok(page));
    }

    #[test]
    fn slots_and_get_agree(page in any_page()) {
        let by_get: Vec<_> =
            (0..=255).filter_map(|slot| Some((slot, page.get(slot)?))).collect();
        prop_assert_eq!(page.slots().len(), by_get.len());
        prop_assert_eq!(page.slots().collect::<Vec<_>>(), by_get);
    }

    #[test]
    fn decoding_is_total_and_exact(bytes in vec(any::<u8>(), 0..5000)) {
        check_exact(&bytes);
    }

    #[test]
    fn decoding_is_total_and_exact_behind_a_good_header(
        level in 0_u8..6,
        present in any::<u128>(),
        digests in vec(any::<u8>(), 0..4200),
    ) {
        let mut bytes = b"DRYSPAGE\x01\0".to_vec();
        bytes.extend([level, 0, 0, 0, 0, 0]);
        bytes.extend(present.to_le_bytes());
        bytes.extend(digests);
        check_exact(&bytes);
        bytes.resize(32 + 32 * present.count_ones() as usize, 7);
        prop_assert_eq!(check_exact(&bytes), level < 3 || (level == 3 && present >> 64 == 0));
    }

    #[test]
    fn decoding_is_total_and_exact_on_changed_pages(
        page in any_page(),
        flips in vec((any::<u16>(), 0_u8..8), 0..4),
        cut in any::<u16>(),
        appended in vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = page.encode();
        for (at, bit) in flips {
            // Half of the changes fall into the header, where they matter.
            let within = if at % 2 == 0 { 32 } else { bytes.len() };
            bytes[usize::from(at / 2) % within] ^= 1 << bit;
        }
        check_exact(&bytes);
        bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        check_exact(&bytes);
        bytes.extend(appended);
        check_exact(&bytes);
    }
}

/// Whether `bytes` are a page; if so, they are its only encoding.
fn check_exact(bytes: &[u8]) -> bool {
    match Page::decode(bytes) {
        Ok(page) => {
            assert_eq!(page.encode(), bytes);
            true
        }
        Err(_) => false,
    }
}
