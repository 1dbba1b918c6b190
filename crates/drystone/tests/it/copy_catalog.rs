//! `drystone copy-catalog`, and the drill for which it is made: the catalog is lost, and rescue takes keys and tags from a copy.

use crate::server::{Place, Signal};
use crate::signed::{Key, who_is};
use crate::snapshots::Client;
use std::fs;

fn run(place: &Place, arguments: &[&str]) {
    let output = place.run(&[arguments, &["--data", "data"]].concat());
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_lost_catalog_is_rebuilt_with_the_keys_of_its_copy() {
    let place = Place::new();
    let server = place.serve(&[]);
    let client = Client::of(&place, &server);
    let before = client.upload(1..9);
    let text = place.run(&["key", "create", "--data", "data"]).stdout;
    let key = Key::in_profile(&String::from_utf8(text).expect("text"));
    run(&place, &["copy-catalog", "catalog.copy"]);
    let after = client.upload(20..25);
    server.end(Signal::Kill);

    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        fs::remove_file(place.data().join(name)).expect("removed");
    }
    let copy = place.path().join("catalog.copy");
    fs::copy(&copy, place.data().join("catalog.db")).expect("copied");
    for command in ["serve", "gc", "key"] {
        let arguments: &[&str] = match command {
            "serve" => &["serve", "--listen", "127.0.0.1:0", "--data", "data"],
            "key" => &["key", "list", "--data", "data"],
            other => &[other, "--data", "data"],
        };
        let refusal = place.refused(arguments);
        assert!(
            refusal.contains("is a copy of a catalog") && refusal.contains("rescue rebuild"),
            "{refusal}"
        );
    }

    run(&place, &["rescue", "rebuild"]);
    let server = place.serve(&[]);
    assert_eq!(who_is(&server, &key).status, 200, "the key is back");
    let client = Client::of(&place, &server);
    client.verify(&before, 1..9);
    client.verify(&after, 20..25);
}

#[test]
fn a_copy_is_replaced_by_the_next_and_goes_to_another_place() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Kill);
    run(&place, &["copy-catalog", "catalog.copy"]);
    let first = fs::read(place.path().join("catalog.copy")).expect("written");
    run(&place, &["key", "create"]);
    // What an interrupted copy leaves is in nobody's way.
    fs::write(place.path().join("catalog.copy.new"), "x").expect("written");
    run(&place, &["copy-catalog", "catalog.copy"]);
    let second = fs::read(place.path().join("catalog.copy")).expect("written");
    assert!(first != second && !place.path().join("catalog.copy.new").exists());

    let refusal = place.refused(&["copy-catalog", "data/copy", "--data", "data"]);
    assert!(refusal.contains("is in the data directory"), "{refusal}");
    let refusal = place.refused(&["copy-catalog", "copy", "--data", "nowhere"]);
    assert!(refusal.contains("nowhere/catalog.db"), "{refusal}");
    assert!(!place.path().join("copy").exists());
}
