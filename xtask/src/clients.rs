//! Real clients, installed from their package registries into `target/clients` and run from there.
//!
//! Nothing is installed outside the target folder, and what is there is kept as long as the list of
//! packages stays the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{command as program, installed, run};
use crate::tally::Runner;
use crate::workspace;

/// A whole suite may take this long; each of its tests has a limit of its own.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Registries have bad minutes.
const INSTALL_ATTEMPTS: usize = 3;
/// Says for which list of packages a folder was filled.
const STAMP: &str = "installed-for";

/// A suite of tests against the built server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// boto3, and raw requests that no client would send.
    Python,
    /// The AWS command line.
    AwsCli,
    /// The JavaScript SDK v3.
    JavaScript,
}

impl Suite {
    /// All of them, in the order in which they run.
    pub const ALL: [Suite; 3] = [Suite::Python, Suite::AwsCli, Suite::JavaScript];

    /// Its name on the command line, and its folder below `tests/clients`.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Python => "python",
            Suite::AwsCli => "aws-cli",
            Suite::JavaScript => "javascript",
        }
    }

    /// Who counts its tests.
    pub fn runner(self) -> Runner {
        match self {
            Suite::Python | Suite::AwsCli => Runner::Pytest,
            Suite::JavaScript => Runner::Node,
        }
    }
}

/// What this machine lacks to run a suite, in words.
pub fn missing(suite: Suite) -> Option<String> {
    match suite {
        Suite::Python | Suite::AwsCli => {
            let test = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";
            let found = installed("python3", &["-c", test]);
            (!found).then(|| "needs python3 (3.10 or later) with venv".to_owned())
        }
        Suite::JavaScript => {
            let test = "process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)";
            let found = installed("node", &["-e", test]) && installed("npm", &["--version"]);
            (!found).then(|| "needs node (20 or later) with npm".to_owned())
        }
    }
}

/// Installs what a suite needs, unless it is there already.
pub fn install(root: &Path, suite: Suite) -> Result<()> {
    match suite {
        Suite::Python | Suite::AwsCli => install_python(root),
        Suite::JavaScript => install_javascript(root),
    }
}

/// The command that runs a suite against `server`.
pub fn command(root: &Path, server: &Path, suite: Suite) -> Result<Command> {
    let mut command = match suite {
        Suite::Python | Suite::AwsCli => {
            let python = python_folder(root).join("bin/python");
            let python = python
                .to_str()
                .context("the path of the target folder is text")?;
            let config = "--config-file=tests/clients/pytest.ini";
            let folder = format!("tests/clients/{}", suite.name());
            program(root, python, &["-m", "pytest", config, &folder])
        }
        Suite::JavaScript => {
            let folder = javascript_folder(root);
            let mut args = vec!["--test".to_owned(), "--test-reporter=spec".to_owned()];
            for path in workspace::files_below(root, "tests/clients/javascript")? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                    continue;
                };
                // Modules are resolved from where the importing file lies.
                if name.ends_with(".mjs") {
                    fs::copy(root.join(&path), folder.join(name))?;
                }
                if name.ends_with(".test.mjs") {
                    args.push(name.to_owned());
                }
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            program(&folder, "node", &args)
        }
    };
    command
        .env("DRYSTONE_BIN", server)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

fn python_folder(root: &Path) -> PathBuf {
    workspace::target_dir(root).join("clients/python")
}

fn javascript_folder(root: &Path) -> PathBuf {
    workspace::target_dir(root).join("clients/node")
}

fn install_python(root: &Path) -> Result<()> {
    let folder = python_folder(root);
    let list = root.join("tests/clients/requirements.txt");
    install_once(&folder, &list, || {
        let folder = folder
            .to_str()
            .context("the path of the target folder is text")?;
        let pip = format!("{folder}/bin/pip");
        run(program(root, "python3", &["-m", "venv", "--clear", folder]))?;
        let args = [
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ];
        let list = list
            .to_str()
            .context("the path of the repository is text")?;
        run(program(root, &pip, &[&args[..], &[list]].concat()))
    })
}

fn install_javascript(root: &Path) -> Result<()> {
    let folder = javascript_folder(root);
    let sources = root.join("tests/clients/javascript");
    let list = sources.join("package-lock.json");
    install_once(&folder, &list, || {
        fs::create_dir_all(&folder)?;
        for name in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(sources.join(name), folder.join(name))?;
        }
        run(program(
            &folder,
            "npm",
            &["ci", "--no-audit", "--no-fund", "--loglevel=error"],
        ))
    })
}

/// Calls `install` until it succeeds, unless the folder's stamp equals the list of packages.
fn install_once(folder: &Path, list: &Path, install: impl Fn() -> Result<()>) -> Result<()> {
    let wanted = fs::read(list).with_context(|| format!("cannot read {}", list.display()))?;
    let stamp = folder.join(STAMP);
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let mut outcome = install();
    for _ in 1..INSTALL_ATTEMPTS {
        if let Err(error) = &outcome {
            eprintln!("{error:#}; trying again");
            outcome = install();
        }
    }
    outcome?;
    fs::write(&stamp, wanted)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn packages_are_installed_once_for_a_list_and_again_after_a_failure() {
        let folder = std::env::temp_dir().join(format!("xtask-clients-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let list = folder.join("list");
        let calls = Cell::new(0);
        let install = |failures: i32| {
            install_once(&folder, &list, || {
                calls.set(calls.get() + 1);
                if calls.get() <= failures {
                    anyhow::bail!("registry away")
                } else {
                    Ok(())
                }
            })
        };
        fs::write(&list, "a").unwrap();
        install(1).unwrap();
        assert_eq!(calls.get(), 2);
        install(0).unwrap();
        assert_eq!(calls.get(), 2);
        fs::write(&list, "b").unwrap();
        install(0).unwrap();
        assert_eq!(calls.get(), 3);
        fs::write(&list, "c").unwrap();
        install(100).unwrap_err();
        assert_eq!(calls.get(), 6);
        fs::remove_dir_all(&folder).unwrap();
    }
}
