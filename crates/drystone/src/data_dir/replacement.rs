//! Puts files that a rescue has made in place of those that were there, so that a crash leaves the old state or the new one.
//!
//! ```text
//! DIR/rescue/new/NAME         being made; worth nothing until the next step, and begun anew
//! DIR/rescue-ready/new/NAME   whole and durable: whoever takes the lock next puts them in place
//! DIR/rescue-ready/NAME       what was there before
//! DIR/before-rescue-DATE/     the same, once all is in place; nothing reads or deletes it
//! ```
//!
//! Invariants
//! - The one step from the old state to the new is the rename to `rescue-ready`. Everything after it is finished under the lock, before
//!   anything else is looked at ([`finish`]), and may be repeated.
//! - Nothing is deleted: what was there before is moved aside first. A catalog goes with its `-wal` and `-shm`, which would be
//!   read as the new one's otherwise.

use super::{Layout, sync_dir};
use anyhow::Context;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const MAKING: &str = "rescue";
const READY: &str = "rescue-ready";
const NEW: &str = "new";

/// Holds the name that the directory gets in the end.
const ARCHIVE_NAME: &str = "archive-name";

/// Files that can be replaced, in the order in which a directory is made, and what goes away with each.
const REPLACEABLE: [(&str, &[&str]); 4] = [
    ("VERSION", &[]),
    ("root.key", &[]),
    ("credentials", &[]),
    ("catalog.db", &["catalog.db-wal", "catalog.db-shm"]),
];

/// An empty directory in which new files are made under their final names. What a rescue that was cut off left there is removed.
pub fn begin(layout: &Layout) -> anyhow::Result<PathBuf> {
    let making = layout.root().join(MAKING);
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} cannot be removed", making.display()));
        }
        _ => {}
    }
    let new = making.join(NEW);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&new)
        .with_context(|| format!("{} cannot be made", new.display()))?;
    Ok(new)
}

/// Removes what was made since [`begin`], as far as that goes: the next [`begin`] does it, too.
pub fn abandon(layout: &Layout) {
    let _ = fs::remove_dir_all(layout.root().join(MAKING));
}

/// Puts the files made since [`begin`] in place; answers where those that were there before are now.
pub fn put_in_place(layout: &Layout, archive_name: &str) -> anyhow::Result<PathBuf> {
    let making = layout.root().join(MAKING);
    let new = making.join(NEW);
    for (name, _) in REPLACEABLE {
        match File::open(new.join(name)).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("the new {name} cannot be synced"));
            }
            _ => {}
        }
    }
    let name = free_name(layout.root(), archive_name);
    super::write_durably(&making.join(ARCHIVE_NAME), &name)?;
    sync_dir(&new)?;
    sync_dir(&making)?;
    rename(&making, &layout.root().join(READY))?;
    sync_dir(layout.root())?;
    let archive = finish(layout)?;
    archive.context("what was made is gone")
}

/// Finishes what [`put_in_place`] began, if a crash cut it off. The caller has the lock.
pub fn finish(layout: &Layout) -> anyhow::Result<Option<PathBuf>> {
    let root = layout.root();
    let ready = root.join(READY);
    let name = match fs::read_to_string(ready.join(ARCHIVE_NAME)) {
        Ok(name) => name,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", ready.display()));
        }
    };
    let new = ready.join(NEW);
    for (name, companions) in REPLACEABLE {
        if !new.join(name).exists() {
            continue;
        }
        for before in [name].iter().chain(companions) {
            let before = root.join(before);
            if before.symlink_metadata().is_ok() {
                let file = before.file_name().unwrap_or_default().to_string_lossy();
                rename(&before, &ready.join(free_name(&ready, &file)))?;
            }
        }
        sync_dir(&ready)?;
        sync_dir(root)?;
        rename(&new.join(name), &root.join(name))?;
        sync_dir(root)?;
        sync_dir(&new)?;
    }
    // Nothing but leftovers of making them may be in there.
    let _ = fs::remove_dir_all(&new);
    let archive = root.join(free_name(root, name.trim()));
    rename(&ready, &archive)?;
    sync_dir(root)?;
    tracing::info!(archive = %archive.display(), "a rescued catalog was put in place");
    Ok(Some(archive))
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to)
        .with_context(|| format!("{} cannot be moved to {}", from.display(), to.display()))
}

