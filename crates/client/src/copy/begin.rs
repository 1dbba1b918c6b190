//! Finds the snapshot to copy to: a new one, one that an interrupted copy left, or a copy that is there already.
//!
//! What a state file leads to:
//! - no snapshot yet: it is started by the same client token, which gives the same snapshot if there is one;
//! - a pending snapshot: the copy goes on;
//! - a completed one: the copy was killed before it could remove its state; it is done;
//! - a failed one, or none any more (timed out, deleted): nothing of it can be used, and the copy begins anew;
//! - a state of another source, destination or base: an error.

use super::counterpart::find;
use super::state::State;
use super::{COPY_OF_TAG, CopyOptions, CopyReport, Prepared};
use crate::api::{Api, SnapshotState, StartSnapshot};
use crate::journal::{Journal, Records};
use crate::tasks::blocking;
use crate::{Error, SnapshotId};
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;
use types::limits::TAGS_MAX;

/// Longest time that deleting a pending copy may take.
const DELETE_TIME_MAX: Duration = Duration::from_secs(30);

/// Minutes without activity after which the destination gives a copy up.
const TIMEOUT_MINUTES: u32 = 60;

/// The same for a copy that someone will go on with, after a weekend perhaps; the longest there is.
const TIMEOUT_MINUTES_RESUMED: u32 = 4_320;

/// A snapshot to copy to.
pub(super) struct Begun {
    pub(super) snapshot: SnapshotId,
    /// On what it is based: at the source, and there.
    pub(super) parent: Option<(SnapshotId, SnapshotId)>,
    pub(super) put_by_digest: bool,
    pub(super) journal: Option<Journal>,
    /// What earlier attempts put.
    pub(super) earlier: Option<Records>,
}

/// What was found.
pub(super) enum Beginning {
    Begun(Box<Begun>),
    /// Nothing is to be done.
    Done(CopyReport),
}

