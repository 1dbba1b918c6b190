//! CompleteSnapshot: SPEC 2.3 row by row.

use super::{Call, Server, UNKNOWN, block, complete};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::SnapshotState;
use types::{Digest, DigestContext, SnapshotId};

fn aggregate(blocks: &[&str]) -> String {
    let mut context = DigestContext::new();
    blocks
        .iter()
        .for_each(|text| context.update(Digest::of(&block(text)).as_bytes()));
    STANDARD.encode(context.finish().as_bytes())
}

fn complete_with(id: &str, count: usize, checksum: &str) -> Call {
    complete(id, count)
        .header("x-amz-checksum", checksum)
        .header("x-amz-checksum-algorithm", "SHA256")
        .header("x-amz-checksum-aggregation-method", "LINEAR")
}

async fn state(server: &Server, id: &str) -> (SnapshotState, Option<String>) {
    let view = server
        .test
        .settled(server.account, SnapshotId::parse(id).unwrap())
        .await;
    (view.state, view.status_message)
}

#[tokio::test]
async fn repeats_tell_the_state() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a")]).await;
    let again = server.send(complete(&id, 77)).await;
    assert_eq!(
        (again.status.as_u16(), again.text()),
        (202, r#"{"Status":"completed"}"#)
    );
    let failed = server.start().await;
    server.complete(&failed, 5).await;
    let again = server.send(complete(&failed, 0)).await;
    assert_eq!(
        (again.status.as_u16(), again.text()),
        (202, r#"{"Status":"error"}"#)
    );
}

#[tokio::test]
async fn count_and_aggregate_decide_after_the_answer() {
    let server = Server::new().await;
    let cases = [
        (2, aggregate(&["a", ""]), SnapshotState::Completed, None),
        (
            1,
            aggregate(&["a", ""]),
            SnapshotState::Error,
            Some("Changed blocks count mismatch for snapshot"),
        ),
        (
            2,
            aggregate(&["", "a"]),
            SnapshotState::Error,
            Some("Checksum mismatch for snapshot"),
        ),
        (
            2,
            "abc".to_owned(),
            SnapshotState::Error,
            Some("Checksum mismatch for snapshot"),
        ),
        (
            2,
            "====".to_owned(),
            SnapshotState::Error,
            Some("Checksum mismatch for snapshot"),
        ),
    ];
    for (count, checksum, expected, message) in cases {
        let id = server.start().await;
        server.put(&id, 9, "").await;
        server.put(&id, 3, "a").await;
        let answer = server.send(complete_with(&id, count, &checksum)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (202, r#"{"Status":"pending"}"#)
        );
        assert_eq!(
            state(&server, &id).await,
            (expected, message.map(str::to_owned)),
            "{checksum}"
        );
    }
    let empty = server.start().await;
    let nothing = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(
        server
            .send(complete_with(&empty, 0, nothing))
            .await
            .status
            .as_u16(),
        202
    );
    assert_eq!(state(&server, &empty).await.0, SnapshotState::Completed);
}

#[tokio::test]
async fn headers_are_checked() {
    let server = Server::new().await;
    let id = server.start().await;
    let missing = complete(&id, 0).without("x-amz-changedblockscount");
    server.send(missing).await.check_constraint(
        "Value null at 'changedBlocksCount' failed to satisfy constraint: Member must not be null",
    );
    let negative = complete(&id, 0).header("x-amz-changedblockscount", "-1");
    server.send(negative).await.check_constraint(
        "Value '-1' at 'changedBlocksCount' failed to satisfy constraint: \
         Member must have value greater than or equal to 0",
    );
    let text = complete(&id, 0).header("x-amz-changedblockscount", "many");
    server.send(text).await.check(
        400,
        "SerializationException",
        "",
        "'many' at 'changedBlocksCount' is not an integer",
    );
    let algorithm = complete_with(&id, 0, "abcd").header("x-amz-checksum-algorithm", "SHA1");
    server.send(algorithm).await.check_constraint(
        "Value 'SHA1' at 'checksumAlgorithm' failed to satisfy constraint: \
         Member must satisfy enum value set: [SHA256]",
    );
    let method = complete_with(&id, 0, "abcd").header("x-amz-checksum-aggregation-method", "TREE");
    server.send(method).await.check_constraint(
        "Value 'TREE' at 'checksumAggregationMethod' failed to satisfy constraint: \
         Member must satisfy enum value set: [LINEAR]",
    );
    server
        .send(complete_with(&id, 0, "not-base64!"))
        .await
        .check_constraint(
            "Value 'not-base64!' at 'checksum' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=]+$",
        );
    let malformed = server.send(complete("foo", 0)).await;
    malformed.check_constraint(
        "Value 'foo' at 'snapshotId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$",
    );
    assert_eq!(
        server.send(complete(&id, 0)).await.text(),
        r#"{"Status":"pending"}"#
    );
}

#[tokio::test]
async fn the_checksum_headers_come_together() {
    let server = Server::new().await;
    let id = server.start().await;
    let names = [
        "x-amz-checksum",
        "x-amz-checksum-algorithm",
        "x-amz-checksum-aggregation-method",
    ];
    let full = complete_with(&id, 0, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    for given in 1..7 {
        let mut call = full.clone();
        for (bit, name) in names.iter().enumerate() {
            if given & (1 << bit) == 0 {
                call = call.without(name);
            }
        }
        let missing = match given {
            0b001 | 0b101 => "Checksum algorithm",
            0b011 => "Checksum aggregation method",
            _ => "Snapshot checksum",
        };
        let message = format!("Invalid parameter combination. {missing} is missing.");
        let answer = server.send(call).await;
        answer.check(
            400,
            "ValidationException",
            "INVALID_PARAMETER_VALUE",
            &message,
        );
    }
}

#[tokio::test]
async fn unknown_and_foreign_snapshots_are_not_found() {
    let server = Server::new().await;
    server
        .send(complete(UNKNOWN, 0))
        .await
        .check_not_found(UNKNOWN);
    server
        .send(complete("snap-ffffffffffffffffff", 0))
        .await
        .check_not_found("snap-ffffffffffffffffff");
    let id = server.start().await;
    server
        .send_as_stranger(complete(&id, 0))
        .await
        .check_not_found(&id);
}

#[tokio::test]
async fn r_writes_counts_in_e_notation() {
    let server = Server::new().await;
    let id = server.start().await;
    let call = complete(&id, 0).header("x-amz-changedblockscount", "1e+05");
    assert_eq!(server.send(call).await.status.as_u16(), 202);
    let message = "Changed blocks count mismatch for snapshot".to_owned();
    assert_eq!(
        state(&server, &id).await,
        (SnapshotState::Error, Some(message))
    );
}
