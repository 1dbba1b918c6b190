//! Moves a snapshot from one server to another.
//!
//! ```text
//! copy/prepare.rs       what is copied, whether it was copied before, and what the copy can be based on
//! copy/counterpart.rs   snapshots at the destination that are copies of those at the source
//! copy/compare.rs       whether two snapshots, each on its own server, have the same content
//! copy/begin.rs         the snapshot to copy to: new, left by an interrupted copy (state.rs), or there already
//! copy/blocks.rs        which blocks differ, and moving them
//! copy/plan.rs          how many calls that takes
//! ```
//!
//! Steps of [`copy`], after [`prepare`]:
//! 1. Start a snapshot with the size, description and tags of the source, and the tag [`COPY_OF_TAG`]. If there is something to
//!    base it on, its parent is that snapshot's counterpart.
//! 2. List what the source has, or in what it differs from the parent, and put each block: by digest where the destination
//!    may hold it already, else got from the source, whose checksum is compared, and put under that checksum. Blocks that only
//!    the parent has are put as zeros; zeros are never fetched. Blocks are moved side by side, at most as many as may be in flight.
//! 3. Complete with the aggregate checksum of what was put.
//!
//! Whatever fails or is interrupted before step 3 ends with the pending copy deleted, as well as that can be done then; what is left
//! behind where it cannot be is pending, and ends by its timeout. In step 3 the destination may have done what it did not answer: only a
//! copy that is pending still is deleted. A crash leaves the same. With a state file the pending copy stays, and the next attempt goes on:
//! it lists again and puts what was not acknowledged. What fails after step 3 names the copy ([`Error::AfterCompletion`]).

mod begin;
mod blocks;
mod compare;
mod counterpart;
mod plan;
mod prepare;
mod state;

use crate::api::{Api, Description, SnapshotState};
use crate::journal::remove;
use crate::pending::{GivenUp, after_completion, discard, end_of_failure};
use crate::tasks::blocking;
use crate::wait::wait_until_completed;
use crate::{Counter, Error, SnapshotId};
use begin::{Beginning, Begun};
use blocks::{Listing, Mover, Put};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;

pub use plan::{CopyPlan, plan};
pub use prepare::prepare;

/// The tag by which a copy remembers what it is a copy of: `ACCOUNT/REGION/SNAPSHOT` of the source.
pub const COPY_OF_TAG: &str = "drystone:copy-of";

/// What to copy, and how.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// The snapshot at the source.
    pub snapshot: SnapshotId,
    /// On what the copy is based.
    pub base: CopyBase,
    /// More tags for the copy; those of the source are kept, except AWS's own.
    pub tags: BTreeMap<String, String>,
    /// For the copy; the source's if not given.
    pub description: Option<String>,
    /// Whether to encrypt the copy; the destination's default, or as the parent, if not said.
    pub encrypted: Option<bool>,
    /// The key's ARN, at the destination.
    pub kms_key_arn: Option<String>,
    /// Whether to copy what was copied before once more.
    pub again: bool,
    /// The file that makes an interrupted copy resumable, when that is wanted.
    pub state: Option<PathBuf>,
    /// Whether to wait until the copy is completed.
    pub wait: bool,
}

/// On what a copy is based.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyBase {
    /// The counterpart of the nearest ancestor that has one, where the source tells lineages; else nothing.
    Nearest,
    /// The counterpart of this snapshot at the source, which must have one.
    Snapshot(SnapshotId),
    /// Nothing: every block is looked at.
    Nothing,
}

/// What is known before a copy begins.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What is copied.
    pub source: Description,
    /// A copy of it that the destination has already, completed.
    pub existing: Option<SnapshotId>,
    /// The snapshot at the source on which the copy is based, and its counterpart at the destination.
    pub parent: Option<(SnapshotId, SnapshotId)>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Value of [`COPY_OF_TAG`].
    copy_of: String,
}

