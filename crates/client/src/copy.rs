//! Moves a snapshot from one server to another.

use crate::api::Api;
use crate::{Error, SnapshotId};
use std::collections::BTreeMap;

/// The tag by which a copy remembers what it is a copy of: `ACCOUNT/REGION/SNAPSHOT` of the source.
pub const COPY_OF_TAG: &str = "drystone:copy-of";

/// What to copy, and how.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// The snapshot at the source.
    pub snapshot: SnapshotId,
    /// A snapshot at the source whose copy is at the destination; if not given, the nearest ancestor that has one, where
    /// the source tells lineages.
    pub parent: Option<SnapshotId>,
    /// More tags for the copy; those of the source are kept.
    pub tags: BTreeMap<String, String>,
    /// For the copy; the source's if not given.
    pub description: Option<String>,
    /// The file that makes an interrupted copy resumable, when that is wanted.
    pub state: Option<std::path::PathBuf>,
    /// Whether to wait until the copy is completed.
    pub wait: bool,
}

/// What a copy takes: known before it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyPlan {
    /// The snapshot at the source on which the copy is based, and its copy at the destination.
    pub parent: Option<(SnapshotId, SnapshotId)>,
    /// Blocks to move.
    pub blocks: u64,
    /// Calls at the source, by operation.
    pub source_calls: BTreeMap<&'static str, u64>,
    /// Calls at the destination, by operation.
    pub destination_calls: BTreeMap<&'static str, u64>,
}

/// What came of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyReport {
    /// The copy.
    pub snapshot: SnapshotId,
    /// On what it is based at the destination.
    pub parent: Option<SnapshotId>,
    /// Blocks put.
    pub blocks_put: u32,
    /// Whether it was seen completed.
    pub completed: bool,
}

/// Finds out what a copy takes, changing nothing.
pub async fn plan(from: &Api, to: &Api, options: &CopyOptions) -> Result<CopyPlan, Error> {
    let _ = (from, to, options);
    unimplemented!()
}

/// Copies. When `cancel` ends first, or on failure, the pending copy is deleted.
pub async fn copy(
    from: &Api,
    to: &Api,
    options: &CopyOptions,
    plan: &CopyPlan,
    cancel: impl Future<Output = ()> + Send,
) -> Result<CopyReport, Error> {
    let _ = (from, to, options, plan, cancel);
    unimplemented!()
}
