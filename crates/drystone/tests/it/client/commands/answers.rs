//! Each command's answer, for people and as JSON. docs/client.md shows an example of each JSON form: the members there are those
//! that come.

use super::session::{Session, content, write_block};
use crate::damage::flip_a_bit;
use crate::snapshots::Client;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use types::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// A value's members at every depth; those of an array's first element stand for all. Members of free names (tags) are left out.
fn shape(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}.{name}");
                if name != "tags" && name != "set" {
                    shape(member, &path, found);
                }
                found.insert(path);
            }
        }
        Value::Array(elements) => {
            if let Some(first) = elements.first() {
                shape(first, &format!("{path}[]"), found);
            }
        }
        _ => {}
    }
}

/// The first JSON example behind `drystone COMMAND` in the documentation has these members.
pub fn documented(command: &str, answer: &Value) {
    let text = include_str!("../../../../../../docs/client.md");
    let chapter = text
        .split_once(&format!("\n### `drystone {command}"))
        .unwrap_or_else(|| panic!("no chapter on {command}"))
        .1;
    let example = chapter
        .split_once("```json\n")
        .and_then(|(_, rest)| rest.split_once("\n```"))
        .unwrap_or_else(|| panic!("no example of {command}"))
        .0;
    let example: Value = serde_json::from_str(example).expect(command);
    let (mut told, mut found) = (BTreeSet::new(), BTreeSet::new());
    shape(&example, "", &mut told);
    shape(answer, "", &mut found);
    assert_eq!(told, found, "{command}");
}

fn change(session: &Session, name: &str, index: u64, seed: u64) {
    let disk = File::options().write(true).open(session.path(name));
    write_block(&disk.expect("there"), index, seed);
}

#[test]
fn a_disk_goes_there_and_comes_back_and_so_does_what_changed() {
    let session = Session::new();
    let disk = session.disk("disk", 2048, &[0, 1, 7, 2047]);
    let full = session.json(&["upload", "disk", "--wait", "--tag", "Name=disk"]);
    documented("upload", &full);
    assert_eq!(full["state"], "completed", "{full}");
    assert_eq!(full["volume_size"], 1 << 30);
    assert_eq!(full["blocks_put"], 4);
    assert_eq!(full["parent_known_by"], Value::Null);
    assert_eq!(full["transfer"]["total_bytes"], 1 << 30);
    assert_eq!(full["transfer"]["moved_bytes"], 4 * BLOCK);
    assert_eq!(full["transfer"]["skipped_zero_bytes"], 2044 * BLOCK);
    let parent = full["snapshot_id"].as_str().expect("an id");

    change(&session, "disk", 1, 100);
    change(&session, "disk", 9, 101);
    let more = session.json(&["upload", "disk", "--wait", "--parent", parent]);
    assert_eq!(more["parent_known_by"], "checksums", "{more}");
    assert_eq!(more["blocks_put"], 2);
    let child = more["snapshot_id"].as_str().expect("an id");

    let back = session.json(&["download", child, "back"]);
    documented("download", &back);
    assert_eq!(back["lost"], json!([]));
    assert_eq!(content(&session.path("back")), content(&disk));

    let same = session.json(&["verify", child, "back"]);
    assert_eq!(
        (&same["same"], &same["differing_bytes"]),
        (&json!(true), &json!(0))
    );

    let base = ["--base", "back", "--base-snapshot", child];
    session.prints(&[&["download", parent, "older"], &base[..]].concat());
    let output = session.prints(&["verify", parent, "older"]);
    assert!(output.contains("are the same"), "{output}");
}

