//! GetSnapshotBlock: SPEC 2.4 row by row.

use super::lists::{first_token, tokens};
use super::{Call, Server, UNKNOWN, block};
use std::time::Duration;
use types::SnapshotId;

fn get(id: &str, index: &str, token: &str) -> Call {
    Call::get(&format!(
        "/snapshots/{id}/blocks/{index}?blockToken={token}"
    ))
}

#[tokio::test]
async fn tokens_open_their_block_and_nothing_else() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a"), (1, "b")]).await;
    let other = server.completed(&[(0, "a"), (1, "b")]).await;
    let tokens = tokens(&server, &id).await;
    assert!(server.send(get(&id, "1", &tokens[1])).await.body == block("b"));
    let page = {
        let target = format!("/snapshots/{id}/blocks");
        let _ = server.send(Call::get(&target)).await;
        super::lists::page_token(&server, &id)
    };
    let invalid = async |id: &str, index: &str, token: &str| {
        let message = format!("The block token {token} is invalid.");
        let answer = server.send(get(id, index, token)).await;
        answer.check(400, "ValidationException", "INVALID_BLOCK_TOKEN", &message);
    };
    invalid(&id, "0", &tokens[1]).await;
    invalid(&id, "5", &tokens[1]).await;
    invalid(&id, "2048", &tokens[1]).await;
    invalid(&id, "134217728", &tokens[1]).await;
    invalid(&id, "9223372036854775807", &tokens[1]).await;
    invalid(&other, "1", &tokens[1]).await;
    invalid(&id, "1", "AlMBgarbage").await;
    invalid(&id, "1", &page).await;
    invalid(&id, "1", &format!("{}A", tokens[1])).await;
}

#[tokio::test]
async fn tokens_expire_and_outlive_a_new_listing() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a")]).await;
    let token = first_token(&server, &id, 0).await;
    let day = Duration::from_secs(24 * 60 * 60);
    server.test.clock.advance(6 * day);
    server.token_keys.rotate_if_due().await.unwrap();
    let newer = first_token(&server, &id, 0).await;
    assert_eq!(
        server.send(get(&id, "0", &token)).await.status.as_u16(),
        200
    );
    server.test.clock.advance(day);
    let message = format!("The block token {token} is invalid.");
    let expired = server.send(get(&id, "0", &token)).await;
    expired.check(400, "ValidationException", "INVALID_BLOCK_TOKEN", &message);
    assert_eq!(
        server.send(get(&id, "0", &newer)).await.status.as_u16(),
        200
    );
}

#[tokio::test]
async fn the_snapshot_is_looked_at_before_the_token() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a")]).await;
    let token = first_token(&server, &id, 0).await;
    server
        .send(get(UNKNOWN, "0", "garbage"))
        .await
        .check_not_found(UNKNOWN);
    server
        .send(get("snap-f", "0", "garbage"))
        .await
        .check_not_found("snap-f");
    for token in ["garbage", &token] {
        server
            .send_as_stranger(get(&id, "0", token))
            .await
            .check_not_found(&id);
    }
    let pending = server.start().await;
    server
        .send(get(&pending, "0", "garbage"))
        .await
        .check_not_found(&pending);
    let failed = server.start().await;
    server.complete(&failed, 1).await;
    server
        .send(get(&failed, "0", "garbage"))
        .await
        .check_not_found(&failed);
    let number = SnapshotId::parse(&id).unwrap();
    server
        .test
        .engine
        .delete_snapshot(server.account, number)
        .await
        .unwrap();
    for token in ["garbage", &token] {
        server.send(get(&id, "0", token)).await.check_not_found(&id);
    }
}

#[tokio::test]
async fn inherited_blocks_are_read_through_the_child() {
    let server = Server::new().await;
    let parent = server.completed(&[(0, "a")]).await;
    let child = server.completed_child(&parent, &[(3, "b")]).await;
    let tokens = tokens(&server, &child).await;
    let number = SnapshotId::parse(&parent).unwrap();
    server
        .test
        .engine
        .delete_snapshot(server.account, number)
        .await
        .unwrap();
    assert!(server.send(get(&child, "0", &tokens[0])).await.body == block("a"));
    assert!(server.send(get(&child, "3", &tokens[1])).await.body == block("b"));
}

#[tokio::test]
async fn constraints_are_checked_first() {
    let server = Server::new().await;
    let pattern = "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=_-]+$";
    server
        .send(get(UNKNOWN, "0", ""))
        .await
        .check_constraint(&format!(
            "Value '' at 'blockToken' failed to satisfy constraint: {pattern}"
        ));
    server
        .send(get(UNKNOWN, "0", "a%20b"))
        .await
        .check_constraint(&format!(
            "Value 'a b' at 'blockToken' failed to satisfy constraint: {pattern}"
        ));
    let long = "a".repeat(257);
    server
        .send(get(UNKNOWN, "0", &long))
        .await
        .check_constraint(&format!(
            "Value '{long}' at 'blockToken' failed to satisfy constraint: \
         Member must have length less than or equal to 256"
        ));
    server
        .send(Call::get(&format!("/snapshots/{UNKNOWN}/blocks/0")))
        .await
        .check_constraint(
            "Value null at 'blockToken' failed to satisfy constraint: Member must not be null",
        );
    server.send(get(UNKNOWN, "-1", "t")).await.check_constraint(
        "Value '-1' at 'blockIndex' failed to satisfy constraint: \
         Member must have value greater than or equal to 0",
    );
    let text = server.send(get(UNKNOWN, "1.5", "t")).await;
    text.check(
        400,
        "SerializationException",
        "",
        "'1.5' at 'blockIndex' is not an integer",
    );
    server
        .send(get("snap-XYZ", "0", "t"))
        .await
        .check_constraint(
            "Value 'snap-XYZ' at 'snapshotId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$",
        );
}
