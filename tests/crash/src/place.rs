//! Small file systems in files, mounted through loop devices; needs root.
//!
//! A loop device is released by the kernel when its mount ends. The programs run in name spaces of their own
//! (`cargo xtask` sees to that), so mounts and servers end with them, however they end.

use anyhow::{Context, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where tools of the administrator lie that are on nobody's path.
const TOOLS: &str = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin";

/// A file system to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// ext4, with its default journal mode.
    Ext4,
    /// XFS.
    Xfs,
}

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<Kind> {
        match name {
            "ext4" => Some(Kind::Ext4),
            "xfs" => Some(Kind::Xfs),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
        }
    }

    fn make(self) -> (&'static str, &'static [&'static str]) {
        match self {
            // No writing in the background afterwards, which would only fill the log of a disk.
            Kind::Ext4 => (
                "mkfs.ext4",
                &[
                    "-q",
                    "-m",
                    "0",
                    "-E",
                    "lazy_itable_init=0,lazy_journal_init=0",
                ],
            ),
            Kind::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        }
    }

    /// Options of a mount. Images of one file system have the same UUID, which XFS would refuse.
    fn options(self) -> &'static str {
        match self {
            Kind::Ext4 => "rw",
            Kind::Xfs => "rw,nouuid",
        }
    }

    /// What this machine lacks to make it.
    pub fn missing(self) -> Option<String> {
        let (tool, _) = self.make();
        match run(Command::new(tool).arg("-V")) {
            Ok(_) => None,
            Err(_) => Some(format!("{tool} is not installed")),
        }
    }

    /// Makes it on a file or device.
    ///
    /// # Errors
    /// The tool fails.
    pub fn format(self, target: &Path) -> anyhow::Result<()> {
        let (tool, arguments) = self.make();
        run(Command::new(tool).args(arguments).arg(target)).map(|_| ())
    }
}

/// What this machine lacks to mount anything from a file.
pub fn missing() -> Option<String> {
    let root = run(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root {
        return Some("only root can mount".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".to_owned());
    }
    None
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Mounts what is in a file, through a loop device that bypasses the page cache where it can.
    ///
    /// # Errors
    /// There is no loop device, or the file system cannot be mounted.
    pub fn file(kind: Kind, file: &Path, at: &Path) -> anyhow::Result<Mount> {
        fs::create_dir_all(at)?;
        let device = run(Command::new("losetup")
            .args(["--find", "--show", "--direct-io=on"])
            .arg(file))?;
        let device = device.trim();
        let mounted = run(Command::new("mount")
            .args(["-t", kind.name(), "-o", kind.options(), device])
            .arg(at));
        // From here on the mount alone holds the device.
        let detached = run(Command::new("losetup").args(["--detach", device]));
        mounted?;
        let mount = Mount {
            at: at.to_path_buf(),
        };
        detached?;
        Ok(mount)
    }

    /// Ends it now, and says whether that worked.
    ///
    /// # Errors
    /// It is in use.
    pub fn end(self) -> anyhow::Result<()> {
        let ended = run(Command::new("umount").arg(&self.at));
        match ended {
            Ok(_) => {
                std::mem::forget(self);
                Ok(())
            }
            // Dropping it tries again, harder.
            Err(error) => Err(error),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg("--lazy").arg(&self.at)) {
            eprintln!("{error:#}");
        }
    }
}

/// Mounts that stand on each other; the last ends first.
#[derive(Debug, Default)]
pub struct Mounts {
    stack: Vec<Mount>,
}

impl Mounts {
    /// Adds one.
    pub fn push(&mut self, mount: Mount) {
        self.stack.push(mount);
    }

    /// Ends all, and says whether that worked.
    ///
    /// # Errors
    /// One is in use.
    pub fn end(mut self) -> anyhow::Result<()> {
        while let Some(mount) = self.stack.pop() {
            mount.end()?;
        }
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        while self.stack.pop().is_some() {}
    }
}

/// Makes a file of `bytes` that takes no room yet.
///
/// # Errors
/// It cannot be made.
pub fn sparse_file(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    file.set_len(bytes)?;
    Ok(())
}

/// Runs a tool to its end, and answers what it printed.
///
/// # Errors
/// It is not there, or fails.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = words.join(" ");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = command
        .env("PATH", format!("{path}:{TOOLS}"))
        .output()
        .with_context(|| line.clone())?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{line}: {}: {}", output.status, error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
