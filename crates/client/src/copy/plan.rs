//! How many calls a copy takes, by operation. Changes nothing.
//!
//! Lists what the copy would list, so that pages and blocks are counted, not guessed. Repeats of failed calls are not in it, nor are the
//! calls that [`prepare`](super::prepare::prepare) made before; those to DescribeSnapshots while waiting depend on the destination.

use super::blocks::{Content, Listing};
use super::{CopyOptions, Prepared};
use crate::Error;
use crate::api::Api;
use std::collections::BTreeMap;

/// What a copy takes: known before it begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CopyPlan {
    /// Blocks to move with their data, or by digest where the destination holds them already: then neither got nor sent.
    pub data_blocks: u64,
    /// Blocks to put as zeros.
    pub zero_blocks: u64,
    /// Calls at the source, by operation.
    pub source_calls: BTreeMap<&'static str, u64>,
    /// Calls at the destination, by operation. A destination that takes puts by digest is asked at most once more for each block.
    pub destination_calls: BTreeMap<&'static str, u64>,
}

/// Finds out what a copy takes.
pub async fn plan(
    from: &Api,
    options: &CopyOptions,
    prepared: &Prepared,
) -> Result<CopyPlan, Error> {
    let mut plan = CopyPlan::default();
    if prepared.existing.is_some() && !options.again {
        return Ok(plan);
    }
    let before = answered(from);
    let parent = prepared.parent.as_ref().map(|(here, _)| here);
    let mut listing = Listing::begin(from, &prepared.source.id, parent).await?;
    let operation = match listing {
        Listing::All(_) => "ListSnapshotBlocks",
        Listing::Changed(_) => "ListChangedBlocks",
    };
    while let Some(wanted) = listing.next().await? {
        match wanted.content {
            Content::Zeros => plan.zero_blocks += 1,
            Content::Data { .. } => plan.data_blocks += 1,
        }
    }
    let pages = answered(from) - before;
    plan.source_calls =
        BTreeMap::from([(operation, pages), ("GetSnapshotBlock", plan.data_blocks)]);
    plan.destination_calls = BTreeMap::from([
        ("StartSnapshot", 1),
        ("PutSnapshotBlock", plan.data_blocks + plan.zero_blocks),
        ("CompleteSnapshot", 1),
    ]);
    Ok(plan)
}

/// Requests that were not repeated. Nothing else asks this server while a listing is read.
fn answered(api: &Api) -> u64 {
    let reading = api.meter().read();
    reading.requests - reading.retries
}
