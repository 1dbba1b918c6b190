//! Finds the snapshot to upload to: a new one, or the one that an interrupted upload left.
//!
//! What a state file leads to:
//! - no snapshot yet: it is started by the same client token, which gives the same snapshot if there is one;
//! - a pending snapshot: the upload goes on;
//! - a completed one: an earlier upload was killed before it could remove its state, and the source may have changed since. The upload
//!   begins anew, with a warning; only who gave the client token said that it is the same upload, and it is done;
//! - a failed one, or none any more (timed out, deleted): nothing of it can be used, and the upload begins anew, with a warning;
//! - a state of another source, parent, size or endpoint: an error.

use super::UploadOptions;
use super::collect::SharedJournal;
use super::state::State;
use crate::api::{Api, StartSnapshot};
use crate::journal::{Journal, Records};
use crate::pending::{self, GivenUp, Now, create, now, records, resume};
use crate::tasks::blocking;
use crate::{Error, SnapshotId};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A snapshot to upload to.
pub(super) struct Begun {
    pub(super) snapshot: SnapshotId,
    pub(super) put_by_digest: bool,
    /// What becomes of it after a failure. It is kept for who has its state, and where the caller gave the client token: then others,
    /// who gave the same, may fill it as well.
    pub(super) given_up: GivenUp,
    pub(super) journal: Option<SharedJournal>,
    /// What earlier attempts put.
    pub(super) earlier: Option<Records>,
}

/// What was found.
pub(super) enum Beginning {
    Begun(Begun),
    /// The snapshot of the caller's client token is completed; nothing is to be done.
    Done(SnapshotId),
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
    // An open file is locked: one is let go only when the next stands in its place.
    let mut held = None;
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
            Some(snapshot) => match now(api, &snapshot, cancel).await? {
                Now::Pending | Now::Unknown => {
                    return go_on(path, journal, snapshot, found.put_by_digest).await;
                }
                Now::Completed if options.client_token.is_some() => {
                    blocking(move || journal.remove()).await?;
                    return Ok(Beginning::Done(snapshot));
                }
                Now::Completed => warnings.push(format!(
                    "{snapshot}, which an earlier attempt left, is completed: the upload began anew"
                )),
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
        held = Some(journal);
    }
    let before = create(path, state.encode()).await?;
    drop(held);
    let begun = match start(api, options, &state, cancel).await? {
        Beginning::Begun(begun) => begun,
        done => {
            blocking(move || before.remove()).await?;
            return Ok(done);
        }
    };
    state.snapshot = Some(begun.snapshot.to_string());
    state.put_by_digest = begun.put_by_digest;
    let journal = create(path, state.encode()).await?;
    drop(before);
    Ok(Beginning::Begun(Begun {
        journal: Some(Arc::new(Mutex::new(journal))),
        ..begun
    }))
}

async fn start(
    api: &Api,
    options: &UploadOptions,
    state: &State,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<Beginning, Error> {
    let given_up = match (&options.state, &options.client_token) {
        (None, None) => GivenUp::Delete,
        _ => GivenUp::Keep,
    };
    let started = pending::start(api, &request(options, state)?, given_up, cancel).await?;
    let snapshot = started.id;
    // A token that was used before gives the snapshot that it gave then.
    let now = match &options.client_token {
        Some(_) => now(api, &snapshot, cancel).await?,
        None => Now::Pending,
    };
    match now {
        Now::Pending | Now::Unknown => {}
        Now::Completed => return Ok(Beginning::Done(snapshot)),
        Now::Failed(word) => {
            return Err(Error::Config(format!(
                "the client token was used for {snapshot}, which is {word}: give another one"
            )));
        }
    }
    Ok(Beginning::Begun(Begun {
        snapshot,
        put_by_digest: started.extensions.put_by_digest,
        given_up,
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

async fn go_on(
    path: &Path,
    journal: Journal,
    snapshot: SnapshotId,
    put_by_digest: bool,
) -> Result<Beginning, Error> {
    Ok(Beginning::Begun(Begun {
        snapshot,
        put_by_digest,
        given_up: GivenUp::Keep,
        journal: Some(Arc::new(Mutex::new(journal))),
        earlier: Some(records(path).await?),
    }))
}