/// What came of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyReport {
    /// The copy.
    pub snapshot: SnapshotId,
    /// Whether it was there already, and nothing was done.
    pub existed: bool,
    /// The snapshot at the source on which it is based, and its counterpart at the destination.
    pub parent: Option<(SnapshotId, SnapshotId)>,
    /// Blocks put.
    pub blocks_put: u32,
    /// Whether it was seen completed.
    pub completed: bool,
}

/// Copies what was prepared, and counts at the destination's meter. When `cancel` ends first, or on failure, the pending copy is
/// deleted, unless its state is kept. A copy that exists already is the answer, unless another one is wanted.
///
/// # Errors
/// [`Error::Config`]: a state file that is another copy's; [`Error::Unfit`]: more tags than a snapshot can have;
/// [`Error::SnapshotFailed`]: waited for in vain; [`Error::AfterCompletion`]: what follows the completion failed or was given up;
/// [`Error::Interrupted`]; those of the calls.
pub async fn copy(
    from: &Api,
    to: &Api,
    options: &CopyOptions,
    prepared: &Prepared,
    cancel: impl Future<Output = ()> + Send,
) -> Result<CopyReport, Error> {
    let mut cancel = pin!(cancel);
    let begun = match begin::begin(to, options, prepared, &mut cancel).await? {
        Beginning::Begun(begun) => *begun,
        Beginning::Done(report) => {
            remove_state(options).await?;
            return Ok(report);
        }
    };
    let (snapshot, parent) = (begun.snapshot.clone(), begun.parent.clone());
    let given_up = options.given_up();
    let filled = tokio::select! {
        filled = fill(from, to, prepared, begun) => filled,
        () = &mut cancel => Err(Error::Interrupted),
    };
    let put = match filled {
        Ok(put) => put,
        Err(error) => {
            if given_up == GivenUp::Delete {
                discard(to, &snapshot).await;
            }
            return Err(error);
        }
    };
    let completed = tokio::select! {
        completed = to.complete_snapshot(&snapshot, put.count, put.aggregate) => completed,
        () = &mut cancel => Err(Error::Interrupted),
    };
    if let Err(error) = completed {
        return Err(end_of_failure(to, &snapshot, given_up, error).await);
    }
    // From here on the copy is whole, only not seen completed: it stays, and there is nothing to go on with.
    let finished = async {
        remove_state(options).await?;
        if options.wait {
            wait_until_completed(to, &snapshot, &mut cancel).await?;
        }
        Ok(())
    };
    if let Err(error) = finished.await {
        return Err(after_completion(&snapshot, error));
    }
    Ok(CopyReport {
        snapshot,
        existed: false,
        parent,
        blocks_put: put.count,
        completed: options.wait,
    })
}

impl CopyOptions {
    /// What becomes of a copy that failed.
    fn given_up(&self) -> GivenUp {
        match self.state {
            Some(_) => GivenUp::Keep,
            None => GivenUp::Delete,
        }
    }
}

/// Puts all blocks.
async fn fill(from: &Api, to: &Api, prepared: &Prepared, begun: Begun) -> Result<Put, Error> {
    let source = &prepared.source;
    let parent = begun.parent.as_ref().map(|(here, _)| here);
    let listing = Listing::begin(from, &source.id, parent).await?;
    if parent.is_none()
        && let Some(bytes) = source.full_bytes
    {
        let blocks = bytes / types::BLOCK_BYTES as u64;
        to.meter().set(Counter::Total, blocks);
    }
    Mover::new(from, to, &source.id, begun)
        .put_all(listing)
        .await
}

async fn remove_state(options: &CopyOptions) -> Result<(), Error> {
    match options.state.clone() {
        Some(path) => blocking(move || remove(&path)).await,
        None => Ok(()),
    }
}

fn state_name(state: &SnapshotState) -> &str {
    match state {
        SnapshotState::Pending => "pending",
        SnapshotState::Completed => "completed",
        SnapshotState::Error => "error",
        SnapshotState::Other(other) => other,
    }
}
