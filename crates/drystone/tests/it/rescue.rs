//! `drystone rescue` on stores whose catalog was lost in every way: what the server says at its start, what comes back, and
//! that it is served.

use crate::damage::{flip_a_bit, segments};
use crate::server::{Place, Server, Signal};
use crate::signed::{Key, who_is};
use crate::snapshots::{Client, content};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--data", "data"];
const ADVICE: &str = "drystone rescue rebuild --data";

/// Done, and data is lost or in danger.
const IN_DANGER: Option<i32> = Some(4);

/// A store that has ended, with two snapshots that share blocks.
struct Store {
    place: Place,
    first: String,
    second: String,
    key: Key,
}

impl Store {
    fn new() -> Store {
        let place = Place::new();
        let server = place.serve(&[]);
        let client = Client::of(&place, &server);
        let (first, second) = (client.upload(1..9), client.upload(5..13));
        let key = Key::of(&place);
        server.end(Signal::Kill);
        Store {
            place,
            first,
            second,
            key,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.data().join(name)
    }

    fn remove_catalog(&self) {
        for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// The server must not start, and says why, and what to do.
    fn refuses(&self, says: &[&str]) {
        let message = self.place.refused(&SERVE);
        for text in says.iter().chain(&[ADVICE]) {
            assert!(message.contains(text), "no `{text}` in {message}");
        }
    }

    fn rescue(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let all = [&["rescue"], arguments, &["--json", "--data", "data"]].concat();
        let output = self.place.run(&all);
        let answer = serde_json::from_slice(&output.stdout);
        (
            output.status.code(),
            answer.unwrap_or_else(|_| panic!("{output:?}")),
        )
    }

    /// Rebuilds the catalog of a store that has lost no block.
    fn rebuild_whole(&self) -> Value {
        self.rebuild_whole_of(2)
    }

    /// The same of one with this many snapshots.
    fn rebuild_whole_of(&self, snapshots: u64) -> Value {
        let before = self.segments();
        let (code, answer) = self.rescue(&["rebuild"]);
        assert_eq!(code, Some(0), "{answer}");
        assert_eq!(answer["snapshots"], snapshots, "{answer}");
        assert!(self.segments() == before, "segments are only read");
        answer
    }

    fn segments(&self) -> Vec<(PathBuf, Vec<u8>)> {
        contents(&self.path("segments"))
    }

    /// Goes on, with three snapshots more, until what there is lies in old segments, long sealed.
    fn age(&self) {
        for index in 20..23 {
            let server = self.place.serve(&[]);
            Client::of(&self.place, &server).upload(index..index + 1);
            server.end(Signal::Kill);
        }
        self.place.serve(&[]).end(Signal::Terminate);
    }

    /// Serves, with everything there, and goes on to take more.
    fn serves_all(&self) -> Server {
        let server = self.place.serve(&[]);
        let client = Client::of(&self.place, &server);
        client.verify(&self.first, 1..9);
        client.verify(&self.second, 5..13);
        let third = client.upload(12..14);
        client.verify(&third, 12..14);
        server
    }
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("readable");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .map(|path| (path.clone(), fs::read(path).expect("readable")))
        .collect();
    files.sort();
    files
}

fn copy_catalog(from: &Path, to: &Path) {
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).expect("copied");
        }
    }
}

