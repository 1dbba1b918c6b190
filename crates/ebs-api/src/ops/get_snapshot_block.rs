//! `GET /snapshots/{id}/blocks/{index}`: reads a block (SPEC 2.4).
//!
//! Whether the snapshot exists is decided before the token is looked at. A token that opens names the content, so the engine
//! is asked once, and it checks the snapshot itself; only a token that does not open costs a question about the snapshot.

use crate::constraints::Constraints;
use crate::error::ApiError;
use crate::parameters::{self, Parameters};
use crate::response::{self, Reply};
use crate::snapshot_id::WireSnapshotId;
use crate::{Shared, admission, block_token};
use auth::Caller;
use types::{BLOCK_BYTES, BlockIndex, Digest};

/// Answers the operation.
pub(crate) async fn run(
    api: &Shared,
    caller: &Caller,
    parameters: &Parameters<'_>,
    snapshot: &str,
    index: &str,
) -> Result<Reply, ApiError> {
    let snapshot = WireSnapshotId::new(parameters::decoded(snapshot));
    let index = parameters::path_integer(index, "blockIndex")?;
    let token = parameters.query("blockToken");

    let mut constraints = Constraints::new();
    constraints.snapshot_id("snapshotId", Some(snapshot.text()));
    constraints.at_least("blockIndex", Some(index), 0);
    constraints.required("blockToken", token.as_ref());
    constraints.token("blockToken", token);
    constraints.finish()?;

    let id = snapshot.known()?;
    let token = token.unwrap_or_default();
    let opened = u32::try_from(index)
        .ok()
        .and_then(BlockIndex::new)
        .and_then(|index| {
            let now = api.clock.now();
            Some((
                index,
                block_token::open(token, &api.token_keys, now, id, index)?,
            ))
        });
    let Some((index, digest)) = opened else {
        api.engine.readable(caller.account, id).await?;
        return Err(ApiError::block_token(token));
    };
    // Blocks of zeros are one and the same memory.
    let room = match digest {
        Digest::ZERO_BLOCK => None,
        _ => Some(
            api.admissions
                .answer(&caller.access_key_id, BLOCK_BYTES)
                .await?,
        ),
    };
    let data = api
        .engine
        .get_block(caller.account, id, index, digest)
        .await?;
    let reply = response::block(data, &super::checksum(&digest));
    Ok(match room {
        Some(room) => admission::held(reply, room),
        None => reply,
    })
}
