//! Compares a disk with a snapshot: what both have by its digest, what only one has with zeros.
//!
//! A disk that is shorter than the volume reads as zeros behind its end. Of one that is longer, as a device may be, only the
//! beginning is compared, and the report says so.
//!
//! Failure: a block that the server has lost, or whose listing it has lost, is told apart from one that differs; the comparison
//! goes on.

mod compare;

use crate::api::Api;
use crate::source::{Extent, Source, SourceOptions, SourcePath};
use crate::tasks::blocking;
use crate::walk::{Lost, Walk};
use crate::{Counter, Error, SnapshotId};
use compare::{Comparison, Work};
use std::sync::Arc;
use types::BLOCK_BYTES;

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
    /// Runs of blocks that the server has lost, at most [`EXTENTS_MAX`].
    pub bad: Vec<Extent>,
    /// Whether either list was cut.
    pub cut: bool,
    /// Whether the disk goes on behind the end of the volume; what it has there was not compared.
    pub longer: bool,
    /// Whether the disk was modified while it was read, as far as its file system tells.
    pub modified: bool,
}

/// Most runs of blocks that a report names.
pub const EXTENTS_MAX: usize = 10_000;

/// Compares.
///
/// # Errors
/// [`Error::Config`]: checksums are to be enough, and the server lists none; [`Error::Io`], [`Error::Unfit`]: the disk;
/// [`Error::Refused`], [`Error::Unreachable`]; [`Error::Interrupted`] when `cancel` ends first.
pub async fn verify(
    api: &Api,
    options: &VerifyOptions,
    cancel: impl Future<Output = ()> + Send,
) -> Result<VerifyReport, Error> {
    tokio::select! {
        biased;
        () = cancel => Err(Error::Interrupted),
        report = run(api, options) => report,
    }
}

async fn run(api: &Api, options: &VerifyOptions) -> Result<VerifyReport, Error> {
    let walk = Walk::begin(api, &options.snapshot, Lost::Skip).await?;
    if options.checksums_only && !walk.extensions().block_checksums {
        return Err(Error::Config(format!(
            "{} lists no checksums: the blocks themselves must be compared",
            api.endpoint()
        )));
    }
    let blocks = u64::from(walk.volume_size().block_count());
    api.meter().set(Counter::Total, blocks);
    let disk = options.disk.clone();
    let source = blocking(move || Source::open(&disk, &SourceOptions { map: None })).await?;
    let bytes = source.bytes();
    let work = Arc::new(Work {
        api: api.clone(),
        snapshot: options.snapshot.clone(),
        source,
        checksums_only: options.checksums_only,
    });
    let mut comparison = Comparison::new(Arc::clone(&work), walk);
    comparison.run().await?;
    let longer = match bytes {
        Some(bytes) => bytes > blocks * BLOCK_BYTES as u64,
        None => comparison.stream_goes_on().await?,
    };
    let modified = blocking(move || work.source.was_modified()).await?;
    Ok(comparison.report(longer, modified))
}
