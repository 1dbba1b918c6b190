//! What an interruption leaves: nothing, unless it is to be resumed.

use super::super::proxy::{Fault, On, Proxy, Rule};
use super::session::{Running, Session, content};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Sixteen MiB of data, for transfers that are held up by a bandwidth of one or two MiB a second.
const DATA: [u64; 32] = {
    let mut data = [0; 32];
    let mut index = 0;
    while index < 32 {
        data[index] = index as u64;
        index += 1;
    }
    data
};

fn snapshots(session: &Session) -> Vec<Value> {
    let told = session.json(&["ls"]);
    told["snapshots"].as_array().expect("an array").clone()
}

#[test]
fn a_signal_stops_an_upload_and_deletes_what_was_pending() {
    for signal in [Signal::INT, Signal::TERM] {
        let session = Session::new();
        session.disk("disk", 64, &DATA);
        let slow = ["upload", "disk", "--bandwidth", "1M"];
        let mut upload = Running::start(session.command(&slow));
        let line = upload.says("uploading:");
        assert!(
            line.contains("of 32.0 MiB") && line.contains("/s"),
            "{line}"
        );
        assert_eq!(snapshots(&session).len(), 1, "it is pending");
        upload.signal(signal);
        let done = upload.end();
        assert_eq!(done.code, Some(130), "{done:?}");
        assert_eq!(done.stdout, "");
        assert!(
            done.stderr.contains("the pending snapshot is deleted"),
            "{done:?}"
        );
        assert!(snapshots(&session).is_empty());
    }
}

#[test]
fn a_pending_snapshot_that_cannot_be_deleted_is_named() {
    let session = Session::new();
    session.disk("disk", 64, &DATA);
    let refuses = Rule::new(On::QUERY, Fault::InternalError);
    let proxy = Proxy::start(session.server.address, [refuses]);
    let url = proxy.url();
    let slow = ["upload", "disk", "--bandwidth", "1M", "--attempts", "1"];
    let words = [&slow[..], &["--endpoint-url", &url]].concat();
    let mut upload = Running::start(session.command(&words));
    upload.says("uploading:");
    upload.signal(Signal::INT);
    let done = upload.end();
    assert_eq!(done.code, Some(130), "{done:?}");
    let pending = snapshots(&session);
    let id = pending[0]["snapshot_id"].as_str().expect("an id");
    let note = "drystone: note: the pending snapshot could not be deleted";
    let mut notes = done.stderr.lines().filter(|line| line.starts_with(note));
    assert!(notes.any(|line| line.contains(id)), "{done:?}");
}

/// The snapshot is whole by then, and its id is nowhere else.
#[test]
fn a_signal_while_waiting_names_the_snapshot_and_keeps_it() {
    let session = Session::new();
    session.disk("disk", 2, &[0]);
    let source = session.upload("disk", &[]);
    let proxy = Proxy::start(session.server.address, []);
    let url = proxy.url();
    let ids = || -> Vec<String> {
        let told = snapshots(&session).into_iter();
        told.map(|told| told["snapshot_id"].to_string()).collect()
    };
    let check = |words: &[&str], questions_before: u64| {
        let before = ids();
        proxy.set([Rule::new(On::QUERY, Fault::Stall).skip(questions_before)]);
        let stalled = proxy.count(Fault::Stall);
        let waiting = Running::start(session.command(words));
        proxy.wait_for(Fault::Stall, stalled + 1);
        waiting.signal(Signal::INT);
        let done = waiting.end();
        proxy.set([]);
        assert_eq!((done.code, &*done.stdout), (Some(130), ""), "{done:?}");
        let after = ids();
        let mut new = after.iter().filter(|id| !before.contains(id));
        let id = new.next().expect("it stays").trim_matches('"');
        let kept = format!("drystone: {id} has everything");
        assert!(done.stderr.contains(&kept), "{done:?}");
    };
    check(&["upload", "disk", "--wait", "--endpoint-url", &url], 0);
    let to = ["copy", &source, "--to", &url, "--again"];
    let before = proxy.calls(On::QUERY);
    session.prints(&[&to[..], &["--dry-run"]].concat());
    let preparing = proxy.calls(On::QUERY) - before;
    check(&[&to[..], &["--wait"]].concat(), preparing);
}

