//! A server, and someone who types commands beside it, with the environment that the server's greeting says.

use crate::server::{PATIENCE, Place, Server};
use rustix::fs::SeekFrom;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use types::{BLOCK_BYTES, Digest, DigestContext};

/// A server on a fresh directory, whose last field goes last: the server ends before its directory.
pub struct Session {
    pub server: Server,
    pub place: Place,
}

impl Session {
    pub fn new() -> Session {
        let place = Place::new();
        Session {
            server: place.serve(&[]),
            place,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A command in the directory of this session.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.drystone(arguments);
        let exports = self.server.greeting.iter();
        for export in exports.filter_map(|line| line.strip_prefix("export ")) {
            for pair in export.split(' ') {
                let (name, value) = pair.split_once('=').expect("NAME=VALUE");
                command.env(name, value);
            }
        }
        command.env("HOME", self.place.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        let running = Running::start(self.command(arguments));
        running.end()
    }

    /// What a command that succeeds prints.
    pub fn prints(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
        done.stdout
    }

    /// The JSON that a command prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.prints(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Uploads, waits, and answers the id.
    pub fn upload(&self, file: &str, more: &[&str]) -> String {
        let printed = self.prints(&[&["upload", file, "--wait"], more].concat());
        let id = printed.strip_suffix('\n').expect("a line");
        assert!(id.starts_with("snap-") && !id.contains('\n'), "{printed}");
        id.to_owned()
    }

    /// Makes a disk of `blocks` blocks with data in these.
    pub fn disk(&self, name: &str, blocks: u64, data: &[u64]) -> PathBuf {
        let path = self.path(name);
        sparse(&path, blocks, data);
        path
    }
}

/// A file of `blocks` blocks with holes but for these.
pub fn sparse(path: &Path, blocks: u64, data: &[u64]) {
    let file = File::create(path).expect("made");
    file.set_len(blocks * BLOCK_BYTES as u64).expect("long");
    for &index in data {
        write_block(&file, index, index);
    }
}

/// Writes the content that this seed has at a block.
pub fn write_block(file: &File, index: u64, seed: u64) {
    file.write_all_at(&block(seed), index * BLOCK_BYTES as u64)
        .expect("written");
}

/// Bytes that no other seed has and nothing compresses.
fn block(seed: u64) -> Vec<u8> {
    let words = (0..BLOCK_BYTES / 8).scan(seed * 2 + 1, |state, _| {
        // splitmix64: Sebastiano Vigna's, public domain.
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = *state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some(word ^ (word >> 31))
    });
    words.flat_map(u64::to_le_bytes).collect()
}

/// The digest of a file's blocks that are not zeros, with their places: the same for files that differ in holes, or in zeros at
/// the end. Volumes are whole GiBs, and reading their holes would take most of the time of a test.
pub fn content(path: &Path) -> Digest {
    let file = File::open(path).expect("there");
    let mut context = DigestContext::new();
    let (mut at, mut buffer) = (0, vec![0; BLOCK_BYTES]);
    while let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        let start = data - data % BLOCK_BYTES as u64;
        let count = file.read_at(&mut buffer, start).expect("readable");
        if buffer[..count].iter().any(|byte| *byte != 0) {
            context.update(&start.to_le_bytes());
            context.update(&buffer[..count]);
        }
        at = start + count as u64;
    }
    context.finish()
}

/// What a command left.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command that runs; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    heard: String,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        Running {
            stdout: child.stdout.take(),
            stderr: BufReader::new(child.stderr.take().expect("piped")),
            child,
            heard: String::new(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads standard error to a line with this in it.
    pub fn says(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            self.stderr.read_line(&mut line).expect("text");
            assert!(!line.is_empty(), "`{word}` is not in {:?}", self.heard);
            self.heard.push_str(&line);
            if line.contains(word) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it runs");
    }

    /// Waits for the end.
    pub fn end(mut self) -> Done {
        let stdout = self.stdout.take().expect("taken once");
        let out = thread::spawn(move || read_all(stdout));
        let status = self.wait();
        Done {
            code: status.code(),
            stdout: out.join().expect("the reader does not panic"),
            stderr: std::mem::take(&mut self.heard),
        }
    }

    /// Waits, reading what it says so that it is never stopped by a full pipe.
    fn wait(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a pid");
        let (ended, watch) = channel::<()>();
        let watchdog = thread::spawn(move || {
            if watch.recv_timeout(PATIENCE * 2) == Err(RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("text");
        self.heard.push_str(&rest);
        let status = self.child.wait().expect("it is ours");
        drop(ended);
        watchdog.join().expect("the watchdog does not panic");
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("text");
    text
}
