//! ListSnapshotBlocks (SPEC 2.5).

use super::{asking, listing};
use crate::SnapshotId;
use crate::api::caller::Call;
use crate::api::{ListPage, ListedBlock, PageStart};
use crate::transport::Answer;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use sigv4::{PayloadHash, Service};
use std::borrow::Cow;
use types::Digest;

/// The request.
pub(crate) fn call(id: &SnapshotId, start: &PageStart, max_results: u32) -> Call {
    Call {
        operation: "ListSnapshotBlocks",
        service: Service::Ebs,
        method: Method::GET,
        path: format!("/snapshots/{id}/blocks"),
        query: listing::query(start, max_results),
        headers: vec![asking()],
        body: Bytes::new(),
        payload: PayloadHash::Digest(Digest::of(b"")),
        is_idempotent: true,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output<'a> {
    #[serde(borrow)]
    blocks: Vec<Item<'a>>,
    next_token: Option<String>,
    volume_size: Option<u64>,
    block_size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    block_index: u64,
    #[serde(borrow)]
    block_token: Cow<'a, str>,
    #[serde(borrow)]
    checksum: Option<Cow<'a, str>>,
}

/// The answer.
pub(crate) fn parse(answer: &Answer) -> Result<ListPage<ListedBlock>, String> {
    let output: Output<'_> = super::json(answer)?;
    listing::check_block_size(output.block_size)?;
    let extensions = super::extensions(&answer.headers);
    let mut last = None;
    let blocks = output.blocks.into_iter().map(|item| {
        Ok(ListedBlock {
            index: listing::index(item.block_index, &mut last)?,
            token: item.block_token.into_owned(),
            digest: listing::digest(item.checksum.as_deref(), extensions.block_checksums)?,
        })
    });
    Ok(ListPage {
        blocks: blocks.collect::<Result<_, String>>()?,
        next: listing::next(output.next_token),
        volume_size: listing::volume_size(output.volume_size)?,
        extensions,
    })
}
