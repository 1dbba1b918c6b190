//! `drystone gc`: beside the server, without it, twice at once, cut off, and with a client that goes away.

use crate::server::{PATIENCE, Place, Server, Signal};
use crate::snapshots::Client;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// 8 blocks of 512 KiB.
const EIGHT_BLOCKS: u64 = 8 << 19;

fn gc(place: &Place, arguments: &[&str]) -> Value {
    let output = place.run(&[&["gc", "--json", "--data", "data"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What `du` says of the segments.
fn stored_bytes(place: &Place) -> u64 {
    let segments = fs::read_dir(place.data().join("segments")).expect("readable");
    let blocks = segments.map(|entry| {
        let metadata = entry.and_then(|entry| entry.metadata());
        metadata.expect("it is there").blocks()
    });
    blocks.sum::<u64>() * 512
}

/// Two snapshots of 8 blocks each, one of which is deleted.
fn with_garbage(place: &Place, server: &Server) -> String {
    let client = Client::of(place, server);
    let kept = client.upload(1..9);
    let doomed = client.upload(100..108);
    client.delete(&doomed);
    kept
}

#[test]
fn the_second_cycle_after_a_delete_gives_the_space_back() {
    let place = Place::new();
    let server = place.serve(&[]);
    let kept = with_garbage(&place, &server);

    let would = gc(&place, &["--dry-run"]);
    assert_eq!(would["dry_run"], true);
    let first = gc(&place, &[]);
    assert!(
        first["condemned"]["bytes"].as_u64() >= Some(EIGHT_BLOCKS),
        "{first}"
    );
    assert_eq!(first["swept"]["count"], 0, "{first}");
    let second = gc(&place, &[]);
    assert_eq!(second["swept"], first["condemned"], "{second}");
    let usage = place.run(&["usage", "--json", "--data", "data"]).stdout;
    let usage: Value = serde_json::from_slice(&usage).expect("JSON");
    assert_eq!(usage["totals"]["garbage_bytes"], 0, "{usage}");
    for report in [&would, &first, &second] {
        assert_eq!(
            (&report["missing"], &report["revived"]),
            (&0.into(), &0.into())
        );
    }
    let client = Client::of(&place, &server);
    client.verify(&kept, 1..9);
    // What was swept can be put again.
    let again = client.upload(100..108);
    client.verify(&again, 100..108);
}

#[test]
fn space_returns_without_a_server_too() {
    let place = Place::new();
    let server = place.serve(&[]);
    let kept = with_garbage(&place, &server);
    server.end(Signal::Kill);
    // The first one seals what the server left open.
    gc(&place, &["--dry-run"]);
    let before = stored_bytes(&place);
    gc(&place, &[]);
    gc(&place, &[]);
    let after = stored_bytes(&place);
    assert!(
        after + EIGHT_BLOCKS <= before,
        "{before} bytes before, {after} after"
    );
    let third = gc(&place, &[]);
    assert_eq!(
        (&third["condemned"]["count"], &third["swept"]["count"]),
        (&0.into(), &0.into())
    );
    let server = place.serve(&[]);
    Client::of(&place, &server).verify(&kept, 1..9);
}

#[test]
fn people_get_a_table() {
    let place = Place::new();
    let server = place.serve(&[]);
    with_garbage(&place, &server);
    let output = place.run(&["gc", "--dry-run", "--data", "data"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("Dry run: nothing was changed"), "{text}");
    for name in [
        "pages",
        "blocks",
        "condemned",
        "swept",
        "leaked",
        "moved",
        "removed",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "no {name} in\n{text}"
        );
    }
}

#[test]
fn two_beside_the_server_come_one_after_the_other() {
    let place = Place::new();
    let server = place.serve(&[]);
    let kept = with_garbage(&place, &server);
    let start = || {
        place
            .drystone(&["gc", "--json", "--data", "data"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts")
    };
    let (first, second) = (start(), start());
    let epochs = [first, second].map(|child| {
        let output = child.wait_with_output().expect("it is ours");
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        report["epoch"].as_i64().expect("a number")
    });
    assert_eq!(epochs[0].abs_diff(epochs[1]), 1, "{epochs:?}");
    Client::of(&place, &server).verify(&kept, 1..9);
}

#[test]
fn nothing_is_done_beside_another_process_that_does_not_answer() {
    let place = Place::new();
    let server = place.serve(&[]);
    // Its socket is gone, it is not: as while it starts or stops.
    fs::remove_file(place.data().join("admin.sock")).expect("removed");
    for command in ["gc", "usage", "scrub", "audit"] {
        let refusal = place.refused(&[command, "--data", "data"]);
        assert!(
            refusal.contains("try again") && refusal.contains(&server.pid().to_string()),
            "{refusal}"
        );
    }
}

/// The server is killed at many moments of a cycle; whatever the cycle had done, the next start goes on from there.
#[test]
fn a_server_that_is_killed_in_the_middle_loses_nothing() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    let kept = Client::of(&place, &server).upload(1..9);
    for round in 0..6_u32 {
        let client = Client::of(&place, &server);
        let doomed = client.upload(100 + 20 * round..108 + 20 * round);
        client.delete(&doomed);
        let command = place
            .drystone(&["gc", "--data", "data"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut command = command.expect("it starts");
        // A request takes about as long as a cycle of so few blocks: the kill comes earlier or later in it.
        for _ in 0..round {
            server.get("/healthz");
        }
        server.end(Signal::Kill);
        command.wait().expect("it is ours");
        server = place.serve(&[]);
        Client::of(&place, &server).verify(&kept, 1..9);
    }
    gc(&place, &[]);
    gc(&place, &[]);
    let last = gc(&place, &[]);
    assert_eq!(last["condemned"]["count"], 0, "{last}");
    let audit = place.run(&["audit", "--depth", "headers", "--data", "data"]);
    assert!(audit.status.success(), "{audit:?}");
    Client::of(&place, &server).verify(&kept, 1..9);
}

/// The same for a command that works without a server: it is killed after it has run as long as some other commands take.
#[test]
fn a_command_that_is_killed_in_the_middle_loses_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    let kept = with_garbage(&place, &server);
    server.end(Signal::Kill);
    for round in 0..8 {
        let command = place
            .drystone(&["gc", "--data", "data"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut command = command.expect("it starts");
        for _ in 0..round {
            place.run(&["--version"]);
        }
        // It may have ended.
        let _ = command.kill();
        command.wait().expect("it is ours");
    }
    gc(&place, &[]);
    gc(&place, &[]);
    let last = gc(&place, &[]);
    assert_eq!(last["condemned"]["count"], 0, "{last}");
    let audit = place.run(&["audit", "--depth", "headers", "--data", "data"]);
    assert!(audit.status.success(), "{audit:?}");
    let server = place.serve(&[]);
    Client::of(&place, &server).verify(&kept, 1..9);
}

#[test]
fn a_client_that_goes_away_does_not_stop_the_cycle_and_holds_nobody_up() {
    let place = Place::new();
    let server = place.serve(&[]);
    let kept = with_garbage(&place, &server);
    for _ in 0..40 {
        let mut stream = UnixStream::connect(place.data().join("admin.sock")).expect("it listens");
        stream
            .write_all(b"{\"collect\":{\"dry_run\":false}}\n")
            .expect("it reads");
    }
    let keys = place.run(&["key", "list", "--data", "data"]);
    assert!(keys.status.success(), "{keys:?}");
    // Those that were begun go on; more than a few are refused, and then it is this one's turn.
    let report = loop {
        let output = place.run(&["gc", "--json", "--data", "data"]);
        if output.status.success() {
            break serde_json::from_slice::<Value>(&output.stdout).expect("JSON");
        }
        let refusal = String::from_utf8(output.stderr).expect("text");
        assert!(refusal.contains("are under way or wait"), "{refusal}");
    };
    assert!(report["epoch"].as_i64() > Some(2), "{report}");
    Client::of(&place, &server).verify(&kept, 1..9);
}

#[test]
fn the_socket_answers_in_lines_of_which_the_last_is_the_reply() {
    let place = Place::new();
    let server = place.serve(&[]);
    with_garbage(&place, &server);
    let mut stream = UnixStream::connect(place.data().join("admin.sock")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream
        .write_all(b"{\"collect\":{\"dry_run\":true}}\n")
        .expect("it reads");
    let lines: Vec<Value> = BufReader::new(stream)
        .lines()
        .map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"))
        .collect();
    let (last, parts) = lines.split_last().expect("at least the reply");
    assert!(
        last["collected"]["dry_run"].as_bool() == Some(true),
        "{last}"
    );
    assert!(
        parts
            .iter()
            .all(|part| part["part"]["progress"].is_object()),
        "{parts:?}"
    );
}

#[test]
fn what_a_dead_process_left_in_scratch_is_removed_at_the_next_start() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Kill);
    let left = place.data().join("scratch/run-of-a-dead-process");
    fs::write(&left, "x").expect("written");
    let server = place.serve(&[]);
    assert!(!left.exists());
    server.end(Signal::Kill);
    fs::write(&left, "x").expect("written");
    gc(&place, &["--dry-run"]);
    assert!(!left.exists());
}
