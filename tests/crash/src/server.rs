//! A `drystone serve` process, and commands beside it.

use crate::api::Api;
use crate::wire::Key;
use anyhow::{Context, bail};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A start that takes longer has failed.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The exit code of a command that found data lost or in danger.
const DATA_IN_DANGER: i32 = 4;

/// The program under test, and where it works.
#[derive(Clone, Debug)]
pub struct Program {
    /// The built binary.
    pub binary: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// Its settings.
    pub settings: PathBuf,
    /// Where its log goes.
    pub log: PathBuf,
}

/// A running server; killed when dropped.
pub struct Server {
    child: Mutex<Child>,
    /// Where it listens.
    pub address: SocketAddr,
    /// From its start to its readiness.
    pub took: Duration,
}

impl Program {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .arg("--data")
            .arg(&self.data)
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    /// Starts the process and does not wait for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self) -> anyhow::Result<Child> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        self.command(&["serve", "--listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(&self.settings)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))
    }

    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time; the message has the end of its log.
    pub fn start(&self) -> anyhow::Result<Server> {
        let began = Instant::now();
        let mut child = self.spawn()?;
        let stdout = child.stdout.take();
        let mut server = Server {
            child: Mutex::new(child),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            took: Duration::ZERO,
        };
        let stdout = stdout.context("stdout is piped")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens after the greeting.
                let _ = sender.send(line);
            }
        });
        loop {
            match lines.recv_timeout(START_LIMIT) {
                Ok(line) => {
                    if let Some(address) = line.strip_prefix("export AWS_ENDPOINT_URL=http://") {
                        server.address = address.parse().context("an address")?;
                    }
                    if line.starts_with("export AWS_REGION=") {
                        server.took = began.elapsed();
                        return Ok(server);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("not ready after {START_LIMIT:?}\n{}", self.log_tail())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the server did not start\n{}", self.log_tail())
                }
            }
        }
    }

    /// The key that the first start made.
    ///
    /// # Errors
    /// There is none.
    pub fn key(&self) -> anyhow::Result<Key> {
        Key::read(&self.data.join("credentials"))
    }

    /// A client of a server of this program.
    ///
    /// # Errors
    /// There is no key.
    pub fn api(&self, server: &Server) -> anyhow::Result<Api> {
        Api::new(server.address, &self.key()?)
    }

    /// Runs a command beside the server, or without one.
    ///
    /// # Errors
    /// It cannot be started, or it found that data is lost or in danger.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = self.command(arguments).output()?;
        if output.status.code() == Some(DATA_IN_DANGER) {
            bail!("`drystone {}`: {}", arguments.join(" "), said(&output));
        }
        Ok(output)
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn must(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self.run(arguments)?;
        if !output.status.success() {
            bail!("`drystone {}`: {}", arguments.join(" "), said(&output));
        }
        Ok(())
    }

    /// Whether the program has this command: versions before collection do not.
    pub fn knows(&self, command: &str) -> bool {
        Command::new(&self.binary)
            .args([command, "--help"])
            .env_clear()
            .output()
            .is_ok_and(|output| output.status.success())
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Fails when the server panicked anywhere.
    ///
    /// # Errors
    /// It did.
    pub fn check_log(&self) -> anyhow::Result<()> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        match text.lines().position(|line| line.contains("panicked at")) {
            None => Ok(()),
            Some(at) => {
                let lines: Vec<&str> = text.lines().skip(at).take(5).collect();
                bail!("the server panicked: {}", lines.join("\n"))
            }
        }
    }
}

/// What a command that ended has said.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

impl Server {
    /// Ends it with SIGKILL, now, and waits for its end.
    ///
    /// # Errors
    /// It had ended by itself.
    pub fn kill(&self) -> anyhow::Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = child.try_wait()? {
            bail!("the server had ended by itself: {status}");
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Writes a settings file.
///
/// # Errors
/// It cannot be written.
pub fn write_settings(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
