//! `cargo xtask check`: everything short of running the tests.
//!
//! Each step runs even if an earlier one failed, so that one run shows all there is to mend.

use anyhow::{Result, bail};

use crate::command::{cargo, command, installed, run as run_command};
use crate::{tidy, workspace};

const LINTS: [&str; 7] = [
    "clippy",
    "--workspace",
    "--all-features",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];
const DOC_TESTS: [&str; 4] = ["test", "--workspace", "--all-features", "--doc"];
/// Advisories need a database from the network; licences, bans and sources do not.
const DEPENDENCIES: [&str; 6] = [
    "deny",
    "--all-features",
    "check",
    "licenses",
    "bans",
    "sources",
];
/// Crates that stand outside the workspace; cargo formats a workspace only.
const OUTSIDE: [&str; 3] = [
    "fuzz/Cargo.toml",
    "tests/clients/rust/Cargo.toml",
    "tests/crash/Cargo.toml",
];

/// Runs every step and fails when any of them did.
pub fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("`check` takes no arguments");
    }
    let root = workspace::root()?;
    let root = root.as_path();
    let mut failed = Vec::new();
    let mut step = |name: &'static str, outcome: Result<()>| {
        if let Err(error) = outcome {
            eprintln!("{error:#}");
            failed.push(name);
        }
    };

    step(
        "formatting",
        run_command(cargo(root, &["fmt", "--all", "--check"])),
    );
    for manifest in OUTSIDE {
        let args = ["fmt", "--check", "--manifest-path", manifest];
        step(
            "formatting outside the workspace",
            run_command(cargo(root, &args)),
        );
    }
    step("lints", run_command(cargo(root, &LINTS)));
    step("tidy", tidy::run(&[]));
    step("doc tests", run_command(cargo(root, &DOC_TESTS)));
    if installed("cargo-deny", &["--version"]) {
        step("dependencies", run_command(cargo(root, &DEPENDENCIES)));
    } else {
        println!("\nnot installed, skipped: cargo-deny (licences, bans, sources of dependencies)");
    }
    if installed("typos", &["--version"]) {
        step("spelling", run_command(command(root, "typos", &[])));
    } else {
        println!("\nnot installed, skipped: typos (spelling)");
    }

    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    println!("\ncheck passed");
    Ok(())
}
