//! `cargo xtask test`: every test of the workspace, the fuzzing harnesses under proptest, real AWS clients
//! against the built server, then a few kills and power cuts.
//!
//! The last line counts over all suites; the exit status follows it. A suite that cannot run here (no
//! Python, no Node) is named and skipped, except in continuous integration, where that is a failure.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::clients::{self, Suite};
use crate::command::{self, cargo, installed};
use crate::crash::{self, Crash};
use crate::fuzz;
use crate::tally::{Runner, Tally};
use crate::workspace;

/// Building everything from nothing on two slow cores is part of this.
const WORKSPACE_LIMIT: Duration = Duration::from_secs(45 * 60);
/// The name of the suite of Rust tests, beside those of the clients.
const WORKSPACE: &str = "workspace";
/// The name of the suite of harnesses.
const HARNESSES: &str = "harnesses";

/// How a suite ended.
enum Outcome {
    Counted(Tally),
    NotHere(String),
}

struct Line {
    suite: &'static str,
    outcome: Outcome,
    took: Duration,
}

/// Runs the suites that are named in `args`, or all of them.
pub fn run(args: &[String]) -> Result<()> {
    let known: Vec<&str> = [WORKSPACE, HARNESSES]
        .into_iter()
        .chain(Suite::ALL.map(Suite::name))
        .chain(Crash::ALL.map(Crash::name))
        .collect();
    if let Some(unknown) = args.iter().find(|arg| !known.contains(&arg.as_str())) {
        bail!("no suite {unknown:?}; there are: {}", known.join(", "));
    }
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    let root = workspace::root()?;
    let mut lines = Vec::new();

    if wanted(WORKSPACE) {
        lines.push(timed(WORKSPACE, || workspace_tests(&root)));
    }
    if wanted(HARNESSES) {
        lines.push(timed(HARNESSES, || {
            fuzz::harnesses(&root).map(Outcome::Counted)
        }));
    }
    let suites: Vec<Suite> = Suite::ALL
        .into_iter()
        .filter(|suite| wanted(suite.name()))
        .collect();
    let crashes: Vec<Crash> = Crash::ALL
        .into_iter()
        .filter(|crash| wanted(crash.name()))
        .collect();
    if !suites.is_empty() || !crashes.is_empty() {
        let (server, given) = workspace::server_binary(&root);
        if !given {
            command::run(cargo(&root, &["build", "--package", "drystone"]))?;
        }
        for suite in suites {
            lines.push(timed(suite.name(), || client_tests(&root, &server, suite)));
        }
        for crash in crashes {
            lines.push(timed(crash.name(), || {
                crash::suite(&root, &server, crash).map(Outcome::Counted)
            }));
        }
    }
    report(&lines)
}

fn timed(suite: &'static str, run: impl FnOnce() -> Result<Outcome>) -> Line {
    let started = Instant::now();
    let outcome = run().unwrap_or_else(|error| {
        eprintln!("{suite}: {error:#}");
        Outcome::Counted(Tally {
            failed: 1,
            ..Tally::default()
        })
    });
    Line {
        suite,
        outcome,
        took: started.elapsed(),
    }
}

fn workspace_tests(root: &Path) -> Result<Outcome> {
    let nextest = [
        "nextest",
        "run",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
    ];
    let plain = [
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--all-targets",
    ];
    let (runner, command) = if installed("cargo-nextest", &["nextest", "--version"]) {
        (Runner::Nextest, cargo(root, &nextest))
    } else {
        println!(
            "\nnot installed: cargo-nextest; cargo test runs the same tests without time limits"
        );
        (Runner::CargoTest, cargo(root, &plain))
    };
    let finished = command::run_bounded(command, WORKSPACE_LIMIT)?;
    Ok(Outcome::Counted(Tally::read(
        runner,
        &finished.output,
        finished.status.success(),
    )))
}

fn client_tests(root: &Path, server: &Path, suite: Suite) -> Result<Outcome> {
    if let Some(missing) = clients::missing(suite) {
        return Ok(Outcome::NotHere(missing));
    }
    clients::install(root, suite)?;
    let finished = command::run_bounded(clients::command(root, server, suite)?, clients::LIMIT)?;
    let success = finished.status.success();
    Ok(Outcome::Counted(Tally::read(
        suite.runner(),
        &finished.output,
        success,
    )))
}

fn report(lines: &[Line]) -> Result<()> {
    let mut total = Tally::default();
    println!();
    for line in lines {
        let seconds = line.took.as_secs_f64();
        match &line.outcome {
            Outcome::Counted(tally) => {
                total += *tally;
                println!("{:<12} {tally} ({seconds:.1} s)", line.suite);
            }
            Outcome::NotHere(missing) => {
                println!("{:<12} not run: {missing}", line.suite);
                if workspace::is_ci() {
                    total.failed += 1;
                }
            }
        }
    }
    println!("{total}");
    // The count is the last line of all; a message of `main` would come after it.
    std::process::exit(i32::from(total.failed > 0));
}
