//! PutSnapshotBlock (SPEC 2.2), with its data or, as an extension, by its digest.

use super::{CHECKSUM, CHECKSUM_ALGORITHM, DATA_LENGTH, SHA256, checksum_header};
use crate::api::caller::Call;
use crate::transport::Answer;
use crate::{Refusal, SnapshotId};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use sigv4::{PayloadHash, Service};
use types::{BLOCK_BYTES, BlockIndex, Digest};

/// The operation's name.
pub(crate) const OPERATION: &str = "PutSnapshotBlock";

const PUT: HeaderName = HeaderName::from_static("x-drystone-put");

/// How the server says that it needs the data after all.
const DATA_REQUIRED: &str = "BlockDataRequired";

/// Puts data.
pub(crate) fn call(id: &SnapshotId, index: BlockIndex, data: Bytes, digest: &Digest) -> Call {
    Call {
        operation: OPERATION,
        service: Service::Ebs,
        method: Method::PUT,
        path: format!("/snapshots/{id}/blocks/{index}"),
        query: String::new(),
        headers: vec![
            checksum_header(digest),
            (CHECKSUM_ALGORITHM, SHA256),
            (DATA_LENGTH, HeaderValue::from(BLOCK_BYTES)),
        ],
        body: data,
        payload: PayloadHash::Unsigned,
        is_idempotent: true,
    }
}

/// Puts a block that the server may hold.
pub(crate) fn call_by_digest(id: &SnapshotId, index: BlockIndex, digest: &Digest) -> Call {
    let mut call = call(id, index, Bytes::new(), digest);
    call.headers
        .push((PUT, HeaderValue::from_static("by-digest")));
    call.payload = PayloadHash::Digest(Digest::of(b""));
    call
}

/// Whether the server asks for the data.
pub(crate) fn requires_data(refusal: &Refusal) -> bool {
    refusal.code == DATA_REQUIRED
}

/// Whether the server got other data than its checksum says: it stands among the signature errors (SPEC 2.2).
pub(crate) fn is_checksum_mismatch(refusal: &Refusal) -> bool {
    refusal.code == "InvalidSignatureException"
        && refusal
            .message
            .to_ascii_lowercase()
            .contains("x-amz-checksum")
}

/// Whether the checksum that the server computed, if it says one, is this.
pub(crate) fn agrees(answer: &Answer, digest: &Digest) -> bool {
    super::text(&answer.headers, CHECKSUM.as_str())
        .is_none_or(|text| super::digest(text).as_ref() == Some(digest))
}
