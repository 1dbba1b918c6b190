//! `cargo xtask sim`: simulated machines, each by its seed; and every crash point and race, not only a part of them.

use anyhow::{Result, bail};

use crate::command::{cargo, run as run_command};
use crate::workspace;

const USAGE: &str = "usage: cargo xtask sim --seeds N [--from SEED] [--threads N]
       cargo xtask sim --seed SEED
       cargo xtask sim --thorough";

/// Set, crash points and races leave nothing out.
const THOROUGH: &str = "DRYSTONE_SIM_THOROUGH";

/// Runs seeds, one of them aloud, or the thorough tests.
pub fn run(args: &[String]) -> Result<()> {
    let root = workspace::root()?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--thorough"] => {
            let tests = ["test", "--profile", "sim", "--package", "sim", "--tests"];
            let mut tests = cargo(&root, &tests);
            tests.env(THOROUGH, "1");
            run_command(tests)
        }
        ["--seed" | "--seeds", ..] => {
            let sim = [
                "run",
                "--profile",
                "sim",
                "--package",
                "sim",
                "--bin",
                "sim",
                "--",
            ];
            run_command(cargo(&root, &[&sim[..], &args].concat()))
        }
        _ => bail!("{USAGE}"),
    }
}
