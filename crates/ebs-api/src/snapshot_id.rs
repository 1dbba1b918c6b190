//! Snapshot ids as clients write them.
//!
//! An id of the right pattern that we never issue names no snapshot; it is answered like one that is gone, with the text that
//! the client sent.

use crate::error::ApiError;
use types::SnapshotId;

/// An id that has passed the pattern, or is about to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WireSnapshotId {
    text: String,
}

impl WireSnapshotId {
    /// An id as it came.
    pub(crate) fn new(text: impl Into<String>) -> WireSnapshotId {
        WireSnapshotId { text: text.into() }
    }

    /// The text that the client sent.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The id, or not found when we never issued one like it.
    pub(crate) fn known(&self) -> Result<SnapshotId, ApiError> {
        SnapshotId::parse(&self.text).ok_or_else(|| ApiError::snapshot_not_found(&self.text))
    }
}
