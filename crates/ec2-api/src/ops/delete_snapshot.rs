//! `DeleteSnapshot` (SPEC 7.4): deletes a snapshot in any state; a second time it is not found.

use super::{Call, admit};
use crate::error::ApiError;
use crate::query::Parameters;
use crate::snapshot_ids::snapshot_ids;
use bytes::Bytes;

pub(super) async fn delete_snapshot(
    call: &Call<'_>,
    mut parameters: Parameters,
) -> Result<Bytes, ApiError> {
    let ids = snapshot_ids(&[parameters.required("SnapshotId")?])?;
    admit(parameters)?;
    for id in ids {
        call.engine.delete_snapshot(call.account, id).await?;
    }
    Ok(call.done("DeleteSnapshotResponse"))
}
