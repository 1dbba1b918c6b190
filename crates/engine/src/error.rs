//! What the verbs answer when they refuse or fail. Each edge maps every variant, with no default arm.

use types::{BlockIndex, SnapshotId, VolumeSize};

/// An error of a verb, named so that an edge can say it in its protocol's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No snapshot that this caller may see or use in this way has the id.
    #[error("the snapshot {id} does not exist")]
    SnapshotNotFound {
        /// The id asked for.
        id: SnapshotId,
    },
    /// A put to a snapshot that is sealed or completed.
    #[error("the snapshot {id} is already completed")]
    SnapshotSealed {
        /// The snapshot.
        id: SnapshotId,
    },
    /// A parent that is still pending.
    #[error("the parent {id} is not complete")]
    ParentNotComplete {
        /// The parent.
        id: SnapshotId,
    },
    /// A child smaller than its parent (SPEC 8.5).
    #[error("a volume of {} GiB cannot hold its parent's {} GiB", size.gib(), parent.gib())]
    ChildSmallerThanParent {
        /// Size asked for.
        size: VolumeSize,
        /// Size of the parent.
        parent: VolumeSize,
    },
    /// The client token was used with other parameters.
    #[error("the client token was used with other parameters")]
    ClientTokenConflict,
    /// A block outside the volume.
    #[error("block index {index} is beyond the volume's {} GiB", size.gib())]
    BlockBeyondVolume {
        /// The index asked for.
        index: BlockIndex,
        /// Size of the volume.
        size: VolumeSize,
    },
    /// Two snapshots of different lineages are not compared.
    #[error("the snapshots {first} and {second} are not related")]
    Unrelated {
        /// The first snapshot.
        first: SnapshotId,
        /// The second snapshot.
        second: SnapshotId,
    },
    /// A snapshot would get more tags than [`types::limits::TAGS_MAX`].
    #[error(
        "the snapshot {id} would have more than {} tags",
        types::limits::TAGS_MAX
    )]
    TooManyTags {
        /// The snapshot.
        id: SnapshotId,
    },
    /// Stored bytes of this block failed their check, twice.
    #[error("block {index} of snapshot {id} is damaged: {reason}")]
    BlockDamaged {
        /// The snapshot read.
        id: SnapshotId,
        /// The block read.
        index: BlockIndex,
        /// What failed.
        reason: String,
    },
    /// A page of a snapshot's block map cannot be read.
    #[error("the block map of snapshot {id} is damaged: {reason}")]
    MapDamaged {
        /// The snapshot read.
        id: SnapshotId,
        /// What failed.
        reason: String,
    },
    /// The store is full; reads and deletes go on.
    #[error("the store is full: {reason}")]
    NoSpace {
        /// What was measured.
        reason: String,
    },
    /// Nothing is wrong with the request; it may be sent again.
    #[error("temporarily unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// A fault of ours or of the machine.
    #[error("internal error: {reason}")]
    Internal {
        /// Why.
        reason: String,
    },
}

impl Error {
    /// What a catalog error means to a caller of a verb.
    pub(crate) fn of_catalog(error: catalog::Error) -> Error {
        match error {
            catalog::Error::NoSpace => Error::NoSpace {
                reason: error.to_string(),
            },
            catalog::Error::Unavailable { .. } | catalog::Error::CommitUnknown { .. } => {
                Error::Unavailable {
                    reason: error.to_string(),
                }
            }
            catalog::Error::Io { .. }
            | catalog::Error::Corrupt { .. }
            | catalog::Error::Statement { .. }
            | catalog::Error::NewerFormat { .. } => Error::Internal {
                reason: error.to_string(),
            },
        }
    }

    /// What an error of storing a chunk means to a caller of a verb.
    pub(crate) fn of_append(error: chunkstore::Error) -> Error {
        match error {
            chunkstore::Error::NoSpace { .. } => Error::NoSpace {
                reason: error.to_string(),
            },
            chunkstore::Error::Registry(_) => Error::Unavailable {
                reason: chain(&error),
            },
            chunkstore::Error::NotFound { .. }
            | chunkstore::Error::Corrupt { .. }
            | chunkstore::Error::Io { .. }
            | chunkstore::Error::Foreign { .. }
            | chunkstore::Error::Closed { .. } => Error::Internal {
                reason: chain(&error),
            },
        }
    }
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