/// The name, or the first one with a number behind it that nothing has yet.
fn free_name(directory: &Path, name: &str) -> String {
    let free = |name: &String| directory.join(name).symlink_metadata().is_err();
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned())
        .chain(numbered)
        .find(free)
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;

    const FILES: [&str; 4] = ["root.key", "catalog.db", "catalog.db-wal", "catalog.db-shm"];

    fn used() -> (tempfile::TempDir, Layout) {
        let under = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(&under.path().join("data")).expect("an absolute path");
        drop(DataDir::create_or_open(layout.clone()).expect("made"));
        for name in FILES {
            fs::write(layout.root().join(name), format!("old {name}")).expect("written");
        }
        (under, layout)
    }

    fn make(layout: &Layout) {
        let new = begin(layout).expect("begun");
        fs::write(new.join("catalog.db"), "new catalog").expect("written");
        fs::write(new.join("credentials"), "new credentials").expect("written");
    }

    fn read(directory: &Path, name: &str) -> Option<String> {
        fs::read_to_string(directory.join(name)).ok()
    }

    fn check_new(layout: &Layout, archive: &Path) {
        let root = layout.root();
        let new = |name| read(root, name);
        assert_eq!(new("catalog.db").as_deref(), Some("new catalog"));
        assert_eq!(new("credentials").as_deref(), Some("new credentials"));
        assert_eq!(new("root.key").as_deref(), Some("old root.key"));
        assert_eq!(new("catalog.db-wal"), None, "it belongs to the old catalog");
        assert_eq!(new("catalog.db-shm"), None);
        for name in &FILES[1..] {
            assert_eq!(read(archive, name), Some(format!("old {name}")));
        }
        assert!(!root.join(READY).exists() && !root.join(MAKING).exists());
    }

    #[test]
    fn what_was_there_is_kept() {
        let (_under, layout) = used();
        make(&layout);
        let archive = put_in_place(&layout, "before-rescue-x").expect("put in place");
        assert_eq!(archive, layout.root().join("before-rescue-x"));
        check_new(&layout, &archive);
        assert_eq!(finish(&layout).expect("nothing to do"), None);
        make(&layout);
        let second = put_in_place(&layout, "before-rescue-x").expect("put in place");
        assert_eq!(second, layout.root().join("before-rescue-x-2"));
        assert_eq!(read(&second, "catalog.db").as_deref(), Some("new catalog"));
    }

    #[test]
    fn what_was_cut_off_before_it_was_whole_changes_nothing() {
        let (_under, layout) = used();
        make(&layout);
        drop(DataDir::open(layout.clone()).expect("opened"));
        for name in FILES {
            assert_eq!(read(layout.root(), name), Some(format!("old {name}")));
        }
        make(&layout);
        let archive = put_in_place(&layout, "again").expect("put in place");
        check_new(&layout, &archive);
    }

    /// Stops after each rename in turn, and lets the next one who takes the lock finish.
    #[test]
    fn what_was_cut_off_afterwards_is_finished_by_the_next_start() {
        let moves: [(&str, &str); 5] = [
            ("new/credentials", "../credentials"),
            ("../catalog.db", "catalog.db"),
            ("../catalog.db-wal", "catalog.db-wal"),
            ("../catalog.db-shm", "catalog.db-shm"),
            ("new/catalog.db", "../catalog.db"),
        ];
        for done in 0..=moves.len() {
            let (_under, layout) = used();
            make(&layout);
            let ready = layout.root().join(READY);
            fs::write(layout.root().join(MAKING).join(ARCHIVE_NAME), "archive").expect("written");
            fs::rename(layout.root().join(MAKING), &ready).expect("renamed");
            for (from, to) in &moves[..done] {
                fs::rename(ready.join(from), ready.join(to)).expect("renamed");
            }
            drop(DataDir::open(layout.clone()).expect("opened"));
            check_new(&layout, &layout.root().join("archive"));
        }
    }
}
