//! Makes a snapshot of a disk, and sends only what the server does not have.

use crate::api::Api;
use crate::source::{SourceOptions, SourcePath};
use crate::{Error, SnapshotId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use types::{Digest, VolumeSize};

/// What to upload, and how.
#[derive(Clone, Debug)]
pub struct UploadOptions {
    /// What is read.
    pub source: SourcePath,
    /// How it is read.
    pub reading: SourceOptions,
    /// The snapshot that the new one is based on.
    pub parent: Option<SnapshotId>,
    /// Size of the volume; the source's, rounded up, and at least the parent's, if not given.
    pub volume_size: Option<VolumeSize>,
    /// 1 to 255 characters.
    pub description: Option<String>,
    /// Keys and values.
    pub tags: BTreeMap<String, String>,
    /// Whether to encrypt; the server's default if not said.
    pub encrypted: Option<bool>,
    /// The key's ARN.
    pub kms_key_arn: Option<String>,
    /// Makes repeats of the whole upload harmless.
    pub client_token: Option<String>,
    /// The digest file: read when the parent's checksums cannot be listed, written at the end.
    pub digests: Option<PathBuf>,
    /// The file that makes an interrupted upload resumable, when that is wanted.
    pub state: Option<PathBuf>,
    /// Whether to wait until the snapshot is completed.
    pub wait: bool,
}

/// How an incremental upload learned what the parent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParentKnownBy {
    /// There is no parent.
    NoParent,
    /// The server listed checksums.
    Checksums,
    /// A digest file of the last upload.
    DigestFile,
    /// Its blocks were read.
    Reading,
}

/// What came of an upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Size of its volume.
    pub volume_size: VolumeSize,
    /// Blocks put: moved, by digest, or as zeros.
    pub blocks_put: u32,
    /// The aggregate checksum of these.
    pub aggregate: Digest,
    /// How the parent's content was known.
    pub parent_known_by: ParentKnownBy,
    /// Whether it was seen completed.
    pub completed: bool,
    /// What the user should know, such as that the source was modified while it was read.
    pub warnings: Vec<String>,
}

/// Uploads. When `cancel` ends first, or on failure, the pending snapshot is deleted, unless its state is kept.
pub async fn upload(
    api: &Api,
    options: &UploadOptions,
    cancel: impl Future<Output = ()> + Send,
) -> Result<UploadReport, Error> {
    let _ = (api, options, cancel);
    unimplemented!()
}
