//! The data directory: its layout, its lock and its version.
//!
//! ```text
//! DIR/lock          locked (flock) by the process that may write here; holds its process id
//! DIR/VERSION       version of this layout, one line of text: an older program refuses before it opens anything
//! DIR/root.key      seals secrets and token keys (auth::RootKey)
//! DIR/catalog.db    the catalog, and SQLite's -wal and -shm beside it
//! DIR/segments/     the chunk store
//! DIR/scratch/      what a running process sorts beyond its memory; emptied when the next one begins
//! DIR/starts        how often the catalog was opened to work with it: one that knows of fewer starts is an older one
//! DIR/credentials   the key made at the first start, an AWS shared credentials file
//! DIR/admin.sock    where the running server takes admin commands
//! DIR/rescue/, DIR/rescue-ready/, DIR/before-rescue-DATE/   see data_dir/replacement.rs
//! ```
//!
//! Invariants
//! - At most one process writes in the directory: every file but `lock` is touched under the lock only. The kernel drops
//!   the lock with the process, however it ends.
//! - Files are made in the order lock, VERSION, root.key, catalog.db, so that each one there tells that those before it
//!   are complete; a start that was cut off anywhere is finished by the next one.
//! - A directory with other things in it and no VERSION is somebody else's: it is refused, untouched.

pub mod replacement;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The version of the layout that this program writes, and the newest that it reads.
const LAYOUT_VERSION: u32 = 1;

/// What `VERSION` begins with.
const VERSION_PREFIX: &str = "drystone data directory, layout ";

/// Bytes of a `VERSION`, `lock` or `starts` file that are read.
const SMALL_FILE_BYTES_MAX: u64 = 1024;

/// What may be in a directory that is to become a data directory: traces of a first start that was cut off, and what
/// a fresh file system holds.
const HARMLESS: [&str; 3] = ["lock", "VERSION.new", "lost+found"];

/// Stores whose starts are remembered: this one, and those whose catalogs were put here by mistake.
const STORES_REMEMBERED: usize = 8;

/// The paths of a data directory. Having them gives no right to write.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under `root`, made absolute.
    pub fn new(root: &Path) -> anyhow::Result<Layout> {
        let root = std::path::absolute(root)
            .with_context(|| format!("{} is no path for a data directory", root.display()))?;
        Ok(Layout { root })
    }

    /// The directory itself, an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The root key.
    pub fn root_key(&self) -> PathBuf {
        self.root.join("root.key")
    }

    /// The catalog's database.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.db")
    }

    /// The directory of the local chunk store.
    pub fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    /// Where the engine sorts what memory does not hold; nothing in it outlives the process.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The credentials of the first start.
    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials")
    }

    /// The socket for admin commands.
    pub fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    fn starts(&self) -> PathBuf {
        self.root.join("starts")
    }

    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn version(&self) -> PathBuf {
        self.root.join("VERSION")
    }
}

/// A data directory that this process may write in, until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    layout: Layout,
    _lock: File,
}

/// Another process has the directory.
#[derive(Debug)]
pub struct InUse {
    root: PathBuf,
    holder: Option<u32>,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the data directory {} is in use by another drystone process",
            self.root.display()
        )?;
        match self.holder {
            Some(pid) => write!(
                f,
                " (pid {pid}); stop that one first, or use another directory"
            ),
            None => f.write_str("; stop that one first, or use another directory"),
        }
    }
}

impl std::error::Error for InUse {}

