//! Compares a disk with a snapshot.

use crate::api::Api;
use crate::source::{Extent, SourcePath};
use crate::{Error, SnapshotId};

/// What to compare, and how.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The disk.
    pub disk: SourcePath,
    /// Whether the checksums that a server lists are enough; otherwise every block is fetched.
    pub checksums_only: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyReport {
    /// Blocks compared, those that are zeros on both sides left out.
    pub compared: u64,
    /// Number of blocks that differ.
    pub differing: u64,
    /// Runs of blocks that differ, at most [`EXTENTS_MAX`].
    pub extents: Vec<Extent>,
    /// Runs of blocks that the server has lost.
    pub bad: Vec<Extent>,
    /// Whether either list was cut.
    pub cut: bool,
}

/// Most runs of blocks that a report names.
pub const EXTENTS_MAX: usize = 10_000;

/// Compares.
pub async fn verify(
    api: &Api,
    options: &VerifyOptions,
    cancel: impl Future<Output = ()> + Send,
) -> Result<VerifyReport, Error> {
    let _ = (api, options, cancel);
    unimplemented!()
}
