//! DeleteSnapshot (SPEC 7.4).

use super::{EC2_VERSION, Form};
use crate::api::caller::Call;
use crate::transport::Answer;
use crate::{Refusal, SnapshotId};
use sigv4::Service;

/// The request.
pub(crate) fn call(id: &SnapshotId) -> Call {
    let mut form = Form::new("DeleteSnapshot", EC2_VERSION);
    form.push("SnapshotId", id.as_str());
    let mut call = form.call("DeleteSnapshot", Service::Ec2);
    // The second finds nothing, which the caller must be able to tell from a first.
    call.is_idempotent = false;
    call
}

/// The answer.
pub(crate) fn parse(answer: &Answer) -> Result<(), String> {
    super::parse_done(answer, "DeleteSnapshotResponse")
}

/// Whether the snapshot does not exist.
pub(crate) fn is_not_found(refusal: &Refusal) -> bool {
    refusal.code == "InvalidSnapshot.NotFound"
}
