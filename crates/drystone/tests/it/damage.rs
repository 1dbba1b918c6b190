//! `drystone scrub` and `drystone audit` on stores that are whole, and on damaged ones.

use crate::server::{Place, Signal};
use crate::snapshots::{Client, content};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Output;

/// Done, and data is lost or in danger.
const IN_DANGER: Option<i32> = Some(4);

fn run(place: &Place, arguments: &[&str]) -> (Option<i32>, Value) {
    let output: Output = place.run(&[arguments, &["--json", "--data", "data"]].concat());
    let answer = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        answer.unwrap_or_else(|_| panic!("{output:?}")),
    )
}

pub fn segments(place: &Place, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.data().join("segments")).expect("readable");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|found| found == kind))
        .collect();
    paths.sort();
    paths
}

/// Flips a bit in the middle of the stored content of this block.
pub fn flip_a_bit(place: &Place, index: u32) {
    let wanted = content(index);
    for path in segments(place, "blocks") {
        let mut bytes = fs::read(&path).expect("readable");
        let at = (0..bytes.len().saturating_sub(wanted.len()))
            .step_by(4096)
            .find(|&at| bytes[at..at + wanted.len()] == wanted);
        if let Some(at) = at {
            bytes[at + wanted.len() / 2] ^= 1;
            fs::write(&path, bytes).expect("written");
            return;
        }
    }
    panic!("block {index} is stored nowhere");
}

#[test]
fn a_whole_store_is_told_to_be_whole() {
    let place = Place::new();
    let server = place.serve(&[]);
    let snapshot = Client::of(&place, &server).upload(1..9);
    for beside in [true, false] {
        if !beside {
            let pid = server.pid();
            assert!(pid > 0);
        }
        let (code, scrubbed) = run(&place, &["scrub", "--restart", "--rate", "1 GiB"]);
        assert_eq!(
            (code, &scrubbed["damaged"]),
            (Some(0), &0.into()),
            "{scrubbed}"
        );
        assert!(scrubbed["chunks"].as_u64() >= Some(8), "{scrubbed}");
        for depth in ["catalog", "headers"] {
            let (code, audited) = run(&place, &["audit", "--depth", depth]);
            assert_eq!(code, Some(0), "{audited}");
            assert_eq!(
                audited["findings"].as_array().map(Vec::len),
                Some(0),
                "{audited}"
            );
        }
    }
    Client::of(&place, &server).verify(&snapshot, 1..9);
}

#[test]
fn a_flipped_bit_is_named_with_what_it_touches_and_healed_by_a_put() {
    let place = Place::new();
    let server = place.serve(&[]);
    let client = Client::of(&place, &server);
    let (first, second) = (client.upload(1..9), client.upload(3..5));
    server.end(Signal::Kill);
    flip_a_bit(&place, 3);

    let check = |arguments: &[&str]| {
        let (code, scrubbed) = run(&place, arguments);
        assert_eq!(
            (code, &scrubbed["damaged"]),
            (IN_DANGER, &1.into()),
            "{scrubbed}"
        );
        let chunk = &scrubbed["chunks_damaged"][0];
        assert_eq!(chunk["kind"], "block", "{scrubbed}");
        let touches = chunk["touches"].as_array().expect("an array");
        for snapshot in [&first, &second] {
            let touched = touches
                .iter()
                .find(|touched| touched["snapshot"] == **snapshot);
            let touched = touched.unwrap_or_else(|| panic!("{snapshot} is not named: {scrubbed}"));
            assert_eq!(
                (&touched["start"], &touched["count"]),
                (&3.into(), &1.into())
            );
        }
    };
    check(&["scrub", "--restart", "--rate", "1 GiB"]);
    let server = place.serve(&[]);
    check(&["scrub", "--restart", "--rate", "1 GiB"]);
    let output = place.run(&["scrub", "--restart", "--rate", "1 GiB", "--data", "data"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains(&format!("    {first}  block 3\n")), "{text}");

    let client = Client::of(&place, &server);
    let third = client.upload(3..4);
    let (code, scrubbed) = run(&place, &["scrub", "--restart", "--rate", "1 GiB"]);
    assert_eq!(code, Some(0), "{scrubbed}");
    for (snapshot, indexes) in [(&first, 1..9), (&second, 3..5), (&third, 3..4)] {
        client.verify(snapshot, indexes);
    }
}

#[test]
fn an_audit_names_a_segment_that_is_missing_and_changes_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    Client::of(&place, &server).upload(1..9);
    server.end(Signal::Kill);
    for path in segments(&place, "blocks") {
        fs::remove_file(path).expect("removed");
    }
    let catalog = fs::read(place.data().join("catalog.db")).expect("readable");
    let output = place.run(&["audit", "--depth", "headers", "--data", "data"]);
    assert_eq!(output.status.code(), IN_DANGER, "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.lines().any(|line| line.starts_with("GRAVE")), "{text}");
    let after = fs::read(place.data().join("catalog.db")).expect("readable");
    assert!(after == catalog, "the catalog was changed");
}
