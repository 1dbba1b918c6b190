//! File targets: written under a hidden name beside the one they get when everything is durable.
//!
//! ```text
//! disk.img                  what was there before, whole until the last moment
//! .disk.img.drystone-part   what is being written, locked
//! ```
//!
//! The hidden name follows from the name, so that an interrupted download is found again, and one that was killed leaves no
//! more than one file, which the next one takes the place of. A lock (`flock`) on it keeps a second download of the same target
//! out. Where there are no locks, or somebody removes the hidden file, another download may put its own under the name: that one
//! is neither renamed nor removed by this one. The new file belongs to its owner alone (mode 0600) until it takes the mode and, where that is allowed, the owner of
//! the file that it replaces.
//!
//! Failure: `finish` syncs the file, renames it, syncs the directory, in this order. A crash before the rename leaves what was
//! there before; a crash after it leaves the new file, whole.

use crate::Error;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use types::Digest;

/// What the hidden names end in.
const SUFFIX: &[u8] = b".drystone-part";

/// Bytes of a name that are kept in the hidden one; file systems allow 255 in all.
const NAME_KEPT_MAX: usize = 200;

/// How often a name is tried that others create and remove at the same time.
const ATTEMPTS: usize = 16;

/// A file that waits for its name.
#[derive(Debug)]
pub(super) struct Waiting {
    place: Place,
    /// Keeps the file's lock, and its number from being given to another one, for as long as its name matters.
    file: OwnedFd,
    /// What it takes the place of.
    replaced: Option<Stat>,
}

/// The two names of a file.
#[derive(Debug)]
struct Place {
    dir: OwnedFd,
    path: PathBuf,
    name: OsString,
    hidden: OsString,
}

/// Whether what an earlier attempt left is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Earlier {
    /// It is taken up.
    Continue,
    /// It is removed.
    Remove,
}

impl Waiting {
    /// Opens the file under its hidden name, and locks it.
    pub(super) fn open(
        path: &Path,
        replaced: Option<Stat>,
        earlier: Earlier,
    ) -> Result<(Waiting, OwnedFd), Error> {
        let path = resolve(path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return Err(Error::Unfit(format!("{} names no file", path.display())));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(parent, flags, Mode::empty()).map_err(|error| {
            Error::io(format!(
                "the directory {} cannot be opened",
                parent.display()
            ))(error.into())
        })?;
        let place = Place {
            dir,
            hidden: hidden_name(&name),
            path,
            name,
        };
        let file = place.open_hidden(earlier)?;
        let held = file
            .try_clone()
            .map_err(Error::io(format!("{} cannot be held", place.hidden_path())))?;
        let waiting = Waiting {
            place,
            file: held,
            replaced,
        };
        Ok((waiting, file))
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        self.place.path.display().to_string()
    }

    /// Gives the file its name, durably.
    ///
    /// # Errors
    /// [`Error::Unfit`]: the hidden name is another file's by now; [`Error::Io`].
    pub(super) fn finish(self) -> Result<(), Error> {
        let name = self.name();
        if let Err(error) = self.settle() {
            // What the disk has of it is not known, so nobody should go on with it.
            self.remove();
            return Err(Error::io(format!("{name} cannot be made durable"))(
                error.into(),
            ));
        }
        let place = &self.place;
        if !place.is_still(&self.file)? {
            return Err(place.unfit(&format!(
                "was removed or replaced by somebody else before it could be renamed to {name}"
            )));
        }
        rustix::fs::renameat(&place.dir, &place.hidden, &place.dir, &place.name).map_err(
            |error| {
                Error::io(format!(
                    "{} is complete and cannot be renamed to {name}",
                    place.hidden_path()
                ))(error.into())
            },
        )?;
        rustix::fs::fsync(&place.dir).map_err(|error| {
            Error::io(format!("the directory of {name} cannot be made durable"))(error.into())
        })
    }

    /// Removes the file, unless the hidden name is another file's by now.
    pub(super) fn remove(&self) {
        let place = &self.place;
        let path = place.hidden_path();
        match place.is_still(&self.file) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(path, %error, "a partial file cannot be removed");
                return;
            }
        }
        if let Err(error) = rustix::fs::unlinkat(&place.dir, &place.hidden, AtFlags::empty()) {
            tracing::warn!(path, %error, "a partial file cannot be removed");
        }
    }

    /// Mode and owner, then everything to the disk.
    fn settle(&self) -> Result<(), Errno> {
        let file = &self.file;
        if let Some(replaced) = &self.replaced {
            let own = rustix::fs::fstat(file)?;
            let mut mode = replaced.st_mode & 0o777;
            if (own.st_uid, own.st_gid) != (replaced.st_uid, replaced.st_gid) {
                let (user, group) = (
                    Uid::from_raw(replaced.st_uid),
                    Gid::from_raw(replaced.st_gid),
                );
                // Only the administrator may give files away. Who keeps one lets no other group or user in.
                if rustix::fs::fchown(file, Some(user), Some(group)).is_err() {
                    mode &= 0o700;
                }
            }
            rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
        }
        rustix::fs::fsync(file)
    }
}

