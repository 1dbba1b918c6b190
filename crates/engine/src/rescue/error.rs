//! Why a rescue cannot go on.

use types::SnapshotId;

/// An error of a rescue. Damage is no error: it is reported.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The catalog cannot be written or read.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// Segments cannot be read.
    #[error(transparent)]
    Chunks(#[from] chunkstore::Error),
    /// What memory does not hold cannot be sorted.
    #[error("sorting in the scratch directory failed")]
    Scratch(#[from] std::io::Error),
    /// Nothing tells which store there is.
    #[error(
        "no segment with a readable header or frame was found among {files} segment files: is this the right directory?"
    )]
    NoStore {
        /// Segment files that were looked at.
        files: usize,
    },
    /// The directory holds segments of more than one store.
    #[error(
        "the segments are of several stores: {stores}; move those of the other store to a directory of their own"
    )]
    SeveralStores {
        /// Each with the number of its segments.
        stores: String,
    },
    /// A file is not the segment that its name says.
    #[error(
        "segment {name} says that it is number {container}; give it its own name again, or move it away"
    )]
    Misnamed {
        /// The file.
        name: String,
        /// The container that its header names.
        container: u64,
    },
    /// A newer program wrote a segment.
    #[error("segment {name} has format version {version}; run a newer drystone")]
    NewerSegment {
        /// The file.
        name: String,
        /// Its version.
        version: u16,
    },
    /// No room for another container id.
    #[error("there are no container ids left")]
    NoIdsLeft,
    /// The segments hold no frame of this snapshot.
    #[error(
        "the segments hold no snapshot {id}; `drystone rescue list` shows those that they hold"
    )]
    NoSnapshot {
        /// The snapshot asked for.
        id: SnapshotId,
    },
    /// A thread ended early.
    #[error("a thread ended early: {reason}")]
    Thread {
        /// Why.
        reason: String,
    },
}

impl From<crate::touched::Fault> for RescueError {
    fn from(fault: crate::touched::Fault) -> RescueError {
        match fault {
            crate::touched::Fault::Catalog(error) => RescueError::Catalog(error),
            crate::touched::Fault::Chunks(error) => RescueError::Chunks(error),
        }
    }
}
