//! StartSnapshot: SPEC 2.1 row by row, where `ops/start_snapshot/tests.rs` does not go.

use super::{Call, Server, UNKNOWN};
use std::time::Duration;

fn start(document: &str) -> Call {
    Call::post("/snapshots").body(document)
}

#[tokio::test]
async fn a_client_token_replays_the_first_response() {
    let server = Server::new().await;
    let document = r#"{"VolumeSize":1,"ClientToken":"tok","Description":"d","Tags":[{"Key":"k","Value":"v"}]}"#;
    let first = server.send(start(document)).await;
    let id = first.json()["SnapshotId"].as_str().unwrap().to_owned();
    server.complete(&id, 0).await;
    server.test.clock.advance(Duration::from_secs(60));
    let replay = server.send(start(document)).await;
    assert_eq!((replay.status, replay.text()), (first.status, first.text()));
    let other = server
        .send(start(r#"{"VolumeSize":2,"ClientToken":"tok"}"#))
        .await;
    other.check(
        409,
        "ConflictException",
        "",
        "Current request does not match request stored with this token.",
    );
    let another = server
        .send_as_stranger(start(r#"{"VolumeSize":2,"ClientToken":"tok"}"#))
        .await;
    assert_eq!(another.status.as_u16(), 201, "tokens belong to an account");
}

#[tokio::test]
async fn parents_must_be_complete_and_ones_own() {
    let server = Server::new().await;
    let child = |parent: &str| {
        start(&format!(
            r#"{{"VolumeSize":1,"ParentSnapshotId":"{parent}"}}"#
        ))
    };
    server.send(child(UNKNOWN)).await.check_not_found(UNKNOWN);
    server
        .send(child("snap-abc"))
        .await
        .check_not_found("snap-abc");
    let pending = server.start().await;
    let message = format!("Source snapshot ({pending}) is not complete.");
    let refused = server.send(child(&pending)).await;
    refused.check(400, "ValidationException", "INVALID_SNAPSHOT_ID", &message);
    let parent = server.completed(&[]).await;
    server
        .send_as_stranger(child(&parent))
        .await
        .check_not_found(&parent);
    let answer = server.send(child(&parent)).await;
    assert_eq!(answer.json()["ParentSnapshotId"], parent);

    let failed = server.start().await;
    server.complete(&failed, 1).await;
    server.send(child(&failed)).await.check_not_found(&failed);
    let large = server.start_with(r#"{"VolumeSize":2}"#).await;
    server.complete(&large, 0).await;
    server.send(child(&large)).await.check(
        400,
        "ValidationException",
        "INVALID_VOLUME_SIZE",
        "Volume size cannot be smaller than the source snapshot.",
    );
}

#[tokio::test]
async fn constraints_and_broken_documents_are_answered() {
    let server = Server::new().await;
    server.send(start("{}")).await.check_constraint(
        "Value null at 'volumeSize' failed to satisfy constraint: Member must not be null",
    );
    let broken = server.send(start("{")).await;
    let (status, code, ..) = broken.error();
    assert_eq!((status, code.as_str()), (400, "SerializationException"));
    assert!(
        !broken.headers.contains_key("connection"),
        "the body was read: the connection is fine"
    );
    let large = server.send(start(&" ".repeat(256 * 1024 + 1))).await;
    let (status, code, ..) = large.error();
    assert_eq!(
        (status, code.as_str()),
        (413, "RequestEntityTooLargeException")
    );
    let encrypted = server
        .send(start(r#"{"VolumeSize":1,"Encrypted":true}"#))
        .await;
    assert_eq!(encrypted.error().2, "INVALID_DEPENDENCY_REQUEST");
}

#[tokio::test]
async fn the_largest_tags_fit_however_they_are_escaped() {
    let server = Server::new().await;
    let tag = |n: usize| {
        let (key, value) = (r"\ud83d\ude00".repeat(124), r"\ud83d\ude00".repeat(255));
        format!(r#"{{"Key":"{n:03}{key}","Value":"{value}"}}"#)
    };
    let tags: Vec<String> = (0..50).map(tag).collect();
    let document = format!(r#"{{"VolumeSize":1,"Tags":[{}]}}"#, tags.join(","));
    let answer = server.send(start(&document)).await;
    assert_eq!(answer.status.as_u16(), 201, "{} bytes", document.len());
    assert_eq!(answer.json()["Tags"][49]["Value"], "😀".repeat(255));
}
