//! Makes a disk of a snapshot.
//!
//! ```text
//! walk.rs              the listing, in order
//! download/plan.rs     what is to be done with each block      download/steps.rs    in batches, ahead of the transfer
//! download/work.rs     what one block takes                    download/transfer.rs as many of these at once as works
//! download/state.rs    what an interrupted download leaves
//! download/paths.rs    which paths go together
//! ```
//!
//! Invariants
//! - Every block of the volume is written, made to read as zeros, or found to hold what it must: nothing that stood in a used
//!   target stays by chance. Only what the server has lost is neither: told to go on, it becomes zeros, but with a base stays as
//!   the base has it, perhaps the last copy there is.
//! - What is written was compared with its checksum; what is kept was compared with a digest of the same content, unless the
//!   caller wants to be trusted.
//! - A file gets its name when all of it is durable, and success is claimed after that.
//!
//! A base
//! - Where the server lists checksums, they alone decide: what stands in the base is kept block by block where it is right. The
//!   base snapshot is not asked about and may be gone.
//! - Else what did not change between the base snapshot and this one is kept if it has the digest that a file says, or unread if
//!   the base is trusted.
//! - In both cases what the snapshot does not have is made zeros wherever the base has anything else.
//!
//! Failure
//! - Without `keep_going` the first block that is lost on the server ends the download.
//! - After a failure a target that was written in place is neither old nor new; a file under its hidden name is removed, or kept
//!   with the state.

mod paths;
pub(crate) mod plan;
mod state;
pub(crate) mod steps;
pub(crate) mod transfer;
pub(crate) mod units;
pub(crate) mod work;

use crate::api::Api;
use crate::journal::{self, Journal, Records};
use crate::runs::DataRuns;
use crate::source::Extent;
use crate::target::{Before, Target, TargetOptions, TargetPath};
use crate::tasks::blocking;
use crate::walk::{Lost, Walk};
use crate::{Counter, Error, SnapshotId};
pub use paths::Left;
use paths::{is_in_place, refuse_same, refuse_stream};
use plan::{Lookup, Planner, Standing};
use state::{About, Earlier, digests_of};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use steps::Changes;
use tokio::sync::Semaphore;
use transfer::Transfer;
use types::{BLOCK_BYTES, VolumeSize};
use work::{WhenLost, Work};

/// What to download, and how.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Where to.
    pub target: TargetPath,
    /// Length of a file target in bytes, where it is not the volume's.
    pub bytes: Option<u64>,
    /// A disk that holds another snapshot: only the difference is fetched.
    pub base: Option<Base>,
    /// The file that makes an interrupted download resumable, when that is wanted.
    pub state: Option<PathBuf>,
    /// Whether to go on past blocks that the server has lost: they become zeros, or with a base stay as that has them.
    pub keep_going: bool,
}

/// A disk that holds a snapshot's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base {
    /// The file or device; may be the target itself.
    pub path: PathBuf,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// A digest file of it, for servers that list no checksums.
    pub digests: Option<PathBuf>,
    /// Whether to believe, on servers that list no checksums and without a digest file, that the disk holds the snapshot.
    pub trust: bool,
}

/// What came of a download.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DownloadReport {
    /// Size of the snapshot's volume.
    pub volume_size: VolumeSize,
    /// Runs of blocks that the server has lost; empty unless told to go on.
    pub bad: Vec<Extent>,
    /// Whether `bad` was cut because there were too many runs.
    pub bad_cut: bool,
}