#[test]
fn a_catalog_that_is_gone_is_rebuilt_and_keys_go_on_working() {
    let store = Store::new();
    store.remove_catalog();
    store.refuses(&["catalog.db holds no account"]);
    store.remove_catalog();
    let answer = store.rebuild_whole();
    assert_eq!(answer["key_restored"], *store.key.id, "{answer}");
    let server = store.serves_all();
    assert_eq!(who_is(&server, &store.key).status, 200);
    // Nothing is found, and nothing in use is collected.
    for command in [
        &["audit", "--depth", "headers"][..],
        &["gc"],
        &["gc"],
        &["scrub", "--restart", "--rate", "1 GiB"],
        &["audit", "--depth", "headers"],
    ] {
        let output = store.place.run(&[command, &["--data", "data"]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}: {output:?}");
    }
    // The store restarts like any other, and nothing is left in the way.
    server.end(Signal::Kill);
    let server = store.serves_all();
    server.end(Signal::Terminate);
    let archive = PathBuf::from(answer["archive"].as_str().expect("a path"));
    assert!(archive.is_dir());
    assert!(!store.path("rescue").exists() && !store.path("rescue-ready").exists());
}

#[test]
fn without_credentials_new_ones_are_made() {
    let store = Store::new();
    store.remove_catalog();
    fs::remove_file(store.path("credentials")).expect("removed");
    let answer = store.rebuild_whole();
    assert_eq!(
        answer["keys_made"].as_array().map(Vec::len),
        Some(1),
        "{answer}"
    );
    let server = store.serves_all();
    assert_ne!(Key::of(&store.place), store.key);
    assert_eq!(who_is(&server, &store.key).status, 403);
}

#[test]
fn an_emptied_catalog_is_rebuilt() {
    let store = Store::new();
    for name in ["catalog.db", "catalog.db-wal"] {
        fs::write(store.path(name), "").expect("written");
    }
    store.refuses(&["catalog.db holds no account"]);
    store.rebuild_whole();
    store.serves_all();
}

/// What stands at the beginning of the file is taken over: the access keys as they are.
#[test]
fn a_truncated_catalog_gives_what_is_left_of_it() {
    let store = Store::new();
    // Another start writes the WAL back.
    store.place.serve(&[]).end(Signal::Terminate);
    let made = store.place.run(&["key", "create", "--data", "data"]);
    let made = Key::in_profile(&String::from_utf8(made.stdout).expect("text"));
    store.place.serve(&[]).end(Signal::Terminate);
    let catalog = fs::read(store.path("catalog.db")).expect("readable");
    let cut = catalog.len() / 4096 * 3 / 4 * 4096;
    fs::write(store.path("catalog.db"), &catalog[..cut]).expect("written");
    let _ = fs::remove_file(store.path("catalog.db-wal"));
    store.refuses(&["catalog.db cannot be opened", "it is damaged"]);
    let answer = store.rebuild_whole();
    assert_eq!(answer["keys_kept"], 2, "{answer}");
    let server = store.serves_all();
    for key in [&store.key, &made] {
        assert_eq!(who_is(&server, key).status, 200);
    }
    let archive = PathBuf::from(answer["archive"].as_str().expect("a path"));
    assert_eq!(
        fs::read(archive.join("catalog.db")).expect("kept").len(),
        cut,
        "what is left is kept as it was"
    );
}

#[test]
fn noise_for_a_catalog_is_rebuilt() {
    let store = Store::new();
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|number| (number * 31 % 251) as u8)
        .collect();
    fs::write(store.path("catalog.db"), &noise).expect("written");
    let _ = fs::remove_file(store.path("catalog.db-wal"));
    store.refuses(&["catalog.db cannot be opened"]);
    let answer = store.rebuild_whole();
    assert!(answer["old_catalog_refused"].is_string(), "{answer}");
    store.serves_all();
}

/// The size that its header tells is beyond every file system.
#[test]
fn noise_in_the_header_of_a_catalog_is_no_reason_to_fail() {
    let store = Store::new();
    store.place.serve(&[]).end(Signal::Terminate);
    let mut catalog = fs::read(store.path("catalog.db")).expect("readable");
    catalog[16..18].copy_from_slice(&0xffff_u16.to_be_bytes());
    catalog[28..32].copy_from_slice(&u32::MAX.to_be_bytes());
    fs::write(store.path("catalog.db"), &catalog).expect("written");
    let answer = store.rebuild_whole();
    assert!(answer["old_catalog_refused"].is_string(), "{answer}");
    store.serves_all();
}

