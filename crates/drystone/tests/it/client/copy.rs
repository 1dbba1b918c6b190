//! Copies between servers: whole, as increments, after tampering, and through faults on both sides.

mod commands;
mod counterparts;
mod ends;
mod faults;
mod resume;

use super::proxy::On;
use client::Error;
use client::api::{Api, Which};
use client::copy::{COPY_OF_TAG, CopyBase, CopyReport, copy, plan, prepare};
use ends::{Blocks, End, options};
use std::future::pending;

/// Copies without interruption.
async fn copied(from: &Api, to: &Api, options: &client::copy::CopyOptions) -> CopyReport {
    let prepared = prepare(from, to, options).await.expect("prepared");
    copy(from, to, options, &prepared, pending())
        .await
        .expect("copied")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_copy_has_the_content_and_the_words_of_its_source() {
    let (from, to) = (End::start(), End::start());
    let blocks = [(0, b'a'), (7, b'0'), (8, b'a'), (2047, b'b')];
    let snapshot = from.snapshot(None, &blocks).await;
    let report = copied(&from.api, &to.api, &options(&snapshot)).await;
    assert!(report.completed && !report.existed);
    assert_eq!((report.blocks_put, &report.parent), (4, &None));

    let (here, there) = (
        from.described(&snapshot).await,
        to.described(&report.snapshot).await,
    );
    assert_eq!(there.volume_size, here.volume_size);
    assert_eq!(there.description, here.description);
    let origin = format!("{}/us-east-1/{snapshot}", here.owner);
    let mut tags = here.tags.clone();
    tags.insert(COPY_OF_TAG.to_owned(), origin);
    assert_eq!(there.tags, tags);
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&blocks));
    assert_eq!(here.lineage.unwrap().root, there.lineage.unwrap().root);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_the_copy_is_what_it_gets() {
    let (from, to) = (End::start(), End::start());
    let snapshot = from.snapshot(None, &[(3, b'a')]).await;
    let mut options = options(&snapshot);
    options.description = Some("another".to_owned());
    options.tags.insert("Name".to_owned(), "copy".to_owned());
    let report = copied(&from.api, &to.api, &options).await;
    let there = to.described(&report.snapshot).await;
    assert_eq!(there.description, "another");
    assert_eq!(there.tags["Name"], "copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_snapshot_is_copied() {
    let (from, to) = (End::start(), End::start());
    let snapshot = from.snapshot(None, &[]).await;
    let report = copied(&from.api, &to.api, &options(&snapshot)).await;
    assert_eq!(report.blocks_put, 0);
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_the_destination_holds_are_neither_got_nor_sent() {
    let (from, to) = (End::start(), End::start());
    let blocks = [(1, b'a'), (2, b'b'), (3, b'0'), (9, b'a')];
    let snapshot = from.snapshot(None, &blocks).await;
    to.snapshot(None, &[(100, b'b'), (200, b'a')]).await;
    let puts = to.proxy.calls(On::PUT);

    let report = copied(&from.api, &to.api, &options(&snapshot)).await;
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&blocks));
    assert_eq!(from.proxy.calls(On::GET), 0);
    let sent = &to.proxy.seen(On::PUT)[usize::try_from(puts).unwrap()..];
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|put| put.body_bytes == 0), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_puts_by_digest_gets_exactly_the_calls_of_the_plan() {
    let (from, to) = (End::start(), End::start_shared());
    let parent = from.snapshot(None, &[(1, b'a'), (2, b'b')]).await;
    copied(&from.api, &to.api, &options(&parent)).await;
    let child = from
        .snapshot(Some(&parent), &[(2, b'c'), (3, b'0'), (4, b'd')])
        .await;

    for base in [CopyBase::Nothing, CopyBase::Nearest] {
        let mut options = options(&child);
        options.base = base;
        options.again = true;
        let prepared = prepare(&from.api, &to.api, &options)
            .await
            .expect("prepared");
        let plan = plan(&from.api, &options, &prepared).await.expect("a plan");
        let before = (from.calls(), to.calls());
        copy(&from.api, &to.api, &options, &prepared, pending())
            .await
            .expect("copied");
        assert_eq!(from.calls_since(&before.0), plan.source_calls);
        assert_eq!(to.calls_since(&before.1), plan.destination_calls);
        assert_eq!(plan.zero_blocks, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_copied_is_not_copied_again_unless_that_is_wanted() {
    let (from, to) = (End::start(), End::start());
    let snapshot = from.snapshot(None, &[(1, b'a')]).await;
    let first = copied(&from.api, &to.api, &options(&snapshot)).await;
    let second = copied(&from.api, &to.api, &options(&snapshot)).await;
    assert!(second.existed && second.completed);
    assert_eq!((&second.snapshot, second.blocks_put), (&first.snapshot, 0));

    let mut again = options(&snapshot);
    again.again = true;
    let third = copied(&from.api, &to.api, &again).await;
    assert!(!third.existed && third.snapshot != first.snapshot);

    let prepared = prepare(&from.api, &to.api, &options(&snapshot))
        .await
        .unwrap();
    assert_eq!(prepared.existing, Some(third.snapshot), "the newest");
    assert!(
        prepared.warnings[0].contains("2 copies"),
        "{:?}",
        prepared.warnings
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_completed_is_refused() {
    let (from, to) = (End::start(), End::start());
    let unknown = "snap-0123456789abcdef0".parse().expect("an id");
    let refused = prepare(&from.api, &to.api, &options(&unknown)).await;
    assert!(matches!(&refused, Err(Error::Unfit(text)) if text.contains("does not exist")));

    let pending = from.pending(None, &[(1, b'a')]).await;
    let refused = prepare(&from.api, &to.api, &options(&pending)).await;
    assert!(matches!(refused, Err(Error::SnapshotFailed { .. })));
    assert_eq!(to.described_all(&Which::Own).await.len(), 0);
}
