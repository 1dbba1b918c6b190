//! `PUT /snapshots/{id}/blocks/{index}`: stores a block (SPEC 2.2, 3.2).
//!
//! 1. Signature. `UNSIGNED-PAYLOAD` or a digest in `x-amz-content-sha256` is verified now. A digest that no header names is
//!    first looked for in `x-amz-Checksum`, since a valid put names its digest there; failing that the body is received into
//!    one of the few buffers for unverified bodies and hashed, and nothing is looked up before the signature has passed.
//! 2. Constraints, content encoding, snapshot there and open, index inside the volume: all before the body is read.
//! 3. The body, exactly one block; data length; algorithm.
//! 4. The digest, on the hashing pool: the signed one, then the checksum.
//! 5. The engine stores the block; the answer follows when it is durable.
//!
//! A put that fails at any step leaves no trace that a client can see. One that names its block by digest alone goes its own way from
//! the start, in `put_by_digest.rs`.

use crate::Shared;
use crate::body::RequestBody;
use crate::constraints::{ALGORITHM, Constraints, echo};
use crate::error::{ApiError, Reason};
use crate::intake::{Received, ReceivedBlock};
use crate::parameters::{self, Parameters};
use crate::response::{self, Reply};
use crate::snapshot_id::WireSnapshotId;
use auth::{AuthError, Caller, Unproven, UnsignedPayload};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::{Admitted, HashedBlock, PutPermit};
use http::StatusCode;
use http::request::Parts;
use http_body::Body;
use types::{BLOCK_BYTES, BlockIndex, Digest};

/// Answers the operation.
pub(crate) async fn run<B>(
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
    if parameters.header(super::put_by_digest::HEADER).is_some() {
        return super::put_by_digest::run(api, head, body, snapshot, index).await;
    }
    let unproven = api.open(head, UnsignedPayload::Accepted)?;
    let proof = match prove_before_body(&unproven, &parameters) {
        Some(proof) => proof?,
        None => prove_with_body(api, &unproven, body).await?,
    };
    let input = Input::read(&parameters, snapshot, index)?;
    input.check_constraints()?;
    check_content_encoding(&parameters)?;
    let permit = input.admit(api, &proof.caller).await?;
    if body.declared() == Some(BLOCK_BYTES as u64) {
        input.check_declarations()?;
    }
    let (block, _place) = match proof.body {
        BodyState::Unread => {
            let received = api
                .verified
                .block(&proof.caller.access_key_id, body)
                .await?;
            input.check_declarations()?;
            hash(api, received).await?
        }
        BodyState::Hashed(block, place) => {
            input.check_declarations()?;
            (block, place)
        }
        BodyState::Unusable => return Err(ApiError::unreadable_block()),
    };
    let digest = block.digest();
    if proof.signed.is_some_and(|signed| signed != digest) {
        return Err(AuthError::PayloadMismatch.into());
    }
    let checksum = super::checksum(&digest);
    if checksum != input.checksum {
        return Err(ApiError::checksum_mismatch(&checksum, &input.checksum));
    }
    api.engine
        .put_block(permit, block, input.progress())
        .await?;
    Ok(done(&checksum))
}

/// The answer to a put of the block with this checksum.
pub(super) fn done(checksum: &str) -> Reply {
    response::with_checksum(response::json(StatusCode::CREATED, "{}"), checksum)
}

/// A caller, and what is known of the body.
struct Proof {
    caller: Caller,
    /// The digest that the signature covers.
    signed: Option<Digest>,
    body: BodyState,
}

enum BodyState {
    Unread,
    Hashed(HashedBlock, Admitted),
    /// Its signature is right, its length is not.
    Unusable,
}

/// The caller, where the signature can be verified without the body.
fn prove_before_body(
    unproven: &Unproven,
    parameters: &Parameters<'_>,
) -> Option<Result<Proof, ApiError>> {
    let proof = |caller, signed| Proof {
        caller,
        signed,
        body: BodyState::Unread,
    };
    if let Some(caller) = unproven.verify_before_body() {
        return Some(
            caller
                .map(|caller| proof(caller, unproven.signed_digest()))
                .map_err(ApiError::from),
        );
    }
    let checksum = parameters.header("x-amz-checksum")?;
    let digest = Digest::from_slice(&STANDARD.decode(checksum.as_bytes()).ok()?)?;
    let caller = unproven.verify_with(digest).ok()?;
    Some(Ok(proof(caller, Some(digest))))
}

/// Receives the body of a request whose signature covers a digest that is not known yet, and verifies it.
async fn prove_with_body<B>(
    api: &Shared,
    unproven: &Unproven,
    body: &mut RequestBody<B>,
) -> Result<Proof, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    match api.unverified.any(unproven.access_key_id(), body).await? {
        Received::Block(received) => {
            let (block, place) = hash(api, received).await?;
            let caller = unproven.verify_with(block.digest())?;
            Ok(Proof {
                caller,
                signed: None,
                body: BodyState::Hashed(block, place),
            })
        }
        Received::WrongLength(digest) => {
            let digest = digest.ok_or_else(ApiError::unreadable_block)?;
            let caller = unproven.verify_with(digest)?;
            Ok(Proof {
                caller,
                signed: None,
                body: BodyState::Unusable,
            })
        }
    }
}