/// What is wrong with the file of starts is told before anything is built.
#[test]
fn starts_that_cannot_be_read_are_told_first() {
    let store = Store::new();
    store.remove_catalog();
    fs::write(store.path("starts"), "noise").expect("written");
    // This is found once the catalog is built.
    fs::remove_file(store.path("credentials")).expect("removed");
    fs::create_dir(store.path("credentials")).expect("made");
    let output = store.place.run(&["rescue", "rebuild", "--data", "data"]);
    let message = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("starts is not readable"), "{message}");
    fs::remove_file(store.path("starts")).expect("removed");
    fs::remove_dir(store.path("credentials")).expect("removed");
    store.rebuild_whole();
}

/// A backup was restored, and the segments are newer than it.
#[test]
fn a_stale_catalog_is_rebuilt() {
    let store = Store::new();
    let backup = store.place.path().join("backup");
    fs::create_dir(&backup).expect("made");
    copy_catalog(&store.place.data(), &backup);
    let server = store.place.serve(&[]);
    let newer = Client::of(&store.place, &server).upload(20..24);
    server.end(Signal::Kill);
    copy_catalog(&backup, &store.place.data());
    store.refuses(&["is older than the segments", "drystone rescue rebuild"]);
    // So it does when the directory does not remember its starts, as those of the first version.
    fs::remove_file(store.path("starts")).expect("removed");
    store.refuses(&["newer than anything in the catalog"]);
    let (code, answer) = store.rescue(&["rebuild"]);
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(answer["unknown_to_old_catalog"][0], *newer, "{answer}");
    let server = store.serves_all();
    Client::of(&store.place, &server).verify(&newer, 20..24);
}

/// Nothing was stored since the backup but into segments that it knows: only the directory can tell.
#[test]
fn a_catalog_that_is_a_start_behind_is_refused() {
    let store = Store::new();
    let backup = store.place.path().join("backup");
    fs::create_dir(&backup).expect("made");
    copy_catalog(&store.place.data(), &backup);
    store.place.serve(&[]).end(Signal::Kill);
    copy_catalog(&backup, &store.place.data());
    store.refuses(&["is older than the segments"]);
    store.rebuild_whole();
    let server = store.serves_all();
    server.end(Signal::Kill);
    store.serves_all();
}

#[test]
fn the_catalog_of_another_store_is_told_and_rebuilt() {
    let (store, other) = (Store::new(), Store::new());
    copy_catalog(&other.place.data(), &store.place.data());
    store.refuses(&["another store"]);
    let answer = store.rebuild_whole();
    assert_eq!(
        answer["old_catalog_refused"], "it is the catalog of another store",
        "{answer}"
    );
    store.serves_all();
}

#[test]
fn a_lost_root_key_costs_no_data_and_no_tags() {
    let store = Store::new();
    let server = store.place.serve(&[]);
    let client = Client::of(&store.place, &server);
    client.tag(&store.first, "name", "root disk");
    server.end(Signal::Kill);
    fs::remove_file(store.path("root.key")).expect("removed");
    let message = store.place.refused(&SERVE);
    assert!(message.contains("root.key is missing"), "{message}");
    let answer = store.rebuild_whole();
    assert_eq!(
        (&answer["keys_lost"], &answer["keys_kept"]),
        (&1.into(), &0.into())
    );
    assert_eq!(answer["key_restored"], *store.key.id, "{answer}");
    let server = store.serves_all();
    let client = Client::of(&store.place, &server);
    assert!(client.describe(&store.first).contains("root disk"));
}

