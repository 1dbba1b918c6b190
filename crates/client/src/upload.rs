//! Makes a snapshot of a disk, and sends only what the server does not have.
//!
//! Steps, and what a kill after each leaves behind:
//! 1. The source is opened, the parent's listing begun, the volume's size chosen (`upload/parent.rs`): nothing.
//! 2. The snapshot is started, or found again (`upload/begin.rs`, `upload/state.rs`): a pending snapshot, and with a state file what leads
//!    to it, even when the answer was not seen.
//! 3. Every block that may differ from what the snapshot holds is looked at, and put where it does (`upload/transfer.rs`): what was
//!    acknowledged is in the state file, and is not sent again; what was on its way is marked there, and is sent again.
//! 4. The source is looked at again: it must have kept its length; a warning tells when it was written to meanwhile.
//! 5. The snapshot is completed with the count and aggregate checksum of what was put: a repeat says the same again, which is harmless.
//! 6. The state file is removed, and the digest file gets its name. A kill before leaves a state of a completed snapshot, which is never
//!    taken for a later upload.
//! 7. If wanted, it is waited for; also with a client token of the caller's, because others may have put what is not known here.
//!
//! Failure
//! - A failure or cancel before step 5 ends with the pending snapshot deleted, as well as that can be done then. It is kept with a state
//!   file, to go on with, and with a client token of the caller's, by which others may fill it too.
//! - In step 5 the server may have done what it did not answer: only what is pending still is deleted.
//! - A snapshot that was completed, or that failed on the server, is never deleted. What fails after step 5 names it
//!   ([`Error::AfterCompletion`]).
//! - A snapshot that is completed with another count or checksum than it has, because of damage on the way or a state file that lost
//!   records to a crash of this machine, ends in the state `error`, which [`crate::wait`] tells.

mod begin;
mod collect;
mod decide;
mod parent;
mod plan;
pub(crate) mod probe;
mod read;
mod send;
mod state;
mod transfer;

use crate::api::Api;
use crate::journal::{DigestFile, DigestHeader, check_distinct, check_replaceable};
use crate::pending::{
    GivenUp, TIMEOUT_MINUTES_MAX, after_completion, discard, end_of_failure, random_token,
};
use crate::source::{Source, SourceOptions, SourcePath};
use crate::tasks::blocking;
use crate::wait::wait_until_completed;
use crate::{Error, SnapshotId};
use begin::{Beginning, Begun};
use collect::SharedJournal;
use parent::Parent;
use state::State;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use transfer::Transfer;
use types::{BLOCK_BYTES, BLOCKS_PER_GIB, Digest, DigestContext, VolumeSize};

/// Bytes of a GiB of a volume.
const GIB: u64 = BLOCKS_PER_GIB as u64 * BLOCK_BYTES as u64;

/// Least timeout of a snapshot that is asked for, in minutes.
const TIMEOUT_MINUTES_MIN: u64 = 60;

/// How fast a source is read at least, in bytes per minute: an incremental upload may put nothing for as long as that takes.
const READ_PER_MINUTE_MIN: u64 = 50_000_000 * 60;

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
    /// Whether an earlier upload with the same client token had completed it. What that put is not known, and nothing was put now.
    pub done_before: bool,
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

/// Uploads. When `cancel` ends first, or on failure, the pending snapshot is deleted, unless its state is kept, or the caller gave its
/// client token.
///
/// # Errors
/// [`Error::Config`]: options that do not fit together, or a state file that is another upload's; [`Error::Unfit`]: a source larger
/// than the volume, or changed in length; [`Error::SnapshotFailed`]: waited for in vain; [`Error::AfterCompletion`]: what follows the
/// completion failed or was given up; [`Error::Interrupted`]; those of the calls.
pub async fn upload(
    api: &Api,
    options: &UploadOptions,
    cancel: impl Future<Output = ()> + Send,
) -> Result<UploadReport, Error> {
    let mut cancel = pin!(cancel);
    let mut prepared = tokio::select! {
        prepared = Prepared::new(api, options) => prepared?,
        () = &mut cancel => return Err(Error::Interrupted),
    };
    let state = prepared.state(api, options);
    let begun = match begin::begin(api, options, state, &mut prepared.warnings, &mut cancel).await?
    {
        Beginning::Begun(begun) => begun,
        Beginning::Done(snapshot) => return Ok(prepared.report_of_done(snapshot)),
    };
    let (snapshot, given_up) = (begun.snapshot.clone(), begun.given_up);
    let journal = begun.journal.clone();
    let (report, digests) = match prepared.send(api, options, begun, &mut cancel).await {
        Ok(sent) => sent,
        Err(error) => {
            if given_up == GivenUp::Delete {
                discard(api, &snapshot).await;
            }
            return Err(error);
        }
    };
    let completed = tokio::select! {
        completed = api.complete_snapshot(&snapshot, report.blocks_put, report.aggregate) => completed,
        () = &mut cancel => Err(Error::Interrupted),
    };
    if let Err(error) = completed {
        return Err(end_of_failure(api, &snapshot, given_up, error).await);
    }
    match finish(api, options, report, digests, journal, &mut cancel).await {
        Err(error) => Err(after_completion(&snapshot, error)),
        report => report,
    }
}

