//! What docs/wire.md calls extensions: agreed on in a header, and absent from the answers to all others.

use super::{Answer, Call, Server, Sign, UNKNOWN, block, checksum, chunked, complete, put};
use engine::DedupScope;
use engine::testing::TestEngine;
use http::Method;
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;
use types::{BLOCK_BYTES, Clock};

const HEADER: &str = "x-drystone-extensions";

/// What an answer offers.
fn offered(answer: &Answer) -> Option<&str> {
    assert!(answer.status.is_success(), "{answer:?}");
    let offered = answer.headers.get(HEADER);
    offered.map(|value| value.to_str().unwrap())
}

/// A put by digest of a block with this data.
fn by_digest(id: &str, index: u32, data: &[u8]) -> Call {
    put(id, index, data)
        .header("x-drystone-put", "by-digest")
        .body("")
}

async fn shared_server() -> Server {
    let directory = TempDir::new().unwrap();
    let test = TestEngine::sharing(directory.path(), DedupScope::Store).await;
    Server::over(test, directory).await
}

#[tokio::test]
async fn three_operations_say_what_is_offered_to_those_who_ask() {
    let server = Server::new().await;
    let parent = server.completed(&[(0, "a")]).await;
    let child = server.completed_child(&parent, &[(0, "b")]).await;
    let calls = [
        Call::post("/snapshots").body(r#"{"VolumeSize":1}"#),
        Call::get(&format!("/snapshots/{parent}/blocks")),
        Call::get(&format!(
            "/snapshots/{child}/changedblocks?firstSnapshotId={parent}"
        )),
    ];
    for call in calls {
        let ask = |list: &str| call.clone().header(HEADER, list);
        let all = "lineage,put-by-digest, block-checksums,later";
        for (call, expected) in [
            (call.clone(), None),
            (ask("later"), None),
            (ask(all), Some("block-checksums, put-by-digest, lineage")),
            (ask("put-by-digest"), Some("put-by-digest")),
        ] {
            assert_eq!(offered(&server.send(call).await), expected);
        }
    }
    let others = [
        put(&server.start().await, 0, &block("a")),
        complete(&child, 1),
        by_digest(&server.start().await, 0, &block("a")),
    ];
    for call in others {
        let answer = server.send(call.header(HEADER, "block-checksums")).await;
        assert_eq!(offered(&answer), None);
    }
    let refused = Call::get(&format!("/snapshots/{UNKNOWN}/blocks")).header(HEADER, "lineage");
    assert!(!server.send(refused).await.headers.contains_key(HEADER));
}

#[tokio::test]
async fn a_shared_store_offers_no_put_by_digest() {
    let server = shared_server().await;
    let ask = Call::post("/snapshots")
        .body(r#"{"VolumeSize":1}"#)
        .header(HEADER, "put-by-digest,lineage");
    assert_eq!(offered(&server.send(ask).await), Some("lineage"));
    let id = server.start().await;
    server.put(&id, 0, "a").await;
    for text in ["a", "", "b"] {
        let answer = server.send(by_digest(&id, 1, &block(text))).await;
        assert_eq!(answer.error().1, "BlockDataRequired");
    }
}

#[tokio::test]
async fn blocks_are_listed_with_their_checksums_where_asked() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a"), (5, ""), (9, "b")]).await;
    let page = |query: &str| Call::get(&format!("/snapshots/{id}/blocks{query}"));
    let plain = server.send(page("")).await;
    assert!(!plain.text().contains("Checksum"));
    let answer = server.send(page("?checksumAlgorithm=SHA256")).await;
    let blocks = answer.json()["Blocks"].clone();
    let listed: Vec<_> = blocks
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["BlockIndex"].clone(), item["Checksum"].clone()))
        .collect();
    let expected = [(0, "a"), (5, ""), (9, "b")]
        .map(|(index, text)| (Value::from(index), Value::from(checksum(&block(text)))));
    assert_eq!(listed, expected);
    // Tokens are what they were: the block can be read, and has this checksum.
    let token = blocks[2]["BlockToken"].as_str().unwrap();
    let read = Call::get(&format!("/snapshots/{id}/blocks/9?blockToken={token}"));
    assert_eq!(server.send(read).await.body, block("b"));

    let fault = "Value 'MD5' at 'checksumAlgorithm' failed to satisfy constraint: \
        Member must satisfy enum value set: [SHA256]";
    let refused = server.send(page("?checksumAlgorithm=MD5")).await;
    refused.check_constraint(fault);
    let empty = server.send(page("?checksumAlgorithm=")).await;
    empty.check_constraint(&fault.replace("MD5", ""));
}