/// Downloads. When `cancel` ends first, or on failure, a file that did not get its name is removed, unless its state is kept.
///
/// # Errors
/// [`Error::Unreadable`], [`Error::Corrupt`]: the first lost block, unless told to go on; [`Error::Config`]: a stream with a base
/// or a state, a path with two purposes, a base that cannot be checked, a state of another download; [`Error::Unfit`], [`Error::Io`]: the target;
/// [`Error::Refused`], [`Error::Unreachable`]; [`Error::Interrupted`].
pub async fn download(
    api: &Api,
    options: &DownloadOptions,
    cancel: impl Future<Output = ()> + Send,
) -> Result<DownloadReport, Error> {
    if options.target == TargetPath::Stdout {
        refuse_stream(options)?;
    }
    let of_blocking = options.clone();
    blocking(move || refuse_same(&of_blocking)).await?;
    let mut cancel = pin!(cancel);
    let listed = tokio::select! {
        biased;
        () = &mut cancel => return Err(Error::Interrupted),
        listed = Listed::begin(api, options) => listed?,
    };
    let volume_size = listed.walk.volume_size();
    let blocks = u64::from(volume_size.block_count());
    api.meter().set(Counter::Total, blocks);
    let stopping = Stopping::default();
    let mut preparing = pin!(prepare(api, options, listed, stopping.flag()));
    let (prepared, cancelled) = tokio::select! {
        biased;
        () = &mut cancel => {
            stopping.stop();
            // It cleans up behind itself.
            (preparing.await, true)
        }
        prepared = &mut preparing => (prepared, false),
    };
    let mut transfer = match prepared {
        Ok(transfer) if cancelled => {
            transfer.abandon(options.state.is_some()).await;
            return Err(Error::Interrupted);
        }
        Err(_) if cancelled => return Err(Error::Interrupted),
        prepared => prepared?,
    };
    let done = tokio::select! {
        biased;
        () = &mut cancel => Err(Error::Interrupted),
        done = transfer.run() => done,
    };
    if let Err(error) = done {
        transfer.abandon(options.state.is_some()).await;
        return Err(error);
    }
    let (bad, bad_cut) = transfer.finish().await?;
    if let Some(state) = &options.state {
        let state = state.clone();
        blocking(move || journal::remove(&state)).await?;
    }
    Ok(DownloadReport {
        volume_size,
        bad,
        bad_cut,
    })
}

/// Ends the opening of a target, which happens on a blocking thread: when asked, and when the download itself is dropped.
#[derive(Default)]
struct Stopping(Arc<AtomicBool>);

