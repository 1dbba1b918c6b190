//! Every refusal in the words of the EBS direct APIs (SPEC 5).
//!
//! Three layers of AWS answer in three shapes; the name of the layer stands in the header `x-amzn-ErrorType` behind the code.
//! The body is one for all: both spellings of the message and a bare `__type`, because clients read different ones
//! (SPEC 5.1, annex C.5).
//!
//! An error of the engine becomes an answer in one `match` without a default arm, [`ApiError::from`]: a new error does not
//! compile until it has an answer here. Faults of ours say nothing of their cause on the wire, except which
//! block is damaged; they carry it to the log.

use auth::AuthError;
use http::StatusCode;
use serde_json::json;

/// Shared by every fault of ours.
const INTERNAL: &str = "An internal error has occurred. Retry the request.";

/// What a throttled client is asked to wait, in milliseconds; SDKs spread their retries over about as long by themselves.
const RETRY_AFTER_MS: u32 = 1_000;

/// The code of an answer that asks to come again later (SPEC 8.8).
const THROTTLED: &str = "ThrottlingException";

/// Why a validation failed (SPEC 5.3); the values in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    InvalidPageToken,
    InvalidBlockToken,
    InvalidSnapshotId,
    UnrelatedSnapshots,
    InvalidBlock,
    InvalidContentEncoding,
    InvalidTag,
    InvalidDependencyRequest,
    InvalidParameterValue,
    InvalidVolumeSize,
    SnapshotNotFound,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Reason::InvalidPageToken => "INVALID_PAGE_TOKEN",
            Reason::InvalidBlockToken => "INVALID_BLOCK_TOKEN",
            Reason::InvalidSnapshotId => "INVALID_SNAPSHOT_ID",
            Reason::UnrelatedSnapshots => "UNRELATED_SNAPSHOTS",
            Reason::InvalidBlock => "INVALID_BLOCK",
            Reason::InvalidContentEncoding => "INVALID_CONTENT_ENCODING",
            Reason::InvalidTag => "INVALID_TAG",
            Reason::InvalidDependencyRequest => "INVALID_DEPENDENCY_REQUEST",
            Reason::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Reason::InvalidVolumeSize => "INVALID_VOLUME_SIZE",
            Reason::SnapshotNotFound => "SNAPSHOT_NOT_FOUND",
        }
    }
}

/// Which layer of AWS would answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layer {
    /// The service itself.
    Service,
    /// The framework's check of modelled constraints.
    Constraint,
    /// The framework: signatures, serialization.
    Framework,
    /// No operation was found; the header holds the bare code (SPEC 8.17).
    Routing,
}

impl Layer {
    fn suffix(self) -> &'static str {
        match self {
            Layer::Service => ":http://internal.amazon.com/coral/com.amazon.zeppelindataservice/",
            Layer::Constraint => ":http://internal.amazon.com/coral/com.amazon.coral.validate/",
            Layer::Framework => ":http://internal.amazon.com/coral/com.amazon.coral.service/",
            Layer::Routing => "",
        }
    }
}

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    layer: Layer,
    status: StatusCode,
    code: &'static str,
    message: String,
    reason: Option<Reason>,
    /// What went wrong on our side, for the log only.
    fault: Option<String>,
}

impl ApiError {
    /// A validation of the service that failed.
    pub(crate) fn validation(reason: Reason, message: impl Into<String>) -> ApiError {
        ApiError {
            reason: Some(reason),
            ..ApiError::service(StatusCode::BAD_REQUEST, "ValidationException", message)
        }
    }

    /// Broken constraints; the message is made by `constraints.rs`.
    pub(crate) fn constraint(message: String) -> ApiError {
        ApiError {
            layer: Layer::Constraint,
            ..ApiError::service(StatusCode::BAD_REQUEST, "ValidationException", message)
        }
    }

    /// A value, or a document, that cannot be read at all.
    pub(crate) fn serialization(message: impl Into<String>) -> ApiError {
        ApiError::framework(StatusCode::BAD_REQUEST, "SerializationException", message)
    }

    /// The snapshot does not exist, or not for this caller, or not in a state for this.
    pub(crate) fn snapshot_not_found(id: &str) -> ApiError {
        ApiError {
            reason: Some(Reason::SnapshotNotFound),
            ..ApiError::service(
                StatusCode::NOT_FOUND,
                "ResourceNotFoundException",
                format!("The snapshot '{id}' does not exist."),
            )
        }
    }

    /// The block token is not one that fits; for whatever reason.
    pub(crate) fn block_token(token: &str) -> ApiError {
        ApiError::validation(
            Reason::InvalidBlockToken,
            format!("The block token {token} is invalid."),
        )
    }

    /// The page token is not one that fits; for whatever reason.
    pub(crate) fn page_token(token: &str) -> ApiError {
        ApiError::validation(
            Reason::InvalidPageToken,
            format!("The pagination token {token} is invalid."),
        )
    }

    /// The index lies outside the volume; it is shown as the client means it.
    pub(crate) fn block_beyond_volume(index: i64) -> ApiError {
        let message = format!("Block index {index} is beyond the volume size extent");
        ApiError::validation(Reason::InvalidBlock, message)
    }

    /// Block data of a wrong length, that stalled, or that broke off: the one validation error worth a retry (SPEC 5.5).
    pub(crate) fn unreadable_block() -> ApiError {
        ApiError::validation(Reason::InvalidParameterValue, "Failed to read block data")
    }

