//! The state of a download that can be resumed: a journal of the blocks that were written, bound to what is downloaded whereto.
//!
//! What a journal says is never believed alone: each of its blocks is read again from the target, and fetched again unless it has
//! the digest that was noted. So it need not be durable, and a target that somebody changed meanwhile does no harm.

use super::DownloadOptions;
use crate::api::Api;
use crate::journal::{DigestHeader, Journal, Records};
use crate::target::TargetPath;
use crate::{Error, SnapshotId};
use serde::{Deserialize, Serialize};
use std::path::Path;
use types::VolumeSize;

/// What a download is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    kind: Kind,
    endpoint: String,
    snapshot: String,
    volume_gib: u32,
    target: String,
    /// Length of the target, where it is not the volume's.
    bytes: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Download,
}

/// A state file that stood there.
pub(super) struct Earlier {
    /// To go on with.
    pub(super) journal: Journal,
    /// What was written.
    pub(super) written: Records,
}

impl About {
    /// This download.
    pub(super) fn new(
        api: &Api,
        options: &DownloadOptions,
        volume_size: VolumeSize,
    ) -> Result<About, Error> {
        let target = match &options.target {
            TargetPath::Stdout => "-".to_owned(),
            TargetPath::Path(path) => {
                let absolute = std::path::absolute(path);
                let absolute =
                    absolute.map_err(Error::io(format!("{} is no path", path.display())))?;
                absolute.to_string_lossy().into_owned()
            }
        };
        Ok(About {
            kind: Kind::Download,
            endpoint: api.realm(),
            snapshot: options.snapshot.to_string(),
            volume_gib: volume_size.gib(),
            target,
            bytes: options.bytes,
        })
    }

    /// Goes on with a state file, if there is one. Blocking.
    ///
    /// # Errors
    /// [`Error::Config`]: it is of something else, or no state file; [`Error::Io`].
    pub(super) fn resume(&self, path: &Path) -> Result<Option<Earlier>, Error> {
        let exists = path.try_exists();
        if !exists.map_err(Error::io(format!("{} cannot be examined", path.display())))? {
            return Ok(None);
        }
        // What is of something else is not even touched.
        let (written, header) = Records::open(path)?;
        let path_text = path.display();
        let Ok(about) = serde_json::from_str::<About>(&header) else {
            return Err(Error::Config(format!(
                "{path_text} is no state of a download: name another file, or remove it"
            )));
        };
        if about != *self {
            return Err(Error::Config(format!(
                "{path_text} is the state of another download, of {} from {} to {}: name another file, or remove it to begin anew",
                about.snapshot, about.endpoint, about.target
            )));
        }
        let resumed = Journal::resume(path)?;
        Ok(resumed.map(|(journal, _)| Earlier { journal, written }))
    }

    /// Begins a state file. Blocking.
    pub(super) fn begin(&self, path: &Path) -> Result<Journal, Error> {
        let header = serde_json::to_string(self).expect("strings and numbers are JSON");
        Journal::create(path, &header)
    }
}

/// The digests of a snapshot's blocks, from the file that its upload wrote. Blocking.
///
/// # Errors
/// [`Error::Config`]: it is of another snapshot, or no digest file; [`Error::Io`].
pub(super) fn digests_of(path: &Path, snapshot: &SnapshotId) -> Result<Records, Error> {
    let (records, header) = Records::open(path)?;
    match DigestHeader::decode(&header) {
        Some(of) if of.snapshot == *snapshot => Ok(records),
        Some(of) => Err(Error::Config(format!(
            "{} has the digests of {}, and not of {snapshot}",
            path.display(),
            of.snapshot
        ))),
        None => Err(Error::Config(format!(
            "{} is not the digest file of a snapshot",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            kind: Kind::Download,
            endpoint: "http://127.0.0.1:1".to_owned(),
            snapshot: "snap-01".to_owned(),
            volume_gib: 1,
            target: "/disk.img".to_owned(),
            bytes: None,
        }
    }

    #[test]
    fn a_state_is_taken_up_by_the_same_download_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert!(about().resume(&path).unwrap().is_none());
        drop(about().begin(&path).unwrap());
        assert!(about().resume(&path).unwrap().is_some());
        let other = About {
            snapshot: "snap-02".to_owned(),
            ..about()
        };
        let error = other.resume(&path).err().unwrap();
        assert!(matches!(&error, Error::Config(text) if text.contains("snap-01")));
        drop(Journal::create(&path, r#"{"kind":"upload"}"#).unwrap());
        assert!(matches!(about().resume(&path), Err(Error::Config(_))));
    }
}
