//! `PUT /snapshots/{id}/blocks/{index}` with `x-drystone-put: by-digest`: puts a block that is stored already, without its data (docs/wire.md,
//! Extensions).
//!
//! 1. Signature, over no body: `UNSIGNED-PAYLOAD`, or the digest of nothing, named or not.
//! 2. Constraints as of any put; the form of this one: the header's value, what must be signed, no body.
//! 3. The snapshot there and open, the index inside the volume; data length, algorithm, checksum.
//! 4. The engine puts the block, or asks for its data: 412 `BlockDataRequired`.
//!
//! Nothing that came with the request proves that its sender has the block. So what says which block is meant must be under
//! the signature, and who may not read blocks is always asked for the data: what is put can be read afterwards.

use super::put_snapshot_block::{Input, check_content_encoding, done};
use crate::Shared;
use crate::body::{Pace, RequestBody};
use crate::constraints::echo;
use crate::error::{ApiError, Reason};
use crate::parameters::Parameters;
use crate::response::Reply;
use auth::{Caller, Unproven, UnsignedPayload, sigv4};
use bytes::Bytes;
use engine::ByDigest;
use http::request::Parts;
use http_body::Body;
use types::Digest;

/// The header that says how a block is put.
pub(super) const HEADER: &str = "x-drystone-put";

/// Its one value.
const BY_DIGEST: &str = "by-digest";

/// What says which block is meant, and that it is meant by its digest.
const SIGNED: [&str; 4] = [
    "x-amz-checksum",
    "x-amz-checksum-algorithm",
    "x-amz-data-length",
    HEADER,
];

/// Answers the operation.
pub(super) async fn run<B>(
    api: &Shared,
    head: &Parts,
    body: &mut RequestBody<B>,
    snapshot: &str,
    index: &str,
) -> Result<Reply, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let parameters = Parameters::of(head);
    let unproven = api.open(head, UnsignedPayload::Accepted)?;
    let caller = prove(&unproven)?;
    let input = Input::read(&parameters, snapshot, index)?;
    input.check_constraints()?;
    check_form(head, &parameters, &unproven)?;
    check_content_encoding(&parameters)?;
    check_empty(api, body).await?;
    let permit = input.admit(api, &caller).await?;
    input.check_declarations()?;
    let digest = super::digest(&input.checksum).ok_or_else(|| {
        invalid(format!(
            "The checksum '{}' is not the base64 text of a SHA-256 digest.",
            echo(&input.checksum)
        ))
    })?;
    if !super::may_read_blocks(&caller) {
        return Err(ApiError::block_data_required());
    }
    let put = api.engine.put_by_digest(permit, digest, input.progress());
    match put.await? {
        ByDigest::Put => Ok(done(&input.checksum)),
        ByDigest::DataRequired => Err(ApiError::block_data_required()),
    }
}

/// The caller: the signature is verified as one over no body, whatever there is of it.
fn prove(unproven: &Unproven) -> Result<Caller, ApiError> {
    let caller = match unproven.verify_before_body() {
        Some(caller) => caller,
        None => unproven.verify_with(Digest::of(b"")),
    };
    Ok(caller?)
}

fn check_form(
    head: &Parts,
    parameters: &Parameters<'_>,
    unproven: &Unproven,
) -> Result<(), ApiError> {
    let value = parameters.header(HEADER).unwrap_or_default();
    if value != BY_DIGEST {
        return Err(invalid(format!(
            "The value '{}' of {HEADER} is not valid, expected {BY_DIGEST}",
            echo(&value)
        )));
    }
    let request = crate::signed_head(head);
    if let Some(name) = SIGNED.iter().find(|name| !sigv4::signs(&request, name)) {
        return Err(invalid(format!(
            "The header {name} of a put by digest must be signed"
        )));
    }
    match unproven.signed_digest() {
        Some(digest) if digest != Digest::of(b"") => Err(has_body()),
        Some(_) | None => Ok(()),
    }
}

async fn check_empty<B>(api: &Shared, body: &mut RequestBody<B>) -> Result<(), ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.declared().is_some_and(|declared| declared > 0) {
        return Err(has_body());
    }
    let mut pace = Pace::new(&api.options.body_limits);
    loop {
        match pace.next(body).await {
            Ok(None) => return Ok(()),
            Ok(Some(data)) if data.is_empty() => {}
            Ok(Some(_)) | Err(_) => return Err(has_body()),
        }
    }
}

fn has_body() -> ApiError {
    invalid("A put by digest has no body".to_owned())
}

fn invalid(message: String) -> ApiError {
    ApiError::validation(Reason::InvalidParameterValue, message)
}
