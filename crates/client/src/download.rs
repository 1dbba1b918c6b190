//! Makes a disk of a snapshot.

use crate::api::Api;
use crate::source::Extent;
use crate::target::TargetPath;
use crate::{Error, SnapshotId};
use std::path::PathBuf;
use types::VolumeSize;

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
    /// Whether to go on past blocks that the server has lost.
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
pub async fn download(
    api: &Api,
    options: &DownloadOptions,
    cancel: impl Future<Output = ()> + Send,
) -> Result<DownloadReport, Error> {
    let _ = (api, options, cancel);
    unimplemented!()
}
