//! Finds the snapshot to upload to: a new one, or the one that an interrupted upload left.
//!
//! What a state file leads to:
//! - no snapshot yet: it is started by the same client token, which gives the same snapshot if there is one;
//! - a pending snapshot: the upload goes on;
//! - a completed one: the upload was killed before it could remove its state; it is done;
//! - a failed one, or none any more (timed out, deleted): nothing of it can be used, and the upload begins anew, with a warning;
//! - a state of another source, parent, size or endpoint: an error.

use super::UploadOptions;
use super::collect::SharedJournal;
use super::state::State;
use crate::api::{Api, SnapshotState, StartSnapshot, Started};
use crate::journal::{Journal, Records};
use crate::tasks::blocking;
use crate::wait::describe;
use crate::{Error, SnapshotId};
use std::fmt::Write;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;
use types::{Digest, DigestContext};

/// Longest time for cleaning up after a failure.
const CLEANUP_MAX: Duration = Duration::from_secs(30);

/// A snapshot to upload to.
pub(super) struct Begun {
    pub(super) snapshot: SnapshotId,
    pub(super) put_by_digest: bool,
    /// Whether it is pending for sure, so that deleting it after a failure destroys nothing.
    pub(super) ours: bool,
    pub(super) journal: Option<SharedJournal>,
    /// What earlier attempts put.
    pub(super) earlier: Option<Records>,
}

/// What was found.
pub(super) enum Beginning {
    Begun(Begun),
    Done(Done),
}

/// A snapshot that is completed.
pub(super) struct Done {
    pub(super) snapshot: SnapshotId,
    /// Blocks that were put to it, as far as known.
    pub(super) blocks_put: u32,
    /// The aggregate checksum of these.
    pub(super) aggregate: Digest,
}

/// What a snapshot is now.
enum Now {
    Pending,
    Completed,
    /// In which state.
    Failed(String),
    /// The caller may not ask.
    Unknown,
}

