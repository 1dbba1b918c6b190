//! Stopping in order and being killed are the same: what was acknowledged is there.

use crate::server::{Place, Response, Server, Signal};
use crate::signed::{Call, Key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use types::{BLOCK_BYTES, Digest};

struct Client<'a> {
    server: &'a Server,
    key: Key,
}

impl Client<'_> {
    fn ebs(
        &self,
        method: &str,
        target: &str,
        headers: &[(&'static str, &str)],
        body: &[u8],
    ) -> Response {
        let response = Call {
            service: "ebs",
            method,
            target,
            headers,
            body,
        }
        .send(self.server, &self.key);
        assert!(
            response.status < 300,
            "{} {target}: {}",
            response.status,
            response.text()
        );
        response
    }

    fn start(&self) -> String {
        let started = self.ebs("POST", "/snapshots", &[], br#"{"VolumeSize":1}"#);
        started.json()["SnapshotId"]
            .as_str()
            .expect("an id")
            .to_owned()
    }

    fn put(&self, id: &str, index: u32) {
        let block = content(index);
        let checksum = STANDARD.encode(Digest::of(&block).as_bytes());
        let headers = [
            ("x-amz-data-length", "524288"),
            ("x-amz-checksum", &*checksum),
            ("x-amz-checksum-algorithm", "SHA256"),
        ];
        self.ebs(
            "PUT",
            &format!("/snapshots/{id}/blocks/{index}"),
            &headers,
            &block,
        );
    }

    fn complete(&self, id: &str, count: &str) {
        let headers = [("x-amz-changedblockscount", count)];
        self.ebs(
            "POST",
            &format!("/snapshots/completion/{id}"),
            &headers,
            b"",
        );
    }

    /// The blocks of a snapshot, as soon as it is completed.
    fn blocks(&self, id: &str) -> Vec<(u32, String)> {
        let target = format!("/snapshots/{id}/blocks");
        let call = Call {
            service: "ebs",
            method: "GET",
            target: &target,
            headers: &[],
            body: b"",
        };
        let listed = loop {
            let response = call.send(self.server, &self.key);
            match response.status {
                200 => break response.json(),
                // The finisher is at work; the test runner bounds this.
                404 => std::thread::yield_now(),
                _ => panic!("{response:?}"),
            }
        };
        let blocks = listed["Blocks"].as_array().expect("an array").iter();
        let token =
            |block: &serde_json::Value| block["BlockToken"].as_str().expect("a token").to_owned();
        let index = |block: &serde_json::Value| {
            block["BlockIndex"]
                .as_u64()
                .and_then(|i| u32::try_from(i).ok())
        };
        blocks
            .map(|block| (index(block).expect("an index"), token(block)))
            .collect()
    }

    fn get(&self, id: &str, index: u32, token: &str) -> Vec<u8> {
        self.ebs(
            "GET",
            &format!("/snapshots/{id}/blocks/{index}?blockToken={token}"),
            &[],
            b"",
        )
        .body
    }
}

fn content(index: u32) -> Vec<u8> {
    index
        .to_be_bytes()
        .into_iter()
        .cycle()
        .take(BLOCK_BYTES)
        .collect()
}

fn survives(signal: Signal) {
    let place = Place::new();
    let server = place.serve(&[]);
    let client = Client {
        server: &server,
        key: Key::of(&place),
    };
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
    let client = Client {
        server: &server,
        key: Key::of(&place),
    };
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