    /// The block data is not what its checksum says.
    pub(crate) fn checksum_mismatch(computed: &str, expected: &str) -> ApiError {
        ApiError::framework(
            StatusCode::FORBIDDEN,
            "InvalidSignatureException",
            format!(
                "The value passed in as x-amz-Checksum does not match the computed checksum. \
                 Computed checksum: {computed} expected checksum: {expected}"
            ),
        )
    }

    /// A put by digest of a block that has to be sent (docs/wire.md, Extensions).
    pub(crate) fn block_data_required() -> ApiError {
        ApiError::framework(
            StatusCode::PRECONDITION_FAILED,
            "BlockDataRequired",
            "The block cannot be put by its digest. Send its data.",
        )
    }

    /// No operation has this method and path.
    pub(crate) fn unknown_operation() -> ApiError {
        ApiError {
            layer: Layer::Routing,
            ..ApiError::framework(
                StatusCode::NOT_FOUND,
                "UnknownOperationException",
                "The requested operation is not known: check the method and the path.",
            )
        }
    }

    /// The body of an operation that takes a small one is large.
    pub(crate) fn body_too_large(max: usize) -> ApiError {
        ApiError::framework(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            format!("The request body must not exceed {max} bytes."),
        )
    }

    /// The body broke off.
    pub(crate) fn body_incomplete() -> ApiError {
        ApiError::framework(
            StatusCode::BAD_REQUEST,
            "MalformedHttpRequestException",
            "The request body ended before it was complete.",
        )
    }

    /// The body did not come in time.
    pub(crate) fn body_timeout() -> ApiError {
        ApiError::framework(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeoutException",
            "The request body was not received in time.",
        )
    }

    /// There is more to do than the server can; SDKs retry this (SPEC 5.5).
    pub(crate) fn throttled() -> ApiError {
        ApiError::framework(StatusCode::BAD_REQUEST, THROTTLED, "Rate exceeded")
    }

    /// The store cannot answer now.
    pub(crate) fn unavailable(fault: impl Into<String>) -> ApiError {
        ApiError {
            fault: Some(fault.into()),
            ..ApiError::framework(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "The service is temporarily unavailable. Retry the request.",
            )
        }
    }

    /// A fault of ours.
    pub(crate) fn internal(fault: impl Into<String>) -> ApiError {
        ApiError {
            fault: Some(fault.into()),
            ..ApiError::service(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalServerException",
                INTERNAL,
            )
        }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The exception's name.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// What the client is told.
    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What the log is told; only for faults of ours.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// How long the client is asked to stay away, in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> Option<u32> {
        (self.code == THROTTLED).then_some(RETRY_AFTER_MS)
    }

    /// Whether AWS ends the connection after this answer (SPEC 3.2).
    pub(crate) fn closes_connection(&self) -> bool {
        self.code == "ValidationException"
    }

    /// The value of `x-amzn-ErrorType`.
    pub(crate) fn type_header(&self) -> String {
        format!("{}{}", self.code, self.layer.suffix())
    }

    /// The JSON body.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = json!({
            "__type": self.code,
            "Message": self.message,
            "message": self.message,
        });
        if let Some(reason) = self.reason {
            body["Reason"] = reason.as_str().into();
        }
        body.to_string().into_bytes()
    }

    fn service(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            layer: Layer::Service,
            status,
            code,
            message: message.into(),
            reason: None,
            fault: None,
        }
    }

    fn framework(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            layer: Layer::Framework,
            ..ApiError::service(status, code, message)
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> ApiError {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::FORBIDDEN);
        ApiError::framework(status, error.code(), error.to_string())
    }
}

impl From<engine::Refused> for ApiError {
    fn from(refused: engine::Refused) -> ApiError {
        match refused {
            engine::Refused::LineFull | engine::Refused::TooLate => ApiError::throttled(),
        }
    }
}

impl From<engine::Error> for ApiError {
    fn from(error: engine::Error) -> ApiError {
        let fault = error.to_string();
        match error {
            engine::Error::SnapshotNotFound { id } => ApiError::snapshot_not_found(&id.to_string()),
            engine::Error::SnapshotSealed { .. } => {
                ApiError::validation(Reason::InvalidSnapshotId, "Snapshot is already completed")
            }
            engine::Error::ParentNotComplete { id } => ApiError::validation(
                Reason::InvalidSnapshotId,
                format!("Source snapshot ({id}) is not complete."),
            ),
            engine::Error::ChildSmallerThanParent { .. } => ApiError::validation(
                Reason::InvalidVolumeSize,
                "Volume size cannot be smaller than the source snapshot.",
            ),
            engine::Error::ClientTokenConflict => ApiError::service(
                StatusCode::CONFLICT,
                "ConflictException",
                "Current request does not match request stored with this token.",
            ),
            engine::Error::BlockBeyondVolume { index, .. } => {
                ApiError::block_beyond_volume(index.get().into())
            }
            engine::Error::Unrelated { .. } => {
                ApiError::validation(Reason::UnrelatedSnapshots, "The snapshots are not related.")
            }
            engine::Error::TooManyTags { .. } => ApiError::validation(
                Reason::InvalidTag,
                format!(
                    "A snapshot can have at most {} tags.",
                    types::limits::TAGS_MAX
                ),
            ),
            engine::Error::Unavailable { .. } => ApiError::unavailable(fault),
            engine::Error::BlockDamaged { id, index, .. } => ApiError {
                message: format!("Block {index} of the snapshot '{id}' is damaged."),
                ..ApiError::internal(fault)
            },
            engine::Error::MapDamaged { id, .. } => ApiError {
                message: format!("The block map of the snapshot '{id}' is damaged."),
                ..ApiError::internal(fault)
            },
            engine::Error::NoSpace { .. } | engine::Error::Internal { .. } => {
                ApiError::internal(fault)
            }
        }
    }
}
