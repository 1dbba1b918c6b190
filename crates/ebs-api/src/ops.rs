//! The operations, one per file. Each reads its parameters, checks the constraints, asks the engine, and writes the answer.

pub(crate) mod complete_snapshot;
pub(crate) mod get_snapshot_block;
pub(crate) mod list_changed_blocks;
pub(crate) mod list_snapshot_blocks;
mod listing;
mod put_by_digest;
pub(crate) mod put_snapshot_block;
pub(crate) mod start_snapshot;

use auth::Caller;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::Digest;

/// Whether the caller may read blocks of the account's snapshots, and so learn what they hold by other ways than reading. Today
/// every key may.
fn may_read_blocks(_caller: &Caller) -> bool {
    true
}

/// Characters of a checksum.
const CHECKSUM_CHARS: usize = 44;

/// A digest as the wire's checksum: standard base64 with padding.
fn checksum(digest: &Digest) -> String {
    STANDARD.encode(digest.as_bytes())
}

/// Appends a digest as the wire's checksum to a document.
fn append_checksum(digest: &Digest, out: &mut Vec<u8>) {
    let mut text = [0; CHECKSUM_CHARS];
    let written = STANDARD.encode_slice(digest.as_bytes(), &mut text);
    assert_eq!(written, Ok(CHECKSUM_CHARS), "32 bytes are 44 characters");
    out.extend_from_slice(&text);
}

/// The digest that a checksum names: of each there is one text.
fn digest(checksum: &str) -> Option<Digest> {
    Digest::from_slice(&STANDARD.decode(checksum).ok()?)
}
