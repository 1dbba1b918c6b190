//! Copies that are interrupted and gone on with.

use super::copy;
use super::ends::{Blocks, End, options};
use super::faults::many;
use super::prepare;
use crate::client::proxy::{Fault, On, Rule};
use client::api::{SnapshotState, Which};
use client::copy::{CopyOptions, CopyReport};
use client::{Counter, Error, SnapshotId};
use std::future::pending;
use tokio::sync::oneshot;

fn resumable(at: &End, snapshot: &SnapshotId) -> CopyOptions {
    CopyOptions {
        state: Some(at.place.path().join("state")),
        ..options(snapshot)
    }
}

async fn attempt(from: &End, to: &End, options: &CopyOptions) -> Result<CopyReport, Error> {
    let prepared = prepare(&from.api, &to.api, options).await?;
    copy(&from.api, &to.api, options, &prepared, pending()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_not_put_again() {
    let (from, to) = (End::start_narrow(), End::start_narrow_and_shared());
    let snapshot = from.snapshot(None, &many()).await;
    let options = resumable(&from, &snapshot);
    to.proxy.set([Rule::new(On::PUT, Fault::Stall).skip(40)]);
    let (cancel, cancelled) = oneshot::channel::<()>();
    let (apis, wanted) = ((from.api.clone(), to.api.clone()), options.clone());
    let copying = tokio::spawn(async move {
        let (from, to) = apis;
        let prepared = prepare(&from, &to, &wanted).await?;
        let cancelled = async {
            let _ = cancelled.await;
        };
        copy(&from, &to, &wanted, &prepared, cancelled).await
    });
    let stalled = tokio::task::spawn_blocking(move || {
        to.proxy.wait_for(Fault::Stall, 1);
        to
    });
    let to = stalled.await.expect("it stalled");
    while to.api.meter().get(Counter::Done) < 30 {
        tokio::task::yield_now().await;
    }
    cancel.send(()).expect("it copies");
    let ended = copying.await.expect("no panic");
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    let left = to.described_all(&Which::Own).await;
    assert_eq!((left.len(), &left[0].state), (1, &SnapshotState::Pending));

    to.proxy.set([]);
    let before = to.calls();
    let report = attempt(&from, &to, &options).await.expect("copied");
    assert_eq!((&report.snapshot, report.blocks_put), (&left[0].id, 60));
    let calls = to.calls_since(&before);
    assert!(calls["PutSnapshotBlock"] <= 30, "{calls:?}");
    assert!(!calls.contains_key("StartSnapshot"), "{calls:?}");
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&many()));
    assert!(!options.state.as_ref().unwrap().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_an_answer_is_the_same_snapshot_later() {
    let (from, to) = (End::start(), End::start_impatient());
    let snapshot = from.snapshot(None, &[(1, b'a')]).await;
    let options = resumable(&from, &snapshot);
    to.proxy.set([Rule::new(On::START, Fault::DropAfter)]);
    let failed = attempt(&from, &to, &options).await;
    assert!(
        matches!(failed, Err(Error::Unreachable { .. })),
        "{failed:?}"
    );

    to.proxy.set([]);
    attempt(&from, &to, &options).await.expect("copied");
    assert_eq!(to.described_all(&Which::Own).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_without_an_answer_is_found_done() {
    let (from, to) = (End::start(), End::start_impatient());
    let snapshot = from.snapshot(None, &[(1, b'a')]).await;
    let options = resumable(&from, &snapshot);
    to.proxy.set([Rule::new(On::COMPLETE, Fault::DropAfter)]);
    let failed = attempt(&from, &to, &options).await;
    // Whether it is seen completed already is up to the destination.
    match failed {
        Err(Error::Unreachable { .. }) => {}
        Err(Error::AfterCompletion { source, .. }) => {
            assert!(matches!(*source, Error::Unreachable { .. }), "{source}");
        }
        other => panic!("{other:?}"),
    }

    to.proxy.set([]);
    let report = attempt(&from, &to, &options).await.expect("done");
    assert!(report.completed);
    assert_eq!(to.described_all(&Which::Own).await.len(), 1);
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&[(1, b'a')]));
    assert!(!options.state.as_ref().unwrap().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_deleted_meanwhile_begins_anew() {
    let (from, to) = (End::start_impatient(), End::start());
    let snapshot = from.snapshot(None, &many()).await;
    let options = resumable(&from, &snapshot);
    let block = On("GET", "/snapshots/*/blocks/90");
    from.proxy.set([Rule::new(block, Fault::CorruptAnswer)]);
    let failed = attempt(&from, &to, &options).await;
    assert!(matches!(failed, Err(Error::Corrupt { .. })), "{failed:?}");
    let left = to.described_all(&Which::Own).await;
    to.api.delete_snapshot(&left[0].id).await.expect("deleted");

    from.proxy.set([]);
    let report = attempt(&from, &to, &options).await.expect("copied");
    assert!(report.snapshot != left[0].id);
    assert_eq!(to.blocks(&report.snapshot).await, Blocks::of(&many()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_copy_is_refused() {
    let (from, to) = (End::start_impatient(), End::start());
    let snapshot = from.snapshot(None, &[(1, b'a')]).await;
    from.proxy.set([Rule::new(On::GET, Fault::CorruptAnswer)]);
    let failed = attempt(&from, &to, &resumable(&from, &snapshot)).await;
    assert!(matches!(failed, Err(Error::Corrupt { .. })), "{failed:?}");
    let other = from.snapshot(None, &[(1, b'b')]).await;
    let refused = attempt(&from, &to, &resumable(&from, &other)).await;
    assert!(
        matches!(&refused, Err(Error::Config(text)) if text.contains("its source is")),
        "{refused:?}"
    );
}