/// What it held alone is named, everything else is read, and a put heals.
#[test]
fn a_missing_segment_costs_what_it_held_and_is_healed_by_a_put() {
    let place = Place::new();
    let server = place.serve(&[]);
    let first = Client::of(&place, &server).upload(1..4);
    server.end(Signal::Kill);
    let server = place.serve(&[]);
    let second = Client::of(&place, &server).upload(3..6);
    let key = Key::of(&place);
    server.end(Signal::Kill);
    let store = Store {
        place,
        first,
        second,
        key,
    };
    let oldest = segments(&store.place, "blocks").remove(0);
    fs::remove_file(oldest).expect("removed");
    store.refuses(&["is recorded and its file is missing"]);

    let (code, dry) = store.rescue(&["rebuild", "--dry-run"]);
    assert_eq!((code, &dry["dry_run"]), (IN_DANGER, &true.into()), "{dry}");
    store.refuses(&["is recorded and its file is missing"]);
    let (code, answer) = store.rescue(&["rebuild"]);
    assert_eq!(code, IN_DANGER, "{answer}");
    assert_eq!(answer["incomplete"], dry["incomplete"]);
    for (snapshot, bad) in [(&store.first, (1, 3)), (&store.second, (3, 1))] {
        let listed = answer["incomplete"].as_array().expect("an array");
        let found = listed.iter().find(|found| found["snapshot"] == **snapshot);
        let found = found.unwrap_or_else(|| panic!("{snapshot} is not named: {answer}"));
        assert_eq!(found["kept"], true, "the old catalog names it");
        assert_eq!(found["bad"], serde_json::json!([[bad.0, bad.1]]));
    }

    let server = store.place.serve(&[]);
    let audit = ["audit", "--json", "--data", "data"];
    let output = store.place.run(&audit);
    assert_eq!(output.status.code(), IN_DANGER, "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let kinds: Vec<_> = found["findings"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|finding| (finding["kind"].as_str(), finding["count"].as_u64()))
        .collect();
    assert_eq!(kinds, [(Some("chunk-missing"), Some(3))], "{found}");
    let client = Client::of(&store.place, &server);
    for (index, token) in client.blocks(&store.second) {
        let read = client.try_get(&store.second, index, &token);
        if index == 3 {
            assert_eq!(read.status, 500, "{read:?}");
            let text = read.text();
            assert!(
                text.contains(&store.second) && text.contains("Block 3 "),
                "{text}"
            );
        } else {
            assert!(read.body == content(index));
        }
    }
    let third = client.upload(1..4);
    client.verify(&third, 1..4);
    client.verify(&store.first, 1..4);
    client.verify(&store.second, 3..6);
    let output = store.place.run(&audit);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Killed while it builds, it leaves the old state; whenever it is killed, it can be repeated.
#[test]
fn a_rebuild_that_was_killed_is_repeated() {
    let store = Store::new();
    let arguments = ["rescue", "rebuild", "--data", "data"];
    let building = store.path("rescue").join("new").join("catalog.db");
    for _ in 0..3 {
        let mut rebuild = store.place.drystone(&arguments);
        let rebuild = rebuild.stdout(Stdio::null()).stderr(Stdio::null());
        let mut rebuild = rebuild.spawn().expect("it starts");
        while !building.exists() && rebuild.try_wait().expect("it is ours").is_none() {
            std::thread::yield_now();
        }
        rebuild.kill().expect("it is ours");
        rebuild.wait().expect("it is ours");
        store.serves_all().end(Signal::Kill);
    }
    store.rebuild_whole_of(5);
    store.serves_all();
}

#[test]
fn incomplete_snapshots_that_nobody_vouches_for_are_left_out_or_kept() {
    let store = Store::new();
    store.age();
    store.remove_catalog();
    flip_a_bit(&store.place, 2);

    let (code, fast) = store.rescue(&["rebuild", "--dry-run"]);
    assert_eq!(code, Some(0), "blocks are not read: {fast}");
    let (code, left) = store.rescue(&["rebuild", "--dry-run", "--verify"]);
    assert_eq!(code, IN_DANGER, "{left}");
    assert_eq!(
        (&left["snapshots"], &left["snapshots_left_out"]),
        (&4.into(), &1.into())
    );
    let (code, kept) = store.rescue(&["rebuild", "--verify", "--keep-incomplete"]);
    assert_eq!(code, IN_DANGER, "{kept}");
    assert_eq!(
        (&kept["snapshots"], &kept["damaged_chunks"]),
        (&5.into(), &1.into())
    );
    assert_eq!(kept["incomplete"][0]["snapshot"], *store.first);
    let server = store.place.serve(&[]);
    let client = Client::of(&store.place, &server);
    client.verify(&store.second, 5..13);
    let healed = client.upload(2..3);
    client.verify(&healed, 2..3);
    client.verify(&store.first, 1..9);
}

#[test]
fn a_snapshot_is_exported_and_listed_without_a_catalog() {
    let store = Store::new();
    store.remove_catalog();
    let before = contents_of_all(&store.place.data());
    let (code, listed) = store.rescue(&["list"]);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = listed
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(|snapshot| snapshot["snapshot"].as_str())
        .collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&&*store.first) && names.contains(&&*store.second));

    let export = |more: &[&str]| {
        let arguments = [
            "rescue",
            "export",
            &store.second,
            "--to",
            "disk.raw",
            "--data",
            "data",
        ];
        store.place.run(&[&arguments, more].concat())
    };
    let file = store.place.path().join("disk.raw");
    let output = export(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    check_image(&file, 5..13, None);
    let again = export(&[]);
    assert_eq!(again.status.code(), Some(1), "a file is never replaced");
    assert!(
        before == contents_of_all(&store.place.data()),
        "nothing was touched"
    );

    fs::remove_file(&file).expect("removed");
    flip_a_bit(&store.place, 7);
    let output = export(&[]);
    assert_eq!(output.status.code(), IN_DANGER, "{output:?}");
    assert!(!file.exists(), "half a snapshot is none");
    let output = export(&["--keep-going"]);
    assert_eq!(output.status.code(), IN_DANGER, "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("bad: block 7: "), "{text}");
    check_image(&file, 5..13, Some(7));
}

fn contents_of_all(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(contents_of_all(&path));
        } else if path.is_file() {
            files.push((path.clone(), fs::read(path).expect("readable")));
        }
    }
    files.sort();
    files
}

