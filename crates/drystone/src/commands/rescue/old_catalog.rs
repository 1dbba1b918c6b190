//! Opens what is left of the old catalog, to read, without changing it.
//!
//! SQLite refuses a database that is shorter than its header says, although the tables at its beginning may be whole. Such a
//! file is copied, and the copy filled up with zeros: what lies behind the cut is damage then, and the rest can be read.

use anyhow::Context;
use catalog::db::{Sqlite, SqliteOptions};
use engine::rescue::OldCatalog;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Memory of a handle on the old catalog: each table is read once.
const CACHE_BYTES: u64 = 4 << 20;

/// Bytes of SQLite's header that tell the size: page size at 16, number of pages at 28, both big endian.
const HEADER_BYTES: usize = 32;

/// The old catalog, or why there is none to be used: noise for a size, or a disk that cannot read it, costs what only it holds, and
/// nothing else.
#[derive(Default)]
pub struct Found {
    /// What is left, if there is anything.
    pub old: Option<OldCatalog>,
    /// Why it cannot be used.
    pub refused: Option<String>,
}

/// Looks for the old catalog at `path`; a copy goes to `directory` if need be.
///
/// # Errors
/// What a person can put right, rather than lose the old catalog by it: no permission, no room for the copy.
pub fn find(path: &Path, directory: &Path) -> anyhow::Result<Found> {
    match open(path, directory) {
        Ok(old) => Ok(Found { old, refused: None }),
        Err(error) if can_be_put_right(&error) => Err(error),
        Err(error) => Ok(Found {
            old: None,
            refused: Some(format!("{error:#}")),
        }),
    }
}

fn can_be_put_right(error: &anyhow::Error) -> bool {
    let kinds = [
        ErrorKind::PermissionDenied,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::StorageFull,
        ErrorKind::QuotaExceeded,
    ];
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| kinds.contains(&cause.kind()))
}

fn open(path: &Path, directory: &Path) -> anyhow::Result<Option<OldCatalog>> {
    let failed = || format!("{} cannot be read", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(failed),
    };
    let found = file.metadata().with_context(failed)?.len();
    let mut header = [0; HEADER_BYTES];
    if found < HEADER_BYTES as u64 || file.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    let path = match bytes_said(&header) {
        Some(said) if said > found => filled_up(path, directory, said)?,
        _ => path.to_owned(),
    };
    let open = move || {
        let options = SqliteOptions {
            path: path.clone(),
            readers: super::READERS,
            cache_bytes: CACHE_BYTES,
        };
        Ok(Arc::new(Sqlite::open_read_only(&options)?) as Arc<dyn catalog::Db>)
    };
    Ok(Some(OldCatalog {
        open: Arc::new(open),
    }))
}

/// The length of a database by its own header.
fn bytes_said(header: &[u8; HEADER_BYTES]) -> Option<u64> {
    if !header.starts_with(b"SQLite format 3\0") {
        return None;
    }
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    Some(page_bytes * u64::from(pages))
}

/// A copy of the database with its WAL, as long as it should be.
fn filled_up(path: &Path, directory: &Path, bytes: u64) -> anyhow::Result<PathBuf> {
    let copy = directory.join("old.db");
    let failed = || format!("{} cannot be copied to {}", path.display(), copy.display());
    fs::copy(path, &copy).with_context(failed)?;
    let file = OpenOptions::new().write(true).open(&copy);
    file.and_then(|file| file.set_len(bytes))
        .with_context(failed)?;
    let wal = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    };
    match fs::copy(wal(path), wal(&copy)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(failed),
        _ => Ok(copy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_no_old_catalog_and_what_can_be_put_right_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.db");
        let found = find(&path, directory.path()).unwrap();
        assert!(found.old.is_none() && found.refused.is_none());
        let failed = |kind| anyhow::Error::from(io::Error::from(kind)).context("copying");
        assert!(can_be_put_right(&failed(ErrorKind::PermissionDenied)));
        assert!(can_be_put_right(&failed(ErrorKind::StorageFull)));
        assert!(!can_be_put_right(&failed(ErrorKind::FileTooLarge)));
        let bad_sector = anyhow::Error::from(io::Error::from_raw_os_error(5));
        assert!(!can_be_put_right(&bad_sector));
    }

    #[test]
    fn the_size_is_what_the_header_says() {
        let mut header = [0; HEADER_BYTES];
        assert_eq!(bytes_said(&header), None);
        header[..16].copy_from_slice(b"SQLite format 3\0");
        header[16..18].copy_from_slice(&4096_u16.to_be_bytes());
        header[28..32].copy_from_slice(&3_u32.to_be_bytes());
        assert_eq!(bytes_said(&header), Some(12_288));
        header[16..18].copy_from_slice(&1_u16.to_be_bytes());
        assert_eq!(bytes_said(&header), Some(196_608));
    }
}
