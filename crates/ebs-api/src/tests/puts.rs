//! PutSnapshotBlock: SPEC 2.2 and 3.2 row by row, in every way to sign and to frame a body.

use super::{Call, Server, Sign, UNKNOWN, block, checksum, chunked, complete, put};
use http::Method;
use http_body_util::Full;
use types::{BLOCK_BYTES, Clock, SnapshotId};

/// Nothing of a refused put is left: the snapshot completes as empty.
async fn check_untouched(server: &Server, id: &str) {
    server.complete(id, 0).await;
    let view = server
        .test
        .settled(server.account, SnapshotId::parse(id).unwrap())
        .await;
    assert_eq!(
        view.state,
        engine::SnapshotState::Completed,
        "{:?}",
        view.status_message
    );
}

#[tokio::test]
async fn every_way_to_sign_and_frame_a_body_is_taken() {
    let server = Server::new().await;
    let id = server.start().await;
    let now = server.test.clock.now();
    for (index, sign) in [Sign::Unsigned, Sign::Named, Sign::Hidden]
        .into_iter()
        .enumerate()
    {
        let call = put(&id, index as u32, &block("a")).sign(sign);
        assert_eq!(server.send(call.clone()).await.status.as_u16(), 201);
        for piece in [BLOCK_BYTES, 65_536, 1_000] {
            let request = chunked(call.clone().signed(&server.signer, now), piece);
            assert_eq!(server.handle(request).await.status.as_u16(), 201);
        }
    }
    server.complete(&id, 3).await;
}

#[tokio::test]
async fn a_body_that_is_not_the_signed_one_is_refused() {
    let server = Server::new().await;
    let id = server.start().await;
    let now = server.test.clock.now();
    for sign in [Sign::Named, Sign::Hidden] {
        let request = put(&id, 0, &block("a"))
            .sign(sign)
            .signed(&server.signer, now);
        let altered = request.map(|_| Full::new(block("b").into()));
        let (status, code, _, message) = server.handle(altered).await.error();
        assert_eq!((status, code.as_str()), (403, "InvalidSignatureException"));
        assert!(message.starts_with("The request signature we calculated does not match"));
    }
    // Not named anywhere, the checksum included: the body itself must be hashed.
    let hidden = put(&id, 0, &block("a"))
        .header("x-amz-checksum", &checksum(b"b"))
        .sign(Sign::Hidden);
    let request = hidden.clone().signed(&server.signer, now);
    let altered = request.map(|_| Full::new(block("c").into()));
    assert_eq!(
        server.handle(altered).await.error().1,
        "InvalidSignatureException"
    );
    let right = server.send(hidden).await.error();
    assert!(
        right
            .3
            .starts_with("The value passed in as x-amz-Checksum does not match"),
        "{right:?}"
    );
    check_untouched(&server, &id).await;
}

#[tokio::test]
async fn wrong_checksums_are_an_invalid_signature() {
    let server = Server::new().await;
    let id = server.start().await;
    let (computed, expected) = (checksum(&block("a")), checksum(&block("b")));
    let answer = server
        .send(put(&id, 0, &block("a")).header("x-amz-checksum", &expected))
        .await;
    answer.check(
        403,
        "InvalidSignatureException",
        "",
        &format!(
            "The value passed in as x-amz-Checksum does not match the computed checksum. \
             Computed checksum: {computed} expected checksum: {expected}"
        ),
    );
    assert!(!answer.headers.contains_key("connection"));
    let short = server
        .send(put(&id, 0, &block("a")).header("x-amz-checksum", "abc"))
        .await;
    assert_eq!(short.error().1, "InvalidSignatureException");
    check_untouched(&server, &id).await;
}

#[tokio::test]
async fn bodies_of_another_length_are_not_read() {
    let server = Server::new().await;
    let id = server.start().await;
    let now = server.test.clock.now();
    for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES + 1, 2 * BLOCK_BYTES] {
        for sign in [Sign::Unsigned, Sign::Named, Sign::Hidden] {
            let call = put(&id, 0, &vec![7; length]).sign(sign);
            // The length is judged before DataLength and algorithm are.
            let call = call
                .header("x-amz-data-length", "1")
                .header("x-amz-checksum-algorithm", "SHA1");
            let call_again = call.clone().header("x-amz-checksum", &checksum(b"other"));
            for answer in [
                server.send(call.clone()).await,
                server.send(call_again.clone()).await,
                server
                    .handle(chunked(call.signed(&server.signer, now), 10_000))
                    .await,
                server
                    .handle(chunked(call_again.signed(&server.signer, now), 10_000))
                    .await,
            ] {
                answer.check(
                    400,
                    "ValidationException",
                    "INVALID_PARAMETER_VALUE",
                    "Failed to read block data",
                );
            }
        }
    }
    check_untouched(&server, &id).await;
}