/// Steps 6 and 7.
async fn finish(
    api: &Api,
    options: &UploadOptions,
    mut report: UploadReport,
    digests: Option<DigestFile>,
    journal: Option<SharedJournal>,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<UploadReport, Error> {
    blocking(move || {
        // First of all, so that no later upload of the source goes on with a snapshot that is complete.
        if let Some(journal) = journal {
            let journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.remove()?;
        }
        digests.map_or(Ok(()), DigestFile::finish)
    })
    .await?;
    if options.wait || options.client_token.is_some() {
        match wait_until_completed(api, &report.snapshot, cancel).await {
            Ok(_) => report.completed = true,
            Err(Error::Refused(refusal)) if !options.wait => report.warnings.push(format!(
                "whether {} is completed cannot be told: {refusal}",
                report.snapshot
            )),
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// What is known before a snapshot is started.
struct Prepared {
    source: Arc<Source>,
    parent: Option<Parent>,
    known_by: ParentKnownBy,
    volume_size: VolumeSize,
    digests: Option<PathBuf>,
    warnings: Vec<String>,
}

impl Prepared {
    async fn new(api: &Api, options: &UploadOptions) -> Result<Prepared, Error> {
        let (path, reading) = (options.source.clone(), options.reading.clone());
        let (digests, state) = (options.digests.clone(), options.state.clone());
        let source = blocking(move || {
            // Found out before anything is sent, not at the end.
            if let Some(digests) = &digests {
                check_replaceable(digests)?;
                if let Some(state) = &state {
                    check_distinct(state, digests)?;
                }
            }
            Source::open(&path, &reading)
        })
        .await?;
        let mut warnings = Vec::new();
        let parent = match &options.parent {
            Some(id) => {
                let digests = options.digests.as_deref();
                Some(Parent::open(api, id, digests, &mut warnings).await?)
            }
            None => None,
        };
        let at_least = parent.as_ref().map(Parent::volume_size);
        Ok(Prepared {
            volume_size: volume_size(source.bytes(), options.volume_size, at_least)?,
            source: Arc::new(source),
            known_by: parent
                .as_ref()
                .map_or(ParentKnownBy::NoParent, Parent::known_by),
            parent,
            digests: options.digests.clone(),
            warnings,
        })
    }

    /// The state of an upload that begins now.
    fn state(&self, api: &Api, options: &UploadOptions) -> State {
        let bytes = match self.source.bytes() {
            Some(bytes) => bytes,
            None => u64::from(self.volume_size.gib()) * GIB,
        };
        State {
            upload_of: self.source.identity(),
            endpoint: api.realm(),
            parent: options.parent.as_ref().map(SnapshotId::to_string),
            volume_gib: self.volume_size.gib(),
            client_token: match &options.client_token {
                Some(token) => token.clone(),
                None => random_token(api),
            },
            asked: asked(options),
            timeout_minutes: match &options.state {
                Some(_) => TIMEOUT_MINUTES_MAX,
                None => timeout_minutes(bytes),
            },
            snapshot: None,
            put_by_digest: false,
        }
    }

    /// Steps 3 and 4. Answers a digest file that is complete but for its name.
    async fn send(
        self,
        api: &Api,
        options: &UploadOptions,
        begun: Begun,
        cancel: &mut (impl Future<Output = ()> + Send + Unpin),
    ) -> Result<(UploadReport, Option<DigestFile>), Error> {
        let Begun {
            snapshot,
            put_by_digest,
            given_up: _,
            journal,
            earlier,
        } = begun;
        let header = DigestHeader {
            snapshot: snapshot.clone(),
            volume_size: self.volume_size,
        };
        let digests = match options.digests.clone() {
            Some(path) => {
                let create = move || DigestFile::create(&path, &header.encode());
                Some(blocking(create).await?)
            }
            None => None,
        };
        let transfer = Transfer {
            snapshot: snapshot.clone(),
            volume_size: self.volume_size,
            put_by_digest,
            source: Arc::clone(&self.source),
            parent: self.parent,
            earlier,
            journal,
            digests,
        };
        let summary = transfer.run(api, cancel).await?;
        let mut warnings = self.warnings;
        // Whoever writes to a pipe may have died: its end is all that is seen of that here.
        if let Some(bytes) = self.source.bytes_streamed()
            && bytes < u64::from(self.volume_size.gib()) * GIB
        {
            warnings.push(format!(
                "the stream ended after {bytes} bytes; the rest of the volume is zeros"
            ));
        }
        let source = Arc::clone(&self.source);
        if blocking(move || source.was_modified()).await? {
            warnings.push(
                "the source was written to while it was read: the snapshot may hold what it never held at one time"
                    .to_owned(),
            );
        }
        let report = UploadReport {
            snapshot,
            volume_size: self.volume_size,
            done_before: false,
            blocks_put: summary.count,
            aggregate: summary.aggregate,
            parent_known_by: self.known_by,
            completed: false,
            warnings,
        };
        Ok((report, summary.digests))
    }

    fn report_of_done(self, snapshot: SnapshotId) -> UploadReport {
        let mut warnings = self.warnings;
        warnings.push(format!(
            "{snapshot} was completed by an earlier attempt; the source was not read again"
        ));
        if let Some(path) = &self.digests {
            warnings.push(format!("{} was not written", path.display()));
        }
        UploadReport {
            snapshot,
            volume_size: self.volume_size,
            done_before: true,
            blocks_put: 0,
            aggregate: DigestContext::new().finish(),
            parent_known_by: self.known_by,
            completed: true,
            warnings,
        }
    }
}

/// What is asked for of a snapshot beside its size and parent, in brief.
fn asked(options: &UploadOptions) -> String {
    let asked = serde_json::json!([
        options.description,
        options.tags,
        options.encrypted,
        options.kms_key_arn
    ]);
    Digest::of(asked.to_string().as_bytes()).to_string()
}

/// The size of the volume: what is wanted, else what source and parent need.
fn volume_size(
    source_bytes: Option<u64>,
    wanted: Option<VolumeSize>,
    parent: Option<VolumeSize>,
) -> Result<VolumeSize, Error> {
    if let (Some(wanted), Some(parent)) = (wanted, parent)
        && wanted < parent
    {
        return Err(Error::Config(format!(
            "a volume of {} GiB is smaller than its parent's of {} GiB",
            wanted.gib(),
            parent.gib()
        )));
    }
    let Some(bytes) = source_bytes else {
        return wanted.or(parent).ok_or_else(|| {
            Error::Config(
                "how long a stream is shows only at its end: say the volume's size in GiB"
                    .to_owned(),
            )
        });
    };
    let needed = VolumeSize::from_gib(bytes.div_ceil(GIB).max(1)).ok_or_else(|| {
        Error::Unfit(format!(
            "the source has {bytes} bytes, more than 64 TiB, the largest volume"
        ))
    })?;
    match wanted {
        None => Ok(parent.map_or(needed, |parent| parent.max(needed))),
        Some(wanted) if wanted < needed => Err(Error::Unfit(format!(
            "the source has {bytes} bytes: a volume of {} GiB is too small, {} GiB would do",
            wanted.gib(),
            needed.gib()
        ))),
        Some(wanted) => Ok(wanted),
    }
}

/// Minutes without activity after which the server may give the upload up: more than reading everything without a single
/// difference takes, as far as that is allowed.
fn timeout_minutes(bytes: u64) -> u32 {
    let minutes = TIMEOUT_MINUTES_MIN + bytes.div_ceil(READ_PER_MINUTE_MIN);
    minutes.min(u64::from(TIMEOUT_MINUTES_MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_hold_source_and_parent() {
        let gib = |gib| VolumeSize::from_gib(gib);
        let check = |bytes, wanted, parent, expected: Option<u64>| {
            let size = volume_size(bytes, wanted, parent).ok();
            assert_eq!(
                size,
                expected.and_then(gib),
                "{bytes:?} {wanted:?} {parent:?}"
            );
        };
        check(Some(0), None, None, Some(1));
        check(Some(GIB), None, None, Some(1));
        check(Some(GIB + 1), None, None, Some(2));
        check(Some(GIB + 1), None, gib(1), Some(2));
        check(Some(GIB + 1), None, gib(5), Some(5));
        check(Some(GIB + 1), gib(1), None, None);
        check(Some(GIB + 1), gib(2), None, Some(2));
        check(Some(GIB), gib(2), gib(3), None);
        check(Some(GIB), gib(3), gib(3), Some(3));
        check(Some(65_536 * GIB), None, None, Some(65_536));
        check(Some(65_536 * GIB + 1), None, None, None);
        check(None, None, None, None);
        check(None, gib(2), None, Some(2));
        check(None, None, gib(2), Some(2));
        check(None, gib(1), gib(2), None);
    }

    #[test]
    fn slow_reading_is_no_inactivity() {
        assert_eq!(timeout_minutes(0), 60);
        assert_eq!(timeout_minutes(GIB), 61);
        assert_eq!(timeout_minutes(1024 * GIB), 60 + 367);
        assert_eq!(timeout_minutes(65_536 * GIB), 4_320);
    }
}
