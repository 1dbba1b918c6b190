//! What goes wrong, by what the caller can do about it.

use crate::SnapshotId;
use std::io;
use types::BlockIndex;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings, credentials or arguments are missing or do not fit.
    #[error("{0}")]
    Config(String),
    /// The service said no, and would say so again.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The service could not be reached, or did not answer in time, in any attempt.
    #[error("{operation}: {endpoint} gave no usable answer in {attempts} attempts: {reason}")]
    Unreachable {
        /// The operation.
        operation: &'static str,
        /// Scheme, host and port.
        endpoint: String,
        /// How often it was tried.
        attempts: u32,
        /// What happened last.
        reason: String,
        /// The last answer, if that was an error of the service.
        refusal: Option<Box<Refusal>>,
    },
    /// What the service sent is no answer of this API.
    #[error("{operation}: {endpoint} answered something else: {reason}")]
    NotTheApi {
        /// The operation.
        operation: &'static str,
        /// Scheme, host and port.
        endpoint: String,
        /// What does not fit.
        reason: String,
    },
    /// Bytes arrived, in every attempt, that are not those whose checksum was announced.
    #[error("block {index} of {snapshot} does not match its checksum")]
    Corrupt {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The block.
        index: BlockIndex,
    },
    /// The service cannot give one block, however often it is asked, while it gives others: it is lost there.
    #[error("block {index} of {snapshot} cannot be read: {refusal}")]
    Unreadable {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The block.
        index: BlockIndex,
        /// The last answer.
        refusal: Box<Refusal>,
    },
    /// A file or device here failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done to what, as in `disk.img cannot be read at 524288`.
        what: String,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A source or a target is not what it must be: too small, changed while it was read, in use.
    #[error("{0}")]
    Unfit(String),
    /// The snapshot failed on the server, or was gone.
    #[error("{snapshot} is in state {state}{}", .message.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    SnapshotFailed {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its state, such as `error`.
        state: String,
        /// What the server says of it.
        message: Option<String>,
    },
    /// Every block was put, and the server asked to complete the snapshot: it is completed, or will be. What follows was not done.
    #[error("{snapshot} has everything, but not all that follows was done: {source}")]
    AfterCompletion {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What was not done; [`Error::Interrupted`] when the caller gave up.
        source: Box<Error>,
    },
    /// The caller gave up.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An I/O error with what was done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(Box::new(refusal))
    }
}

/// An answer that is an error.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{operation}: {code}: {message}{}", .reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
pub struct Refusal {
    /// The operation, such as `PutSnapshotBlock`.
    pub operation: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The error's name, such as `ResourceNotFoundException`; the status where there is none.
    pub code: String,
    /// The reason of the EBS direct APIs, such as `SNAPSHOT_NOT_FOUND`.
    pub reason: Option<String>,
    /// For people.
    pub message: String,
    /// `x-amzn-RequestId`, to ask the operator about.
    pub request_id: Option<String>,
    /// `x-amz-retry-after`, in milliseconds.
    pub retry_after_ms: Option<u64>,
}
