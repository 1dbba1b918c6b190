//! Stopping in order and being killed are the same: what was acknowledged is there.

use crate::server::{Place, Signal};
use crate::snapshots::{Client, content};

fn survives(signal: Signal) {
    let place = Place::new();
    let server = place.serve(&[]);
    let client = Client::of(&place, &server);
    let (open, sealed) = (client.start(), client.start());
    for index in [1, 2] {
        client.put(&open, index);
        client.put(&sealed, index + 10);
    }
    // Answered when it is sealed: the end comes before, while or after the finisher works.
    client.complete(&sealed, "2");
    let status = server.end(signal);
    assert_eq!(
        status.success(),
        matches!(signal, Signal::Terminate),
        "{status}"
    );

    let server = place.serve(&[]);
    let client = Client::of(&place, &server);
    client.put(&open, 3);
    client.complete(&open, "3");
    for (id, expected) in [(&open, &[1, 2, 3][..]), (&sealed, &[11, 12])] {
        let blocks = client.blocks(id);
        assert_eq!(
            blocks.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            expected
        );
        for (index, token) in blocks {
            assert!(
                client.get(id, index, &token) == content(index),
                "block {index} of {id}"
            );
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_stop() {
    survives(Signal::Terminate);
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    survives(Signal::Kill);
}

/// Only a fresh start can know what is on the disk, so a fault of the catalog ends the process, and a supervisor sees it.
#[test]
fn a_fault_of_the_catalog_ends_the_server() {
    let place = Place::new();
    let server = place.serve(&[]);
    for name in ["catalog.db", "catalog.db-wal"] {
        std::fs::write(place.data().join(name), "").expect("truncated");
    }
    assert!(
        !place
            .run(&["key", "list", "--data", "data"])
            .status
            .success()
    );
    let log = place.path().join("log");
    assert_eq!(server.wait().code(), Some(3));
    let log = std::fs::read_to_string(log).expect("readable");
    assert!(
        log.contains("the catalog failed, so the server has ended"),
        "{log}"
    );
}

#[test]
fn a_second_signal_ends_a_stop_that_takes_its_time() {
    use std::io::Write;
    let place = Place::new();
    let mut server = place.serve(&[]);
    // A request whose body never comes: the stop waits for it, bounded by a setting.
    let mut stuck = server.connect();
    let head =
        "POST /?Action=X HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    stuck.write_all(head.as_bytes()).expect("sent");
    server.signal(Signal::Terminate);
    server.signal(Signal::Terminate);
    assert!(server.wait().success());
    drop(stuck);
}
