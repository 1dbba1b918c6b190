//! What the EC2 and STS calls answer when they refuse or fail: error codes, their statuses, and where they come from.
//!
//! Codes and texts are those of SPEC 4.6, 7.1, 7.3 and 7.9. Values of the client are repeated in messages, cut to
//! [`ECHO_MAX`] characters. What went wrong inside the store goes to the log, never to the client.

use crate::service::Service;
use auth::AuthError;
use http::StatusCode;

/// Characters of a client's value that a message repeats.
const ECHO_MAX: usize = 255;

/// An error as the client sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ApiError {
    /// What went wrong, for programs.
    pub(crate) code: Code,
    /// What went wrong, for people.
    pub(crate) message: String,
    /// What only the log may tell.
    pub(crate) cause: Option<String>,
}

/// The error codes in use. Authentication errors bring their own code and status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    Authentication { name: &'static str, status: u16 },
    DryRunOperation,
    FilterLimitExceeded,
    IdempotentParameterMismatch,
    IncorrectState,
    InternalError,
    InvalidAction,
    InvalidId,
    InvalidPaginationToken,
    InvalidParameterCombination,
    InvalidParameterValue,
    InvalidSnapshotIdMalformed,
    InvalidSnapshotNotFound,
    InvalidUserIdMalformed,
    MalformedQueryString,
    MissingAction,
    MissingParameter,
    NoSuchVersion,
    RequestEntityTooLarge,
    RequestLimitExceeded,
    RequestTimeout,
    TagLimitExceeded,
    Throttling,
    Unavailable,
    UnknownParameter,
}

impl Code {
    /// Every code that is ours, for tests.
    #[cfg(test)]
    pub(crate) const ALL: [Code; 24] = [
        Code::DryRunOperation,
        Code::FilterLimitExceeded,
        Code::IdempotentParameterMismatch,
        Code::IncorrectState,
        Code::InternalError,
        Code::InvalidAction,
        Code::InvalidId,
        Code::InvalidPaginationToken,
        Code::InvalidParameterCombination,
        Code::InvalidParameterValue,
        Code::InvalidSnapshotIdMalformed,
        Code::InvalidSnapshotNotFound,
        Code::InvalidUserIdMalformed,
        Code::MalformedQueryString,
        Code::MissingAction,
        Code::MissingParameter,
        Code::NoSuchVersion,
        Code::RequestEntityTooLarge,
        Code::RequestLimitExceeded,
        Code::RequestTimeout,
        Code::TagLimitExceeded,
        Code::Throttling,
        Code::Unavailable,
        Code::UnknownParameter,
    ];

    /// The code as it is written on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Code::Authentication { name, .. } => name,
            Code::DryRunOperation => "DryRunOperation",
            Code::FilterLimitExceeded => "FilterLimitExceeded",
            Code::IdempotentParameterMismatch => "IdempotentParameterMismatch",
            Code::IncorrectState => "IncorrectState",
            Code::InternalError => "InternalError",
            Code::InvalidAction => "InvalidAction",
            Code::InvalidId => "InvalidID",
            Code::InvalidPaginationToken => "InvalidPaginationToken",
            Code::InvalidParameterCombination => "InvalidParameterCombination",
            Code::InvalidParameterValue => "InvalidParameterValue",
            Code::InvalidSnapshotIdMalformed => "InvalidSnapshotID.Malformed",
            Code::InvalidSnapshotNotFound => "InvalidSnapshot.NotFound",
            Code::InvalidUserIdMalformed => "InvalidUserID.Malformed",
            Code::MalformedQueryString => "MalformedQueryString",
            Code::MissingAction => "MissingAction",
            Code::MissingParameter => "MissingParameter",
            Code::NoSuchVersion => "NoSuchVersion",
            Code::RequestEntityTooLarge => "RequestEntityTooLarge",
            Code::RequestLimitExceeded => "RequestLimitExceeded",
            Code::RequestTimeout => "RequestTimeout",
            Code::TagLimitExceeded => "TagLimitExceeded",
            Code::Throttling => "Throttling",
            Code::Unavailable => "Unavailable",
            Code::UnknownParameter => "UnknownParameter",
        }
    }

    /// Whether the client is to come again later.
    pub(crate) fn is_throttling(self) -> bool {
        matches!(self, Code::RequestLimitExceeded | Code::Throttling)
    }

    /// The HTTP status (SPEC 7.1).
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Code::Authentication { status, .. } => {
                StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN)
            }
            Code::DryRunOperation => StatusCode::PRECONDITION_FAILED,
            Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Code::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::RequestLimitExceeded | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::FilterLimitExceeded
            | Code::IdempotentParameterMismatch
            | Code::IncorrectState
            | Code::InvalidAction
            | Code::InvalidId
            | Code::InvalidPaginationToken
            | Code::InvalidParameterCombination
            | Code::InvalidParameterValue
            | Code::InvalidSnapshotIdMalformed
            | Code::InvalidSnapshotNotFound
            | Code::InvalidUserIdMalformed
            | Code::MalformedQueryString
            | Code::MissingAction
            | Code::MissingParameter
            | Code::NoSuchVersion
            | Code::RequestTimeout
            | Code::TagLimitExceeded
            | Code::Throttling
            | Code::UnknownParameter => StatusCode::BAD_REQUEST,
        }
    }
}

