//! Where the state of an interrupted transfer is kept, unless the user says otherwise: one file for each thing that is done.
//!
//! ```text
//! ${XDG_STATE_HOME:-$HOME/.local/state}/drystone/uploads/<hash of realm, source, parent>
//!                                              /downloads/<hash of realm, snapshot, target>
//!                                              /copies/<hash of realm, snapshot, realm>
//! ```
//!
//! A realm is a server as seen by an account in a region ([`client::api::Api::realm`]). The name only finds the file again. Whether what stands in it fits is the library's to decide.

use anyhow::{Context, bail};
use client::config::Environment;
use std::fs;
use std::path::{Path, PathBuf, absolute};
use types::Digest;

/// What is resumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `drystone upload`.
    Upload,
    /// `drystone download`.
    Download,
    /// `drystone copy`.
    Copy,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Kind::Upload => "uploads",
            Kind::Download => "downloads",
            Kind::Copy => "copies",
        }
    }
}

/// The file for what these words are about, in a directory that exists.
pub fn default_file(
    environment: &Environment,
    kind: Kind,
    about: &[&str],
) -> anyhow::Result<PathBuf> {
    let directory = home(environment)?.join("drystone").join(kind.folder());
    fs::create_dir_all(&directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    Ok(directory.join(name(about)))
}

/// A path as it is known from everywhere, for words about it.
pub fn from_everywhere(path: &Path) -> anyhow::Result<String> {
    let path = absolute(path).with_context(|| format!("{} is no path", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

fn home(environment: &Environment) -> anyhow::Result<PathBuf> {
    let set = environment.get("XDG_STATE_HOME").map(PathBuf::from);
    // What is relative there is to be ignored, says the XDG specification.
    if let Some(home) = set.filter(|home| home.is_absolute()) {
        return Ok(home);
    }
    match environment.get("HOME") {
        Some(home) => Ok(Path::new(home).join(".local/state")),
        None => bail!("neither XDG_STATE_HOME nor HOME is set: say where with --state FILE"),
    }
}

/// Sixteen bytes are enough for names that nobody attacks.
fn name(about: &[&str]) -> String {
    let mut bytes = Vec::new();
    for word in about {
        bytes.extend_from_slice(&(word.len() as u64).to_le_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    Digest::of(&bytes).as_bytes()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::remote::{RequestArgs, ServerArgs, connect};

    #[test]
    fn the_home_of_states_is_that_of_xdg() {
        let check = |variables: &[(&str, &str)], expected: Option<&str>| {
            let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let environment = Environment::new(variables.iter().map(text));
            assert_eq!(home(&environment).ok(), expected.map(PathBuf::from));
        };
        check(&[("HOME", "/h")], Some("/h/.local/state"));
        check(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")], Some("/s"));
        check(
            &[("HOME", "/h"), ("XDG_STATE_HOME", "s")],
            Some("/h/.local/state"),
        );
        check(&[], None);
    }

    #[test]
    fn another_path_region_or_caller_is_another_realm() {
        let realm = |changes: &[(&str, &str)]| {
            let usual = [
                ("AWS_ENDPOINT_URL", "https://disks.example:8443/a"),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "x"),
            ];
            let both = usual.iter().chain(changes);
            let environment =
                Environment::new(both.map(|(name, value)| ((*name).into(), (*value).into())));
            let (server, requests) = (ServerArgs::default(), RequestArgs::default());
            connect(&server, &requests, &environment)
                .expect("a server")
                .realm()
        };
        assert_eq!(
            realm(&[]),
            "https://disks.example:8443/a in eu-west-1 with access key AKIAIOSFODNN7EXAMPLE"
        );
        for other in [
            ("AWS_ENDPOINT_URL", "https://disks.example:8443/b"),
            ("AWS_REGION", "eu-west-2"),
            ("AWS_ACCESS_KEY_ID", "AKIAI44QH8DHBEXAMPLE"),
        ] {
            assert_ne!(realm(&[]), realm(&[other]), "{other:?}");
        }
        // Temporary keys are others every hour, for the same caller.
        let session = |key| realm(&[("AWS_ACCESS_KEY_ID", key), ("AWS_SESSION_TOKEN", key)]);
        assert_eq!(
            session("ASIAIOSFODNN7EXAMPLE"),
            session("ASIAI44QH8DHBEXAMPLE")
        );
    }

    #[test]
    fn other_words_have_another_name() {
        assert_eq!(name(&["a", "b"]), name(&["a", "b"]));
        assert_ne!(name(&["a", "b"]), name(&["ab", ""]));
        assert_ne!(name(&["a", "b"]), name(&["b", "a"]));
        assert_eq!(name(&["a"]).len(), 32);
    }
}
