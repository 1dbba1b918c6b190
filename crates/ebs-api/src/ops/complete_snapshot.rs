//! `POST /snapshots/completion/{id}`: ends the writing of a snapshot (SPEC 2.3, 3.3, 3.4).
//!
//! The answer says how things stand now; whether count and checksum are right shows later, in the snapshot's state. The three
//! checksum headers come together or not at all.

use crate::Shared;
use crate::constraints::Constraints;
use crate::error::{ApiError, Reason};
use crate::parameters::{self, Parameters};
use crate::response::{self, Reply};
use crate::snapshot_id::WireSnapshotId;
use auth::Caller;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{CompleteSnapshot, SnapshotState};
use http::StatusCode;

/// Answers the operation.
pub(crate) async fn run(
    api: &Shared,
    caller: &Caller,
    parameters: &Parameters<'_>,
    snapshot: &str,
) -> Result<Reply, ApiError> {
    let snapshot = WireSnapshotId::new(parameters::decoded(snapshot));
    let count = parameters.header_integer("x-amz-changedblockscount", "changedBlocksCount")?;
    let checksum = parameters.header("x-amz-checksum");
    let algorithm = parameters.header("x-amz-checksum-algorithm");
    let method = parameters.header("x-amz-checksum-aggregation-method");

    let mut constraints = Constraints::new();
    constraints.snapshot_id("snapshotId", Some(snapshot.text()));
    constraints.required("changedBlocksCount", count.as_ref());
    constraints.at_least("changedBlocksCount", count, 0);
    constraints.checksum("checksum", checksum.as_deref());
    constraints.one_of("checksumAlgorithm", algorithm.as_deref(), &["SHA256"]);
    constraints.one_of("checksumAggregationMethod", method.as_deref(), &["LINEAR"]);
    constraints.finish()?;
    check_combination(checksum.is_some(), algorithm.is_some(), method.is_some())?;

    let state = api
        .engine
        .complete_snapshot(CompleteSnapshot {
            account: caller.account,
            id: snapshot.known()?,
            changed_blocks: count
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or_default(),
            // Text that is no base64 is the checksum of nothing, and so is the empty one.
            checksum: checksum.map(|text| STANDARD.decode(text.as_bytes()).unwrap_or_default()),
        })
        .await?;
    let status = match state {
        SnapshotState::Pending => r#"{"Status":"pending"}"#,
        SnapshotState::Completed => r#"{"Status":"completed"}"#,
        SnapshotState::Error => r#"{"Status":"error"}"#,
    };
    Ok(response::json(StatusCode::ACCEPTED, status))
}

fn check_combination(checksum: bool, algorithm: bool, method: bool) -> Result<(), ApiError> {
    let missing = match (checksum, algorithm, method) {
        (true, true, true) | (false, false, false) => return Ok(()),
        (true, false, _) => "Checksum algorithm",
        (false, _, _) => "Snapshot checksum",
        (true, true, false) => "Checksum aggregation method",
    };
    let message = format!("Invalid parameter combination. {missing} is missing.");
    Err(ApiError::validation(Reason::InvalidParameterValue, message))
}
