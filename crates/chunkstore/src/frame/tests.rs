//! Golden bytes, refusals and totality of the frame format.

use super::*;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

const STORE: [u8; 16] = *b"a store of tests";

fn header(kind: ChunkKind, payload: &[u8]) -> Header {
    let digest = Digest::of(payload);
    Header {
        container: ContainerId(0x0102),
        offset: 0x0030_0000,
        packing: Packing::of(container_kind(kind)),
        chunk: ChunkId {
            domain: Domain::from_number(123_456_789_012),
            name: ChunkName::plain(digest),
            kind,
        },
        digest,
        codec: Codec::None,
        content_bytes: payload.len() as u32,
        stored_bytes: payload.len() as u32,
        payload_checksum: StoreKey::new(STORE).checksum(payload),
    }
}

/// The whole frame with its zeros.
fn frame(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; header.location().length as usize];
    frame[..HEADER_BYTES].copy_from_slice(&header.encode(&StoreKey::new(STORE)));
    frame[header.payload_range()].copy_from_slice(payload);
    frame
}

fn check_golden(text: &str, kind: ChunkKind, payload: &[u8]) {
    let expected = header(kind, payload);
    let golden = crate::golden::parse(text);
    assert_eq!(
        golden,
        expected.encode(&StoreKey::new(STORE)),
        "encoding changed"
    );
    assert_eq!(
        Header::decode(&StoreKey::new(STORE), &golden),
        Ok(expected),
        "decoding changed"
    );
}

#[test]
fn version_1_of_a_block_is_what_it_was() {
    let text = include_str!("../../testdata/frame_v1_block.hex");
    check_golden(text, ChunkKind::Block, &[0x5a; CHUNK_BYTES_MAX]);
}

#[test]
fn version_1_of_a_page_is_what_it_was() {
    check_golden(
        include_str!("../../testdata/frame_v1_page.hex"),
        ChunkKind::Page,
        b"a page",
    );
}

#[test]
fn lengths_follow_the_packing() {
    assert_eq!(
        Packing::Punchable.frame_bytes(CHUNK_BYTES_MAX as u32),
        4096 + 512 * 1024
    );
    assert_eq!(Packing::Punchable.frame_bytes(1), 8192);
    assert_eq!(Packing::Punchable.frame_bytes(0), 4096);
    assert_eq!(Packing::Packed.frame_bytes(1), 320);
    assert_eq!(Packing::Packed.frame_bytes(64), 320);
    assert_eq!(Packing::Packed.frame_bytes(65), 384);
}

fn check_refused(
    change: impl FnOnce(&mut Vec<u8>, &mut Location, &mut ChunkId),
    wanted: FrameError,
) {
    let header = header(ChunkKind::Page, b"content");
    let mut bytes = frame(&header, b"content");
    let (mut location, mut chunk) = (header.location(), header.chunk);
    let key = StoreKey::new(STORE);
    assert_eq!(Header::verify(&key, &bytes, location, &chunk), Ok(header));
    change(&mut bytes, &mut location, &mut chunk);
    assert_eq!(Header::verify(&key, &bytes, location, &chunk), Err(wanted));
}

#[test]
fn every_identity_is_checked() {
    check_refused(|bytes, _, _| bytes[0] ^= 1, FrameError::NoMagic);
    check_refused(|bytes, _, _| bytes[50] ^= 1, FrameError::HeaderChecksum);
    check_refused(|bytes, _, _| bytes[20] ^= 1, FrameError::OtherStore);
    check_refused(|bytes, _, _| bytes[256] ^= 1, FrameError::PayloadChecksum);
    check_refused(|bytes, _, _| bytes.truncate(260), FrameError::Short(260));
    check_refused(|bytes, _, _| bytes.truncate(255), FrameError::Short(255));
    check_refused(
        |_, location, _| location.length += 64,
        FrameError::OtherLength(320),
    );
    let place = FrameError::OtherPlace {
        container: ContainerId(0x0102),
        offset: 0x0030_0000,
    };
    check_refused(|_, location, _| location.offset += 64, place.clone());
    check_refused(|_, location, _| location.container.0 += 1, place);
    let chunk = header(ChunkKind::Page, b"content").chunk;
    let other = FrameError::OtherChunk(Box::new(chunk));
    check_refused(
        |_, _, chunk| chunk.kind = ChunkKind::Snapshot,
        other.clone(),
    );
    check_refused(|_, _, chunk| chunk.domain = Domain::STORE, other.clone());
    check_refused(
        |_, _, chunk| chunk.name = ChunkName::plain(Digest::ZERO_BLOCK),
        other,
    );
}

/// A header whose field was changed and whose checksum was made anew, as another version would write it.
fn check_field(at: usize, value: &[u8], wanted: FrameError) {
    let key = StoreKey::new(STORE);
    let mut bytes = header(ChunkKind::Page, b"content").encode(&key);
    bytes[at..at + value.len()].copy_from_slice(value);
    let checksum = key.checksum(&bytes[..CHECKSUM_AT]);
    bytes[CHECKSUM_AT..].copy_from_slice(&checksum);
    assert_eq!(Header::decode(&key, &bytes), Err(wanted));
}

#[test]
fn fields_that_cannot_be_are_refused() {
    check_field(8, &[2, 0], FrameError::Version(2));
    check_field(10, &[9], FrameError::Field("kind"));
    check_field(11, &[9], FrameError::Field("codec"));
    check_field(12, &[0, 2, 0, 0], FrameError::Field("payload offset"));
    check_field(120, &[255; 4], FrameError::Field("content length"));
    check_field(124, &[8, 0, 0, 0], FrameError::Field("stored length"));
    check_field(128, &[5], FrameError::Encrypted(5));
}

#[test]
fn another_store_with_the_same_bytes_is_another_store() {
    let header = header(ChunkKind::Block, b"content");
    let bytes = frame(&header, b"content");
    let other = StoreKey::new(*b"another of tests");
    assert_eq!(Header::decode(&other, &bytes), Err(FrameError::OtherStore));
    assert_ne!(other.checksum(b"x"), StoreKey::new(STORE).checksum(b"x"));
}

proptest! {
    #[test]
    fn any_bytes_give_a_header_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), seal in any::<bool>()) {
        let key = StoreKey::new(STORE);
        if seal && bytes.len() >= HEADER_BYTES {
            bytes[..8].copy_from_slice(&MAGIC);
            let checksum = key.checksum(&bytes[..CHECKSUM_AT]);
            bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum);
        }
        let _ = Header::decode(&key, &bytes);
    }

    #[test]
    fn what_is_encoded_is_decoded(container in any::<u64>(), offset in any::<u64>(), domain in any::<u64>(), payload in proptest::collection::vec(any::<u8>(), 0..300), flip in 0_usize..256 * 8) {
        let key = StoreKey::new(STORE);
        let mut header = header(ChunkKind::Snapshot, &payload);
        header.container = ContainerId(container);
        header.offset = offset;
        header.chunk.domain = Domain::from_number(domain);
        let mut bytes = header.encode(&key);
        prop_assert_eq!(Header::decode(&key, &bytes), Ok(header));
        bytes[flip / 8] ^= 1 << (flip % 8);
        prop_assert!(Header::decode(&key, &bytes).is_err());
    }
}
