//! On what a copy is based.

use super::ends::{Blocks, End, options};
use super::{copied, prepare};
use crate::client::proxy::On;
use client::Error;
use client::copy::{COPY_OF_TAG, CopyBase};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_parent_with_a_copy_is_the_base() {
    let (from, to) = (End::start(), End::start());
    let first = from.snapshot(None, &[(0, b'a'), (5, b'b')]).await;
    let second = from.snapshot(Some(&first), &[(5, b'c')]).await;
    let third = from.snapshot(Some(&second), &[(6, b'd')]).await;
    let copy_of_first = copied(&from.api, &to.api, &options(&first)).await.snapshot;
    let puts = to.proxy.calls(On::PUT);

    let report = copied(&from.api, &to.api, &options(&third)).await;
    assert_eq!(report.parent, Some((first, copy_of_first)));
    assert_eq!(report.blocks_put, 2);
    let sent = &to.proxy.seen(On::PUT)[usize::try_from(puts).unwrap()..];
    assert_eq!(sent.iter().filter(|put| put.body_bytes > 0).count(), 2);
    let whole = [(0, b'a'), (5, b'c'), (6, b'd')];
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_named_is_found_by_its_tag() {
    let (from, to) = (End::start(), End::start());
    let first = from.snapshot(None, &[(0, b'a'), (5, b'b')]).await;
    let second = from.snapshot(Some(&first), &[(5, b'c'), (9, b'0')]).await;
    let mut wanted = options(&second);
    wanted.base = CopyBase::Snapshot(first.clone());

    let refused = prepare(&from.api, &to.api, &wanted).await;
    assert!(matches!(&refused, Err(Error::Unfit(text)) if text.contains("copy it first")));

    let base = copied(&from.api, &to.api, &options(&first)).await.snapshot;
    // What has a base is encrypted as that is.
    let mut encrypted = wanted.clone();
    encrypted.encrypted = Some(true);
    let refused = prepare(&from.api, &to.api, &encrypted).await;
    assert!(matches!(&refused, Err(Error::Unfit(text)) if text.contains("encrypted as that is")));

    let report = copied(&from.api, &to.api, &wanted).await;
    assert_eq!(report.parent, Some((first, base)));
    assert_eq!(report.blocks_put, 2);
    let whole = [(0, b'a'), (5, b'c')];
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_only_the_base_has_become_zeros() {
    let (from, to) = (End::start(), End::start());
    let older = from.snapshot(None, &[(0, b'a')]).await;
    let newer = from.snapshot(Some(&older), &[(0, b'b'), (7, b'c')]).await;
    copied(&from.api, &to.api, &options(&newer)).await;
    let mut wanted = options(&older);
    wanted.base = CopyBase::Snapshot(newer);
    let report = copied(&from.api, &to.api, &wanted).await;
    assert_eq!(report.blocks_put, 2);
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&[(0, b'a')]));

    // Its zeros make another root digest of the same content: it is compared block by block, and good.
    let prepared = prepare(&from.api, &to.api, &options(&older))
        .await
        .expect("prepared");
    assert_eq!(prepared.existing, Some(report.snapshot));
    assert_eq!(prepared.warnings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counterpart_that_holds_something_else_is_no_base() {
    let (from, to) = (End::start(), End::start());
    let first = from.snapshot(None, &[(0, b'a'), (5, b'b')]).await;
    let second = from.snapshot(Some(&first), &[(6, b'c')]).await;
    // Like the first but for one block, and tagged as its copy.
    let other = to.snapshot(None, &[(0, b'a'), (5, b'x')]).await;
    let origin = format!("{}/us-east-1/{first}", from.described(&first).await.owner);
    let tags = BTreeMap::from([(COPY_OF_TAG.to_owned(), origin)]);
    to.api.create_tags(&[other], &tags).await.expect("tagged");

    let mut wanted = options(&second);
    wanted.base = CopyBase::Snapshot(first.clone());
    let refused = prepare(&from.api, &to.api, &wanted).await;
    assert!(
        matches!(&refused, Err(Error::Unfit(text)) if text.contains("block 5 is not the same")),
        "{refused:?}"
    );

    let prepared = prepare(&from.api, &to.api, &options(&second))
        .await
        .expect("prepared");
    assert_eq!(prepared.parent, None);
    assert!(
        prepared.warnings[0].contains("block 5"),
        "{:?}",
        prepared.warnings
    );
    let report = copied(&from.api, &to.api, &options(&second)).await;
    let whole = [(0, b'a'), (5, b'b'), (6, b'c')];
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&whole));

    // Nor is it taken for a copy that exists.
    let report = copied(&from.api, &to.api, &options(&first)).await;
    assert!(!report.existed);
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&whole[..2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grew_on_a_copy_goes_back_as_an_increment() {
    let (home, away) = (End::start(), End::start());
    let first = home.snapshot(None, &[(0, b'a'), (5, b'b')]).await;
    let copy_of_first = copied(&home.api, &away.api, &options(&first))
        .await
        .snapshot;
    let grown = away.snapshot(Some(&copy_of_first), &[(5, b'c')]).await;

    let report = copied(&away.api, &home.api, &options(&grown)).await;
    assert_eq!(report.parent, Some((copy_of_first, first)));
    assert_eq!(report.blocks_put, 1);
    let whole = [(0, b'a'), (5, b'c')];
    assert_eq!(home.blocks(&report.snapshot).await, Blocks::of(&whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_completed_is_no_base() {
    let (from, to) = (End::start(), End::start());
    let first = from.snapshot(None, &[(0, b'a')]).await;
    let second = from.snapshot(Some(&first), &[(5, b'b')]).await;
    let origin = format!("{}/us-east-1/{first}", from.described(&first).await.owner);
    let pending = to.pending(None, &[(0, b'a')]).await;
    let tags = BTreeMap::from([(COPY_OF_TAG.to_owned(), origin)]);
    to.api.create_tags(&[pending], &tags).await.expect("tagged");
    let prepared = prepare(&from.api, &to.api, &options(&second))
        .await
        .expect("prepared");
    assert_eq!((prepared.parent, prepared.warnings), (None, Vec::new()));
}
