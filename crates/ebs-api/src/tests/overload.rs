//! Answers take memory that was admitted for them, and requests beyond that are throttled (SPEC 8.8).

use super::lists::first_token;
use super::{Answer, Call, Server, block};
use auth::{AccessKeyId, RequestId};
use engine::Transfer;
use http_body_util::BodyExt;
use std::sync::Arc;
use types::Clock;

/// Units of answers that are out, and callers that were admitted to some.
fn answers(server: &Server) -> (u64, u64) {
    let admissions = server.api.admissions();
    let found = admissions.iter().find(|(name, _)| *name == "answers");
    let counts = found.expect("answers are admitted").1.counts();
    (counts.in_use, counts.admitted)
}

fn check_throttled(answer: &Answer) {
    let (status, code, _, message) = answer.error();
    assert_eq!((status, &*code), (400, "ThrottlingException"));
    assert_eq!(message, "Rate exceeded");
    assert_eq!(answer.headers["x-amz-retry-after"], "1000");
    assert_eq!(answer.error_code, Some("ThrottlingException"));
}

#[tokio::test]
async fn a_block_holds_its_memory_until_it_is_sent() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a")]).await;
    let token = first_token(&server, &id, 0).await;
    assert_eq!(answers(&server), (0, 1), "the listing took some");
    let call = Call::get(&format!("/snapshots/{id}/blocks/0?blockToken={token}"));
    let request = call.signed(&server.signer, server.test.clock.now());
    let request_id = RequestId::generate(&server.random);
    let response = server.api.handle(request, request_id).await;
    assert!(response.extensions().get::<Arc<Transfer>>().is_some());
    assert_eq!(answers(&server), (8, 2), "half a MiB in units of 64 KiB");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body == block("a"));
    assert_eq!(answers(&server).0, 8, "the bytes are still in memory");
    drop(body);
    assert_eq!(answers(&server).0, 0);
}

#[tokio::test]
async fn a_short_list_holds_what_it_needs() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a")]).await;
    let call = Call::get(&format!("/snapshots/{id}/blocks"));
    let request = call.signed(&server.signer, server.test.clock.now());
    let request_id = RequestId::generate(&server.random);
    let response = server.api.handle(request, request_id).await;
    assert_eq!(answers(&server).0, 1);
    drop(response);
    assert_eq!(answers(&server).0, 0);
}

#[tokio::test]
async fn answers_beyond_the_memory_are_throttled() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a")]).await;
    let token = first_token(&server, &id, 0).await;
    let key = |text| AccessKeyId::parse(text).unwrap();
    let mut held = Vec::new();
    for other in ["AKONE", "AKTWO"] {
        let admissions = &server.api.shared.admissions;
        held.push(admissions.answer(&key(other), 36 << 16).await.unwrap());
        held.push(admissions.answer(&key(other), 36 << 16).await.unwrap());
    }
    let get = || Call::get(&format!("/snapshots/{id}/blocks/0?blockToken={token}"));
    tokio::time::pause();
    check_throttled(&server.send(get()).await);
    let list = Call::get(&format!("/snapshots/{id}/blocks"));
    check_throttled(&server.send(list).await);
    tokio::time::resume();
    held.pop();
    assert_eq!(server.send(get()).await.status, 200);
}

#[tokio::test]
async fn there_is_an_answer_without_room_for_the_request() {
    let server = Server::new().await;
    let response = server.api.throttle(RequestId::generate(&server.random));
    assert_eq!(response.headers()["connection"], "close");
    check_throttled(&Answer::read(response).await);
}
