//! The processes that a bench starts: the server under test, the limit server, and load generators.
//!
//! Invariants
//! - None outlives the bench. Each is killed and reaped when its value is dropped; a signal to the bench kills them all
//!   ([`Stop`]); and each asks the kernel to be killed when the bench dies in any other way (`bench.rs`, the parts).
//! - A process id is signalled only while its process has not been reaped: no other process can have it.

use super::http_limit::ADDRESS_PREFIX;
use super::job::{Job, Measured};
use crate::data_dir::Layout;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use types::{Clock, SystemClock};

/// This program, even after its file was replaced.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// Bytes of a log's end that an error shows.
const LOG_SHOWN_MAX: usize = 2000;

/// Ends a bench early.
#[derive(Clone, Default, Debug)]
pub struct Stop(Arc<Mutex<Running>>);

#[derive(Default, Debug)]
struct Running {
    stopped: bool,
    pids: Vec<Pid>,
}

/// The bench was told to end.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; what the bench had made is removed")
    }
}

impl std::error::Error for Interrupted {}

impl Stop {
    /// Kills all processes; from now on none is started.
    pub fn stop(&self) {
        let mut running = self.lock();
        running.stopped = true;
        for pid in &running.pids {
            // One that has ended by itself is a zombie until it is taken from the list: its id is still its own.
            let _ = kill_process(*pid, Signal::KILL);
        }
    }

    /// Fails once the bench is to end.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.lock().stopped {
            true => Err(Interrupted.into()),
            false => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child process; killed and reaped when dropped.
struct Process {
    child: Child,
    pid: Pid,
    stop: Stop,
}

impl Process {
    /// Starts a part of the bench in a process group of its own, so that Ctrl-C reaches the bench alone.
    fn start(
        stop: &Stop,
        part: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Process> {
        let mut command = Command::new(THIS_PROGRAM);
        command
            .args(["bench-part", part])
            .env_clear()
            .process_group(0)
            .stdout(Stdio::piped());
        prepare(&mut command);
        let mut running = stop.lock();
        if running.stopped {
            return Err(Interrupted.into());
        }
        let child = command
            .spawn()
            .with_context(|| format!("the process `{part}` cannot be started"))?;
        let pid = Pid::from_child(&child);
        running.pids.push(pid);
        Ok(Process {
            child,
            pid,
            stop: stop.clone(),
        })
    }

    /// The first line of its output that begins so, without its beginning.
    fn line(&mut self, prefix: &str) -> anyhow::Result<Option<String>> {
        let out = self.child.stdout.as_mut().context("its output is taken")?;
        for line in BufReader::new(out).lines() {
            if let Some(rest) = line?.strip_prefix(prefix) {
                return Ok(Some(rest.to_owned()));
            }
        }
        self.stop.check()?;
        Ok(None)
    }
}

impl Process {
    fn end(&mut self) {
        self.stop.lock().pids.retain(|pid| *pid != self.pid);
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server under test: `drystone serve` on a data directory of its own.
pub struct Server {
    process: Process,
    address: SocketAddr,
    layout: Layout,
    started_in: Duration,
}

impl Server {
    /// Starts it on this data directory, new or not, and waits until it serves.
    pub fn start(stop: &Stop, data: &Path, log: &Path) -> anyhow::Result<Server> {
        let stderr = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{} cannot be written", log.display()))?;
        let clock = SystemClock::new();
        let mut process = Process::start(stop, "serve", |command| {
            command
                .arg("--data")
                .arg(data)
                .stdin(Stdio::null())
                .stderr(stderr);
        })?;
        let Some(address) = process.line("export AWS_ENDPOINT_URL=http://")? else {
            bail!(
                "the server does not start; its log ends with:\n{}",
                end_of(log)
            );
        };
        Ok(Server {
            process,
            address: address.parse().context("the server says no address")?,
            layout: Layout::new(data)?,
            started_in: clock.monotonic(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Kills it; its files stay.
    pub fn kill(&mut self) {
        self.process.end();
    }

    /// The time from its start to its being ready.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The file with its first access key.
    pub fn credentials(&self) -> PathBuf {
        self.layout.credentials()
    }

    /// Drops what the page cache holds of its files; what was written is on the disk, so nothing is lost.
    pub fn drop_page_cache(&self) -> anyhow::Result<()> {
        let mut files = vec![self.layout.catalog()];
        for entry in fs::read_dir(self.layout.segments())? {
            files.push(entry?.path());
        }
        for path in files {
            // A segment may be removed meanwhile.
            if let Ok(file) = fs::File::open(&path) {
                rustix::fs::fdatasync(&file)?;
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
            }
        }
        Ok(())
    }
}

/// The server that stands for the limit of HTTP.
pub struct Limit {
    process: Process,
    address: SocketAddr,
}

impl Limit {
    /// Starts it.
    pub fn start(stop: &Stop) -> anyhow::Result<Limit> {
        let mut process = Process::start(stop, "http-limit", |command| {
            command.stdin(Stdio::null());
        })?;
        let address = process
            .line(ADDRESS_PREFIX)?
            .context("the limit server does not start")?;
        Ok(Limit {
            process,
            address: address
                .parse()
                .context("the limit server says no address")?,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }
}

/// Runs a load generator to its end.
pub fn load(stop: &Stop, job: &Job) -> anyhow::Result<Measured> {
    let mut process = Process::start(stop, "load", |command| {
        command.stdin(Stdio::piped());
    })?;
    let input = process.child.stdin.take().context("it takes no job")?;
    let given = serde_json::to_writer(&input, job);
    drop(input);
    let mut text = Vec::new();
    let mut out = process.child.stdout.take().context("it has no output")?;
    let read = out.read_to_end(&mut text);
    stop.check()?;
    given.context("the load generator took no job")?;
    read.context("the load generator cannot be heard")?;
    let outcome: Result<Measured, String> =
        serde_json::from_slice(&text).context("the load generator ended without an outcome")?;
    match outcome {
        Ok(measured) => Ok(measured),
        Err(reason) => bail!("the load generator failed: {reason}"),
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let start = text.len().saturating_sub(LOG_SHOWN_MAX);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at));
    text[start.unwrap_or_default()..].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_bench_starts_nothing() {
        let stop = Stop::default();
        assert!(stop.check().is_ok());
        stop.stop();
        assert!(stop.check().expect_err("stopped").is::<Interrupted>());
        let Err(error) = Limit::start(&stop) else {
            panic!("it was started");
        };
        assert!(error.is::<Interrupted>());
    }

    #[test]
    fn the_end_of_a_log_is_whole_letters() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        assert_eq!(end_of(&log), "");
        fs::write(&log, "é".repeat(LOG_SHOWN_MAX) + "x").expect("written");
        let end = end_of(&log);
        assert!(end.ends_with("éx") && end.len() <= LOG_SHOWN_MAX);
    }
}
