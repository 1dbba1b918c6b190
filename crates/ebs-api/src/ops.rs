//! The operations, one per file. Each reads its parameters, checks the constraints, asks the engine, and writes the answer.

pub(crate) mod complete_snapshot;
pub(crate) mod get_snapshot_block;
pub(crate) mod list_changed_blocks;
pub(crate) mod list_snapshot_blocks;
mod listing;
pub(crate) mod put_snapshot_block;
pub(crate) mod start_snapshot;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::Digest;

/// A digest as the wire's checksum: standard base64 with padding, 44 characters.
fn checksum(digest: &Digest) -> String {
    STANDARD.encode(digest.as_bytes())
}
