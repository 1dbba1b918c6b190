//! GetSnapshotBlock (SPEC 2.4).

use super::{CHECKSUM, CHECKSUM_ALGORITHM, DATA_LENGTH, encoded, text};
use crate::SnapshotId;
use crate::api::caller::Call;
use crate::transport::Answer;
use bytes::Bytes;
use http::Method;
use sigv4::{PayloadHash, Service};
use types::{BLOCK_BYTES, BlockIndex, Digest};

/// The request.
pub(crate) fn call(id: &SnapshotId, index: BlockIndex, token: &str) -> Call {
    Call {
        operation: "GetSnapshotBlock",
        service: Service::Ebs,
        method: Method::GET,
        path: format!("/snapshots/{id}/blocks/{index}"),
        query: format!("blockToken={}", encoded(token)),
        headers: Vec::new(),
        body: Bytes::new(),
        payload: PayloadHash::Digest(Digest::of(b"")),
        is_idempotent: true,
    }
}

/// The digest that the data must have, as the headers say.
pub(crate) fn parse(answer: &Answer) -> Result<Digest, String> {
    let header = |name: &str| {
        text(&answer.headers, name).ok_or_else(|| format!("block data without the header {name}"))
    };
    let length = header(DATA_LENGTH.as_str())?;
    if length.parse() != Ok(BLOCK_BYTES) {
        return Err(format!("block data of length {}", super::cut(length)));
    }
    let algorithm = header(CHECKSUM_ALGORITHM.as_str())?;
    if algorithm != "SHA256" {
        return Err(format!("the checksum algorithm {}", super::cut(algorithm)));
    }
    let checksum = header(CHECKSUM.as_str())?;
    super::digest(checksum).ok_or_else(|| format!("'{}' for a checksum", super::cut(checksum)))
}
