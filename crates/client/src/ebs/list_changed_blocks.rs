//! ListChangedBlocks (SPEC 2.6).

use super::{asking, listing};
use crate::SnapshotId;
use crate::api::caller::Call;
use crate::api::{ChangedBlock, ListPage, PageStart};
use crate::transport::Answer;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use sigv4::{PayloadHash, Service};
use std::borrow::Cow;
use types::Digest;

/// The request.
pub(crate) fn call(first: &SnapshotId, second: &SnapshotId, start: &PageStart) -> Call {
    Call {
        operation: "ListChangedBlocks",
        service: Service::Ebs,
        method: Method::GET,
        path: format!("/snapshots/{second}/changedblocks"),
        query: format!(
            "firstSnapshotId={first}&{}",
            listing::query(start, super::MAX_RESULTS)
        ),
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
    changed_blocks: Vec<Item<'a>>,
    next_token: Option<String>,
    volume_size: Option<u64>,
    block_size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item<'a> {
    block_index: u64,
    #[serde(borrow)]
    first_block_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    second_block_token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    first_checksum: Option<Cow<'a, str>>,
    #[serde(borrow)]
    second_checksum: Option<Cow<'a, str>>,
}

/// The answer.
pub(crate) fn parse(answer: &Answer) -> Result<ListPage<ChangedBlock>, String> {
    let output: Output<'_> = super::json(answer)?;
    listing::check_block_size(output.block_size)?;
    let extensions = super::extensions(&answer.headers);
    let side = |token: Option<Cow<'_, str>>, checksum: Option<Cow<'_, str>>| {
        let token = token.filter(|token| !token.is_empty());
        let digest = listing::digest(checksum.as_deref(), extensions.block_checksums)?;
        Ok::<_, String>(token.map(|token| (token.into_owned(), digest)))
    };
    let mut last = None;
    let blocks = output.changed_blocks.into_iter().map(|item| {
        let block = ChangedBlock {
            index: listing::index(item.block_index, &mut last)?,
            first: side(item.first_block_token, item.first_checksum)?,
            second: side(item.second_block_token, item.second_checksum)?,
        };
        match (&block.first, &block.second) {
            (None, None) => Err(format!("no token for changed block {}", block.index)),
            _ => Ok(block),
        }
    });
    Ok(ListPage {
        blocks: blocks.collect::<Result<_, String>>()?,
        next: listing::next(output.next_token),
        volume_size: listing::volume_size(output.volume_size)?,
        extensions,
    })
}
