//! Answers read apart from any call: what fuzzing puts to arbitrary bytes.

use super::{ChangedBlock, Description, ListPage, ListedBlock};
use crate::transport::Answer;
use crate::{Refusal, ebs, ec2};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use types::Extension;

/// A page of ListSnapshotBlocks, extensions agreed on.
pub fn list_snapshot_blocks(body: &[u8]) -> Result<ListPage<ListedBlock>, String> {
    ebs::list_snapshot_blocks::parse(&answer(StatusCode::OK, body))
}

/// A page of ListChangedBlocks, extensions agreed on.
pub fn list_changed_blocks(body: &[u8]) -> Result<ListPage<ChangedBlock>, String> {
    ebs::list_changed_blocks::parse(&answer(StatusCode::OK, body))
}

/// A page of DescribeSnapshots, extensions agreed on.
pub fn describe_snapshots(body: &[u8]) -> Result<Vec<Description>, String> {
    ec2::describe_snapshots::parse(&answer(StatusCode::OK, body)).map(|page| page.snapshots)
}

/// The account of GetCallerIdentity.
pub fn get_caller_identity(body: &[u8]) -> Result<String, String> {
    ec2::get_caller_identity::parse(&answer(StatusCode::OK, body))
}

/// Errors of the EBS direct APIs and of EC2.
pub fn errors(body: &[u8]) -> [Result<Refusal, String>; 2] {
    let answer = answer(StatusCode::BAD_REQUEST, body);
    [
        ebs::refusal("Fuzzing", &answer),
        ec2::refusal("Fuzzing", &answer),
    ]
}

fn answer(status: StatusCode, body: &[u8]) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static(Extension::HEADER),
        HeaderValue::from_static("block-checksums, put-by-digest, lineage"),
    );
    Answer {
        status,
        headers,
        text: body.to_vec(),
        block_bytes: 0,
    }
}