/// Finds or starts the snapshot. `wanted` is the state of a new upload. Pushes what the user should know to `warnings`.
pub(super) async fn begin(
    api: &Api,
    options: &UploadOptions,
    wanted: State,
    warnings: &mut Vec<String>,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<Beginning, Error> {
    let Some(path) = options.state.as_deref() else {
        return start(api, options, &wanted, cancel).await;
    };
    let mut state = wanted;
    if let Some((journal, header)) = resume(path).await? {
        let found = State::decode(&header, path)?;
        found.check(&state, path)?;
        if !found.agrees_with(options.client_token.as_deref()) {
            return Err(Error::Config(format!(
                "{} is the state of an upload with another client token",
                path.display()
            )));
        }
        match found.snapshot_id() {
            None => state = found,
            Some(snapshot) => match now(api, &snapshot).await? {
                Now::Pending | Now::Unknown => {
                    return go_on(path, journal, snapshot, found.put_by_digest).await;
                }
                Now::Completed => return finished(path, snapshot).await,
                Now::Failed(word) if options.client_token.is_some() => {
                    return Err(Error::Config(format!(
                        "{snapshot}, which {} is about, is {word}: remove the file, and give another client token",
                        path.display()
                    )));
                }
                Now::Failed(word) => warnings.push(format!(
                    "{snapshot}, which an earlier attempt left, is {word}: the upload began anew"
                )),
            },
        }
    }
    create(path, &state).await?;
    let beginning = start(api, options, &state, cancel).await?;
    let Beginning::Begun(begun) = beginning else {
        return Ok(beginning);
    };
    state.snapshot = Some(begun.snapshot.to_string());
    state.put_by_digest = begun.put_by_digest;
    let journal = create(path, &state).await?;
    Ok(Beginning::Begun(Begun {
        journal: Some(Arc::new(Mutex::new(journal))),
        ..begun
    }))
}

/// A client token of 128 random bits.
pub(super) fn random_token(api: &Api) -> String {
    let mut token = String::new();
    for byte in api.random().bytes::<16>() {
        write!(token, "{byte:02x}").expect("strings can be written to");
    }
    token
}

/// Deletes a pending snapshot as well as that can be done now.
pub(super) async fn discard(api: &Api, snapshot: &SnapshotId) {
    let why = match timeout(CLEANUP_MAX, api.delete_snapshot(snapshot)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(%snapshot, why, "the pending snapshot could not be deleted; it ends by its timeout");
}

async fn start(
    api: &Api,
    options: &UploadOptions,
    state: &State,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<Beginning, Error> {
    let request = request(options, state)?;
    let mut starting = pin!(api.start_snapshot(&request));
    let started: Started = tokio::select! {
        started = &mut starting => started?,
        () = cancel => {
            // Only the answer names what must be deleted.
            if options.state.is_none()
                && options.client_token.is_none()
                && let Ok(Ok(started)) = timeout(CLEANUP_MAX, starting).await
            {
                discard(api, &started.id).await;
            }
            return Err(Error::Interrupted);
        }
    };
    let snapshot = started.id;
    // A token that was used before gives the snapshot that it gave then.
    let now = match &options.client_token {
        Some(_) => now(api, &snapshot).await?,
        None => Now::Pending,
    };
    let ours = match now {
        Now::Pending => true,
        Now::Unknown => false,
        Now::Completed => {
            return Ok(Beginning::Done(Done {
                snapshot,
                blocks_put: 0,
                aggregate: DigestContext::new().finish(),
            }));
        }
        Now::Failed(word) => {
            return Err(Error::Config(format!(
                "the client token was used for {snapshot}, which is {word}: give another one"
            )));
        }
    };
    Ok(Beginning::Begun(Begun {
        snapshot,
        put_by_digest: started.extensions.put_by_digest,
        ours,
        journal: None,
        earlier: None,
    }))
}

fn request(options: &UploadOptions, state: &State) -> Result<StartSnapshot, Error> {
    let volume_size = types::VolumeSize::from_gib(u64::from(state.volume_gib));
    Ok(StartSnapshot {
        volume_size: volume_size
            .ok_or_else(|| Error::Config(format!("no volume has {} GiB", state.volume_gib)))?,
        parent: options.parent.clone(),
        description: options.description.clone(),
        tags: options.tags.clone(),
        encrypted: options.encrypted,
        kms_key_arn: options.kms_key_arn.clone(),
        client_token: state.client_token.clone(),
        timeout_minutes: state.timeout_minutes,
    })
}

/// What has become of a snapshot.
async fn now(api: &Api, snapshot: &SnapshotId) -> Result<Now, Error> {
    match describe(api, snapshot).await {
        Ok(description) => Ok(match description.state {
            SnapshotState::Pending => Now::Pending,
            SnapshotState::Completed => Now::Completed,
            SnapshotState::Error => Now::Failed(match description.state_message {
                Some(message) => format!("in state error ({message})"),
                None => "in state error".to_owned(),
            }),
            SnapshotState::Other(state) => Now::Failed(format!("in state {state}")),
        }),
        Err(Error::Refused(refusal)) if refusal.code == "InvalidSnapshot.NotFound" => {
            Ok(Now::Failed("gone".to_owned()))
        }
        // Who may upload need not be allowed to describe; what is wrong with the snapshot shows when blocks are put.
        Err(Error::Refused(_)) => Ok(Now::Unknown),
        Err(error) => Err(error),
    }
}

async fn go_on(
    path: &Path,
    journal: Journal,
    snapshot: SnapshotId,
    put_by_digest: bool,
) -> Result<Beginning, Error> {
    Ok(Beginning::Begun(Begun {
        snapshot,
        put_by_digest,
        ours: true,
        journal: Some(Arc::new(Mutex::new(journal))),
        earlier: Some(records(path).await?),
    }))
}

/// What was put to a snapshot that is completed.
async fn finished(path: &Path, snapshot: SnapshotId) -> Result<Beginning, Error> {
    let mut records = records(path).await?;
    blocking(move || {
        let mut blocks_put = 0;
        let mut aggregate = DigestContext::new();
        while let Some((_, digest)) = records.next()? {
            blocks_put += 1;
            aggregate.update(digest.as_bytes());
        }
        Ok(Beginning::Done(Done {
            snapshot,
            blocks_put,
            aggregate: aggregate.finish(),
        }))
    })
    .await
}

async fn resume(path: &Path) -> Result<Option<(Journal, String)>, Error> {
    let path = path.to_owned();
    blocking(move || Journal::resume(&path)).await
}

async fn create(path: &Path, state: &State) -> Result<Journal, Error> {
    let (path, header) = (path.to_owned(), state.encode());
    blocking(move || Journal::create(&path, &header)).await
}

async fn records(path: &Path) -> Result<Records, Error> {
    let path = path.to_owned();
    blocking(move || Ok(Records::open(&path)?.0)).await
}
