//! CompleteSnapshot (SPEC 2.3).

use super::{CHECKSUM_ALGORITHM, SHA256, checksum_header};
use crate::SnapshotId;
use crate::api::caller::Call;
use crate::transport::Answer;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use sigv4::{PayloadHash, Service};
use types::Digest;

const COUNT: HeaderName = HeaderName::from_static("x-amz-changedblockscount");
const AGGREGATION_METHOD: HeaderName = HeaderName::from_static("x-amz-checksum-aggregation-method");

/// The request.
pub(crate) fn call(id: &SnapshotId, count: u32, aggregate: &Digest) -> Call {
    Call {
        operation: "CompleteSnapshot",
        service: Service::Ebs,
        method: Method::POST,
        path: format!("/snapshots/completion/{id}"),
        query: String::new(),
        headers: vec![
            (COUNT, HeaderValue::from(count)),
            checksum_header(aggregate),
            (CHECKSUM_ALGORITHM, SHA256),
            (AGGREGATION_METHOD, HeaderValue::from_static("LINEAR")),
        ],
        body: Bytes::new(),
        payload: PayloadHash::Digest(Digest::of(b"")),
        is_idempotent: true,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    status: String,
}

/// The answer: whether the snapshot is in state `error` by now.
pub(crate) fn parse(answer: &Answer) -> Result<bool, String> {
    let output: Output = super::json(answer)?;
    match output.status.as_str() {
        "pending" | "completed" => Ok(false),
        "error" => Ok(true),
        other => Err(format!("the status {}", super::cut(other))),
    }
}