impl ApiError {
    /// An error with this code and message.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            message: message.into(),
            cause: None,
        }
    }

    /// An error whose cause is for the log alone.
    fn caused(code: Code, message: &str, cause: String) -> ApiError {
        ApiError {
            code,
            message: message.to_owned(),
            cause: Some(cause),
        }
    }

    /// A required parameter is not there.
    pub(crate) fn missing(name: &str) -> ApiError {
        let message = format!("The request must contain the parameter {}", echo(name));
        ApiError::new(Code::MissingParameter, message)
    }

    /// A parameter has a value that it cannot have; `expected` is a sentence.
    pub(crate) fn invalid(name: &str, value: &str, expected: &str) -> ApiError {
        let message = format!(
            "Value ({}) for parameter {} is invalid. {expected}",
            echo(value),
            echo(name)
        );
        ApiError::new(Code::InvalidParameterValue, message)
    }

    /// A well-formed id that names no snapshot of the caller.
    pub(crate) fn snapshot_not_found(id: &str) -> ApiError {
        let message = format!("The snapshot '{}' does not exist.", echo(id));
        ApiError::new(Code::InvalidSnapshotNotFound, message)
    }

    /// The answer to a request that asked whether it would succeed (SPEC 7.1).
    pub(crate) fn dry_run() -> ApiError {
        ApiError::new(
            Code::DryRunOperation,
            "Request would have succeeded, but DryRun flag is set.",
        )
    }

    /// The same for a service: STS knows another word for too many requests.
    pub(crate) fn in_words_of(self, service: Service) -> ApiError {
        match (service, self.code) {
            (Service::Sts, Code::RequestLimitExceeded) => {
                ApiError::new(Code::Throttling, "Rate exceeded")
            }
            _ => self,
        }
    }

    /// What an authentication error is called by EC2 (SPEC 4.6).
    pub(crate) fn of_auth_in_ec2(error: &AuthError) -> ApiError {
        let code = Code::Authentication {
            name: error.ec2_code(),
            status: error.ec2_status(),
        };
        ApiError::new(code, error.to_string())
    }

    /// What an authentication error is called by STS: it knows neither `AuthFailure` nor EC2's words for what has expired.
    pub(crate) fn of_auth_in_sts(error: &AuthError) -> ApiError {
        let name = match (error, error.ec2_code()) {
            (AuthError::ExpiredToken, _) => "ExpiredToken",
            (_, "AuthFailure" | "RequestExpired") => "SignatureDoesNotMatch",
            (_, code) => code,
        };
        let status = if name == "IncompleteSignature" {
            400
        } else {
            403
        };
        ApiError::new(Code::Authentication { name, status }, error.to_string())
    }
}

impl From<engine::Error> for ApiError {
    /// Errors that no call of this crate meets are answered too: a verb may grow into them.
    fn from(error: engine::Error) -> ApiError {
        let message = error.to_string();
        match error {
            engine::Error::SnapshotNotFound { id } => ApiError::snapshot_not_found(&id.to_string()),
            engine::Error::TooManyTags { .. } => too_many_tags(),
            engine::Error::SnapshotSealed { .. } | engine::Error::ParentNotComplete { .. } => {
                ApiError::new(Code::IncorrectState, sentence(&message))
            }
            engine::Error::ClientTokenConflict => {
                ApiError::new(Code::IdempotentParameterMismatch, sentence(&message))
            }
            engine::Error::ChildSmallerThanParent { .. }
            | engine::Error::BlockBeyondVolume { .. }
            | engine::Error::Unrelated { .. } => {
                ApiError::new(Code::InvalidParameterValue, sentence(&message))
            }
            engine::Error::NoSpace { .. } => {
                ApiError::caused(Code::Unavailable, "The store is full.", message)
            }
            engine::Error::Unavailable { .. } => {
                let shown = "The server is temporarily unavailable. Please try again.";
                ApiError::caused(Code::Unavailable, shown, message)
            }
            engine::Error::BlockDamaged { .. }
            | engine::Error::MapDamaged { .. }
            | engine::Error::Internal { .. } => ApiError::caused(
                Code::InternalError,
                "An internal error has occurred",
                message,
            ),
        }
    }
}

/// A resource would have too many tags.
pub(crate) fn too_many_tags() -> ApiError {
    ApiError::new(
        Code::TagLimitExceeded,
        format!(
            "The maximum number of Tags for a resource has been reached ({}).",
            types::limits::TAGS_MAX
        ),
    )
}

/// A client's value, cut to what a message may repeat.
pub(crate) fn echo(value: &str) -> String {
    value.chars().take(ECHO_MAX).collect()
}

/// Our messages are lower case without a full stop; the wire's are sentences.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), characters.as_str())
}
