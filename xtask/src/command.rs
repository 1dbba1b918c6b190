//! Starting other programs: said aloud, bounded in time, and with their output both shown and kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a running program is asked whether it has ended.
const POLL: Duration = Duration::from_millis(100);

/// What a finished program left behind.
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Everything that it wrote to stdout and stderr, line by line, without colour codes.
    pub output: String,
}

/// A command in `folder` with its arguments.
pub fn command(folder: &Path, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder);
    command
}

/// Cargo, by the same name that started xtask.
pub fn cargo(folder: &Path, args: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(folder, &cargo, args);
    // What `cargo xtask` itself was run with must not leak into the builds that it starts.
    for name in [
        "CARGO_MANIFEST_DIR",
        "CARGO_PKG_NAME",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(name);
    }
    command
}

/// Whether `program` can be started at all.
pub fn installed(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command to its end and fails if it fails.
pub fn run(mut command: Command) -> Result<()> {
    announce(&command);
    let status = command.status().with_context(|| cannot_start(&command))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(&command));
    }
    Ok(())
}

/// Runs a command, shows its output as it comes, and kills it when `limit` has passed.
pub fn run_bounded(mut command: Command, limit: Duration) -> Result<Finished> {
    announce(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(&command))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let stderr = child.stderr.take().context("stderr is piped")?;
    let readers = [
        thread::spawn(move || tee(stdout)),
        thread::spawn(move || tee(stderr)),
    ];
    let status = wait(&mut child, limit)
        .with_context(|| format!("`{}` was stopped after {limit:?}", line(&command)))?;
    let mut output = String::new();
    for reader in readers {
        output.push_str(&reader.join().unwrap_or_default());
    }
    Ok(Finished { status, output })
}

fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("it did not end in time");
        }
        thread::sleep(POLL);
    }
}

fn tee(source: impl Read) -> String {
    let mut kept = String::new();
    for line in BufReader::new(source).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        let mut stdout = std::io::stdout().lock();
        // A closed terminal must not stop the tests.
        let _ = writeln!(stdout, "{line}");
        kept.push_str(&plain(&line));
        kept.push('\n');
    }
    kept
}

/// The text without terminal colour codes.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // ESC [ parameters letter
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else if c != '\r' {
            plain.push(c);
        }
    }
    plain
}

fn announce(command: &Command) {
    println!("\n$ {}", line(command));
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", line(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed() {
        assert_eq!(plain("\u{1b}[32;1m3 passed\u{1b}[0m\r"), "3 passed");
    }

    #[test]
    fn a_program_that_hangs_is_stopped() {
        let hanging = command(Path::new("."), "sleep", &["60"]);
        let error = run_bounded(hanging, Duration::from_millis(200))
            .map(|_| ())
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("did not end in time"),
            "{error:#}"
        );
    }

    #[test]
    fn output_of_both_streams_is_kept() {
        let both = command(
            Path::new("."),
            "sh",
            &["-c", "echo out; echo err >&2; exit 3"],
        );
        let finished = run_bounded(both, Duration::from_secs(20)).unwrap();
        assert_eq!(finished.status.code(), Some(3));
        assert!(finished.output.contains("out\n") && finished.output.contains("err\n"));
    }
}
