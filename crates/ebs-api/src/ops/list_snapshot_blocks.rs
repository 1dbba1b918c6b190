//! `GET /snapshots/{id}/blocks`: which blocks a snapshot has, with a token for each (SPEC 2.5, 3.10).
//!
//! The page is written straight into the body; 10,000 tokens take a few milliseconds.

use super::listing::{self, Begin, Checksums, ITEMS_PER_TURN, Paging, QUOTED_CHECKSUM};
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

/// Bytes of an item as text, without its checksum.
const ITEM_CHARS_MAX: usize = TOKEN_CHARS + 48;

/// Bytes of an item before that, as index and digest.
const ITEM_SIZE: usize = 40;

/// What stands before a checksum.
const MEMBER: &[u8] = br#","Checksum":"#;

/// Bytes that a checksum adds to an item.
const CHECKSUM_MEMBER: usize = MEMBER.len() + QUOTED_CHECKSUM;

/// Answers the operation.
pub(crate) async fn run(
    api: &Shared,
    caller: &Caller,
    parameters: &Parameters<'_>,
    snapshot: &str,
) -> Result<Reply, ApiError> {
    let snapshot = WireSnapshotId::new(parameters::decoded(snapshot));
    let paging = Paging::read(parameters)?;
    let checksums = Checksums::read(parameters, caller);
    let mut constraints = Constraints::new();
    constraints.snapshot_id("snapshotId", Some(snapshot.text()));
    paging.check(&mut constraints);
    checksums.check(&mut constraints);
    constraints.finish()?;

    let id = snapshot.known()?;
    let item_chars = ITEM_CHARS_MAX + checksums.chars(CHECKSUM_MEMBER);
    let room = paging.room(api, caller, item_chars + ITEM_SIZE).await?;
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
    let out = Vec::with_capacity(256 + page.blocks.len() * item_chars);
    let document = write_page(api, id, &page, &checksums, out).await;
    Ok(admission::held(
        response::json(StatusCode::OK, document),
        room,
    ))
}

/// Members in alphabetical order. Without blocks there is nothing that could expire later than now (SPEC 2.5).
async fn write_page(
    api: &Shared,
    id: SnapshotId,
    page: &BlockList,
    checksums: &Checksums<'_>,
    mut out: Vec<u8>,
) -> Vec<u8> {
    let now = api.clock.now();
    let mint = BlockTokenMint::new(&api.token_keys, &api.random, now, id);
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
        out.push(b'"');
        checksums.write(MEMBER, Some(digest), &mut out);
        out.push(b'}');
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
