//! Whether two paths mean the same file or device, also where there is none yet.

use std::fs::{Metadata, canonicalize, metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whether both are there, and are the same file or device.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (metadata(one), metadata(other)) else {
        return false;
    };
    let is_device = |file: &Metadata| file.file_type().is_block_device();
    match is_device(&one) && is_device(&other) {
        true => one.rdev() == other.rdev(),
        false => (one.dev(), one.ino()) == (other.dev(), other.ino()),
    }
}

/// Whether what is made at one path is found at the other.
pub(crate) fn would_be_same(one: &Path, other: &Path) -> bool {
    if is_same(one, other) {
        return true;
    }
    match (place(one), place(other)) {
        (Some(one), Some(other)) => one == other,
        // Neither can be made, and trying says why.
        _ => false,
    }
}

/// A path without links on the way to its name.
fn place(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some(canonicalize(folder).ok()?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, create_dir, hard_link};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_has_many_paths() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        create_dir(at("folder")).unwrap();
        symlink("folder", at("link")).unwrap();
        fs::write(at("folder/disk"), "").unwrap();
        fs::write(at("folder/other"), "").unwrap();
        symlink("folder/disk", at("linked")).unwrap();
        hard_link(at("folder/disk"), at("hard")).unwrap();
        for same in [
            "folder/disk",
            "link/disk",
            "linked",
            "hard",
            "folder/../linked",
        ] {
            assert!(is_same(&at("folder/disk"), &at(same)), "{same}");
            assert!(would_be_same(&at(same), &at("folder/disk")), "{same}");
        }
        assert!(!is_same(&at("folder/disk"), &at("folder/other")));
        assert!(!would_be_same(&at("folder/disk"), &at("folder/other")));
        assert!(!is_same(&at("folder/new"), &at("link/new")));
        assert!(would_be_same(&at("folder/new"), &at("link/../link/new")));
        assert!(!would_be_same(&at("folder/new"), &at("new")));
        assert!(!would_be_same(&at("missing/new"), &at("missing/new")));
    }
}
