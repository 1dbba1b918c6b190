//! ListSnapshotBlocks and ListChangedBlocks: SPEC 2.5, 2.6, 3.9 and 3.10 row by row.

use super::{Call, Server, UNKNOWN, block};
use crate::page_token::{self, Listing};
use serde_json::Value;
use std::time::Duration;
use types::{BlockIndex, Clock, SnapshotId};

/// The tokens of the first page of a snapshot's blocks.
pub(super) async fn tokens(server: &Server, id: &str) -> Vec<String> {
    let page = server.send(list(id, "")).await.json();
    let token = |block: &Value| block["BlockToken"].as_str().unwrap().to_owned();
    page["Blocks"]
        .as_array()
        .unwrap()
        .iter()
        .map(token)
        .collect()
}

/// One of them.
pub(super) async fn first_token(server: &Server, id: &str, at: usize) -> String {
    tokens(server, id).await.remove(at)
}

/// A page token of this snapshot's listing.
pub(super) fn page_token(server: &Server, id: &str) -> String {
    let listing = Listing::Blocks(SnapshotId::parse(id).unwrap());
    page_token::make(
        &server.token_keys,
        &server.random,
        server.test.clock.now(),
        listing,
        BlockIndex::ZERO,
    )
}

fn list(id: &str, query: &str) -> Call {
    Call::get(&format!("/snapshots/{id}/blocks?{query}"))
}

fn changed(second: &str, first: &str, query: &str) -> Call {
    Call::get(&format!(
        "/snapshots/{second}/changedblocks?firstSnapshotId={first}{query}"
    ))
}

fn indexes(page: &Value, list: &str) -> Vec<u64> {
    page[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["BlockIndex"].as_u64().unwrap())
        .collect()
}

/// A snapshot with 250 blocks, every third index.
async fn with_250(server: &Server) -> String {
    let id = server.start().await;
    let blocks = (0..250).map(|at| (at * 3, ["a", "b"][(at % 2) as usize]));
    server.put_all(&id, blocks).await;
    server.complete(&id, 250).await;
    id
}

