//! The header of a copy's state file: what the copy is about, so that it is gone on with only as what it was.
//!
//! It is written twice: before the copy is started, so that a kill between leaves the client token by which the same snapshot is
//! found again, and after, with the snapshot's id.

use super::CopyBase;
use crate::{Error, SnapshotId, pending};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a copy is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The source's account, region and id.
    pub(super) copy_of: String,
    /// The destination.
    pub(super) endpoint: String,
    /// Base at the source, and its counterpart at the destination.
    pub(super) parents: Option<(String, String)>,
    pub(super) client_token: String,
    /// As it was asked for: a repeat of StartSnapshot must say the same (SPEC 3.5).
    pub(super) timeout_minutes: u32,
    /// Nothing before its start was answered.
    pub(super) snapshot: Option<String>,
    /// Whether the destination offered it.
    pub(super) put_by_digest: bool,
}

impl State {
    pub(super) fn encode(&self) -> String {
        pending::encode(self)
    }

    pub(super) fn decode(text: &str, path: &Path) -> Result<State, Error> {
        pending::decode(text, path, "a copy")
    }

    /// The copy, once it was started.
    pub(super) fn snapshot_id(&self) -> Option<SnapshotId> {
        self.snapshot.as_deref()?.parse().ok()
    }

    /// On what the copy is based.
    pub(super) fn parent(&self) -> Option<(SnapshotId, SnapshotId)> {
        let (here, there) = self.parents.as_ref()?;
        Some((here.parse().ok()?, there.parse().ok()?))
    }

    /// Makes sure that this is the state of the copy that `wanted` describes. A nearest base may be another one by now: the copy is
    /// gone on with as it began.
    ///
    /// # Errors
    /// [`Error::Config`]: it is another one's.
    pub(super) fn check(&self, wanted: &State, base: &CopyBase, path: &Path) -> Result<(), Error> {
        let here = |state: &State| match &state.parents {
            Some((here, _)) => here.clone(),
            None => "nothing".to_owned(),
        };
        let mut differences = vec![
            ("source", self.copy_of.clone(), wanted.copy_of.clone()),
            (
                "destination",
                self.endpoint.clone(),
                wanted.endpoint.clone(),
            ),
        ];
        if *base != CopyBase::Nearest {
            differences.push(("base", here(self), here(wanted)));
        }
        match differences.into_iter().find(|(_, own, new)| own != new) {
            None => Ok(()),
            Some((what, own, new)) => Err(Error::Config(format!(
                "{} is the state of another copy: its {what} is {own}, not {new}; finish that one, or remove the file",
                path.display()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            copy_of: "1/a/snap-01".to_owned(),
            endpoint: "http://127.0.0.1:1".to_owned(),
            parents: Some(("snap-02".to_owned(), "snap-03".to_owned())),
            client_token: "token".to_owned(),
            timeout_minutes: 60,
            snapshot: Some("snap-04".to_owned()),
            put_by_digest: true,
        }
    }

    #[test]
    fn states_are_read_as_written() {
        let path = Path::new("state");
        assert_eq!(State::decode(&state().encode(), path).unwrap(), state());
        assert_eq!(state().snapshot_id(), Some("snap-04".parse().unwrap()));
        for other in ["{}", "", r#"{"upload_of":"x"}"#] {
            let error = State::decode(other, path).unwrap_err();
            assert!(matches!(error, Error::Config(_)));
        }
    }

    #[test]
    fn the_state_of_another_copy_is_refused() {
        let named = CopyBase::Snapshot("snap-02".parse().unwrap());
        let check = |change: fn(&mut State), base: &CopyBase, word: &str| {
            let mut other = state();
            change(&mut other);
            match state().check(&other, base, Path::new("state")) {
                Ok(()) => assert!(word.is_empty(), "{other:?}"),
                Err(error) => assert!(error.to_string().contains(word), "{error}"),
            }
        };
        check(|state| state.client_token.clear(), &named, "");
        check(|state| state.copy_of.push('3'), &named, "its source is");
        check(
            |state| state.endpoint.push('3'),
            &named,
            "its destination is",
        );
        check(|state| state.parents = None, &CopyBase::Nearest, "");
        check(
            |state| state.parents = None,
            &CopyBase::Nothing,
            "its base is snap-02, not nothing",
        );
    }
}