fn check_image(file: &Path, indexes: std::ops::Range<u32>, zeros: Option<u32>) {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let image = fs::File::open(file).expect("there");
    let metadata = image.metadata().expect("readable");
    assert_eq!(metadata.len(), 1 << 30);
    assert!(metadata.blocks() * 512 < 64 << 20, "it is sparse");
    let mut block = vec![0; types::BLOCK_BYTES];
    for index in 0..indexes.end + 2 {
        let offset = u64::from(index) * types::BLOCK_BYTES as u64;
        image.read_exact_at(&mut block, offset).expect("readable");
        let there = indexes.contains(&index) && zeros != Some(index);
        let wanted = if there {
            content(index)
        } else {
            vec![0; types::BLOCK_BYTES]
        };
        assert!(block == wanted, "block {index}");
    }
}

#[test]
fn a_rebuild_waits_for_no_server_and_touches_nothing_beside_one() {
    let store = Store::new();
    let server = store.place.serve(&[]);
    let arguments = ["rescue", "rebuild", "--data", "data"];
    let message = store.place.refused(&arguments);
    assert!(message.contains("in use by another"), "{message}");
    assert_eq!(server.get("/healthz").status, 200);
    // Looking is allowed.
    assert_eq!(store.rescue(&["list"]).0, Some(0));
}

#[test]
fn segments_of_two_stores_are_refused_by_name() {
    let (store, other) = (Store::new(), Store::new());
    store.remove_catalog();
    let (path, bytes) = other.segments().remove(0);
    let name = path
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .replace("00000000", "00000a00");
    fs::write(store.path("segments").join(&name), &bytes).expect("written");
    let arguments = ["rescue", "rebuild", "--data", "data"];
    let message = store.place.refused(&arguments);
    assert!(message.contains(&name), "{message}");
    // Under its own name in the wrong directory.
    fs::remove_file(store.path("segments").join(&name)).expect("removed");
    fs::write(
        store.path("segments").join("0000000000000001.blocks"),
        &bytes,
    )
    .expect("written");
    let message = store.place.refused(&arguments);
    assert!(message.contains("several stores"), "{message}");
    for name in ["catalog.db", "rescue"] {
        assert!(!store.path(name).exists(), "nothing was made");
    }
}
