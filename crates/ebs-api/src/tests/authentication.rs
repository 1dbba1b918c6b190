//! Who is refused before anything is looked up, and what stays reachable.

use super::{Call, Server, Sign, UNKNOWN, block, put};
use auth::RequestHead;
use http::HeaderMap;
use types::{Clock, Digest};

#[tokio::test]
async fn anonymous_requests_are_refused_on_every_route() {
    let server = Server::new().await;
    for call in [
        Call::post("/snapshots").body("{"),
        put(UNKNOWN, 0, &block("a")),
        Call::post(&format!("/snapshots/completion/{UNKNOWN}")),
        Call::get(&format!("/snapshots/{UNKNOWN}/blocks/x")),
        Call::get(&format!("/snapshots/{UNKNOWN}/blocks")),
        Call::get(&format!("/snapshots/{UNKNOWN}/changedblocks")),
    ] {
        let answer = server.handle(call.unsigned()).await;
        answer.check(
            403,
            "MissingAuthenticationTokenException",
            "",
            "Missing Authentication Token",
        );
        assert_eq!(
            answer.headers["x-amzn-errortype"],
            "MissingAuthenticationTokenException:http://internal.amazon.com/coral/com.amazon.coral.service/"
        );
        assert!(
            !answer.headers.contains_key("connection"),
            "the body was drained"
        );
    }
}

#[tokio::test]
async fn unknown_routes_are_answered_before_authentication() {
    let server = Server::new().await;
    for call in [
        Call::get("/"),
        Call::get("/snapshots"),
        Call::post("/snapshots/x/y"),
    ] {
        let answer = server.handle(call.unsigned()).await;
        let (status, code, ..) = answer.error();
        assert_eq!((status, code.as_str()), (404, "UnknownOperationException"));
        assert_eq!(
            answer.headers["x-amzn-errortype"],
            "UnknownOperationException"
        );
    }
}

#[tokio::test]
async fn signatures_are_judged_before_constraints_and_bodies() {
    let server = Server::new().await;
    let now = server.test.clock.now();
    for call in [
        Call::post("/snapshots").body("{"),
        put("foo", 0, b"short").sign(Sign::Unsigned),
        put("foo", 0, b"short")
            .sign(Sign::Hidden)
            .header("x-amz-checksum", "AAAA"),
        Call::get("/snapshots/foo/blocks?maxResults=1"),
    ] {
        let mut request = call.signed(&server.signer, now);
        request
            .headers_mut()
            .insert("host", "elsewhere".parse().unwrap());
        let (status, code, ..) = server.handle(request).await.error();
        assert_eq!((status, code.as_str()), (403, "InvalidSignatureException"));
    }
}

#[tokio::test]
async fn unsigned_payloads_are_for_block_data_alone() {
    let server = Server::new().await;
    let call = Call::post("/snapshots")
        .body(r#"{"VolumeSize":1}"#)
        .sign(Sign::Unsigned);
    assert_eq!(
        server.send(call).await.error().1,
        "InvalidSignatureException"
    );
    let named = Call::post("/snapshots")
        .body(r#"{"VolumeSize":1}"#)
        .sign(Sign::Named);
    assert_eq!(server.send(named.clone()).await.status.as_u16(), 201);
    let request = named.signed(&server.signer, server.test.clock.now());
    let altered = request.map(|_| http_body_util::Full::new(r#"{"VolumeSize":2}"#.into()));
    assert_eq!(
        server.handle(altered).await.error().1,
        "InvalidSignatureException"
    );
}

#[tokio::test]
async fn a_disabled_key_signs_nothing() {
    let server = Server::new().await;
    let ids: Vec<_> = server
        .keys
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|key| key.id)
        .collect();
    for id in ids {
        server.keys.disable(&id).await.unwrap();
    }
    let answer = server
        .send(Call::get(&format!("/snapshots/{UNKNOWN}/blocks")))
        .await;
    let message = "The security token included in the request is invalid.";
    answer.check(403, "UnrecognizedClientException", "", message);
}

#[tokio::test]
async fn a_presigned_read_works() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a")]).await;
    let token = super::lists::first_token(&server, &id, 0).await;
    let mut headers = HeaderMap::new();
    headers.insert("host", "127.0.0.1:8512".parse().unwrap());
    let (path, query) = (
        format!("/snapshots/{id}/blocks/0"),
        format!("blockToken={token}"),
    );
    let head = RequestHead {
        method: "GET",
        path: &path,
        query: Some(&query),
        headers: &headers,
    };
    let now = server.test.clock.now();
    let presigned = server
        .signer
        .presign(&head, Digest::of(b""), 60, now)
        .unwrap();
    let answer = server
        .handle(Call::get(&format!("{path}?{presigned}")).unsigned())
        .await;
    assert!(answer.status.as_u16() == 200 && answer.body == block("a"));
}

#[tokio::test]
async fn an_equal_signature_is_no_replay() {
    let server = Server::new().await;
    let id = server.start().await;
    let now = server.test.clock.now();
    for _ in 0..2 {
        let request = put(&id, 0, &block("a")).signed(&server.signer, now);
        assert_eq!(server.handle(request).await.status.as_u16(), 201);
    }
}