async fn hash(api: &Shared, received: ReceivedBlock) -> Result<(HashedBlock, Admitted), ApiError> {
    let ReceivedBlock { data, place } = received;
    Ok((api.engine.hash_block(data).await?, place))
}

/// What a put says in its path and headers.
pub(super) struct Input {
    snapshot: WireSnapshotId,
    index: i64,
    data_length: Option<i64>,
    progress: Option<i64>,
    checksum_given: bool,
    pub(super) checksum: String,
    algorithm: Option<String>,
}

impl Input {
    /// Reads them.
    pub(super) fn read(
        parameters: &Parameters<'_>,
        snapshot: &str,
        index: &str,
    ) -> Result<Input, ApiError> {
        let checksum = parameters.header("x-amz-checksum");
        Ok(Input {
            snapshot: WireSnapshotId::new(parameters::decoded(snapshot)),
            index: parameters::path_integer(index, "blockIndex")?,
            data_length: parameters.header_integer("x-amz-data-length", "dataLength")?,
            progress: parameters.header_integer("x-amz-progress", "progress")?,
            checksum_given: checksum.is_some(),
            checksum: checksum.unwrap_or_default().into_owned(),
            algorithm: parameters
                .header("x-amz-checksum-algorithm")
                .map(|text| text.into_owned()),
        })
    }

    /// The modelled constraints.
    pub(super) fn check_constraints(&self) -> Result<(), ApiError> {
        let checksum = self.checksum_given.then_some(self.checksum.as_str());
        let algorithm = self.algorithm.as_deref();
        let mut constraints = Constraints::new();
        constraints.snapshot_id("snapshotId", Some(self.snapshot.text()));
        constraints.at_least("blockIndex", Some(self.index), 0);
        constraints.required("dataLength", self.data_length.as_ref());
        constraints.within("progress", self.progress, 0, 100);
        constraints.required("checksum", checksum.as_ref());
        constraints.checksum("checksum", checksum);
        constraints.required("checksumAlgorithm", algorithm.as_ref());
        constraints.length_at_most("checksumAlgorithm", algorithm, 32);
        constraints.pattern("checksumAlgorithm", algorithm, ALGORITHM);
        constraints.finish()
    }

    /// Asks whether the snapshot takes a put of this index.
    pub(super) async fn admit(&self, api: &Shared, caller: &Caller) -> Result<PutPermit, ApiError> {
        let id = self.snapshot.known()?;
        let index = u32::try_from(self.index).ok().and_then(BlockIndex::new);
        // An index beyond every volume is refused after the snapshot has been looked at, like any other.
        let last = BlockIndex::new(BlockIndex::COUNT_MAX - 1).expect("one less than the count");
        let permit = api
            .engine
            .admit_put(caller.account, id, index.unwrap_or(last))
            .await;
        match (permit, index) {
            (Ok(permit), Some(_)) => Ok(permit),
            (Ok(_) | Err(engine::Error::BlockBeyondVolume { .. }), None) => {
                Err(ApiError::block_beyond_volume(self.index))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Data length and algorithm, which the service checks itself, after the body.
    pub(super) fn check_declarations(&self) -> Result<(), ApiError> {
        if self.data_length != Some(BLOCK_BYTES as i64) {
            let length = self.data_length.unwrap_or_default();
            let message =
                format!("Block data length {length} is not valid, expected {BLOCK_BYTES}");
            return Err(ApiError::validation(Reason::InvalidBlock, message));
        }
        match self.algorithm.as_deref() {
            Some("SHA256") => Ok(()),
            other => Err(ApiError::validation(
                Reason::InvalidParameterValue,
                format!(
                    "Unsupported Checksum Algorithm '{}', supported algorithms are SHA256",
                    echo(other.unwrap_or_default())
                ),
            )),
        }
    }

    /// What the client says of itself, in percent.
    pub(super) fn progress(&self) -> Option<u8> {
        self.progress
            .and_then(|progress| u8::try_from(progress).ok())
    }
}

/// Block data travels as it is (SPEC 8.12).
pub(super) fn check_content_encoding(parameters: &Parameters<'_>) -> Result<(), ApiError> {
    match parameters.header("content-encoding") {
        None => Ok(()),
        Some(encoding) if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") => {
            Ok(())
        }
        Some(encoding) => Err(ApiError::validation(
            Reason::InvalidContentEncoding,
            format!(
                "The content encoding '{}' is not supported for block data.",
                echo(&encoding)
            ),
        )),
    }
}
