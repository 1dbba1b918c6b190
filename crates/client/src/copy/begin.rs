//! Finds the snapshot to copy to: a new one, one that an interrupted copy left, or a copy that is there already.
//!
//! What a state file leads to:
//! - no snapshot yet: it is started by the same client token, which gives the same snapshot if there is one;
//! - a pending snapshot: the copy goes on;
//! - a completed one: the copy was killed before it could remove its state; it is done;
//! - a failed one, or none any more (timed out, deleted): nothing of it can be used, and the copy begins anew;
//! - a state of another source, destination or base: an error.

use super::state::State;
use super::{COPY_OF_TAG, CopyOptions, CopyReport, Prepared};
use crate::api::{Api, StartSnapshot};
use crate::journal::{Journal, Records};
use crate::pending::{self, Now, TIMEOUT_MINUTES_MAX, create, now, random_token, records, resume};
use crate::{Error, SnapshotId};
use std::collections::BTreeMap;
use std::path::Path;
use types::limits::TAGS_MAX;

/// Minutes without activity after which the destination gives a copy up that nobody can go on with.
const TIMEOUT_MINUTES: u32 = 60;

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
    let Some(path) = options.state.as_deref() else {
        return match existing(options, prepared) {
            Some(existing) => Ok(existing),
            None => start(to, options, prepared, state, cancel).await,
        };
    };
    // An open file is locked: one is let go only when the next stands in its place.
    let mut held = None;
    let mut anew = true;
    if let Some((journal, header)) = resume(path).await? {
        let found = State::decode(&header, path)?;
        found.check(&state, &options.base, path)?;
        match found.snapshot_id() {
            None => {
                anew = false;
                state = found;
            }
            Some(snapshot) => match now(to, &snapshot, cancel).await? {
                Now::Pending | Now::Unknown => return go_on(path, journal, found, snapshot).await,
                Now::Completed => return Ok(done(snapshot, false)),
                Now::Failed(word) => tracing::warn!(
                    "{snapshot}, which an earlier attempt left, is {word}: the copy begins anew"
                ),
            },
        }
        held = Some(journal);
    }
    if anew && let Some(existing) = existing(options, prepared) {
        return Ok(existing);
    }
    let before = create(path, state.encode()).await?;
    drop(held);
    let beginning = start(to, options, prepared, state, cancel).await;
    drop(before);
    beginning
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
    let parent = prepared.parent.as_ref();
    State {
        copy_of: prepared.copy_of.clone(),
        endpoint: to.realm(),
        parents: parent.map(|(here, there)| (here.to_string(), there.to_string())),
        client_token: random_token(to),
        timeout_minutes: match options.state {
            Some(_) => TIMEOUT_MINUTES_MAX,
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
    let started = pending::start(to, &request, options.given_up(), cancel).await?;
    let put_by_digest = started.extensions.put_by_digest;
    let parent = state.parent();
    state.snapshot = Some(started.id.to_string());
    state.put_by_digest = put_by_digest;
    let journal = match options.state.as_deref() {
        Some(path) => Some(create(path, state.encode()).await?),
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

async fn go_on(
    path: &Path,
    journal: Journal,
    found: State,
    snapshot: SnapshotId,
) -> Result<Beginning, Error> {
    let earlier = records(path).await?;
    Ok(Beginning::Begun(Box::new(Begun {
        snapshot,
        parent: found.parent(),
        put_by_digest: found.put_by_digest,
        journal: Some(journal),
        earlier: Some(earlier),
    })))
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