impl DataDir {
    /// Takes the directory, making it when it does not exist.
    pub fn create_or_open(layout: Layout) -> anyhow::Result<DataDir> {
        let root = layout.root();
        match fs::symlink_metadata(root) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(root)
                    .with_context(|| {
                        format!("the data directory {} cannot be made", root.display())
                    })?;
                sync_dir(root.parent().unwrap_or(root))?;
            }
            _ => refuse_strangers(&layout)?,
        }
        let data = DataDir {
            _lock: take_lock(&layout)?,
            layout,
        };
        replacement::finish(&data.layout)?;
        match data.read_version()? {
            Some(found) => check_version(&data.layout, found)?,
            None => {
                refuse_strangers(&data.layout)?;
                write_durably(
                    &data.layout.version(),
                    &format!("{VERSION_PREFIX}{LAYOUT_VERSION}\n"),
                )?;
            }
        }
        data.check_root_key()?;
        Ok(data)
    }

    /// Takes a directory that a server has used before.
    pub fn open(layout: Layout) -> anyhow::Result<DataDir> {
        let root = layout.root().to_owned();
        if !layout.version().exists() {
            bail!(
                "{} is no Drystone data directory; name the one of the server with --data, or start \
                 `drystone serve` to make one",
                root.display()
            );
        }
        let data = DataDir {
            _lock: take_lock(&layout)?,
            layout,
        };
        replacement::finish(&data.layout)?;
        if let Some(found) = data.read_version()? {
            check_version(&data.layout, found)?;
        }
        data.check_root_key()?;
        Ok(data)
    }

    /// Takes a directory that has lost anything but its segments.
    pub fn open_damaged(layout: Layout) -> anyhow::Result<DataDir> {
        let segments = layout.segments();
        if !segments.is_dir() {
            bail!(
                "{} is no directory: there are no segments to rescue anything from; name the data directory with --data",
                segments.display()
            );
        }
        let data = DataDir {
            _lock: take_lock(&layout)?,
            layout,
        };
        replacement::finish(&data.layout)?;
        if let Some(found) = data.read_version()? {
            check_version(&data.layout, found)?;
        }
        Ok(data)
    }

    /// What `VERSION` holds, where it is missing.
    pub fn missing_version(&self) -> Option<String> {
        let missing = !self.layout.version().exists();
        missing.then(|| format!("{VERSION_PREFIX}{LAYOUT_VERSION}\n"))
    }

    /// The scratch directory, made when it does not exist, and without what a dead process left there.
    pub fn fresh_scratch(&self) -> anyhow::Result<PathBuf> {
        let path = self.layout.scratch();
        let failed = || format!("the scratch directory {} cannot be emptied", path.display());
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(failed),
        }
        // A link might lead to other things than ours.
        if !fs::symlink_metadata(&path).with_context(failed)?.is_dir() {
            bail!(
                "{} is no directory; remove it, and the next start makes one",
                path.display()
            );
        }
        for entry in fs::read_dir(&path).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let removed = match entry.file_type().with_context(failed)?.is_dir() {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            };
            removed.with_context(failed)?;
        }
        Ok(path)
    }

    /// The paths in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How often the catalog of this store was opened to work with it, as the directory remembers; 0 when it does not.
    pub fn starts(&self, store_id: [u8; 16]) -> anyhow::Result<i64> {
        let path = self.layout.starts();
        let Some(text) = read_small(&path)? else {
            return Ok(0);
        };
        let Some(lines) = parse_starts(&text) else {
            bail!(
                "{} is not readable; delete it if the catalog beside it is this store's newest",
                path.display()
            );
        };
        // Whose catalog it is, the segments tell.
        let of_store = lines.iter().find(|(id, _)| *id == hex(store_id));
        Ok(of_store.map_or(0, |(_, starts)| *starts))
    }

    /// Remembers a number of starts, once the catalog has it. What is known of other stores' catalogs is kept: one of them may have
    /// been put here by mistake, or this one be such a catalog.
    pub fn set_starts(&self, store_id: [u8; 16], starts: i64) -> anyhow::Result<()> {
        let text = read_small(&self.layout.starts())?.unwrap_or_default();
        let mut lines = parse_starts(&text).unwrap_or_default();
        lines.retain(|(id, _)| *id != hex(store_id));
        lines.insert(0, (hex(store_id), starts));
        lines.truncate(STORES_REMEMBERED);
        let text: String = lines
            .iter()
            .map(|(id, starts)| format!("{id} {starts}\n"))
            .collect();
        write_durably(&self.layout.starts(), &text)
    }

    fn read_version(&self) -> anyhow::Result<Option<u32>> {
        let path = self.layout.version();
        let Some(text) = read_small(&path)? else {
            return Ok(None);
        };
        let version = text
            .strip_prefix(VERSION_PREFIX)
            .and_then(|rest| rest.trim_end().parse().ok());
        match version {
            Some(version) => Ok(Some(version)),
            None => bail!(
                "{} is not readable as a version; restore it from a backup",
                path.display()
            ),
        }
    }

    /// A catalog without its root key would be opened with a new one, which opens no secret.
    fn check_root_key(&self) -> anyhow::Result<()> {
        let (catalog, key) = (self.layout.catalog(), self.layout.root_key());
        if catalog.exists() && !key.exists() {
            bail!(
                "{} is missing, and the secrets in {} cannot be read without it: restore it from a backup; if it is \
                 lost for good, put 32 random bytes there (mode 0600) and make new access keys with `drystone key \
                 create` (block data is not affected)",
                key.display(),
                catalog.display()
            );
        }
        Ok(())
    }
}

