//! `cargo xtask check`: everything short of running the tests.
//!
//! Each step runs even if an earlier one failed, so that one run shows all there is to mend.

use anyhow::{Result, bail};

use crate::command::{cargo, command, installed, run as run_command};
use crate::{tidy, workspace};

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
    step(
        "lints",
        run_command(cargo(
            root,
            &[
                "clippy",
                "--workspace",
                "--all-features",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        )),
    );
    step("tidy", tidy::run(&[]));
    step(
        "doc tests",
        run_command(cargo(
            root,
            &["test", "--workspace", "--all-features", "--doc"],
        )),
    );
    if installed("cargo-deny", &["--version"]) {
        // Advisories need a database from the network; licences, bans and sources do not.
        let args = [
            "deny",
            "--all-features",
            "check",
            "licenses",
            "bans",
            "sources",
        ];
        step("dependencies", run_command(cargo(root, &args)));
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
