//! What the two listings share: their queries, and how a page is checked.

use crate::api::PageStart;
use types::{BLOCK_BYTES, BlockIndex, Digest, VolumeSize};

/// The query of a page, checksums asked for: a parameter that AWS ignores (docs/wire.md, Extensions).
pub(super) fn query(start: &PageStart, max_results: u32) -> String {
    let start = match start {
        PageStart::Index(index) => format!("startingBlockIndex={index}"),
        PageStart::Token(token) => format!("pageToken={}", super::encoded(token)),
    };
    format!("checksumAlgorithm=SHA256&maxResults={max_results}&{start}")
}

/// Blocks of another size would be something else.
pub(super) fn check_block_size(bytes: Option<u64>) -> Result<(), String> {
    match bytes {
        Some(bytes) if bytes != BLOCK_BYTES as u64 => Err(format!("blocks of {bytes} bytes")),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn volume_size(gib: Option<u64>) -> Result<Option<VolumeSize>, String> {
    let size = |gib| VolumeSize::from_gib(gib).ok_or_else(|| format!("a volume of {gib} GiB"));
    gib.map(size).transpose()
}

/// An index that must come after the one before.
pub(super) fn index(value: u64, last: &mut Option<BlockIndex>) -> Result<BlockIndex, String> {
    let index = u32::try_from(value)
        .ok()
        .and_then(BlockIndex::new)
        .ok_or_else(|| format!("the block index {value}"))?;
    if last.is_some_and(|last| last >= index) {
        return Err(format!("block index {index} out of order"));
    }
    *last = Some(index);
    Ok(index)
}

/// A digest where checksums were agreed on.
pub(super) fn digest(checksum: Option<&str>, agreed: bool) -> Result<Option<Digest>, String> {
    match checksum.filter(|_| agreed) {
        None => Ok(None),
        Some(text) => super::digest(text)
            .map(Some)
            .ok_or_else(|| format!("'{}' for a checksum", super::cut(text))),
    }
}

/// No token means the end; an empty one as well (SPEC 3.10).
pub(super) fn next(token: Option<String>) -> Option<String> {
    token.filter(|token| !token.is_empty())
}
