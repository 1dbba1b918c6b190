//! `cargo xtask soak` and `cargo xtask crashdisk`: the built server under kills and power cuts (`tests/crash`).
//!
//! As root the programs run in mount and process name spaces of their own, so that file systems, loop devices and servers
//! end with them, however they end. Without root, or without a tool, what cannot be done is named and skipped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{self, Finished, cargo, command as program, installed};
use crate::tally::Tally;
use crate::workspace;

const MANIFEST: &str = "tests/crash/Cargo.toml";
/// Hundreds of kills or cuts by hand.
const LIMIT: Duration = Duration::from_secs(4 * 60 * 60);
/// What `cargo xtask test` runs is a matter of a minute or two; slow machines get more.
const LIMIT_IN_TESTS: Duration = Duration::from_secs(15 * 60);
/// A word of the programs for what they could not do here.
const SKIPPED: &str = "skipped";

/// New name spaces for mounts and processes, all of which end with the process that asks for them.
const ALONE: [&str; 10] = [
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
];

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Kills of the process.
    Soak,
    /// Power cuts under the disk.
    Disk,
}

impl Crash {
    /// Both.
    pub const ALL: [Crash; 2] = [Crash::Soak, Crash::Disk];

    /// Its name: of the program, the command and the suite.
    pub fn name(self) -> &'static str {
        match self {
            Crash::Soak => "soak",
            Crash::Disk => "crashdisk",
        }
    }

    /// What `cargo xtask test` gives it to do.
    fn in_tests(self) -> &'static [&'static str] {
        match self {
            Crash::Soak => &["--kills", "12", "--full-kills", "4"],
            Crash::Disk => &["--cuts", "8", "--log-mib", "64"],
        }
    }
}

/// Runs one by hand; its arguments are passed on.
pub fn run(crash: Crash, args: &[String]) -> Result<()> {
    let root = workspace::root()?;
    let (server, given) = workspace::server_binary(&root);
    if !given {
        command::run(cargo(&root, &["build", "--package", "drystone"]))?;
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let finished = start(&root, &server, crash, &args, LIMIT)?;
    if !finished.status.success() {
        bail!("{} failed: {}", crash.name(), finished.status);
    }
    Ok(())
}

/// Runs one as a suite of the tests: it passes or fails as a whole.
pub fn suite(root: &Path, server: &Path, crash: Crash) -> Result<Tally> {
    let finished = start(root, server, crash, crash.in_tests(), LIMIT_IN_TESTS)?;
    let success = finished.status.success();
    Ok(Tally {
        passed: u64::from(success),
        failed: u64::from(!success),
        skipped: finished
            .output
            .lines()
            .filter(|line| line.contains(SKIPPED))
            .count() as u64,
    })
}

fn start(
    root: &Path,
    server: &Path,
    crash: Crash,
    args: &[&str],
    limit: Duration,
) -> Result<Finished> {
    let target = workspace::target_dir(root);
    // Not `--locked`: the lock file follows the dependencies of the crates that it uses.
    let mut build = cargo(root, &["build", "--manifest-path", MANIFEST]);
    build.env("CARGO_TARGET_DIR", &target);
    command::run(build)?;

    let dir = Place::new(target.join("tmp").join(format!(
        "{}-{}",
        crash.name(),
        std::process::id()
    )))?;
    let binary = target.join("debug").join(crash.name());
    let (binary, server) = (binary.display().to_string(), server.display().to_string());
    let place = dir.0.display().to_string();
    let own = ["--binary", &server, "--dir", &place];
    let alone = installed("setpriv", &[&ALONE[..], &["true"]].concat());
    let command = match alone {
        true => program(
            root,
            "setpriv",
            &[&ALONE[..], &[&binary], &own, args].concat(),
        ),
        false => program(root, &binary, &[&own, args].concat()),
    };
    command::run_bounded(command, limit)
}

/// A folder that goes away again.
struct Place(PathBuf);

impl Place {
    fn new(path: PathBuf) -> Result<Place> {
        std::fs::create_dir_all(&path)?;
        Ok(Place(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}