impl Stopping {
    fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the server says before anything is opened here.
struct Listed {
    walk: Walk,
    changes: Option<Changes>,
    digests: Option<Records>,
}

impl Listed {
    async fn begin(api: &Api, options: &DownloadOptions) -> Result<Listed, Error> {
        let lost = match options.keep_going {
            true => Lost::Skip,
            false => Lost::Fail,
        };
        let walk = Walk::begin(api, &options.snapshot, lost).await?;
        let mut listed = Listed {
            walk,
            changes: None,
            digests: None,
        };
        let Some(base) = &options.base else {
            return Ok(listed);
        };
        if listed.walk.extensions().block_checksums {
            return Ok(listed);
        }
        if base.digests.is_none() && !base.trust {
            return Err(Error::Config(format!(
                "{} lists no checksums, so whether {} holds {} cannot be checked: give its digest file, or say that it is to be trusted",
                api.endpoint(),
                base.path.display(),
                base.snapshot
            )));
        }
        if let Some(path) = &base.digests {
            let (path, snapshot) = (path.clone(), base.snapshot.clone());
            listed.digests = Some(blocking(move || digests_of(&path, &snapshot)).await?);
        }
        listed.changes = Some(Changes::begin(api, &base.snapshot, &options.snapshot).await?);
        Ok(listed)
    }
}

/// Opens target and state.
async fn prepare(
    api: &Api,
    options: &DownloadOptions,
    listed: Listed,
    stopped: Arc<AtomicBool>,
) -> Result<Transfer, Error> {
    let Listed {
        walk,
        changes,
        digests,
    } = listed;
    let volume_size = walk.volume_size();
    let about = About::new(api, options, volume_size)?;
    let (of_blocking, checked) = (options.clone(), walk.extensions().block_checksums);
    let (target, state) = blocking(move || {
        let options = of_blocking;
        open(&options, volume_size, &about, checked, &stopped)
    })
    .await?;
    let work = Arc::new(Work {
        api: api.clone(),
        snapshot: options.snapshot.clone(),
        target,
        lost: match (options.keep_going, &options.base) {
            (false, _) => WhenLost::Fail,
            (true, None) => WhenLost::Zero,
            (true, Some(_)) => WhenLost::Leave,
        },
        local: Arc::new(Semaphore::new(transfer::places())),
        stopped: AtomicBool::new(false),
    });
    let standing = match &options.base {
        None => Standing::Unknown,
        Some(base) => Standing::Base {
            data: DataRuns::new(data_of(Arc::downgrade(&work))),
            digests: digests.map(Lookup::new),
            trusted: match base.trust {
                true => whole_blocks(options),
                false => 0,
            },
        },
    };
    let written = state.written.map(Lookup::new);
    let planner = Planner::new(volume_size.block_count(), standing, written);
    Ok(Transfer::new(work, walk, changes, planner, state.journal))
}

/// Blocks that lie in the target whole. What the snapshot has behind these must be looked at: it may be cut off if it is zeros.
fn whole_blocks(options: &DownloadOptions) -> u32 {
    let blocks = options.bytes.map(|bytes| bytes / BLOCK_BYTES as u64);
    blocks.map_or(u32::MAX, |blocks| u32::try_from(blocks).unwrap_or(u32::MAX))
}

/// Where a target has data. It does not keep the target open.
fn data_of(work: Weak<Work>) -> impl FnMut(u32) -> Result<Option<Extent>, Error> + Send {
    move |from| match work.upgrade() {
        Some(work) => work.target.next_data(from),
        None => Err(Error::Interrupted),
    }
}

/// A state file, if one is wanted.
struct State {
    journal: Option<Journal>,
    written: Option<Records>,
}

/// Opens the target, and the state of an earlier attempt or a new one. `checked` is whether all that is kept of a base is compared
/// with what the server says. Blocking.
fn open(
    options: &DownloadOptions,
    volume_size: VolumeSize,
    about: &About,
    checked: bool,
    stopped: &AtomicBool,
) -> Result<(Target, State), Error> {
    let earlier = match &options.state {
        Some(path) => about.resume(path)?,
        None => None,
    };
    let anew = match &options.base {
        None => Before::Nothing,
        Some(base) => Before::Base(base.path.clone()),
    };
    if let Some(Earlier { journal, written }) = earlier {
        let before = match &options.base {
            None => Before::Partial,
            // The copy of a base that is trusted was perhaps not complete: it is made again.
            Some(base) if checked || base.digests.is_some() || !base.trust => {
                match is_in_place(options) {
                    true => Before::Base(base.path.clone()),
                    false => Before::Partial,
                }
            }
            Some(base) => Before::Base(base.path.clone()),
        };
        match open_target(options, volume_size, before, stopped) {
            Ok(target) => {
                let state = State {
                    journal: Some(journal),
                    written: Some(written),
                };
                return Ok((target, state));
            }
            // What was kept is gone, or is of no use.
            Err(Error::Unfit(reason)) => tracing::warn!(reason, "the download begins anew"),
            Err(error) => return Err(error),
        }
    }
    let target = open_target(options, volume_size, anew, stopped)?;
    let is_stream = target.is_stream();
    let begun = || {
        if is_stream {
            refuse_stream(options)?;
        }
        options
            .state
            .as_deref()
            .map(|path| about.begin(path))
            .transpose()
    };
    match begun() {
        Ok(journal) => {
            let written = None;
            Ok((target, State { journal, written }))
        }
        Err(error) => {
            target.abandon(false);
            Err(error)
        }
    }
}

fn open_target(
    options: &DownloadOptions,
    volume_size: VolumeSize,
    before: Before,
    stopped: &AtomicBool,
) -> Result<Target, Error> {
    let opening = TargetOptions {
        volume_size,
        bytes: options.bytes,
        before,
    };
    Target::open_unless(&options.target, &opening, stopped)
}