#[test]
fn streams_go_both_ways() {
    let session = Session::new();
    let disk = session.disk("disk", 16, &[3, 4]);
    let mut upload = session.command(&["upload", "-", "--wait", "--quiet"]);
    upload.stdin(Stdio::from(File::open(&disk).expect("there")));
    let output = upload.stderr(Stdio::piped()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let id = String::from_utf8(output.stdout).expect("text");
    let mut download = session.command(&["download", id.trim(), "-", "--size", "8M"]);
    download.stdout(File::create(session.path("back")).expect("made"));
    assert_eq!(download.status().expect("it runs").code(), Some(0));
    assert_eq!(content(&session.path("back")), content(&disk));
}

#[test]
fn standard_output_has_the_answer_alone_and_quiet_means_quiet() {
    let session = Session::new();
    session.disk("disk", 16, &[1]);
    let done = session.run(&["upload", "disk"]);
    assert_eq!(done.stdout.lines().count(), 1, "{done:?}");
    let words = ["uploading", "1 block (512.0 KiB) sent", "0 retries", "p50"];
    assert!(
        words.iter().all(|word| done.stderr.contains(word)),
        "{done:?}"
    );
    let id = done.stdout.trim();
    session.prints(&["wait", id, "--timeout", "1m"]);
    let done = session.run(&["download", id, "back", "--quiet"]);
    assert_eq!((done.code, &*done.stdout, &*done.stderr), (Some(0), "", ""));
}

#[test]
fn a_difference_is_told_in_three_ways() {
    let session = Session::new();
    session.disk("disk", 2048, &[0, 1, 7]);
    let first = session.upload("disk", &[]);
    change(&session, "disk", 1, 100);
    change(&session, "disk", 2, 101);
    change(&session, "disk", 2000, 102);
    let second = session.upload("disk", &["--parent", &first]);

    let table = session.prints(&["diff", &first, &second]);
    let last = table.lines().last().expect("a line");
    assert_eq!(
        last,
        "1 block (512.0 KiB) changed, 2 blocks (1.0 MiB) added in 3 extents"
    );
    let told = session.json(&["diff", &first, &second]);
    documented("diff", &told);
    let extents = json!([
        { "offset": BLOCK, "length": BLOCK, "change": "changed" },
        { "offset": 2 * BLOCK, "length": BLOCK, "change": "added" },
        { "offset": 2000 * BLOCK, "length": BLOCK, "change": "added" },
    ]);
    assert_eq!(told["extents"], extents);
    assert_eq!(told["volume_size"], 1 << 30);
    let map = session.prints(&["diff", &first, &second, "--format", "qemu-map"]);
    let map: Value = serde_json::from_str(&map).expect("JSON");
    let members = map.as_array().expect("an array");
    let covered: u64 = members
        .iter()
        .map(|member| member["length"].as_u64().expect("a number"))
        .sum();
    assert_eq!(covered, 1 << 30);
    let data = members.iter().filter(|member| member["data"] == true);
    assert_eq!(data.count(), 3, "{map}");

    let none = session.prints(&["diff", &second, &second]);
    assert_eq!(none, format!("{second} and {second} are the same\n"));
}

#[test]
fn a_map_of_qemus_is_believed() {
    let session = Session::new();
    session.disk("disk", 16, &[0, 1, 2]);
    let map = json!([
        { "start": 0, "length": BLOCK, "depth": 0, "present": true, "zero": false, "data": true },
        { "start": BLOCK, "length": 15 * BLOCK, "depth": 0, "present": false, "zero": true, "data": false },
    ]);
    let mut file = File::create(session.path("map")).expect("made");
    write!(file, "{map}").expect("written");
    let told = session.json(&["upload", "disk", "--map", "map"]);
    assert_eq!(told["blocks_put"], 1, "{told}");
}

#[test]
fn what_differs_is_named_and_has_an_exit_code() {
    let session = Session::new();
    session.disk("disk", 16, &[0, 1, 2]);
    let id = session.upload("disk", &[]);
    change(&session, "disk", 2, 100);
    change(&session, "disk", 9, 101);
    let done = session.run(&["verify", &id, "disk", "--json"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    let told: Value = serde_json::from_str(&done.stdout).expect("JSON");
    documented("verify", &told);
    let ranges = json!([
        { "offset": 2 * BLOCK, "length": BLOCK },
        { "offset": 9 * BLOCK, "length": BLOCK },
    ]);
    assert_eq!(
        (&told["same"], &told["differing"]),
        (&json!(false), &ranges)
    );
    let done = session.run(&["verify", &id, "disk", "--checksums-only"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(
        done.stdout.contains("1048576           524288  differs"),
        "{done:?}"
    );
    assert!(
        done.stderr.contains("2 blocks of disk differ from"),
        "{done:?}"
    );
}

#[test]
fn what_the_server_lost_is_named_and_has_an_exit_code() {
    let session = Session::new();
    let id = Client::of(&session.place, &session.server).upload(1..6);
    flip_a_bit(&session.place, 3);
    let attempts = ["--attempts", "2"];
    let done = session.run(&[&["download", &id, "back"], &attempts[..]].concat());
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("block 3 of") && done.stderr.contains("--keep-going"));
    assert!(!session.path("back").exists());

    let on = ["--keep-going", "--json"];
    let done = session.run(&[&["download", &id, "back"], &attempts[..], &on].concat());
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(
        done.stderr.contains("lost: 524288 bytes at 1572864"),
        "{done:?}"
    );
    let told: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let lost = json!([{ "offset": 3 * BLOCK, "length": BLOCK }]);
    assert_eq!(told["lost"], lost, "{told}");

    let whole = session.disk("whole", 2048, &[]);
    let disk = File::options().write(true).open(whole).expect("there");
    for index in 1..6 {
        use std::os::unix::fs::FileExt;
        let data = crate::snapshots::content(index);
        disk.write_all_at(&data, u64::from(index) * BLOCK)
            .expect("written");
    }
    let done = session.run(&[&["verify", &id, "whole"], &attempts[..]].concat());
    assert_eq!(done.code, Some(4), "{done:?}");
}

#[test]
fn snapshots_are_listed_shown_tagged_and_deleted() {
    let session = Session::new();
    assert_eq!(session.prints(&["ls"]), "");
    session.disk("disk", 16, &[0, 1]);
    let about = ["--tag", "Name=a disk", "--description", "the first"];
    let first = session.upload("disk", &about);
    change(&session, "disk", 1, 100);
    let second = session.upload("disk", &["--parent", &first]);
    session.prints(&["gc", "--data", "data"]);

    let table = session.prints(&["ls"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    let columns = [
        "STATE", "SIZE", "DATA", "UNIQUE", "SHARED", "AGE", "PARENT", "TAGS",
    ];
    assert!(columns.iter().all(|column| lines[0].contains(column)));
    assert!(lines[1].starts_with(&first) && lines[1].ends_with("Name=a disk"));
    assert!(lines[2].contains(&first), "the parent: {table}");
    let tree = session.prints(&["ls", "--tree"]);
    assert!(tree.contains(&format!("\n↓ {second}")), "{tree}");

    let told = session.json(&["ls"]);
    documented("ls", &told);
    let told = &told["snapshots"][1];
    assert_eq!(told["parent_snapshot_id"], first, "{told}");
    assert_eq!(told["full_bytes"], 2 * BLOCK);
    // A block, and what it takes to keep it.
    let unique = told["unique_bytes"].as_u64().expect("a number");
    assert!((BLOCK..2 * BLOCK).contains(&unique), "{told}");
    assert_eq!(told["shared_bytes"], 2 * BLOCK - unique);
    let shown = session.json(&["show", &first]);
    documented("show", &shown);
    assert_eq!(shown["description"], "the first");
    assert!(session.prints(&["show", &first]).contains("a disk"));

    let tagged = session.json(&["tag", &first, "a=1", "b=", "--remove", "Name"]);
    documented("tag", &tagged);
    let tags = session.json(&["show", &first])["tags"].take();
    assert_eq!(tags, json!({ "a": "1", "b": "" }));
    let waited = session.json(&["wait", &first]);
    documented("wait", &waited);
    assert_eq!(waited["state"], "completed");

    let done = session.run(&["rm", &first, "snap-00000000000000000", &second, "--json"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let told: Value = serde_json::from_str(&done.stdout).expect("JSON");
    documented("rm", &told);
    assert_eq!(told["deleted"], json!([first, second]));
    assert_eq!(session.json(&["ls"])["snapshots"], json!([]));
}
