//! The project's own commands: `cargo xtask check`, `test`, `tidy`, `conformance`, `fuzz`, `sim`.
//!
//! `check` and `test` together are what continuous integration runs; nothing passes there that cannot
//! be run here. Every command prints what it starts, so that each step can be repeated by hand.

// Tools may be looked for in the environment, and a suite's time is measured: xtask is never shipped.
#![allow(clippy::disallowed_methods)]

mod check;
mod clients;
mod command;
mod conformance;
mod crash;
mod fuzz;
mod sim;
mod tally;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check                        formatting, lints, tidy, doc tests, licences, spelling
  test [SUITE...]              every test; or some of: workspace, harnesses, python, aws-cli,
                               javascript, soak, crashdisk
  tidy                         the house rules that no compiler knows
  conformance                  the same story, and credentials, through the Rust SDK (builds for minutes)
  soak [--kills N] [--full-kills N] [--seed N]
                               kills the server under load and checks what it acknowledged
  crashdisk [--cuts N] [--fs ext4,xfs] [--disks 1,2] [--log-mib N] [--seed N]
                               cuts the power under its disk (root only)
  fuzz [--seconds N] [TARGET]  each fuzz target for N seconds (default 30)
  sim --seeds N | --seed S     the engine on simulated machines that fail as their seeds say
  sim --thorough               every crash point and every race with garbage collection
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match command {
        "check" => check::run(rest),
        "test" => test::run(rest),
        "tidy" => tidy::run(rest),
        "conformance" => conformance::run(rest),
        "fuzz" => fuzz::run(rest),
        "sim" => sim::run(rest),
        "soak" => crash::run(crash::Crash::Soak, rest),
        "crashdisk" => crash::run(crash::Crash::Disk, rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(anyhow::anyhow!("no command {other:?}\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
