//! A disk goes in as a snapshot, its changes as a child, and both come back, through the Rust SDK.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_ebs::Client;
use aws_sdk_ebs::primitives::ByteStream;
use aws_sdk_ebs::types::{ChecksumAggregationMethod, ChecksumAlgorithm, Status};
use conformance::{BLOCK_BYTES, Server, aggregate, checksum, letter, unique};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(240);

type Blocks = BTreeMap<i32, Vec<u8>>;

async fn put(client: &Client, snapshot: &str, index: i32, data: Vec<u8>) -> Result<()> {
    let sum = checksum(&data);
    let answer = client
        .put_snapshot_block()
        .snapshot_id(snapshot)
        .block_index(index)
        .data_length(BLOCK_BYTES as i32)
        .checksum(&sum)
        .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
        .block_data(ByteStream::from(data))
        .send()
        .await?;
    ensure!(
        answer.checksum() == Some(&sum),
        "another checksum came back: {:?}",
        answer.checksum()
    );
    Ok(())
}

async fn complete(client: &Client, snapshot: &str, blocks: &Blocks) -> Result<Option<Status>> {
    let answer = client
        .complete_snapshot()
        .snapshot_id(snapshot)
        .changed_blocks_count(blocks.len() as i32)
        .checksum(aggregate(blocks))
        .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
        .checksum_aggregation_method(ChecksumAggregationMethod::ChecksumAggregationLinear)
        .send()
        .await?;
    Ok(answer.status().cloned())
}

/// A whole write session. A repeated completion tells when the first one has ended.
async fn upload(client: &Client, parent: Option<&str>, blocks: &Blocks) -> Result<String> {
    let started = client
        .start_snapshot()
        .volume_size(1)
        .set_parent_snapshot_id(parent.map(str::to_owned))
        .description("through the Rust SDK")
        .send()
        .await?;
    ensure!(started.block_size() == Some(BLOCK_BYTES as i32));
    ensure!(started.parent_snapshot_id() == parent);
    let snapshot = started.snapshot_id().unwrap_or_default().to_owned();
    let mut puts = JoinSet::new();
    for (&index, data) in blocks {
        let (client, snapshot, data) = (client.clone(), snapshot.clone(), data.clone());
        puts.spawn(async move { put(&client, &snapshot, index, data).await });
    }
    while let Some(done) = puts.join_next().await {
        done??;
    }
    ensure!(complete(client, &snapshot, blocks).await? == Some(Status::Pending));
    loop {
        match complete(client, &snapshot, blocks).await? {
            Some(Status::Completed) => return Ok(snapshot),
            Some(Status::Pending) => sleep(Duration::from_millis(20)).await,
            other => anyhow::bail!("completion ended with {other:?}"),
        }
    }
}

async fn get(client: &Client, snapshot: &str, index: i32, token: &str) -> Result<Vec<u8>> {
    let call = client
        .get_snapshot_block()
        .snapshot_id(snapshot)
        .block_index(index);
    let answer = call.block_token(token).send().await?;
    let (sum, length) = (answer.checksum().map(str::to_owned), answer.data_length());
    let data = answer.block_data.collect().await?.to_vec();
    ensure!(length == Some(BLOCK_BYTES as i32) && data.len() == BLOCK_BYTES);
    ensure!(sum == Some(checksum(&data)));
    Ok(data)
}

async fn download(client: &Client, snapshot: &str) -> Result<Blocks> {
    let mut found = Blocks::new();
    let pages = client
        .list_snapshot_blocks()
        .snapshot_id(snapshot)
        .max_results(100);
    let mut pages = pages.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page?;
        ensure!(page.volume_size() == Some(1) && page.block_size() == Some(BLOCK_BYTES as i32));
        for block in page.blocks() {
            let (Some(index), Some(token)) = (block.block_index(), block.block_token()) else {
                anyhow::bail!("a block without index or token");
            };
            found.insert(index, get(client, snapshot, index, token).await?);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_disk_goes_in_and_comes_back() -> Result<()> {
    timeout(LIMIT, async {
        let server = Server::start().await?;
        let client = server.client()?;
        let mut disk: Blocks = (0..150).map(|i| (i * 13, unique(i as u64 % 120))).collect();
        disk.insert(2047, vec![0; BLOCK_BYTES]);
        let snapshot = upload(&client, None, &disk).await?;
        ensure!(download(&client, &snapshot).await? == disk);

        let changes: Blocks = [
            (0, letter('a')),
            (26, vec![0; BLOCK_BYTES]),
            (7, letter('b')),
        ]
        .into();
        let child = upload(&client, Some(&snapshot), &changes).await?;
        let mut merged = disk.clone();
        merged.extend(changes.clone());
        ensure!(download(&client, &child).await? == merged);

        let call = client
            .list_changed_blocks()
            .first_snapshot_id(&snapshot)
            .second_snapshot_id(&child);
        let answer = call.send().await?;
        let seen: Vec<_> = answer
            .changed_blocks()
            .iter()
            .map(|block| block.block_index())
            .collect();
        ensure!(seen == [Some(0), Some(7), Some(26)], "changed: {seen:?}");
        ensure!(answer.changed_blocks()[1].first_block_token().is_none());
        ensure!(answer.next_token().is_none());
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn checksums_are_the_published_ones() -> Result<()> {
    ensure!(checksum(&letter('a')) == "Qib0wLZSCPxxAsnoZ1mqGTwYYUfxBvjcHbuEUOOwNdw=");
    let zero = vec![0; BLOCK_BYTES];
    let blocks: Blocks = [
        (0, letter('b')),
        (3, letter('a')),
        (7, zero),
        (2047, letter('c')),
    ]
    .into();
    ensure!(aggregate(&blocks) == "Pq34jf4xh07iqiQpo/morRl/xL06mqy1ERimH+Hypi8=");
    timeout(LIMIT, async {
        let server = Server::start().await?;
        let client = server.client()?;
        let snapshot = upload(&client, None, &blocks).await?;
        ensure!(download(&client, &snapshot).await? == blocks);
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn errors_are_the_modelled_ones() -> Result<()> {
    timeout(LIMIT, async {
        let server = Server::start().await?;
        let client = server.client()?;
        let missing = "snap-0123456789abcdef1";
        let error = client
            .list_snapshot_blocks()
            .snapshot_id(missing)
            .send()
            .await
            .unwrap_err();
        let error = error.into_service_error();
        ensure!(error.is_resource_not_found_exception(), "{error:?}");
        ensure!(
            error.meta().message() == Some("The snapshot 'snap-0123456789abcdef1' does not exist.")
        );

        let started = client
            .start_snapshot()
            .volume_size(1)
            .client_token("once")
            .send()
            .await?;
        let snapshot = started.snapshot_id().unwrap_or_default();
        let again = client
            .start_snapshot()
            .volume_size(1)
            .client_token("once")
            .send()
            .await?;
        ensure!(again.snapshot_id() == Some(snapshot));
        let conflict = client
            .start_snapshot()
            .volume_size(2)
            .client_token("once")
            .send()
            .await;
        ensure!(
            conflict
                .unwrap_err()
                .into_service_error()
                .is_conflict_exception()
        );

        let beyond = put(&client, snapshot, 2048, letter('a')).await.unwrap_err();
        ensure!(
            format!("{beyond:?}").contains("beyond the volume size extent"),
            "{beyond:?}"
        );
        Ok(())
    })
    .await?
}
