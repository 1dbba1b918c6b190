//! The header of an upload's state file: what the upload is about, so that it is gone on with only as what it was.
//!
//! It is written twice: before the snapshot is started, so that a kill between leaves the client token by which the same snapshot is
//! found again, and after, with the snapshot's id.

use crate::{Error, SnapshotId, pending};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What an upload is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Identity of the source.
    pub(super) upload_of: String,
    pub(super) endpoint: String,
    pub(super) parent: Option<String>,
    pub(super) volume_gib: u32,
    pub(super) client_token: String,
    /// Digest of what else is asked for of the snapshot: description, tags, encryption. A repeat of StartSnapshot must say the same, and
    /// one that was started keeps what it has.
    pub(super) asked: String,
    /// As it was asked for: a repeat of StartSnapshot must say the same (SPEC 3.5).
    pub(super) timeout_minutes: u32,
    /// Nothing before its start was answered.
    pub(super) snapshot: Option<String>,
    /// Whether the server offered it.
    pub(super) put_by_digest: bool,
}

impl State {
    pub(super) fn encode(&self) -> String {
        pending::encode(self)
    }

    pub(super) fn decode(text: &str, path: &Path) -> Result<State, Error> {
        pending::decode(text, path, "an upload")
    }

    /// The snapshot, once it was started.
    pub(super) fn snapshot_id(&self) -> Option<SnapshotId> {
        self.snapshot.as_deref()?.parse().ok()
    }

    /// Makes sure that this is the state of the upload that `wanted` describes.
    ///
    /// # Errors
    /// [`Error::Config`]: it is another one's.
    pub(super) fn check(&self, wanted: &State, path: &Path) -> Result<(), Error> {
        let gib = |state: &State| format!("{} GiB", state.volume_gib);
        let parent = |state: &State| state.parent.clone().unwrap_or_else(|| "none".to_owned());
        let differences = [
            ("source", self.upload_of.clone(), wanted.upload_of.clone()),
            ("endpoint", self.endpoint.clone(), wanted.endpoint.clone()),
            ("parent", parent(self), parent(wanted)),
            ("volume size", gib(self), gib(wanted)),
        ];
        match differences.into_iter().find(|(_, own, new)| own != new) {
            None if self.asked != wanted.asked => Err(Error::Config(format!(
                "{} is the state of an upload with another description, other tags or another encryption; finish that one, or remove the file",
                path.display()
            ))),
            None => Ok(()),
            Some((what, own, new)) => Err(Error::Config(format!(
                "{} is the state of another upload: its {what} is {own}, not {new}; finish that one, or remove the file",
                path.display()
            ))),
        }
    }

    /// Whether a token that the user gives, if any, is the one that was used.
    pub(super) fn agrees_with(&self, client_token: Option<&str>) -> bool {
        client_token.is_none_or(|token| token == self.client_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            upload_of: "file /disk.img 1 2".to_owned(),
            endpoint: "http://127.0.0.1:1".to_owned(),
            parent: None,
            volume_gib: 1,
            client_token: "token".to_owned(),
            asked: "a".to_owned(),
            timeout_minutes: 60,
            snapshot: Some("snap-01".to_owned()),
            put_by_digest: true,
        }
    }

    #[test]
    fn states_are_read_as_written() {
        let path = Path::new("state");
        assert_eq!(State::decode(&state().encode(), path).unwrap(), state());
        assert_eq!(state().snapshot_id(), Some("snap-01".parse().unwrap()));
        for other in ["{}", "", r#"{"digests_of":"snap-01","volume_gib":1}"#] {
            let error = State::decode(other, path).unwrap_err();
            assert!(matches!(error, Error::Config(_)));
        }
    }

    #[test]
    fn the_state_of_another_upload_is_refused() {
        let path = Path::new("state");
        let check = |change: fn(&mut State), word: &str| {
            let mut other = state();
            change(&mut other);
            match state().check(&other, path) {
                Ok(()) => assert!(word.is_empty(), "{other:?}"),
                Err(error) => assert!(error.to_string().contains(word), "{error}"),
            }
        };
        check(|state| state.client_token.clear(), "");
        check(|state| state.snapshot = None, "");
        check(|state| state.upload_of.push('3'), "its source is");
        check(|state| state.endpoint.push('3'), "its endpoint is");
        check(
            |state| state.parent = Some("snap-02".to_owned()),
            "its parent is none, not snap-02",
        );
        check(|state| state.asked.push('3'), "other tags");
        check(|state| state.volume_gib = 2, "1 GiB, not 2 GiB");
    }
}
