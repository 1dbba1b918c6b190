//! The directory that a bench works in: made fresh, removed when it is dropped.

use anyhow::{Context, ensure};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use types::Random;

/// Free space that a bench asks for.
const FREE_BYTES_MIN: u64 = 12 << 30;

/// Free space that it leaves alone, or that its smaller parts take.
const LEFT_BYTES: u64 = 6 << 30;

/// A fresh directory.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// Makes a directory below this one.
    pub fn make(below: &Path) -> anyhow::Result<Place> {
        let below = std::path::absolute(below)
            .with_context(|| format!("{} is no path", below.display()))?;
        let name = format!("drystone-bench-{:016x}", Random::system().bits());
        let root = below.join(name);
        make_dir(&root)?;
        Ok(Place { root })
    }

    /// Refuses a disk that has not enough free space.
    pub fn check_space(&self) -> anyhow::Result<()> {
        let free = self.free_bytes()?;
        ensure!(
            free >= FREE_BYTES_MIN,
            "{} GiB are free on the disk of {}, and a bench needs {}; name a directory on another disk with --data",
            free >> 30,
            self.root.display(),
            FREE_BYTES_MIN >> 30
        );
        Ok(())
    }

    /// Bytes that the bench may fill for longer than a run.
    pub fn budget_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.free_bytes()?.saturating_sub(LEFT_BYTES) / 2)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A new directory in it.
    pub fn dir(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        make_dir(&path)?;
        Ok(path)
    }

    fn free_bytes(&self) -> anyhow::Result<u64> {
        let system = rustix::fs::statvfs(&self.root)
            .with_context(|| format!("{} cannot be asked for space", self.root.display()))?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!(
                "drystone bench: {} cannot be removed: {error}",
                self.root.display()
            );
        }
    }
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        let below = tempfile::tempdir().expect("a directory");
        let place = Place::make(below.path()).expect("made");
        fs::write(place.dir("a").expect("made").join("b"), "c").expect("written");
        assert!(place.free_bytes().expect("known") > 0);
        assert_eq!(fs::read_dir(below.path()).expect("there").count(), 1);
        drop(place);
        assert_eq!(fs::read_dir(below.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_place_below_nothing_is_refused() {
        let below = tempfile::tempdir().expect("a directory");
        let error = Place::make(&below.path().join("no")).expect_err("it is not there");
        assert!(format!("{error:#}").contains("cannot be made"));
    }
}
