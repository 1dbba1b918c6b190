//! `cargo xtask fuzz`: the targets in `fuzz/`, one for each parser of outside bytes, for a bounded time.
//!
//! cargo-fuzz needs compiler flags that a stable toolchain refuses unless `RUSTC_BOOTSTRAP` is set;
//! that is set for these builds alone. Without cargo-fuzz the same harnesses run under proptest.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, installed, run_bounded};
use crate::tally::{Runner, Tally};
use crate::workspace;

const DEFAULT_SECONDS: u64 = 30;
/// Compiling with sanitizers comes before the first target.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs every target, or the one that is named.
pub fn run(args: &[String]) -> Result<()> {
    let (seconds, wanted) = parse(args)?;
    let root = workspace::root()?;
    if !installed("cargo-fuzz", &["--version"]) {
        println!("\nnot installed: cargo-fuzz; the same harnesses run under proptest instead");
        let tally = harnesses(&root)?;
        println!("{tally}");
        if tally.failed > 0 {
            bail!("a harness failed");
        }
        return Ok(());
    }
    let manifest =
        fs::read_to_string(root.join("fuzz/Cargo.toml")).context("cannot read fuzz/Cargo.toml")?;
    let targets = targets(&manifest);
    let chosen: Vec<&String> = targets
        .iter()
        .filter(|target| wanted.as_ref().is_none_or(|name| name == *target))
        .collect();
    if chosen.is_empty() {
        bail!("no such target; there are: {}", targets.join(", "));
    }
    let mut failed = Vec::new();
    for target in chosen {
        let time = format!("-max_total_time={seconds}");
        let args = [
            "fuzz",
            "run",
            "--sanitizer",
            "none",
            "--features",
            "libfuzzer",
        ];
        let mut fuzz = cargo(&root, &[&args[..], &[target, "--", &time]].concat());
        fuzz.env("RUSTC_BOOTSTRAP", "1");
        let finished = run_bounded(fuzz, BUILD_LIMIT + Duration::from_secs(seconds))?;
        if !finished.status.success() {
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        bail!(
            "found input that breaks: {}; it is below fuzz/artifacts",
            failed.join(", ")
        );
    }
    Ok(())
}

/// The harnesses under proptest, on the stable toolchain, built beside the workspace's own tests.
pub fn harnesses(root: &Path) -> Result<Tally> {
    // Not `--locked`: the lock file follows the dependencies of the crates under test.
    let mut tests = cargo(root, &["test", "--manifest-path", "fuzz/Cargo.toml"]);
    tests.env("CARGO_TARGET_DIR", workspace::target_dir(root));
    let finished = run_bounded(tests, BUILD_LIMIT)?;
    Ok(Tally::read(
        Runner::CargoTest,
        &finished.output,
        finished.status.success(),
    ))
}

fn parse(args: &[String]) -> Result<(u64, Option<String>)> {
    let (mut seconds, mut target) = (DEFAULT_SECONDS, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let value = args.next().context("--seconds needs a number")?;
                seconds = value
                    .parse()
                    .with_context(|| format!("{value:?} is no number"))?;
            }
            name if !name.starts_with('-') && target.is_none() => target = Some(name.to_owned()),
            other => bail!("`fuzz` does not know {other:?}"),
        }
    }
    Ok((seconds, target))
}

/// The names of the `[[bin]]` tables.
fn targets(manifest: &str) -> Vec<String> {
    let bins = manifest.split("[[bin]]").skip(1);
    let name = |bin: &str| {
        let line = bin.lines().find_map(|line| line.strip_prefix("name = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    bins.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(parse(&[]).unwrap(), (DEFAULT_SECONDS, None));
        assert_eq!(
            parse(&words("page --seconds 5")).unwrap(),
            (5, Some("page".into()))
        );
        assert!(parse(&words("--seconds")).is_err());
        assert!(parse(&words("--fast")).is_err());
        assert!(parse(&words("page frame")).is_err());
    }

    #[test]
    fn targets_are_the_binaries() {
        let manifest =
            "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"page\"\n\n[[bin]]\nname = \"frame\"\n";
        assert_eq!(targets(manifest), ["page", "frame"]);
    }
}