/// Replaces the file at `path` so that it holds the old or the new content, whatever happens, for its owner's eyes only.
pub fn write_durably(path: &Path, content: &str) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(failed)?;
    file.write_all(content.as_bytes()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    fs::rename(&fresh, path).with_context(failed)?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

/// Makes what was created, renamed or removed in the directory durable.
/// Store ids and their starts; nothing when a line is something else.
fn parse_starts(text: &str) -> Option<Vec<(String, i64)>> {
    let line = |line: &str| {
        let (id, starts) = line.split_once(' ')?;
        Some((id.to_owned(), starts.parse().ok()?))
    };
    text.lines().map(line).collect()
}

fn hex(id: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(id))
}

pub fn sync_dir(directory: &Path) -> anyhow::Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("the directory {} cannot be synced", directory.display()))
}

fn refuse_strangers(layout: &Layout) -> anyhow::Result<()> {
    if layout.version().exists() {
        return Ok(());
    }
    let root = layout.root();
    let entries = fs::read_dir(root)
        .with_context(|| format!("the data directory {} cannot be read", root.display()))?;
    for entry in entries {
        let name = entry
            .with_context(|| format!("{} cannot be read", root.display()))?
            .file_name();
        if !HARMLESS
            .iter()
            .any(|&harmless| name == OsStr::new(harmless))
        {
            bail!(
                "{} holds other files ({}) and is no Drystone data directory; name an empty or a new one with --data",
                root.display(),
                Path::new(&name).display()
            );
        }
    }
    Ok(())
}

fn check_version(layout: &Layout, found: u32) -> anyhow::Result<()> {
    if found > LAYOUT_VERSION {
        bail!(
            "the data directory {} has layout version {found}, this program knows versions up to {LAYOUT_VERSION}; \
             run a newer drystone",
            layout.root().display()
        );
    }
    Ok(())
}

fn take_lock(layout: &Layout) -> anyhow::Result<File> {
    let path = layout.lock();
    let failed = || format!("the lock {} cannot be taken", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let holder = read_small(&path)?.and_then(|text| text.trim().parse().ok());
            return Err(InUse {
                root: layout.root().to_owned(),
                holder,
            }
            .into());
        }
        Err(error) => return Err(error).with_context(failed),
    }
    // For the message above only: the lock is the kernel's, not this text.
    file.set_len(0).with_context(failed)?;
    file.seek(SeekFrom::Start(0)).with_context(failed)?;
    writeln!(file, "{}", std::process::id()).with_context(failed)?;
    Ok(file)
}

fn read_small(path: &Path) -> anyhow::Result<Option<String>> {
    let failed = || format!("{} cannot be read", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(failed),
    };
    let mut text = String::new();
    file.take(SMALL_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(failed)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