/// Finds or starts the snapshot.
pub(super) async fn begin(
    to: &Api,
    options: &CopyOptions,
    prepared: &Prepared,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<Beginning, Error> {
    let mut state = new_state(to, options, prepared);
    if let Some(path) = options.state.as_deref() {
        if let Some((journal, header)) = resume(path).await? {
            let found = State::decode(&header, path)?;
            found.check(&state, &options.base, path)?;
            match found.snapshot_id() {
                None => state = found,
                Some(snapshot) => match state_of(to, &snapshot).await? {
                    Some(SnapshotState::Pending) => {
                        return go_on(path, journal, found, snapshot).await;
                    }
                    Some(SnapshotState::Completed) => return Ok(done(snapshot, false)),
                    Some(SnapshotState::Error | SnapshotState::Other(_)) | None => {}
                },
            }
        } else if let Some(existing) = existing(options, prepared) {
            return Ok(existing);
        }
        create(path, &state).await?;
    } else if let Some(existing) = existing(options, prepared) {
        return Ok(existing);
    }
    start(to, options, prepared, state, cancel).await
}

/// Deletes a pending copy. That it failed changes nothing for the caller: a pending snapshot ends by its timeout.
pub(super) async fn discard(to: &Api, copy: &SnapshotId) {
    match timeout(DELETE_TIME_MAX, to.delete_snapshot(copy)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the pending copy {copy} could not be deleted: {error}"),
        Err(_) => tracing::warn!("the pending copy {copy} could not be deleted in time"),
    }
}

fn existing(options: &CopyOptions, prepared: &Prepared) -> Option<Beginning> {
    let existing = prepared.existing.as_ref().filter(|_| !options.again)?;
    Some(done(existing.clone(), true))
}

fn done(snapshot: SnapshotId, existed: bool) -> Beginning {
    Beginning::Done(CopyReport {
        snapshot,
        existed,
        parent: None,
        blocks_put: 0,
        completed: true,
    })
}

fn new_state(to: &Api, options: &CopyOptions, prepared: &Prepared) -> State {
    let random = to.random().bytes::<16>();
    let parent = prepared.parent.as_ref();
    State {
        copy_of: prepared.copy_of.clone(),
        endpoint: to.endpoint(),
        parents: parent.map(|(here, there)| (here.to_string(), there.to_string())),
        client_token: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        timeout_minutes: match options.state {
            Some(_) => TIMEOUT_MINUTES_RESUMED,
            None => TIMEOUT_MINUTES,
        },
        snapshot: None,
        put_by_digest: false,
    }
}

async fn start(
    to: &Api,
    options: &CopyOptions,
    prepared: &Prepared,
    mut state: State,
    cancel: &mut (impl Future<Output = ()> + Send + Unpin),
) -> Result<Beginning, Error> {
    let request = start_request(options, prepared, &state)?;
    let mut starting = pin!(to.start_snapshot(&request));
    let started = tokio::select! {
        started = &mut starting => started?,
        () = cancel => {
            // Only the answer names what must be deleted; with a state, the next attempt finds it.
            if options.state.is_none()
                && let Ok(Ok(started)) = timeout(DELETE_TIME_MAX, starting).await
            {
                discard(to, &started.id).await;
            }
            return Err(Error::Interrupted);
        }
    };
    let put_by_digest = started.extensions.put_by_digest;
    let parent = state.parent();
    state.snapshot = Some(started.id.to_string());
    state.put_by_digest = put_by_digest;
    let journal = match options.state.as_deref() {
        Some(path) => Some(create(path, &state).await?),
        None => None,
    };
    Ok(Beginning::Begun(Box::new(Begun {
        snapshot: started.id,
        parent,
        put_by_digest,
        journal,
        earlier: None,
    })))
}

fn start_request(
    options: &CopyOptions,
    prepared: &Prepared,
    state: &State,
) -> Result<StartSnapshot, Error> {
    let source = &prepared.source;
    let volume_size = source.volume_size.ok_or_else(|| {
        Error::Unfit(format!(
            "the source does not tell the size of {}",
            source.id
        ))
    })?;
    let described = Some(source.description.clone()).filter(|text| !text.is_empty());
    Ok(StartSnapshot {
        volume_size,
        parent: state.parent().map(|(_, there)| there),
        description: options.description.clone().or(described),
        tags: tags(&source.tags, &options.tags, &prepared.copy_of)?,
        encrypted: options.encrypted,
        kms_key_arn: options.kms_key_arn.clone(),
        client_token: state.client_token.clone(),
        timeout_minutes: state.timeout_minutes,
    })
}

/// The state of a snapshot; nothing if there is none.
async fn state_of(to: &Api, snapshot: &SnapshotId) -> Result<Option<SnapshotState>, Error> {
    Ok(find(to, snapshot).await?.map(|found| found.state))
}

async fn go_on(
    path: &Path,
    journal: Journal,
    found: State,
    snapshot: SnapshotId,
) -> Result<Beginning, Error> {
    let path = path.to_owned();
    let earlier = blocking(move || Ok(Records::open(&path)?.0)).await?;
    Ok(Beginning::Begun(Box::new(Begun {
        snapshot,
        parent: found.parent(),
        put_by_digest: found.put_by_digest,
        journal: Some(journal),
        earlier: Some(earlier),
    })))
}

async fn resume(path: &Path) -> Result<Option<(Journal, String)>, Error> {
    let path = path.to_owned();
    blocking(move || Journal::resume(&path)).await
}

async fn create(path: &Path, state: &State) -> Result<Journal, Error> {
    let (path, header) = (path.to_owned(), state.encode());
    blocking(move || Journal::create(&path, &header)).await
}

/// The tags of a copy: the source's, those given, and what it is a copy of.
fn tags(
    source: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
    copy_of: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let kept = source.iter().filter(|(key, _)| !key.starts_with("aws:"));
    let mut tags: BTreeMap<String, String> = kept
        .chain(given)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    tags.insert(COPY_OF_TAG.to_owned(), copy_of.to_owned());
    if tags.len() > TAGS_MAX {
        return Err(Error::Unfit(format!(
            "the copy would have {} tags, of which one says what it is a copy of; {} are possible",
            tags.len(),
            TAGS_MAX
        )));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_copy_has_the_tags_of_its_source_those_given_and_its_origin() {
        let source = map(&[
            ("aws:backup", "x"),
            ("Name", "root"),
            ("kept", "1"),
            (COPY_OF_TAG, "1/a/snap-0"),
        ]);
        let given = map(&[("Name", "copy")]);
        let expected = map(&[("Name", "copy"), ("kept", "1"), (COPY_OF_TAG, "2/b/snap-1")]);
        assert_eq!(tags(&source, &given, "2/b/snap-1").unwrap(), expected);
    }

    #[test]
    fn a_source_with_every_tag_leaves_no_room() {
        let full: BTreeMap<String, String> = (0..TAGS_MAX)
            .map(|number| (format!("key{number}"), String::new()))
            .collect();
        assert!(matches!(
            tags(&full, &BTreeMap::new(), "x"),
            Err(Error::Unfit(_))
        ));
    }
}
