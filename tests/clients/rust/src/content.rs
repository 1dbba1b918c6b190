//! Block contents with known digests, and the LINEAR aggregate over them (SPEC 3.4).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256, digest};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 524_288;

/// The synthetic block of a letter: its line repeated, cut at 512 KiB.
pub fn letter(letter: char) -> Vec<u8> {
    let line = format!("stackd-ebs-synthetic-{letter}\n");
    line.bytes().cycle().take(BLOCK_BYTES).collect()
}

/// Bytes that do not compress, the same for the same seed.
pub fn unique(seed: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    for part in 0.. {
        if block.len() >= BLOCK_BYTES {
            break;
        }
        let words = [seed.to_le_bytes(), u64::to_le_bytes(part)].concat();
        block.extend_from_slice(digest(&SHA256, &words).as_ref());
    }
    block
}

/// Base64 of the SHA-256 digest.
pub fn checksum(data: &[u8]) -> String {
    STANDARD.encode(digest(&SHA256, data))
}

/// The aggregate over blocks: raw digests in the order of the indexes.
pub fn aggregate(blocks: &BTreeMap<i32, Vec<u8>>) -> String {
    let mut context = Context::new(&SHA256);
    for data in blocks.values() {
        context.update(digest(&SHA256, data).as_ref());
    }
    STANDARD.encode(context.finish())
}
