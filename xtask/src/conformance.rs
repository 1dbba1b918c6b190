//! `cargo xtask conformance`: the story of a snapshot through the Rust SDK, and the client's credentials through the SDK's chain.
//!
//! Both take minutes to compile. So the story's crate stands outside the workspace, the chain is compiled into the client by a
//! flag only, and each has a target folder of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::{self, cargo};
use crate::tally::{Runner, Tally};
use crate::workspace;

/// Compiling is nearly all of it.
const LIMIT: Duration = Duration::from_secs(40 * 60);
const MANIFEST: &str = "tests/clients/rust/Cargo.toml";
/// Compiles the crate aws-config into the client.
const AWS_CONFIG: &str = "--cfg aws_config";

/// Runs both, even when the first fails. Builds the server for the story unless one is given.
pub fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("`conformance` takes no arguments");
    }
    let mut failed = Vec::new();
    for (name, outcome) in [("the story", story()), ("credentials", credentials())] {
        if let Err(error) = outcome {
            eprintln!("{error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("the Rust SDK found a difference: {}", failed.join(", "));
    }
    Ok(())
}

fn story() -> Result<()> {
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
    test(tests)
}

fn credentials() -> Result<()> {
    let root = workspace::root()?;
    let args = ["test", "--locked", "--package", "client", "--lib", "config"];
    let mut tests = cargo(&root, &args);
    let given = std::env::var("RUSTFLAGS").unwrap_or_default();
    tests.env("RUSTFLAGS", format!("{given} {AWS_CONFIG}").trim());
    tests.env(
        "CARGO_TARGET_DIR",
        workspace::target_dir(&root).join("aws-config"),
    );
    test(tests)
}

fn test(tests: Command) -> Result<()> {
    let finished = command::run_bounded(tests, LIMIT)?;
    let tally = Tally::read(
        Runner::CargoTest,
        &finished.output,
        finished.status.success(),
    );
    println!("{tally}");
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}
