//! Starts that must not happen, and what they say.

use crate::server::{Place, Signal};
use crate::signed::{Key, who_is};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--data", "data"];

fn check(place: &Place, arguments: &[&str], says: &[&str]) {
    let message = place.refused(arguments);
    for text in says {
        assert!(message.contains(text), "no `{text}` in {message}");
    }
    let said = |line: &&str| line.contains(" ERROR ") || line.starts_with("drystone: ");
    assert_eq!(
        message.lines().filter(said).count(),
        1,
        "said once: {message}"
    );
}

#[test]
fn a_second_server_names_the_directory_and_the_first_one() {
    let place = Place::new();
    let server = place.serve(&[]);
    let data = place.data().display().to_string();
    check(
        &place,
        &SERVE,
        &[&data, &format!("pid {}", server.pid()), "in use"],
    );
    assert_eq!(
        server.get("/healthz").status,
        200,
        "the first one does not notice"
    );
    server.end(Signal::Kill);
    place.serve(&[]);
}

#[test]
fn a_taken_address_is_told_before_anything_is_made() {
    let (place, other) = (Place::new(), Place::new());
    let server = place.serve(&[]);
    let address = server.address.to_string();
    let arguments = ["serve", "--listen", &address, "--data", "data"];
    check(&other, &arguments, &[&address, "--listen"]);
    assert!(!other.data().join("catalog.db").exists());
}

#[test]
fn a_root_key_that_is_loose_or_missing_is_refused() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Terminate);
    let key = place.data().join("root.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("changed");
    check(&place, &SERVE, &["has mode 0640", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");

    fs::rename(&key, place.path().join("kept")).expect("moved");
    check(
        &place,
        &SERVE,
        &["root.key is missing", "restore it from a backup"],
    );
    assert!(!key.exists(), "no other key is made");

    fs::rename(place.path().join("kept"), &key).expect("moved back");
    place.serve(&[]);
}

/// Losing the root key loses the access keys and nothing else.
#[test]
fn a_root_key_that_is_lost_for_good_can_be_replaced() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Terminate);
    let lost = Key::of(&place);
    let path = place.data().join("root.key");
    fs::write(&path, [7; 32]).expect("written");
    let server = place.serve(&[]);
    assert!(
        server.log().contains(&lost.id) && server.log().contains("root.key"),
        "{}",
        server.log()
    );
    assert_eq!(who_is(&server, &lost).status, 403);
    let made = place.run(&["key", "create", "--data", "data"]);
    let made = Key::in_profile(&String::from_utf8(made.stdout).expect("text"));
    assert_eq!(who_is(&server, &made).status, 200);
}

#[test]
fn a_catalog_that_was_emptied_is_not_taken_for_a_new_one() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Terminate);
    for name in ["catalog.db", "catalog.db-wal"] {
        fs::write(place.data().join(name), "").expect("written");
    }
    check(&place, &SERVE, &["catalog.db holds no account", "backup"]);
    check(
        &place,
        &["key", "list", "--data", "data"],
        &["catalog.db holds no account"],
    );
}

#[test]
fn a_newer_data_directory_is_refused_with_both_versions() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Terminate);
    let version = place.data().join("VERSION");
    let text = fs::read_to_string(&version).expect("readable");
    fs::write(&version, text.replace("layout 1", "layout 2")).expect("written");
    check(
        &place,
        &SERVE,
        &["layout version 2", "versions up to 1", "newer drystone"],
    );
}

#[test]
fn other_peoples_directories_are_left_alone() {
    let place = Place::new();
    fs::create_dir(place.data()).expect("made");
    fs::write(place.data().join("photo.jpg"), "x").expect("written");
    check(&place, &SERVE, &["photo.jpg", "--data"]);
    assert_eq!(fs::read_dir(place.data()).expect("readable").count(), 1);
}

#[test]
fn settings_that_are_wrong_are_named() {
    let place = Place::new();
    let file = place.path().join("drystone.toml");
    let arguments = ["serve", "--config", "drystone.toml"];
    check(&place, &arguments, &["drystone.toml cannot be read"]);
    fs::write(&file, "[store]\ndedupe = \"store\"\n").expect("written");
    check(&place, &arguments, &["dedupe"]);
    fs::write(&file, "[log]\nfilter = \"a=b=c\"\n").expect("written");
    check(&place, &arguments, &["a=b=c"]);
    assert!(
        !place.path().join("drystone-data").exists(),
        "nothing was made"
    );

    let output = place.run(&["serve", "--listen", "nowhere"]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "wrong arguments are told apart"
    );
}
