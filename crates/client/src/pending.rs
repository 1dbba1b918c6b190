//! A snapshot that is being filled, and the file that makes filling it resumable: what uploads and copies have in common.
//!
//! Safety
//! - A snapshot is deleted only by whoever started it, and only before its completion was asked for; after that, whoever is not sure how
//!   that went looks first, and deletes only what is pending still ([`end_of_failure`]).
//! - While a state file is open, nobody else goes on with it: a file that is written anew is locked before the old one is let go.
//!
//! Failure: what cannot be deleted is pending, and ends by its timeout.

use crate::api::{Api, SnapshotState, StartSnapshot, Started};
use crate::journal::{Journal, Records};
use crate::tasks::blocking;
use crate::wait::describe;
use crate::{Error, SnapshotId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// Longest time for cleaning up after a failure.
const CLEANUP_MAX: Duration = Duration::from_secs(30);

/// Longest timeout of a snapshot, in minutes (SPEC 3.6): for those that someone will go on with, after a weekend perhaps.
pub(crate) const TIMEOUT_MINUTES_MAX: u32 = 4_320;

/// What a snapshot is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Now {
    /// It can be filled, unless its completion was asked for already.
    Pending,
    /// It is done.
    Completed,
    /// In which state.
    Failed(String),
    /// The caller may not ask.
    Unknown,
}

/// What becomes of a snapshot whose start was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GivenUp {
    /// Someone will find it again by its client token.
    Keep,
    /// Nobody can know of it.
    Delete,
}

/// A client token of 128 random bits.
pub(crate) fn random_token(api: &Api) -> String {
    let mut token = String::new();
    for byte in api.random().bytes::<16>() {
        write!(token, "{byte:02x}").expect("strings can be written to");
    }
    token
}

/// Starts a snapshot.
///
/// # Errors
/// [`Error::Interrupted`]: `cancel` ended first; those of the call.
pub(crate) async fn start(
    api: &Api,
    request: &StartSnapshot,
    given_up: GivenUp,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<Started, Error> {
    let mut starting = pin!(api.start_snapshot(request));
    tokio::select! {
        started = &mut starting => started,
        () = cancel => {
            // Only the answer names what must be deleted.
            if given_up == GivenUp::Delete
                && let Ok(Ok(started)) = timeout(CLEANUP_MAX, starting).await
            {
                discard(api, &started.id).await;
            }
            Err(Error::Interrupted)
        }
    }
}

/// What has become of a snapshot.
///
/// # Errors
/// [`Error::Interrupted`]: `cancel` ended first; those of the call, but for refusals.
pub(crate) async fn now(
    api: &Api,
    snapshot: &SnapshotId,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<Now, Error> {
    tokio::select! {
        now = look(api, snapshot) => now,
        () = cancel => Err(Error::Interrupted),
    }
}

/// Deletes a snapshot of which it is sure that nobody asked to complete it, as well as that can be done now.
pub(crate) async fn discard(api: &Api, snapshot: &SnapshotId) {
    let why = match timeout(CLEANUP_MAX, api.delete_snapshot(snapshot)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(%snapshot, why, "the pending snapshot could not be deleted; it ends by its timeout");
}

/// What to answer when completing a snapshot failed or was given up with `error`: the server may have completed it nevertheless. One that
/// it has not is deleted if nobody will go on with it.
pub(crate) async fn end_of_failure(
    api: &Api,
    snapshot: &SnapshotId,
    given_up: GivenUp,
    error: Error,
) -> Error {
    match timeout(CLEANUP_MAX, look(api, snapshot)).await {
        Ok(Ok(Now::Pending)) => {
            if given_up == GivenUp::Delete {
                discard(api, snapshot).await;
            }
            error
        }
        Ok(Ok(Now::Failed(_))) => error,
        // What is not known to be otherwise may be completed.
        Ok(Ok(Now::Completed | Now::Unknown) | Err(_)) | Err(_) => {
            after_completion(snapshot, error)
        }
    }
}

/// An error that says which snapshot has everything.
pub(crate) fn after_completion(snapshot: &SnapshotId, error: Error) -> Error {
    match error {
        // It names the snapshot itself, and has nothing.
        Error::SnapshotFailed { .. } => error,
        source => Error::AfterCompletion {
            snapshot: snapshot.clone(),
            source: Box::new(source),
        },
    }
}

async fn look(api: &Api, snapshot: &SnapshotId) -> Result<Now, Error> {
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
        Err(Error::Refused(refusal))
            if refusal.code == "InvalidSnapshot.NotFound"
                || refusal.code == "InvalidSnapshotID.Malformed" =>
        {
            Ok(Now::Failed("gone".to_owned()))
        }
        // Who may fill a snapshot need not be allowed to describe it; what is wrong with it shows when blocks are put.
        Err(Error::Refused(_)) => Ok(Now::Unknown),
        Err(error) => Err(error),
    }
}

/// Opens a state file to go on: the header of its writer comes with it. Nothing when there is none.
pub(crate) async fn resume(path: &Path) -> Result<Option<(Journal, String)>, Error> {
    let path = path.to_owned();
    blocking(move || Journal::resume(&path)).await
}

/// Begins a state file, in the place of an older one.
pub(crate) async fn create(path: &Path, header: String) -> Result<Journal, Error> {
    let path = path.to_owned();
    blocking(move || Journal::create(&path, &header)).await
}

/// What a state file says was put.
pub(crate) async fn records(path: &Path) -> Result<Records, Error> {
    let path = path.to_owned();
    blocking(move || Ok(Records::open(&path)?.0)).await
}

/// The header of a state file as text.
pub(crate) fn encode(state: &impl Serialize) -> String {
    serde_json::to_string(state).expect("strings and numbers are JSON")
}

/// The header of a state file from its text; `what` is what it should be the state of, as in `an upload`.
///
/// # Errors
/// [`Error::Config`]: it is the header of something else.
pub(crate) fn decode<T: DeserializeOwned>(text: &str, path: &Path, what: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| {
        Error::Config(format!(
            "{} is not the state of {what}: name another file",
            path.display()
        ))
    })
}
