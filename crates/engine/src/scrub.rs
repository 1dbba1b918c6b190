//! Scrub (sketch of its interface).

use crate::gc::Progress;
use crate::{Engine, Error};
use std::time::Duration;
use types::{BlockIndex, ChunkName, Domain, SnapshotId};

/// What a scrub is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubOptions {
    /// Stored bytes read in a second, at most.
    pub bytes_per_second: u64,
    /// Begins anew instead of where the last one stopped.
    pub restart: bool,
}

/// What a scrub found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ScrubReport {
    /// Chunks and snapshot frames verified.
    pub chunks: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Chunks that are damaged, found by this scrub or before; at most [`ScrubReport::LISTED_MAX`] of them.
    pub damaged: Vec<DamagedChunk>,
    /// How many are damaged.
    pub damaged_count: u64,
    /// How long it took.
    pub took: Duration,
}

/// A damaged chunk, and what it touches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedChunk {
    /// Its domain.
    pub domain: Domain,
    /// Its name.
    pub name: ChunkName,
    /// block, page or snapshot.
    pub kind: &'static str,
    /// What failed.
    pub reason: String,
    /// The blocks that cannot be read because of it, as extents; at most [`ScrubReport::TOUCHES_MAX`].
    pub touches: Vec<Touched>,
    /// How many extents there are.
    pub touches_count: u64,
}

/// Blocks of a snapshot that a damaged chunk touches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Touched {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The first block index.
    pub start: BlockIndex,
    /// How many block indexes.
    pub count: u32,
}

impl ScrubReport {
    /// Damaged chunks in a report.
    pub const LISTED_MAX: usize = 1_000;
    /// Extents listed for a damaged chunk.
    pub const TOUCHES_MAX: usize = 100;
}

impl Engine {
    /// Reads and verifies every chunk, page and snapshot frame.
    pub async fn scrub(&self, _options: ScrubOptions) -> Result<ScrubReport, Error> {
        Err(Error::Internal {
            reason: "not there yet".to_owned(),
        })
    }

    /// How far the running scrub is; nothing when none runs.
    pub fn scrub_progress(&self) -> Option<Progress> {
        None
    }
}