#[tokio::test]
async fn changed_blocks_have_a_checksum_for_each_side_that_has_the_block() {
    let server = Server::new().await;
    let parent = server.completed(&[(0, "a"), (1, "b")]).await;
    let child = server.completed_child(&parent, &[(0, "c"), (7, "d")]).await;
    let changed = |second: &str, first: &str, query: &str| {
        Call::get(&format!(
            "/snapshots/{second}/changedblocks?firstSnapshotId={first}{query}"
        ))
    };
    let asked = "&checksumAlgorithm=SHA256";
    let plain = server.send(changed(&child, &parent, "")).await;
    assert!(!plain.text().contains("Checksum"));
    let checksum = |text: &str| Value::from(checksum(&block(text)));
    for (second, first, expected) in [
        (
            &child,
            &parent,
            [(checksum("a"), checksum("c")), (Value::Null, checksum("d"))],
        ),
        (
            &parent,
            &child,
            [(checksum("c"), checksum("a")), (checksum("d"), Value::Null)],
        ),
    ] {
        let answer = server.send(changed(second, first, asked)).await.json();
        let sides: Vec<_> = answer["ChangedBlocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                let item = item.as_object().unwrap();
                let names: Vec<_> = item.keys().map(String::as_str).collect();
                let members = [
                    "BlockIndex",
                    "FirstBlockToken",
                    "FirstChecksum",
                    "SecondBlockToken",
                    "SecondChecksum",
                ];
                assert_eq!(names, members);
                (
                    item["FirstChecksum"].clone(),
                    item["SecondChecksum"].clone(),
                )
            })
            .collect();
        assert_eq!(sides, expected);
    }
    let refused = changed(&child, &parent, "&checksumAlgorithm=sha256");
    server.send(refused).await.check_constraint(
        "Value 'sha256' at 'checksumAlgorithm' failed to satisfy constraint: \
         Member must satisfy enum value set: [SHA256]",
    );
}

#[tokio::test]
async fn a_block_that_is_stored_is_put_without_its_data() {
    let server = Server::new().await;
    server.completed(&[(0, "a")]).await;
    let id = server.start().await;
    for (index, sign) in [Sign::Unsigned, Sign::Named, Sign::Hidden]
        .into_iter()
        .enumerate()
    {
        let call = by_digest(&id, index as u32, &block("a")).sign(sign);
        let answer = server.send(call.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (201, "{}"));
        assert_eq!(
            answer.headers["x-amz-checksum"],
            checksum(&block("a")).as_str()
        );
        assert_eq!(answer.headers["x-amz-checksum-algorithm"], "SHA256");
        let signed = call.signed(&server.signer, server.test.clock.now());
        let framed = server.handle(chunked(signed, 1)).await;
        assert_eq!(framed.status.as_u16(), 201);
    }
    assert_eq!(server.send(by_digest(&id, 9, &block(""))).await.status, 201);
    let required = server.send(by_digest(&id, 10, &block("new"))).await;
    required.check(
        412,
        "BlockDataRequired",
        "",
        "The block cannot be put by its digest. Send its data.",
    );
    assert_eq!(
        required.headers["x-amzn-errortype"],
        "BlockDataRequired:http://internal.amazon.com/coral/com.amazon.coral.service/"
    );
    // The data follows on the same connection.
    assert!(!required.headers.contains_key("connection"));
    server.complete(&id, 4).await;
    let list = Call::get(&format!("/snapshots/{id}/blocks?checksumAlgorithm=SHA256"));
    let list = server.send(list).await.json();
    let checksums: Vec<_> = list["Blocks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["Checksum"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        checksums,
        ["a", "a", "a", ""].map(|text| checksum(&block(text)))
    );
}

