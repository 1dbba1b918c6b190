//! `cargo xtask conformance`: the story of a snapshot through the Rust SDK.
//!
//! The SDK takes minutes to compile, so its crate stands outside the workspace and keeps its own
//! target folder.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{self, cargo};
use crate::tally::{Runner, Tally};
use crate::workspace;

/// Compiling is nearly all of it.
const LIMIT: Duration = Duration::from_secs(40 * 60);
const MANIFEST: &str = "tests/clients/rust/Cargo.toml";

/// Builds the server unless one is given, then the crate, and runs its tests.
pub fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("`conformance` takes no arguments");
    }
    let root = workspace::root()?;
    let (server, given) = workspace::server_binary(&root);
    if !given {
        command::run(cargo(&root, &["build", "--package", "drystone"]))?;
    }
    let mut tests = cargo(&root, &["test", "--locked", "--manifest-path", MANIFEST]);
    tests.env("DRYSTONE_BIN", server);
    tests.env(
        "CARGO_TARGET_DIR",
        workspace::target_dir(&root).join("conformance"),
    );
    let finished = command::run_bounded(tests, LIMIT)?;
    let tally = Tally::read(
        Runner::CargoTest,
        &finished.output,
        finished.status.success(),
    );
    println!("{tally}");
    if tally.failed > 0 {
        bail!("the Rust SDK found a difference");
    }
    Ok(())
}