#[tokio::test]
async fn declarations_are_checked_after_the_body() {
    let server = Server::new().await;
    let id = server.start().await;
    let good = put(&id, 0, &block("a"));
    for sign in [Sign::Unsigned, Sign::Hidden] {
        let good = good.clone().sign(sign);
        let length = good
            .clone()
            .header("x-amz-data-length", "1")
            .header("x-amz-checksum-algorithm", "SHA1");
        server.send(length).await.check(
            400,
            "ValidationException",
            "INVALID_BLOCK",
            "Block data length 1 is not valid, expected 524288",
        );
        let algorithm = good.header("x-amz-checksum-algorithm", "SHA1");
        server.send(algorithm).await.check(
            400,
            "ValidationException",
            "INVALID_PARAMETER_VALUE",
            "Unsupported Checksum Algorithm 'SHA1', supported algorithms are SHA256",
        );
    }
    check_untouched(&server, &id).await;
}

#[tokio::test]
async fn indexes_end_with_the_volume() {
    let server = Server::new().await;
    let id = server.start().await;
    server.put(&id, 2047, "a").await;
    for index in [
        "2048",
        "134217727",
        "134217728",
        "4294967296",
        "9223372036854775807",
    ] {
        let mut call = put(&id, 0, &block("a"));
        call.target = format!("/snapshots/{id}/blocks/{index}");
        let message = format!("Block index {index} is beyond the volume size extent");
        let answer = server.send(call).await;
        answer.check(400, "ValidationException", "INVALID_BLOCK", &message);
    }
    let mut largest = put(&id, 0, &block("a"));
    let whole = server.start_with(r#"{"VolumeSize":65536}"#).await;
    largest.target = format!("/snapshots/{whole}/blocks/134217727");
    assert_eq!(server.send(largest.clone()).await.status.as_u16(), 201);
    largest.target = format!("/snapshots/{whole}/blocks/134217728");
    assert_eq!(server.send(largest).await.error().2, "INVALID_BLOCK");
}

#[tokio::test]
async fn constraints_come_before_the_service() {
    let server = Server::new().await;
    let id = UNKNOWN;
    let good = || put(id, 0, &block("a"));
    let at = |index: &str| {
        let mut call = good();
        call.target = format!("/snapshots/{id}/blocks/{index}");
        call
    };
    server.send(at("-1")).await.check_constraint(
        "Value '-1' at 'blockIndex' failed to satisfy constraint: \
         Member must have value greater than or equal to 0",
    );
    server.send(at("abc")).await.check(
        400,
        "SerializationException",
        "",
        "'abc' at 'blockIndex' is not an integer",
    );
    for (header, member) in [
        ("x-amz-data-length", "dataLength"),
        ("x-amz-checksum", "checksum"),
        ("x-amz-checksum-algorithm", "checksumAlgorithm"),
    ] {
        let fault = format!(
            "Value null at '{member}' failed to satisfy constraint: Member must not be null"
        );
        server
            .send(good().without(header))
            .await
            .check_constraint(&fault);
    }
    for (progress, rule) in [
        ("-1", "greater than or equal to 0"),
        ("101", "less than or equal to 100"),
    ] {
        let fault = format!(
            "Value '{progress}' at 'progress' failed to satisfy constraint: Member must have value {rule}"
        );
        server
            .send(good().header("x-amz-progress", progress))
            .await
            .check_constraint(&fault);
    }
    server
        .send(good().header("x-amz-checksum", "not-base64!"))
        .await
        .check_constraint(
            "Value 'not-base64!' at 'checksum' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=]+$",
        );
    let mut odd = good();
    odd.target = "/snapshots/snap%2F1/blocks/0".to_owned();
    server.send(odd).await.check_constraint(
        "Value 'snap/1' at 'snapshotId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$",
    );
    server.send(good()).await.check_not_found(id);
}

#[tokio::test]
async fn progress_and_e_notation_are_taken() {
    let server = Server::new().await;
    let id = server.start_with(r#"{"VolumeSize":65536}"#).await;
    let mut call = put(&id, 0, &block("a"))
        .header("x-amz-progress", "100")
        .sign(Sign::Hidden);
    call.target = format!("/snapshots/{id}/blocks/1e%2B05");
    call = call.header("x-amz-data-length", "524288.0");
    assert_eq!(server.send(call).await.status.as_u16(), 201);
    server.complete(&id, 1).await;
    let answer = server
        .send(Call::get(&format!("/snapshots/{id}/blocks")))
        .await;
    assert_eq!(answer.json()["Blocks"][0]["BlockIndex"], 100_000);
}

#[tokio::test]
async fn only_open_snapshots_of_ones_own_take_puts() {
    let server = Server::without_workers().await;
    let id = server.start().await;
    let foreign = server.send_as_stranger(put(&id, 0, &block("a"))).await;
    foreign.check_not_found(&id);
    server
        .send(put("snap-1", 0, &block("a")))
        .await
        .check_not_found("snap-1");
    server.send(complete(&id, 0)).await;
    let sealed = server.send(put(&id, 9_999, &block("a"))).await;
    sealed.check(
        400,
        "ValidationException",
        "INVALID_SNAPSHOT_ID",
        "Snapshot is already completed",
    );

    let server = Server::new().await;
    let completed = server.completed(&[]).await;
    let refused = server.send(put(&completed, 0, &block("a"))).await;
    refused.check(
        400,
        "ValidationException",
        "INVALID_SNAPSHOT_ID",
        "Snapshot is already completed",
    );
    let failed = server.start().await;
    server.complete(&failed, 1).await;
    server
        .send(put(&failed, 0, &block("a")))
        .await
        .check_not_found(&failed);
    let deleted = server.start().await;
    let number = SnapshotId::parse(&deleted).unwrap();
    server
        .test
        .engine
        .delete_snapshot(server.account, number)
        .await
        .unwrap();
    server
        .send(put(&deleted, 0, &block("a")))
        .await
        .check_not_found(&deleted);
}

#[tokio::test]
async fn repeats_and_overwrites_are_taken_and_counted_once() {
    let server = Server::new().await;
    let id = server.start().await;
    for text in ["a", "a", "b", "", ""] {
        server.put(&id, 7, text).await;
    }
    server.complete(&id, 1).await;
    let token = super::lists::first_token(&server, &id, 0).await;
    let answer = server
        .send(Call::get(&format!(
            "/snapshots/{id}/blocks/7?blockToken={token}"
        )))
        .await;
    assert!(answer.body == block(""));
    assert_eq!(
        answer.headers["x-amz-checksum"],
        "B4VNL+8pega6gWheZgwzLeNtXRjVRpJ9MNqtbX/aFUE="
    );
}

#[tokio::test]
async fn block_data_is_never_encoded() {
    let server = Server::new().await;
    let id = server.start().await;
    let encoded = put(&id, 0, &block("a")).header("content-encoding", "gzip");
    let (status, code, reason, _) = server.send(encoded).await.error();
    assert_eq!(
        (status, code.as_str(), reason.as_str()),
        (400, "ValidationException", "INVALID_CONTENT_ENCODING")
    );
    let identity = put(&id, 0, &block("a")).header("content-encoding", "identity");
    assert_eq!(server.send(identity).await.status.as_u16(), 201);
}

#[tokio::test]
async fn content_types_do_not_matter() {
    let server = Server::new().await;
    let id = server.start().await;
    for content_type in ["application/json", "application/octet-stream", "nonsense"] {
        let call = put(&id, 0, &block("a")).header("content-type", content_type);
        assert_eq!(server.send(call).await.status.as_u16(), 201);
    }
}

#[tokio::test]
async fn puts_go_to_their_own_route_alone() {
    let server = Server::new().await;
    let id = server.start().await;
    let mut call = put(&id, 0, &block("a"));
    call.method = Method::POST;
    let answer = server.send(call).await;
    assert_eq!(answer.error().1, "UnknownOperationException");
    assert!(
        !answer.headers.contains_key("connection"),
        "the body was drained"
    );
}
