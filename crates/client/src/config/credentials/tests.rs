//! When keys are fetched, by whom, and what the others get meanwhile.
//!
//! The source is a real program that counts its runs in a file, so that what is tested is what runs.

use super::*;
use futures_util::future::{FutureExt, join_all};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use types::TestClock;

/// 2026-01-01 00:00 UTC.
const START: UnixMillis = 1_767_225_600_000;

/// A program that prints what a file holds and notes each run.
struct Program {
    folder: TempDir,
    clock: TestClock,
    credentials: Credentials,
}

impl Program {
    fn new() -> Program {
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let setting = format!(
            "sh -c 'echo x >> {runs}; if [ -e {gate} ]; then read x < {gate}; fi; cat {keys}'",
            runs = path("runs"),
            gate = path("gate"),
            keys = path("keys"),
        );
        let process = CredentialProcess::parse(&setting).expect("a good setting");
        Program {
            folder,
            clock: TestClock::at(START),
            credentials: Credentials::from_source(Source::Process(process)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on it prints this key, valid for so many seconds from the start.
    fn prints(&self, id: &str, valid_secs: Option<i64>) {
        let expiration = valid_secs.map_or_else(String::new, |secs| {
            let time = jiff::Timestamp::from_millisecond(START + secs * 1000);
            format!(r#","Expiration":"{}""#, time.expect("a time"))
        });
        let text =
            format!(r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"hush"{expiration}}}"#);
        fs::write(self.path("keys"), text).expect("a file");
    }

    fn fails(&self) {
        fs::remove_file(self.path("keys")).expect("a file");
    }

    /// From now on it waits until the gate is opened.
    fn close_gate(&self) {
        let made = Command::new("mkfifo").arg(self.path("gate")).status();
        assert!(made.expect("mkfifo").success());
    }

    /// Lets the one that waits go on, and those that come later.
    fn open_gate(&self) {
        fs::write(self.path("gate"), "\n").expect("a reader");
        fs::remove_file(self.path("gate")).expect("a gate");
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).map_or(0, |text| text.lines().count())
    }

    async fn get(&self) -> Result<String, String> {
        let outcome = self.credentials.get(&self.clock).await;
        let outcome = outcome.map(|keys| keys.access_key_id.to_string());
        outcome.map_err(|error| error.to_string())
    }

    async fn check(&self, id: &str, runs: usize) {
        assert_eq!(self.get().await.as_deref(), Ok(id));
        assert_eq!(self.runs(), runs);
    }

    fn pass(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_five_minutes_before_they_expire() {
    let program = Program::new();
    program.prints("A", Some(3600));
    program.check("A", 1).await;
    program.prints("B", Some(7200));
    program.pass(3600 - 301);
    program.check("A", 1).await;
    program.pass(1);
    program.check("B", 2).await;
    program.check("B", 2).await;
}

#[tokio::test]
async fn keys_that_do_not_expire_are_fetched_once() {
    let program = Program::new();
    program.prints("A", None);
    program.check("A", 1).await;
    program.pass(1_000_000);
    program.check("A", 1).await;
}

#[tokio::test]
async fn keys_of_a_few_minutes_are_not_fetched_for_every_request() {
    let program = Program::new();
    program.prints("A", Some(120));
    program.check("A", 1).await;
    program.pass(29);
    program.check("A", 1).await;
    program.prints("B", Some(150));
    program.pass(1);
    program.check("B", 2).await;
}

#[tokio::test]
async fn keys_at_hand_are_used_until_they_expire_where_fetching_fails() {
    let program = Program::new();
    program.prints("A", Some(600));
    program.check("A", 1).await;
    program.fails();
    program.pass(400);
    program.check("A", 2).await;
    program.check("A", 2).await;
    program.pass(30);
    program.check("A", 3).await;
    program.pass(170);
    let message = program.get().await.expect_err("no keys");
    assert!(message.contains("failed"), "{message}");
    program.prints("B", Some(9999));
    program.check("B", 5).await;
}

#[tokio::test]
async fn keys_that_have_expired_already_are_refused() {
    let program = Program::new();
    program.prints("A", Some(0));
    let message = program.get().await.expect_err("no keys");
    assert!(message.contains("have expired already"), "{message}");
}

#[tokio::test]
async fn all_who_wait_get_what_one_fetched() {
    let program = Program::new();
    program.prints("A", Some(3600));
    let all = join_all((0..50).map(|_| program.get())).await;
    assert!(all.iter().all(|id| id.as_deref() == Ok("A")), "{all:?}");
    assert_eq!(program.runs(), 1);
    program.fails();
    program.pass(3600);
    let all = join_all((0..50).map(|_| program.get())).await;
    assert!(all.iter().all(Result::is_err), "{all:?}");
    assert_eq!(program.runs(), 2);
}

#[tokio::test]
async fn nobody_waits_while_the_keys_at_hand_are_valid() {
    let program = Program::new();
    program.prints("A", Some(3600));
    program.check("A", 1).await;
    program.prints("B", Some(9999));
    program.pass(3400);
    program.close_gate();
    let others = async {
        // The first poll of the one who fetches comes before this.
        for _ in 0..10 {
            assert_eq!(program.get().await.as_deref(), Ok("A"));
        }
        program.open_gate();
    };
    let (fetched, ()) = tokio::join!(program.get(), others);
    assert_eq!(fetched.as_deref(), Ok("B"));
    program.check("B", 2).await;
}

#[tokio::test]
async fn whoever_stops_waiting_leaves_the_way_free() {
    let program = Program::new();
    program.prints("A", None);
    program.close_gate();
    assert!(program.get().now_or_never().is_none());
    fs::remove_file(program.path("gate")).expect("a gate");
    assert_eq!(program.get().await.as_deref(), Ok("A"));
}
