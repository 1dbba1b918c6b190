//! The paths of a download: which of them cannot be one and the same, and what is left in them when it is interrupted.

use super::DownloadOptions;
use crate::Error;
use crate::target::TargetPath;
use crate::target::same::{is_same, would_be_same};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// What an interrupted download leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// A stream that is not complete.
    Stream,
    /// What was received, to go on with.
    State,
    /// A device or file that was written in place, and is neither old nor new.
    Mixture,
    /// Nothing but what stood there before.
    Nothing,
}

impl DownloadOptions {
    /// What the download leaves when it is interrupted while it writes. Looks at what stands at the paths now. Blocking.
    pub fn left_by_interruption(&self) -> Left {
        let TargetPath::Path(target) = &self.target else {
            return Left::Stream;
        };
        let found = std::fs::metadata(target)
            .map(|found| found.file_type())
            .ok();
        let is = |kind: fn(&std::fs::FileType) -> bool| found.as_ref().is_some_and(kind);
        if is(FileTypeExt::is_fifo) || is(FileTypeExt::is_char_device) {
            return Left::Stream;
        }
        if self.state.is_some() {
            return Left::State;
        }
        match is(FileTypeExt::is_block_device) || is_in_place(self) {
            true => Left::Mixture,
            false => Left::Nothing,
        }
    }
}

/// Whether the base is the target itself.
pub(super) fn is_in_place(options: &DownloadOptions) -> bool {
    match (&options.base, &options.target) {
        (Some(base), TargetPath::Path(target)) => is_same(&base.path, target),
        _ => false,
    }
}

/// Refuses a stream with what only files and devices can have.
pub(super) fn refuse_stream(options: &DownloadOptions) -> Result<(), Error> {
    match (&options.base, &options.state) {
        (Some(_), _) => Err(Error::Config(
            "a stream is written from its beginning to its end: it has no base".to_owned(),
        )),
        (_, Some(_)) => Err(Error::Config(
            "a stream that was interrupted cannot be gone on with: it has no state".to_owned(),
        )),
        (None, None) => Ok(()),
    }
}

/// Refuses paths of which one would be written over the other: the state is removed at the end, and the target is replaced.
/// Blocking.
pub(super) fn refuse_same(options: &DownloadOptions) -> Result<(), Error> {
    let target = match &options.target {
        TargetPath::Path(path) => Some(path.as_path()),
        TargetPath::Stdout => None,
    };
    let state = options.state.as_deref();
    let base = options.base.as_ref().map(|base| base.path.as_path());
    let digests = options
        .base
        .as_ref()
        .and_then(|base| base.digests.as_deref());
    let differ = |one: (&str, Option<&Path>), other: (&str, Option<&Path>)| match (one.1, other.1) {
        (Some(path), Some(another)) if would_be_same(path, another) => Err(Error::Config(format!(
            "{} is to be {} and {} at once",
            path.display(),
            one.0,
            other.0
        ))),
        _ => Ok(()),
    };
    let target = ("the target", target);
    let state = ("the state", state);
    let digests = ("the digest file of the base", digests);
    differ(state, target)?;
    differ(state, ("the base", base))?;
    differ(state, digests)?;
    differ(digests, target)?;
    differ(digests, ("the base", base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::Base;
    use std::fs;
    use std::path::PathBuf;

    fn options(target: &Path) -> DownloadOptions {
        DownloadOptions {
            snapshot: "snap-01".parse().unwrap(),
            target: TargetPath::Path(target.to_owned()),
            bytes: None,
            base: None,
            state: None,
            keep_going: false,
        }
    }

    fn base(path: &Path, digests: Option<PathBuf>) -> Option<Base> {
        Some(Base {
            path: path.to_owned(),
            snapshot: "snap-02".parse().unwrap(),
            digests,
            trust: false,
        })
    }

    #[test]
    fn a_path_has_one_purpose() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let refused = |options: &DownloadOptions| match refuse_same(options) {
            Err(Error::Config(text)) => assert!(text.contains("at once"), "{text}"),
            other => panic!("{other:?}"),
        };
        let target = at("disk");
        let mut options = options(&target);
        options.state = Some(at("state"));
        refuse_same(&options).unwrap();
        options.state = Some(at(".").join("disk"));
        refused(&options);
        options.state = Some(at("state"));
        options.base = base(&at("old"), Some(at("digests")));
        refuse_same(&options).unwrap();
        for name in ["state", "old", "disk"] {
            options.base = base(&at("old"), Some(at(name)));
            refused(&options);
        }
        options.base = base(&at("state"), None);
        refused(&options);
        // In place.
        options.base = base(&target, None);
        refuse_same(&options).unwrap();
    }

    #[test]
    fn what_is_left_depends_on_what_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let target = at("disk");
        let mut options = options(&target);
        assert_eq!(options.left_by_interruption(), Left::Nothing);
        fs::write(&target, "old").unwrap();
        fs::write(at("base"), "old").unwrap();
        std::os::unix::fs::symlink("disk", at("link")).unwrap();
        options.base = base(&at("base"), None);
        assert_eq!(options.left_by_interruption(), Left::Nothing);
        options.base = base(&at("link"), None);
        assert_eq!(options.left_by_interruption(), Left::Mixture);
        options.state = Some(at("state"));
        assert_eq!(options.left_by_interruption(), Left::State);
        options.target = TargetPath::Path("/dev/null".into());
        assert_eq!(options.left_by_interruption(), Left::Stream);
        options.target = TargetPath::Stdout;
        assert_eq!(options.left_by_interruption(), Left::Stream);
    }
}
