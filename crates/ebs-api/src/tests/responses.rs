//! The success of every operation, byte for byte.

use super::{Call, Server, block, checksum, complete, put};
use crate::Operation;
use auth::RequestId;
use types::Digest;

#[tokio::test]
async fn start_has_every_member_with_explicit_nulls() {
    let server = Server::new().await;
    let answer = server
        .send(Call::post("/snapshots").body(r#"{"VolumeSize":1}"#))
        .await;
    let id = answer.json()["SnapshotId"].as_str().unwrap().to_owned();
    let account = server.account;
    let expected = format!(
        r#"{{"BlockSize":524288,"Description":null,"KmsKeyArn":null,"OwnerId":"{account}","ParentSnapshotId":null,"SnapshotId":"{id}","SseType":null,"StartTime":1790337440.000,"Status":"pending","Tags":null,"VolumeSize":1}}"#
    );
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (201, expected.as_str())
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["date"], "Fri, 25 Sep 2026 11:57:20 GMT");
    assert!(id.starts_with("snap-0") && id.len() == 22);
}

#[tokio::test]
async fn put_answers_the_checksum_that_was_computed() {
    let server = Server::new().await;
    let id = server.start().await;
    let answer = server
        .send(put(&id, 3, &block("stackd-ebs-synthetic-a\n")))
        .await;
    assert_eq!((answer.status.as_u16(), answer.text()), (201, "{}"));
    let headers = [
        "content-type",
        "content-length",
        "x-amz-checksum",
        "x-amz-checksum-algorithm",
    ];
    assert_eq!(
        headers.map(|name| answer.headers[name].to_str().unwrap()),
        [
            "application/json",
            "2",
            "Qib0wLZSCPxxAsnoZ1mqGTwYYUfxBvjcHbuEUOOwNdw=",
            "SHA256"
        ]
    );
    assert!(!answer.headers.contains_key("connection"));
}

#[tokio::test]
async fn complete_answers_the_state() {
    let server = Server::new().await;
    let id = server.start().await;
    let answer = server.send(complete(&id, 0)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (202, r#"{"Status":"pending"}"#)
    );
}

#[tokio::test]
async fn lists_and_reads_have_their_members_in_order() {
    let server = Server::new().await;
    let parent = server.completed(&[(0, "a"), (5, "b")]).await;
    let child = server.completed_child(&parent, &[(5, "c"), (7, "d")]).await;

    let answer = server
        .send(Call::get(&format!("/snapshots/{child}/blocks")))
        .await;
    let json = answer.json();
    let token = |at: usize| json["Blocks"][at]["BlockToken"].as_str().unwrap();
    let expected = format!(
        r#"{{"BlockSize":524288,"Blocks":[{{"BlockIndex":0,"BlockToken":"{}"}},{{"BlockIndex":5,"BlockToken":"{}"}},{{"BlockIndex":7,"BlockToken":"{}"}}],"ExpiryTime":1790942240.000,"NextToken":null,"VolumeSize":1}}"#,
        token(0),
        token(1),
        token(2),
    );
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (200, expected.as_str())
    );

    let target = format!("/snapshots/{child}/changedblocks?firstSnapshotId={parent}");
    let answer = server.send(Call::get(&target)).await;
    let json = answer.json();
    let changed = |at: usize, side: &str| json["ChangedBlocks"][at][side].as_str().unwrap();
    let expected = format!(
        r#"{{"BlockSize":524288,"ChangedBlocks":[{{"BlockIndex":5,"FirstBlockToken":"{}","SecondBlockToken":"{}"}},{{"BlockIndex":7,"FirstBlockToken":null,"SecondBlockToken":"{}"}}],"ExpiryTime":1790942240.000,"NextToken":null,"VolumeSize":1}}"#,
        changed(0, "FirstBlockToken"),
        changed(0, "SecondBlockToken"),
        changed(1, "SecondBlockToken"),
    );
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (200, expected.as_str())
    );

    let target = format!("/snapshots/{child}/blocks/0?blockToken={}", token(0));
    let target = target.replace(
        token(0),
        super::lists::first_token(&server, &child, 0).await.as_str(),
    );
    let answer = server.send(Call::get(&target)).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert!(answer.body == block("a"));
    let headers = [
        "content-type",
        "content-length",
        "x-amz-data-length",
        "x-amz-checksum",
        "x-amz-checksum-algorithm",
    ];
    assert_eq!(
        headers.map(|name| answer.headers[name].to_str().unwrap().to_owned()),
        [
            "application/octet-stream",
            "524288",
            "524288",
            &checksum(&block("a")),
            "SHA256"
        ]
        .map(str::to_owned)
    );
}

#[tokio::test]
async fn responses_name_their_operation() {
    let server = Server::new().await;
    let id = RequestId::generate(&server.random);
    let operation = async |request: http::Request<http_body_util::Full<bytes::Bytes>>| {
        server
            .api
            .handle(request, id)
            .await
            .extensions()
            .get::<Operation>()
            .copied()
    };
    let call = Call::post("/snapshots").unsigned();
    assert_eq!(operation(call).await, Some(Operation("StartSnapshot")));
    assert_eq!(
        operation(Call::get("/").unsigned()).await,
        Some(Operation("Unknown"))
    );
}

#[test]
fn handling_can_move_between_threads() {
    fn assert_send<T: Send>(_: &T) {}
    fn check(api: &crate::EbsApi, id: RequestId) {
        let request = Call::get("/").unsigned();
        assert_send(&api.handle(request, id));
    }
    let _: fn(&crate::EbsApi, RequestId) = check;
    assert_eq!(Digest::BYTES, 32);
}