#[tokio::test]
async fn pages_follow_one_another() {
    let server = Server::new().await;
    let id = with_250(&server).await;
    let mut seen = Vec::new();
    let mut query = "maxResults=100".to_owned();
    loop {
        let page = server.send(list(&id, &query)).await.json();
        assert_eq!(
            (page["VolumeSize"].as_u64(), page["BlockSize"].as_u64()),
            (Some(1), Some(524_288))
        );
        seen.extend(indexes(&page, "Blocks"));
        match page["NextToken"].as_str() {
            // Another size, and a starting index that the token makes irrelevant.
            Some(token) => {
                query = format!("pageToken={token}&maxResults=149&startingBlockIndex=700")
            }
            None => break,
        }
    }
    assert_eq!(seen, (0..250).map(|at| at * 3).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_listing_can_begin_anywhere() {
    let server = Server::new().await;
    let id = server.completed(&[(0, "a"), (5, "b"), (9, "c")]).await;
    let begin = async |at: &str| {
        let answer = server
            .send(list(&id, &format!("startingBlockIndex={at}")))
            .await;
        (indexes(&answer.json(), "Blocks"), answer)
    };
    assert_eq!(begin("0").await.0, [0, 5, 9]);
    assert_eq!(begin("5").await.0, [5, 9]);
    assert_eq!(begin("6").await.0, [9]);
    assert_eq!(begin("5e%2B00").await.0, [5, 9]);
    let now = r#""ExpiryTime":1790337440.000,"NextToken":null,"VolumeSize":1}"#;
    for beyond in [
        "10",
        "2047",
        "2048",
        "134217727",
        "134217728",
        "9223372036854775807",
    ] {
        let (indexes, answer) = begin(beyond).await;
        assert_eq!(indexes, Vec::<u64>::new(), "{beyond}");
        assert!(answer.text().ends_with(now), "{}", answer.text());
    }
}

#[tokio::test]
async fn both_listings_check_the_same_constraints() {
    let server = Server::new().await;
    let first = format!("firstSnapshotId={UNKNOWN}&");
    for target in [
        format!("/snapshots/{UNKNOWN}/blocks?"),
        format!("/snapshots/{UNKNOWN}/changedblocks?{first}"),
    ] {
        let get = |query: &str| Call::get(&format!("{target}{query}"));
        for (max, rule) in [
            ("1", "greater than or equal to 100"),
            ("99", "greater than or equal to 100"),
            ("10001", "less than or equal to 10000"),
        ] {
            server.send(get(&format!("maxResults={max}"))).await.check_constraint(&format!(
                "Value '{max}' at 'maxResults' failed to satisfy constraint: Member must have value {rule}"
            ));
        }
        let starting = "Value '-1' at 'startingBlockIndex' failed to satisfy constraint: \
                        Member must have value greater than or equal to 0";
        server
            .send(get("startingBlockIndex=-1"))
            .await
            .check_constraint(starting);
        server
            .send(get("startingBlockIndex=-1&pageToken=AA"))
            .await
            .check_constraint(starting);
        server.send(get("pageToken=")).await.check_constraint(
            "Value '' at 'nextToken' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=_-]+$",
        );
        let text = server.send(get("maxResults=abc")).await;
        text.check(
            400,
            "SerializationException",
            "",
            "'abc' at 'maxResults' is not an integer",
        );
        server
            .send(get("maxResults=100"))
            .await
            .check_not_found(UNKNOWN);
    }
    server.send(list("foo", "")).await.check_constraint(
        "Value 'foo' at 'snapshotId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$",
    );
    server
        .send(changed("foo", UNKNOWN, ""))
        .await
        .check_constraint(
            "Value 'foo' at 'secondSnapshotId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$",
        );
    server
        .send(changed(UNKNOWN, "foo", ""))
        .await
        .check_constraint(
            "Value 'foo' at 'firstSnapshotId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$",
        );
}

#[tokio::test]
async fn page_tokens_belong_to_their_listing() {
    let server = Server::new().await;
    let one = with_250(&server).await;
    let two = server
        .start_with(&format!(r#"{{"VolumeSize":1,"ParentSnapshotId":"{one}"}}"#))
        .await;
    server.put_all(&two, (0..150).map(|at| (at, "z"))).await;
    server.complete(&two, 150).await;
    let next = async |call: Call| {
        server.send(call).await.json()["NextToken"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let blocks = next(list(&one, "maxResults=100")).await;
    let pair = next(changed(&two, &one, "&maxResults=100")).await;
    let invalid = async |call: Call, token: &str| {
        let message = format!("The pagination token {token} is invalid.");
        let answer = server.send(call).await;
        answer.check(400, "ValidationException", "INVALID_PAGE_TOKEN", &message);
    };
    let with = |token: &str| format!("pageToken={token}");
    let and = |token: &str| format!("&pageToken={token}");
    assert_eq!(
        server
            .send(list(&one, &with(&blocks)))
            .await
            .status
            .as_u16(),
        200
    );
    assert_eq!(
        server
            .send(changed(&two, &one, &and(&pair)))
            .await
            .status
            .as_u16(),
        200
    );
    invalid(list(&two, &with(&blocks)), &blocks).await;
    invalid(list(&one, &with(&pair)), &pair).await;
    invalid(changed(&two, &one, &and(&blocks)), &blocks).await;
    invalid(changed(&one, &two, &and(&pair)), &pair).await;
    invalid(changed(&two, &two, &and(&pair)), &pair).await;
    invalid(list(&one, "pageToken=AlMC"), "AlMC").await;
    let block_token = first_token(&server, &one, 0).await;
    invalid(list(&one, &with(&block_token)), &block_token).await;
    let mut altered = blocks.clone();
    altered.replace_range(20..21, if &blocks[20..21] == "A" { "B" } else { "A" });
    invalid(list(&one, &with(&altered)), &altered).await;

    server.test.clock.advance(Duration::from_secs(60 * 60));
    invalid(list(&one, &with(&blocks)), &blocks).await;
    invalid(changed(&two, &one, &and(&pair)), &pair).await;
    // The snapshot comes first.
    server
        .send(list(UNKNOWN, &with(&blocks)))
        .await
        .check_not_found(UNKNOWN);
    server
        .send(changed(&two, UNKNOWN, &and(&pair)))
        .await
        .check_not_found(UNKNOWN);
}

#[tokio::test]
async fn only_completed_snapshots_of_ones_own_are_listed() {
    let server = Server::new().await;
    let completed = server.completed(&[(0, "a")]).await;
    let pending = server.start().await;
    let failed = server.start().await;
    server.complete(&failed, 1).await;
    for id in [&pending, &failed, "snap-f", UNKNOWN] {
        server.send(list(id, "")).await.check_not_found(id);
        server
            .send(list(id, "startingBlockIndex=4000000000"))
            .await
            .check_not_found(id);
        server
            .send(list(id, "pageToken=garbage"))
            .await
            .check_not_found(id);
        server
            .send(changed(id, &completed, ""))
            .await
            .check_not_found(id);
        server
            .send(changed(&completed, id, ""))
            .await
            .check_not_found(id);
        server
            .send(changed(id, id, "&startingBlockIndex=4000000000"))
            .await
            .check_not_found(id);
    }
    server
        .send(changed("snap-2", "snap-1", ""))
        .await
        .check_not_found("snap-1");
    server
        .send(changed("snap-2", &pending, ""))
        .await
        .check_not_found(&pending);
    server
        .send_as_stranger(list(&completed, ""))
        .await
        .check_not_found(&completed);
    server
        .send_as_stranger(changed(&completed, &completed, ""))
        .await
        .check_not_found(&completed);
}

#[tokio::test]
async fn a_first_snapshot_must_be_given() {
    let server = Server::new().await;
    let second = server.completed(&[]).await;
    for query in ["", "?firstSnapshotId=", "?maxResults=100"] {
        let answer = server
            .send(Call::get(&format!(
                "/snapshots/{second}/changedblocks{query}"
            )))
            .await;
        answer.check(
            400,
            "ValidationException",
            "INVALID_SNAPSHOT_ID",
            "First snapshot should not be empty or null",
        );
    }
}

#[tokio::test]
async fn changes_are_compared_as_asked() {
    let server = Server::new().await;
    let root = server.completed(&[(0, "a"), (1, "b"), (2, "c")]).await;
    let left = server.completed_child(&root, &[(1, "x"), (5, "y")]).await;
    let right = server.completed_child(&root, &[(1, "x"), (6, "z")]).await;
    let compare = async |second: &str, first: &str| {
        let page = server.send(changed(second, first, "")).await.json();
        assert!(
            page["NextToken"].is_null() && page["VolumeSize"] == 1 && page["BlockSize"] == 524_288
        );
        let side = |item: &Value, name: &str| item[name].is_string();
        let item = |item: &Value| {
            (
                item["BlockIndex"].as_u64().unwrap(),
                side(item, "FirstBlockToken"),
                side(item, "SecondBlockToken"),
            )
        };
        page["ChangedBlocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(item)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        compare(&left, &root).await,
        [(1, true, true), (5, false, true)]
    );
    assert_eq!(
        compare(&root, &left).await,
        [(1, true, true), (5, true, false)]
    );
    assert_eq!(
        compare(&right, &left).await,
        [(5, true, false), (6, false, true)]
    );
    assert_eq!(compare(&left, &left).await, []);

    let page = server.send(changed(&left, &root, "")).await.json();
    for (side, id, text) in [
        ("FirstBlockToken", &root, "b"),
        ("SecondBlockToken", &left, "x"),
    ] {
        let token = page["ChangedBlocks"][0][side].as_str().unwrap();
        let get = Call::get(&format!("/snapshots/{id}/blocks/1?blockToken={token}"));
        assert!(server.send(get).await.body == block(text), "{side}");
    }
    let beyond = server
        .send(changed(&left, &root, "&startingBlockIndex=4000000000"))
        .await;
    assert_eq!(
        beyond.text(),
        r#"{"BlockSize":524288,"ChangedBlocks":[],"ExpiryTime":1790942240.000,"NextToken":null,"VolumeSize":1}"#
    );
}

#[tokio::test]
async fn snapshots_of_different_lineages_are_not_compared() {
    let server = Server::new().await;
    let (one, two) = (server.completed(&[]).await, server.completed(&[]).await);
    for query in ["", "&pageToken=garbage", "&startingBlockIndex=4000000000"] {
        let answer = server.send(changed(&two, &one, query)).await;
        answer.check(
            400,
            "ValidationException",
            "UNRELATED_SNAPSHOTS",
            "The snapshots are not related.",
        );
    }
}
