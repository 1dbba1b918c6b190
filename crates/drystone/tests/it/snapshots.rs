//! Snapshots, made and read with signed requests.

use crate::server::{Place, Response, Server};
use crate::signed::{Call, Key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use types::{BLOCK_BYTES, Digest};

/// A client of a server.
pub struct Client<'a> {
    server: &'a Server,
    key: Key,
}

impl<'a> Client<'a> {
    /// With the key of the first start.
    pub fn of(place: &Place, server: &'a Server) -> Client<'a> {
        Client {
            server,
            key: Key::of(place),
        }
    }

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

    pub fn start(&self) -> String {
        let started = self.ebs("POST", "/snapshots", &[], br#"{"VolumeSize":1}"#);
        started.json()["SnapshotId"]
            .as_str()
            .expect("an id")
            .to_owned()
    }

    pub fn put(&self, id: &str, index: u32) {
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

    pub fn complete(&self, id: &str, count: &str) {
        let headers = [("x-amz-changedblockscount", count)];
        self.ebs(
            "POST",
            &format!("/snapshots/completion/{id}"),
            &headers,
            b"",
        );
    }

    /// A completed snapshot of these blocks.
    pub fn upload(&self, indexes: std::ops::Range<u32>) -> String {
        let id = self.start();
        let count = indexes.len().to_string();
        for index in indexes {
            self.put(&id, index);
        }
        self.complete(&id, &count);
        self.blocks(&id);
        id
    }

    /// Deletes a snapshot.
    pub fn delete(&self, id: &str) {
        self.ec2(&format!("Action=DeleteSnapshot&SnapshotId={id}"));
    }

    /// Gives a snapshot a tag; key and value are words.
    pub fn tag(&self, id: &str, key: &str, value: &str) {
        let value = value.replace(' ', "%20");
        self.ec2(&format!(
            "Action=CreateTags&ResourceId.1={id}&Tag.1.Key={key}&Tag.1.Value={value}"
        ));
    }

    /// What DescribeSnapshots says of a snapshot.
    pub fn describe(&self, id: &str) -> String {
        self.ec2(&format!("Action=DescribeSnapshots&SnapshotId.1={id}"))
    }

    fn ec2(&self, action: &str) -> String {
        let response = Call {
            service: "ec2",
            method: "POST",
            target: "/",
            headers: &[("content-type", "application/x-www-form-urlencoded")],
            body: format!("{action}&Version=2016-11-15").as_bytes(),
        }
        .send(self.server, &self.key);
        assert_eq!(response.status, 200, "{}", response.text());
        response.text().to_owned()
    }

    /// Reads every block of a snapshot and compares it with what [`Client::put`] sent.
    pub fn verify(&self, id: &str, indexes: std::ops::Range<u32>) {
        let blocks = self.blocks(id);
        assert!(blocks.iter().map(|(index, _)| *index).eq(indexes));
        for (index, token) in blocks {
            let read = self.get(id, index, &token);
            assert!(read == content(index), "block {index} of {id}");
        }
    }

    /// The blocks of a snapshot, as soon as it is completed.
    pub fn blocks(&self, id: &str) -> Vec<(u32, String)> {
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

    /// What a read answers, whatever it is.
    pub fn try_get(&self, id: &str, index: u32, token: &str) -> Response {
        Call {
            service: "ebs",
            method: "GET",
            target: &format!("/snapshots/{id}/blocks/{index}?blockToken={token}"),
            headers: &[],
            body: b"",
        }
        .send(self.server, &self.key)
    }

    pub fn get(&self, id: &str, index: u32, token: &str) -> Vec<u8> {
        self.ebs(
            "GET",
            &format!("/snapshots/{id}/blocks/{index}?blockToken={token}"),
            &[],
            b"",
        )
        .body
    }
}

pub fn content(index: u32) -> Vec<u8> {
    index
        .to_be_bytes()
        .into_iter()
        .cycle()
        .take(BLOCK_BYTES)
        .collect()
}