#[tokio::test]
async fn an_account_never_learns_what_another_has() {
    let server = Server::new().await;
    server.completed(&[(0, "secret")]).await;
    let start = Call::post("/snapshots").body(r#"{"VolumeSize":1}"#);
    let theirs = server.send_as_stranger(start).await.json()["SnapshotId"].clone();
    let theirs = theirs.as_str().unwrap();
    let mut answers = Vec::new();
    for text in ["secret", "never stored"] {
        let call = by_digest(theirs, 0, &block(text));
        let answer = server.send_as_stranger(call).await;
        answers.push((answer.error(), answer.body));
    }
    assert_eq!(answers[0].0.1, "BlockDataRequired");
    assert_eq!(answers[0], answers[1]);
    let own = server.start().await;
    let foreign = by_digest(&own, 0, &block("secret"));
    server.send_as_stranger(foreign).await.check_not_found(&own);
}

#[tokio::test]
async fn what_names_the_block_must_be_signed() {
    let server = Server::new().await;
    server.completed(&[(0, "a")]).await;
    let id = server.start().await;
    let now = server.test.clock.now();
    for name in [
        "x-drystone-put",
        "x-amz-data-length",
        "x-amz-checksum-algorithm",
        "x-amz-checksum",
    ] {
        let call = by_digest(&id, 0, &block("a"));
        let value = call.headers[name].clone();
        let mut request = call.without(name).signed(&server.signer, now);
        request.headers_mut().insert(name, value);
        let message = format!("The header {name} of a put by digest must be signed");
        let answer = server.handle(request).await;
        answer.check(
            400,
            "ValidationException",
            "INVALID_PARAMETER_VALUE",
            &message,
        );
    }
    // A put with its data that somebody on the way adds the header to.
    let mut request = put(&id, 0, &block("a")).signed(&server.signer, now);
    let headers = request.headers_mut();
    headers.insert("x-drystone-put", "by-digest".parse().unwrap());
    assert_eq!(server.handle(request).await.status, 400);
    // One that is taken off: an empty block is no block.
    let mut request = by_digest(&id, 0, &block("a")).signed(&server.signer, now);
    request.headers_mut().remove("x-drystone-put");
    assert_eq!(server.handle(request).await.status, 403);
    // And one that was not signed by the key at all.
    let mut request = by_digest(&id, 0, &block("a")).signed(&server.signer, now);
    let other = checksum(&block("b")).parse().unwrap();
    request.headers_mut().insert("x-amz-checksum", other);
    assert_eq!(server.handle(request).await.status, 403);
    server.complete(&id, 0).await;
}

#[tokio::test]
async fn its_form_is_checked_and_its_errors_are_those_of_a_put() {
    let server = Server::new().await;
    server.completed(&[(0, "a")]).await;
    let id = server.start().await;
    let good = || by_digest(&id, 0, &block("a"));
    let invalid = |message: &str| {
        let reason = "INVALID_PARAMETER_VALUE".to_owned();
        let code = "ValidationException".to_owned();
        (400, code, reason, message.to_owned())
    };
    let no_body = "A put by digest has no body";
    let cases = [
        (
            good().header("x-drystone-put", "By-Digest"),
            "The value 'By-Digest' of x-drystone-put is not valid, expected by-digest",
        ),
        (
            good().header("x-drystone-put", ""),
            "The value '' of x-drystone-put is not valid, expected by-digest",
        ),
        (good().body("x"), no_body),
        (good().body(block("a")), no_body),
        (good().body("x").sign(Sign::Named), no_body),
        (
            good().header("x-amz-checksum", "YWJj"),
            "The checksum 'YWJj' is not the base64 text of a SHA-256 digest.",
        ),
        (
            good().header("x-amz-checksum-algorithm", "SHA1"),
            "Unsupported Checksum Algorithm 'SHA1', supported algorithms are SHA256",
        ),
    ];
    for (call, message) in cases {
        assert_eq!(server.send(call).await.error(), invalid(message));
    }
    let signed = good()
        .body("x")
        .signed(&server.signer, server.test.clock.now());
    let framed = server.handle(chunked(signed, 1)).await;
    assert_eq!(framed.error(), invalid(no_body));
    // A digest that is signed for a body that never comes.
    let mut signed = good()
        .body("x")
        .sign(Sign::Named)
        .signed(&server.signer, server.test.clock.now());
    *signed.body_mut() = Full::default();
    assert_eq!(server.handle(signed).await.error(), invalid(no_body));
    // A body whose digest is signed and nowhere named would have to be read first.
    let hidden = server.send(good().body("x").sign(Sign::Hidden)).await;
    assert_eq!(hidden.status, 403);

    server
        .send(good().header("x-amz-data-length", "0"))
        .await
        .check(
            400,
            "ValidationException",
            "INVALID_BLOCK",
            &format!("Block data length 0 is not valid, expected {BLOCK_BYTES}"),
        );
    server
        .send(good().without("x-amz-checksum"))
        .await
        .check_constraint(
            "Value null at 'checksum' failed to satisfy constraint: Member must not be null",
        );
    server.send(by_digest(&id, 2048, &block("a"))).await.check(
        400,
        "ValidationException",
        "INVALID_BLOCK",
        "Block index 2048 is beyond the volume size extent",
    );
    server
        .send(by_digest(UNKNOWN, 0, &block("a")))
        .await
        .check_not_found(UNKNOWN);
    let get = Call::new(Method::PUT, &format!("/snapshots/{id}/blocks/x"))
        .header("x-drystone-put", "by-digest");
    assert_eq!(server.send(get).await.error().1, "SerializationException");
    server.complete(&id, 0).await;
    server.send(good()).await.check(
        400,
        "ValidationException",
        "INVALID_SNAPSHOT_ID",
        "Snapshot is already completed",
    );
}

/// The memory for blocks, and the pool that hashes them, are for puts that bring data.
#[tokio::test]
async fn it_takes_no_buffer() {
    let server = Server::new().await;
    server.completed(&[(0, "a")]).await;
    let id = server.start().await;
    let admitted = || {
        server.api.admissions()[..2]
            .iter()
            .map(|(_, place)| place.counts().admitted)
            .sum::<u64>()
    };
    let before = admitted();
    assert!(before > 0);
    for sign in [Sign::Unsigned, Sign::Hidden] {
        let answer = server.send(by_digest(&id, 0, &block("a")).sign(sign)).await;
        assert_eq!(answer.status, 201);
    }
    assert_eq!(admitted(), before);
}
