//! Copies while both connections break, and copies that end early.

use super::ends::{Blocks, End, options};
use super::{copied, copy, prepare};
use crate::client::proxy::{Fault, On, Rule};
use client::Error;
use client::api::Which;
use std::future::pending;
use tokio::sync::oneshot;

/// Enough blocks that every kind of fault happens.
pub fn many() -> Vec<(u32, u8)> {
    (0..60)
        .map(|number| (number * 3, b'1' + number as u8))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_through_faults_on_both_sides_ends_equal() {
    let (from, to) = (End::start(), End::start());
    let snapshot = from.snapshot(None, &many()).await;
    let everywhere = [
        Rule::new(On::ANY, Fault::DropBefore).chance(0.05),
        Rule::new(On::ANY, Fault::DropAfter).chance(0.05),
        Rule::new(On::ANY, Fault::DropInBody).chance(0.05),
        Rule::new(On::ANY, Fault::Throttled).chance(0.05),
        Rule::new(On::ANY, Fault::InternalError).chance(0.05),
        Rule::new(On::ANY, Fault::Unavailable).chance(0.05),
        Rule::new(On::PUT, Fault::CorruptRequest).chance(0.1),
        Rule::new(On::PUT, Fault::SnapshotThrottled).chance(0.05),
        Rule::new(On::PUT, Fault::BodyNotRead).chance(0.05),
        Rule::new(On::PUT, Fault::Stall).skip(20).times(1),
        Rule::new(On::GET, Fault::CorruptAnswer).chance(0.1),
        Rule::new(On::GET, Fault::StallInBody).skip(20).times(1),
        Rule::new(On::GET, Fault::TokenExpired).skip(10).times(1),
    ];
    from.proxy.set(everywhere);
    to.proxy.set(everywhere);
    let report = copied(&from.api, &to.api, &options(&snapshot)).await;

    for (end, faults) in [
        (
            &from,
            [
                Fault::CorruptAnswer,
                Fault::StallInBody,
                Fault::TokenExpired,
            ],
        ),
        (&to, [Fault::CorruptRequest, Fault::Stall, Fault::DropAfter]),
    ] {
        end.proxy.set([]);
        for fault in faults {
            assert!(end.proxy.count(fault) > 0, "{fault:?}");
        }
    }
    assert_eq!(report.blocks_put, 60);
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&many()));
    assert_eq!(to.described_all(&Which::Own).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_always_arrives_damaged_ends_the_copy_and_leaves_nothing() {
    let (from, to) = (End::start_impatient(), End::start());
    let snapshot = from.snapshot(None, &many()).await;
    let block = On("GET", "/snapshots/*/blocks/27");
    from.proxy.set([Rule::new(block, Fault::CorruptAnswer)]);
    let prepared = prepare(&from.api, &to.api, &options(&snapshot))
        .await
        .expect("prepared");
    let failed = copy(
        &from.api,
        &to.api,
        &options(&snapshot),
        &prepared,
        pending(),
    )
    .await;
    assert!(
        matches!(&failed, Err(Error::Corrupt { index, .. }) if index.get() == 27),
        "{failed:?}"
    );
    assert_eq!(to.described_all(&Which::Own).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_copy_leaves_nothing() {
    let (from, to) = (End::start(), End::start());
    let snapshot = from.snapshot(None, &many()).await;
    let prepared = prepare(&from.api, &to.api, &options(&snapshot))
        .await
        .expect("prepared");
    let stalled = Rule::new(On::PUT, Fault::Stall).skip(30);
    to.proxy.set([stalled]);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let (from_api, to_api) = (from.api.clone(), to.api.clone());
    let copying = tokio::spawn(async move {
        let cancelled = async {
            let _ = cancelled.await;
        };
        copy(
            &from_api,
            &to_api,
            &options(&snapshot),
            &prepared,
            cancelled,
        )
        .await
    });
    let to = tokio::task::spawn_blocking(move || {
        to.proxy.wait_for(Fault::Stall, 1);
        to
    });
    let to = to.await.expect("it stalled");
    cancel.send(()).expect("it copies");
    let ended = copying.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert_eq!(to.described_all(&Which::Own).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_interrupted_while_it_starts_leaves_nothing() {
    let (from, to) = (End::start(), End::start());
    let snapshot = from.snapshot(None, &[(1, b'a')]).await;
    let prepared = prepare(&from.api, &to.api, &options(&snapshot))
        .await
        .expect("prepared");
    let ended = copy(&from.api, &to.api, &options(&snapshot), &prepared, async {}).await;
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert_eq!(to.described_all(&Which::Own).await.len(), 0);
}
