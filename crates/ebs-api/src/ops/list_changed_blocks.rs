//! `GET /snapshots/{second}/changedblocks`: where two snapshots differ, with a token for each side (SPEC 2.6, 3.9).
//!
//! Order of refusals: constraints, no first snapshot given, the first snapshot, the second, unrelated, the page token. Size and
//! expiry are always real values, also on an empty page (SPEC 8.34); the size is the second snapshot's (SPEC 8.6).

use super::listing::{self, Begin, Checksums, ITEMS_PER_TURN, Paging, QUOTED_CHECKSUM};
use crate::block_token::{self, BlockTokenMint, TOKEN_CHARS};
use crate::constraints::Constraints;
use crate::error::{ApiError, Reason};
use crate::page_token::Listing;
use crate::parameters::{self, Parameters};
use crate::response::{self, Reply};
use crate::snapshot_id::WireSnapshotId;
use crate::{Shared, admission};
use auth::Caller;
use engine::ChangedBlockList;
use http::StatusCode;
use types::{AccountId, BLOCK_BYTES, BlockIndex, Digest, SnapshotId};

/// Bytes of an item as text, without its checksums.
const ITEM_CHARS_MAX: usize = 2 * TOKEN_CHARS + 80;

/// Bytes of an item before that, as index and digests.
const ITEM_SIZE: usize = 72;

/// What stands before the checksum of the first snapshot's block.
const FIRST: &[u8] = br#","FirstChecksum":"#;

/// What stands before that of the second.
const SECOND: &[u8] = br#","SecondChecksum":"#;

/// Bytes that both checksums add to an item.
const CHECKSUM_MEMBERS: usize = FIRST.len() + SECOND.len() + 2 * QUOTED_CHECKSUM;

/// Answers the operation.
pub(crate) async fn run(
    api: &Shared,
    caller: &Caller,
    parameters: &Parameters<'_>,
    second: &str,
) -> Result<Reply, ApiError> {
    let second = WireSnapshotId::new(parameters::decoded(second));
    let first = parameters
        .query("firstSnapshotId")
        .filter(|id| !id.is_empty());
    let paging = Paging::read(parameters)?;
    let checksums = Checksums::read(parameters, caller);
    let mut constraints = Constraints::new();
    constraints.snapshot_id("firstSnapshotId", first);
    constraints.snapshot_id("secondSnapshotId", Some(second.text()));
    paging.check(&mut constraints);
    checksums.check(&mut constraints);
    constraints.finish()?;
    let first = first.ok_or_else(|| {
        let message = "First snapshot should not be empty or null";
        ApiError::validation(Reason::InvalidSnapshotId, message)
    })?;

    let pair = known_pair(api, caller.account, &WireSnapshotId::new(first), &second).await?;
    let (first, second) = pair;
    let item_chars = ITEM_CHARS_MAX + checksums.chars(CHECKSUM_MEMBERS);
    let room = paging.room(api, caller, item_chars + ITEM_SIZE).await?;
    let page = match paging.begin(api, Listing::ChangedBlocks { first, second }) {
        Begin::At(from) => {
            let limit = paging.limit(api);
            api.engine
                .list_changed_blocks(caller.account, first, second, from, limit)
                .await?
        }
        Begin::Beyond => {
            let volume_size = api.engine.comparable(caller.account, first, second).await?;
            ChangedBlockList {
                changed: Vec::new(),
                next: None,
                volume_size,
            }
        }
        Begin::InvalidToken => {
            api.engine.comparable(caller.account, first, second).await?;
            return Err(paging.invalid_token());
        }
    };
    let out = Vec::with_capacity(256 + page.changed.len() * item_chars);
    let document = write_page(api, pair, &page, &checksums, out).await;
    Ok(admission::held(
        response::json(StatusCode::OK, document),
        room,
    ))
}

/// Both ids, or the first of them that names nothing.
async fn known_pair(
    api: &Shared,
    account: AccountId,
    first: &WireSnapshotId,
    second: &WireSnapshotId,
) -> Result<(SnapshotId, SnapshotId), ApiError> {
    let first = first.known()?;
    match second.known() {
        Ok(second) => Ok((first, second)),
        Err(not_found) => {
            api.engine.readable(account, first).await?;
            Err(not_found)
        }
    }
}

async fn write_page(
    api: &Shared,
    (first, second): (SnapshotId, SnapshotId),
    page: &ChangedBlockList,
    checksums: &Checksums<'_>,
    mut out: Vec<u8>,
) -> Vec<u8> {
    let now = api.clock.now();
    let mint = |snapshot| BlockTokenMint::new(&api.token_keys, &api.random, now, snapshot);
    let (first_mint, second_mint) = (mint(first), mint(second));
    response::write(
        &mut out,
        format_args!(r#"{{"BlockSize":{BLOCK_BYTES},"ChangedBlocks":["#),
    );
    for (position, block) in page.changed.iter().enumerate() {
        if position > 0 {
            out.push(b',');
            if position % ITEMS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        let index = block.index;
        response::write(
            &mut out,
            format_args!(r#"{{"BlockIndex":{},"FirstBlockToken":"#, index.get()),
        );
        write_side(&first_mint, index, block.first, &mut out);
        checksums.write(FIRST, block.first.as_ref(), &mut out);
        out.extend_from_slice(br#","SecondBlockToken":"#);
        write_side(&second_mint, index, block.second, &mut out);
        checksums.write(SECOND, block.second.as_ref(), &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"ExpiryTime":"#);
    response::write_time(&mut out, block_token::expiry(now));
    let next = listing::next_token(api, Listing::ChangedBlocks { first, second }, page.next);
    let size = page.volume_size.gib();
    response::write(
        &mut out,
        format_args!(r#","NextToken":{next},"VolumeSize":{size}}}"#),
    );
    out
}

/// The token of one side, or `null` where that snapshot does not have the block.
fn write_side(mint: &BlockTokenMint, index: BlockIndex, digest: Option<Digest>, out: &mut Vec<u8>) {
    match digest {
        Some(digest) => {
            out.push(b'"');
            mint.append(index, digest, out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}