#[test]
fn a_second_signal_ends_at_once() {
    let session = Session::new();
    session.disk("disk", 64, &DATA);
    let slow = ["upload", "disk", "--bandwidth", "1M"];
    let mut upload = Running::start(session.command(&slow));
    upload.says("uploading:");
    // The server does not answer any more: cleaning up takes long.
    let pid = i32::try_from(session.server.pid()).expect("a pid");
    let server = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(server, Signal::STOP).expect("it runs");
    upload.signal(Signal::INT);
    upload.says("once more ends at once");
    upload.signal(Signal::INT);
    let done = upload.end();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(!done.stderr.contains("of uploading"), "{done:?}");
}

#[test]
fn a_signal_stops_a_download_and_leaves_no_file() {
    let session = Session::new();
    session.disk("disk", 64, &DATA);
    let id = session.upload("disk", &[]);
    let before = files(&session);
    let slow = ["download", &id, "back", "--bandwidth", "1M"];
    let mut download = Running::start(session.command(&slow));
    download.says("downloading:");
    download.signal(Signal::INT);
    let done = download.end();
    assert_eq!(done.code, Some(130), "{done:?}");
    assert_eq!(files(&session), before);
}

fn files(session: &Session) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(session.place.path()).expect("readable");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    names.sort();
    names
}

#[test]
fn a_killed_upload_is_resumed() {
    let session = Session::new();
    let disk = session.disk("disk", 64, &DATA);
    let upload = ["upload", "disk", "--resume"];
    let slow = [&upload[..], &["--bandwidth", "2M"]].concat();
    let mut killed = Running::start(session.command(&slow));
    killed.says("uploading:");
    killed.signal(Signal::KILL);
    drop(killed);
    let pending = snapshots(&session);
    assert_eq!(pending.len(), 1, "{pending:?}");
    let id = pending[0]["snapshot_id"].as_str().expect("an id");
    // To another key it is unknown, which does not mean that it is gone.
    let notes = session.path(".local/state/drystone/uploads");
    let state = only_file(&notes);
    let made = session.run(&["key", "create", "--new-account", "--data", "data", "--json"]);
    let key: Value = serde_json::from_str(&made.stdout).expect("JSON");
    let text = |name: &str| key[name].as_str().expect("text").to_owned();
    let by_name = ["upload", "disk", "--state", state.to_str().expect("text")];
    let mut other = session.command(&by_name);
    other.env("AWS_ACCESS_KEY_ID", text("access_key_id"));
    other.env("AWS_SECRET_ACCESS_KEY", text("secret_access_key"));
    let done = Running::start(other).end();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("another upload"), "{done:?}");

    let done = session.run(&["wait", id, "--timeout", "100ms"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("still pending"), "{done:?}");

    let told = session.json(&[&upload[..], &["--wait"]].concat());
    assert_eq!(told["snapshot_id"], id, "{told}");
    assert_eq!(told["blocks_put"], 32);
    let same = told["transfer"]["skipped_same_bytes"].as_u64();
    assert!(
        same > Some(0),
        "what was acknowledged is not sent again: {told}"
    );
    session.prints(&["download", id, "back"]);
    assert_eq!(content(&session.path("back")), content(&disk));
    // Nothing is left to resume: the next one is another snapshot.
    let next = session.json(&upload);
    assert_ne!(next["snapshot_id"], id);
}

fn only_file(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory).expect("readable");
    let mut paths = entries.map(|entry| entry.expect("readable").path());
    let path = paths.next().expect("a file");
    assert!(paths.next().is_none());
    path
}

#[test]
fn a_killed_download_is_resumed() {
    let session = Session::new();
    let disk = session.disk("disk", 64, &DATA);
    let id = session.upload("disk", &[]);
    let download = ["download", &id, "back", "--resume", "--state", "state"];
    let slow = [&download[..], &["--bandwidth", "2M"]].concat();
    let mut killed = Running::start(session.command(&slow));
    killed.says("downloading:");
    killed.signal(Signal::KILL);
    drop(killed);
    assert!(session.path("state").exists() && !session.path("back").exists());
    let told = session.json(&download);
    let moved = told["transfer"]["moved_bytes"].as_u64();
    assert!(moved < Some(32 * 524_288), "{told}");
    assert_eq!(content(&session.path("back")), content(&disk));
    assert!(!session.path("state").exists());
}
