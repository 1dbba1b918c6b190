//! Where things are: the repository's root, its text files, and the built server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Folders that hold no sources of ours.
const SKIPPED: [&str; 8] = [
    ".git",
    "target",
    "node_modules",
    "drystone-data",
    "__pycache__",
    ".pytest_cache",
    "corpus",
    "artifacts",
];

/// The folder of the root `Cargo.toml`.
pub fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask has a parent folder")?;
    if !root.join("Cargo.toml").is_file() {
        bail!("the repository has moved since xtask was built: run it through `cargo xtask`");
    }
    Ok(root.to_path_buf())
}

/// Whether this is continuous integration, where a missing tool is a failure and not a reason to skip.
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Cargo's target folder.
pub fn target_dir(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root.join(dir),
        None => root.join("target"),
    }
}

/// The server that the client suites start: `DRYSTONE_BIN` if set, else the debug build.
pub fn server_binary(root: &Path) -> (PathBuf, bool) {
    match std::env::var_os("DRYSTONE_BIN") {
        Some(path) => (root.join(path), true),
        None => (target_dir(root).join("debug/drystone"), false),
    }
}

/// Every file below `folder` that is ours, as paths relative to `root`, sorted.
pub fn files_below(root: &Path, folder: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name();
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(root)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}
