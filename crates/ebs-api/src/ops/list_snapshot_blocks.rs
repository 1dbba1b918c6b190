//! `GET /snapshots/{id}/blocks`: which blocks a snapshot has, with a token for each (SPEC 2.5, 3.10).
//!
//! The page is written straight into the body; 10,000 tokens take a few milliseconds.

use super::listing::{self, Begin, ITEMS_PER_TURN, Paging};
use crate::block_token::{self, BlockTokenMint, TOKEN_CHARS};
use crate::constraints::Constraints;
use crate::error::ApiError;
use crate::page_token::Listing;
use crate::parameters::{self, Parameters};
use crate::response::{self, Reply};
use crate::snapshot_id::WireSnapshotId;
use crate::{Shared, admission};
use auth::Caller;
use engine::BlockList;
use http::StatusCode;
use types::{BLOCK_BYTES, SnapshotId};

/// Bytes that an item of a page takes at most: as text, and before that as index and digest.
const ITEM_BYTES_MAX: usize = TOKEN_CHARS + 48 + 40;

/// Answers the operation.
pub(crate) async fn run(
    api: &Shared,
    caller: &Caller,
    parameters: &Parameters<'_>,
    snapshot: &str,
) -> Result<Reply, ApiError> {
    let snapshot = WireSnapshotId::new(parameters::decoded(snapshot));
    let paging = Paging::read(parameters)?;
    let mut constraints = Constraints::new();
    constraints.snapshot_id("snapshotId", Some(snapshot.text()));
    paging.check(&mut constraints);
    constraints.finish()?;

    let id = snapshot.known()?;
    let room = paging.room(api, caller, ITEM_BYTES_MAX).await?;
    let page = match paging.begin(api, Listing::Blocks(id)) {
        Begin::At(from) => {
            let limit = paging.limit(api);
            api.engine
                .list_blocks(caller.account, id, from, limit)
                .await?
        }
        Begin::Beyond => {
            let volume_size = api.engine.readable(caller.account, id).await?;
            BlockList {
                blocks: Vec::new(),
                next: None,
                volume_size,
            }
        }
        Begin::InvalidToken => {
            api.engine.readable(caller.account, id).await?;
            return Err(paging.invalid_token());
        }
    };
    let document = write_page(api, id, &page).await;
    Ok(admission::held(
        response::json(StatusCode::OK, document),
        room,
    ))
}

/// Members in alphabetical order. Without blocks there is nothing that could expire later than now (SPEC 2.5).
async fn write_page(api: &Shared, id: SnapshotId, page: &BlockList) -> Vec<u8> {
    let now = api.clock.now();
    let mint = BlockTokenMint::new(&api.token_keys, &api.random, now, id);
    let mut out = Vec::with_capacity(256 + page.blocks.len() * (TOKEN_CHARS + 48));
    response::write(
        &mut out,
        format_args!(r#"{{"BlockSize":{BLOCK_BYTES},"Blocks":["#),
    );
    for (position, (index, digest)) in page.blocks.iter().enumerate() {
        if position > 0 {
            out.push(b',');
            if position % ITEMS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        response::write(
            &mut out,
            format_args!(r#"{{"BlockIndex":{},"BlockToken":""#, index.get()),
        );
        mint.append(*index, *digest, &mut out);
        out.extend_from_slice(br#""}"#);
    }
    out.extend_from_slice(br#"],"ExpiryTime":"#);
    let expires = if page.blocks.is_empty() {
        now
    } else {
        block_token::expiry(now)
    };
    response::write_time(&mut out, expires);
    let next = listing::next_token(api, Listing::Blocks(id), page.next);
    let size = page.volume_size.gib();
    response::write(
        &mut out,
        format_args!(r#","NextToken":{next},"VolumeSize":{size}}}"#),
    );
    out
}