impl Place {
    /// Opens the file under its hidden name, and locks it.
    fn open_hidden(&self, earlier: Earlier) -> Result<OwnedFd, Error> {
        for _ in 0..ATTEMPTS {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let (file, new) =
                match rustix::fs::openat(&self.dir, &self.hidden, flags, Mode::empty()) {
                    Ok(file) => (file, false),
                    Err(Errno::NOENT) if earlier == Earlier::Continue => {
                        return Err(self.unfit("is not there, so there is nothing to resume"));
                    }
                    Err(Errno::NOENT) => match self.create() {
                        Ok(file) => (file, true),
                        Err(Errno::EXIST) => continue,
                        Err(error) => return Err(self.failed("created", error)),
                    },
                    Err(error) => return Err(self.failed("opened", error)),
                };
            lock(&file, &self.hidden_path())?;
            if !self.is_still(&file)? {
                continue;
            }
            if new {
                return Ok(file);
            }
            self.check_ours(&file)?;
            match earlier {
                Earlier::Continue => return Ok(file),
                Earlier::Remove => {
                    rustix::fs::unlinkat(&self.dir, &self.hidden, AtFlags::empty())
                        .map_err(|error| self.failed("removed", error))?;
                }
            }
        }
        Err(self.unfit("is created and removed by others all the time"))
    }

    fn create(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, &self.hidden, flags, Mode::RUSR | Mode::WUSR)
    }

    /// Whether the name still means this file: whoever held the lock before may have renamed or removed it.
    fn is_still(&self, file: &OwnedFd) -> Result<bool, Error> {
        let own = rustix::fs::fstat(file).map_err(|error| self.failed("examined", error))?;
        match rustix::fs::statat(&self.dir, &self.hidden, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((own.st_dev, own.st_ino) == (named.st_dev, named.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.failed("examined", error)),
        }
    }

    /// In a directory that all may write to, another user could have put a file of theirs under the name.
    fn check_ours(&self, file: &OwnedFd) -> Result<(), Error> {
        let stat = rustix::fs::fstat(file).map_err(|error| self.failed("examined", error))?;
        let ours = stat.st_uid == rustix::process::geteuid().as_raw()
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_nlink == 1;
        if ours {
            Ok(())
        } else {
            Err(self.unfit("is not a file of this user's"))
        }
    }

    fn hidden_path(&self) -> String {
        self.path.with_file_name(&self.hidden).display().to_string()
    }

    fn unfit(&self, why: &str) -> Error {
        Error::Unfit(format!("{} {why}", self.hidden_path()))
    }

    fn failed(&self, done: &str, error: Errno) -> Error {
        Error::io(format!("{} cannot be {done}", self.hidden_path()))(error.into())
    }
}

/// Opens a file to be written in place, and locks it.
pub(super) fn open_in_place(path: &Path) -> Result<OwnedFd, Error> {
    let name = path.display().to_string();
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| Error::io(format!("{name} cannot be opened to write"))(error.into()))?;
    lock(&file, &name)?;
    Ok(file)
}

/// Sets a file's length; what is new reads as zeros.
pub(super) fn set_length(file: impl AsFd, name: &str, bytes: u64) -> Result<(), Error> {
    rustix::fs::ftruncate(file, bytes).map_err(|error| {
        Error::io(format!("{name} cannot be made {bytes} bytes long"))(error.into())
    })
}

fn lock(file: &OwnedFd, name: &str) -> Result<(), Error> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(Error::Unfit(format!(
            "{name} is being written by another download"
        ))),
        // A network file system without locks.
        Err(error) => {
            tracing::warn!(path = name, %error, "the file cannot be locked");
            Ok(())
        }
    }
}

/// Follows links, so that the file they lead to is replaced and not they.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    if path.is_symlink() {
        return std::fs::canonicalize(path).map_err(Error::io(format!(
            "the link {} cannot be followed",
            path.display()
        )));
    }
    Ok(path.to_path_buf())
}

fn hidden_name(name: &OsStr) -> OsString {
    let name = name.as_bytes();
    let mut hidden = vec![b'.'];
    if name.len() <= NAME_KEPT_MAX {
        hidden.extend_from_slice(name);
    } else {
        hidden.extend_from_slice(&name[..NAME_KEPT_MAX - 17]);
        let digest = Digest::of(name).to_string();
        hidden.extend_from_slice(b"-");
        hidden.extend_from_slice(&digest.as_bytes()[..16]);
    }
    hidden.extend_from_slice(SUFFIX);
    OsString::from_vec(hidden)
}
