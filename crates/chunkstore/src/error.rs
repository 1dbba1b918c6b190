//! What can go wrong in a chunk store, named by what happened.

use crate::{ContainerId, Location};
use std::io::ErrorKind;

/// An error of a chunk store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The location's container does not exist.
    #[error("container {} does not exist", container.0)]
    NotFound {
        /// The container asked for.
        container: ContainerId,
    },
    /// The bytes at the location are not the chunk asked for. Never "not found", never zeros.
    #[error("frame at {location:?} is corrupt: {reason}")]
    Corrupt {
        /// Where.
        location: Location,
        /// Which check failed.
        reason: String,
    },
    /// There is no room below the reserve. Not a fault of the device.
    #[error("no space: {free_bytes} bytes free, {reserve_bytes} are kept in reserve")]
    NoSpace {
        /// Bytes free on the file system.
        free_bytes: u64,
        /// Bytes that only freeing and the finisher may use.
        reserve_bytes: u64,
    },
    /// An I/O error; a batch that met it is not stored.
    #[error("{operation} failed")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Files and registry contradict each other: a restored or foreign catalog.
    #[error("the store does not belong to this catalog: {reason}")]
    Foreign {
        /// What contradicts what.
        reason: String,
    },
    /// The registry of containers failed.
    #[error("the container registry failed")]
    Registry(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store was shut down or its writer is gone.
    #[error("the store is closed: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
}

impl Error {
    /// An I/O error, told apart: a full device is no fault of the device.
    pub(crate) fn io(operation: &'static str, source: std::io::Error) -> Error {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::NoSpace {
                free_bytes: 0,
                reserve_bytes: 0,
            },
            _ => Error::Io { operation, source },
        }
    }

    /// The same error for one more caller of the batch that met it.
    pub(crate) fn repeat(&self) -> Error {
        match self {
            Error::NotFound { container } => Error::NotFound {
                container: *container,
            },
            Error::Corrupt { location, reason } => Error::Corrupt {
                location: *location,
                reason: reason.clone(),
            },
            Error::NoSpace {
                free_bytes,
                reserve_bytes,
            } => Error::NoSpace {
                free_bytes: *free_bytes,
                reserve_bytes: *reserve_bytes,
            },
            Error::Io { operation, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => std::io::Error::from_raw_os_error(code),
                    None => std::io::Error::new(source.kind(), source.to_string()),
                };
                Error::Io { operation, source }
            }
            Error::Foreign { reason } => Error::Foreign {
                reason: reason.clone(),
            },
            Error::Registry(source) => Error::Registry(source.to_string().into()),
            Error::Closed { reason } => Error::Closed {
                reason: reason.clone(),
            },
        }
    }
}
