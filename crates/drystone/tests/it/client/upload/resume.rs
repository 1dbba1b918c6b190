//! Uploads that are interrupted, and gone on with.

use super::super::images::{Bench, Image, ZEROS, impatient};
use super::super::proxy::{Fault, On, Rule};
use super::{MIB, failed, of_file, on_parent, sent, uploaded};
use client::api::{Api, SnapshotState};
use client::config::ApiOptions;
use client::upload::{UploadOptions, upload};
use client::wait::wait_until_completed;
use client::{Counter, Error};
use std::collections::BTreeSet;
use std::fs;
use std::future::pending;
use std::time::Duration;

/// Uploads until the proxy has stopped `stalls` puts and everything else was acknowledged; then gives up.
async fn interrupted(bench: &Bench, options: &UploadOptions, stalls: u64) -> Api {
    let api = bench.api_with(ApiOptions {
        in_flight_max: usize::try_from(stalls).expect("few"),
        stall_timeout: Duration::from_secs(60),
        ..impatient()
    });
    let in_flight = async {
        while bench.proxy.count(Fault::Stall) < stalls {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let error = upload(&api, options, in_flight).await;
    assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
    api
}

fn with_state(bench: &Bench, options: UploadOptions) -> UploadOptions {
    UploadOptions {
        state: Some(bench.path("state")),
        ..options
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_not_sent_again() {
    // Without extensions every put carries its data.
    let plain = Rule::new(On::ANY, Fault::NoExtensions);
    let stall = Rule::new(On::PUT, Fault::Stall).skip(40);
    let bench = Bench::start([stall, plain]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(200 * MIB, 0..100);
    image.write(&path);
    let options = with_state(&bench, of_file(&path));
    let stopped = interrupted(&bench, &options, 4).await;
    assert_eq!(stopped.meter().get(Counter::Moved), 40);
    let before: BTreeSet<u32> = sent(&bench).into_iter().collect();
    assert_eq!(before.len(), 44);
    assert_eq!(bench.snapshots().await[0].state, SnapshotState::Pending);

    // Blocks that have changed since are sent again: among the first some were acknowledged for sure.
    for block in 0..5 {
        image.set(block, 1_000 + u64::from(block));
    }
    image.clear(5);
    image.set(6, ZEROS);
    image.write(&path);
    bench.proxy.set([plain]);
    let api = bench.api();
    let report = uploaded(&api, &options).await;
    assert_eq!(report.blocks_put, 100);
    bench.assert_holds(&report.snapshot, &image).await;
    assert_eq!(bench.snapshots().await.len(), 1);
    assert!(!bench.path("state").exists());
    let reading = api.meter().read();
    assert_eq!(reading.same + reading.moved + reading.zeroed, 100);
    assert!((33..=40).contains(&reading.same), "{reading:?}");
    assert_eq!(reading.moved + reading.zeroed, 100 - reading.same);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_arrived_is_put_again_even_where_the_parent_has_it_now() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(100 * MIB, 0..20);
    image.write(&path);
    let parent = uploaded(&bench.api(), &of_file(&path)).await;
    let old = image.clone();
    for block in 0..20 {
        image.set(block, 1_000 + u64::from(block));
    }
    image.write(&path);
    // The server has done what it was asked, and nobody hears of it.
    bench.proxy.set([
        Rule::new(On::PUT, Fault::DropAfter).times(8),
        Rule::new(On::PUT, Fault::Stall),
    ]);
    let options = with_state(&bench, on_parent(&path, &parent.snapshot));
    interrupted(&bench, &options, 8).await;

    bench.proxy.set([]);
    old.write(&path);
    let report = uploaded(&bench.api(), &options).await;
    assert!(report.blocks_put >= 8, "{}", report.blocks_put);
    bench.assert_holds(&report.snapshot, &old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_answer_was_lost_is_found_again() {
    let bench = Bench::start([Rule::new(On::START, Fault::StallInBody)]);
    let path = bench.path("disk.img");
    let image = Image::filled(10 * MIB, 0..10);
    image.write(&path);
    let options = with_state(&bench, of_file(&path));
    let api = bench.api_with(ApiOptions {
        stall_timeout: Duration::from_secs(60),
        ..impatient()
    });
    let lost = async {
        while bench.proxy.count(Fault::StallInBody) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let error = upload(&api, &options, lost).await;
    assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
    let begun = bench.snapshots().await;
    assert_eq!(begun.len(), 1);

    bench.proxy.set([]);
    let report = uploaded(&bench.api(), &options).await;
    assert_eq!(report.snapshot, begun[0].id);
    assert_eq!(bench.snapshots().await.len(), 1);
    bench.assert_holds(&report.snapshot, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_upload_is_left_alone() {
    let bench = Bench::start([Rule::new(On::PUT, Fault::Stall).skip(10)]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(100 * MIB, 0..50);
    image.write(&path);
    let options = with_state(&bench, of_file(&path));
    interrupted(&bench, &options, 4).await;
    bench.proxy.set([]);
    let state = fs::read(bench.path("state")).expect("a state");

    image.write(&bench.path("other.img"));
    let error = failed(
        &bench.api(),
        &with_state(&bench, of_file(&bench.path("other.img"))),
    )
    .await;
    assert!(
        matches!(&error, Error::Config(text) if text.contains("source")),
        "{error}"
    );
    let other = UploadOptions {
        client_token: Some("another".to_owned()),
        ..options.clone()
    };
    let error = failed(&bench.api(), &other).await;
    assert!(
        matches!(&error, Error::Config(text) if text.contains("token")),
        "{error}"
    );
    image.resize(101 * MIB);
    image.write(&path);
    let error = failed(&bench.api(), &options).await;
    assert!(
        matches!(&error, Error::Config(text) if text.contains("source")),
        "{error}"
    );
    assert!(
        fs::read(bench.path("state"))
            .expect("a state")
            .starts_with(&state)
    );
    assert_eq!(bench.snapshots().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_snapshot_is_gone_begins_anew() {
    let bench = Bench::start([Rule::new(On::PUT, Fault::Stall).skip(10)]);
    let path = bench.path("disk.img");
    let image = Image::filled(100 * MIB, 0..50);
    image.write(&path);
    let options = with_state(&bench, of_file(&path));
    interrupted(&bench, &options, 4).await;
    bench.proxy.set([]);
    let gone = bench.snapshots().await[0].id.clone();
    bench
        .direct()
        .delete_snapshot(&gone)
        .await
        .expect("deleted");
    let report = uploaded(&bench.api(), &options).await;
    assert_ne!(report.snapshot, gone);
    assert!(report.warnings[0].contains("gone"), "{:?}", report.warnings);
    bench.assert_holds(&report.snapshot, &image).await;
}

/// The state outlived a wait that failed, and the next upload of the same disk reported this snapshot as its own, without looking at the
/// disk.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_wait_failed_is_not_taken_for_the_next_one() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(100 * MIB, 0..50);
    image.write(&path);
    let options = UploadOptions {
        digests: Some(bench.path("digests")),
        ..with_state(&bench, of_file(&path))
    };
    // The snapshot is completed, and every question about it fails.
    bench
        .proxy
        .set([Rule::new(On::QUERY, Fault::InternalError)]);
    let error = failed(&once(&bench), &options).await;
    let first = bench.snapshots().await[0].id.clone();
    assert!(error.to_string().contains(first.as_str()), "{error}");
    assert!(
        matches!(&error, Error::AfterCompletion { snapshot, .. } if *snapshot == first),
        "{error}"
    );
    assert!(!bench.path("state").exists());
    assert!(bench.path("digests").exists());
    wait_until_completed(&bench.direct(), &first, pending())
        .await
        .expect("completed");
    bench.assert_holds(&first, &image).await;

    bench.proxy.set([]);
    image.set(3, 1_003);
    image.write(&path);
    let report = uploaded(&bench.api(), &options).await;
    assert_ne!(report.snapshot, first);
    bench.assert_holds(&report.snapshot, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_without_an_answer_is_not_taken_for_the_next_upload() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(100 * MIB, 0..50);
    image.write(&path);
    let options = with_state(&bench, of_file(&path));
    // As if it had been killed before it saw the answer: nobody can say how it went.
    bench.proxy.set([
        Rule::new(On::COMPLETE, Fault::DropAfter),
        Rule::new(On::QUERY, Fault::InternalError),
    ]);
    let error = failed(&once(&bench), &options).await;
    let first = bench.snapshots().await[0].id.clone();
    assert!(error.to_string().contains(first.as_str()), "{error}");
    assert!(bench.path("state").exists());
    wait_until_completed(&bench.direct(), &first, pending())
        .await
        .expect("completed");

    bench.proxy.set([]);
    image.set(3, 1_003);
    image.write(&path);
    let report = uploaded(&bench.api(), &options).await;
    assert_ne!(report.snapshot, first);
    assert!(
        report.warnings[0].contains(first.as_str()),
        "{:?}",
        report.warnings
    );
    bench.assert_holds(&report.snapshot, &image).await;
    assert!(!bench.path("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_without_an_answer_deletes_nothing() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    let image = Image::filled(10 * MIB, 0..10);
    image.write(&path);
    bench.proxy.set([
        Rule::new(On::COMPLETE, Fault::DropAfter),
        // Whoever asks, asks late enough.
        Rule::new(On::QUERY, Fault::InternalError).times(1),
    ]);
    let error = failed(&once(&bench), &of_file(&path)).await;
    let left = bench.snapshots().await;
    assert_eq!(left.len(), 1);
    assert!(error.to_string().contains(left[0].id.as_str()), "{error}");
    wait_until_completed(&bench.direct(), &left[0].id, pending())
        .await
        .expect("completed");
    bench.assert_holds(&left[0].id, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_for_state_and_digests_is_refused() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    Image::filled(10 * MIB, 0..10).write(&path);
    let options = UploadOptions {
        digests: Some(bench.path("./state")),
        ..with_state(&bench, of_file(&path))
    };
    let error = failed(&bench.api(), &options).await;
    assert!(matches!(&error, Error::Config(_)), "{error}");
    assert_eq!(bench.proxy.calls(On::START), 0);
}

/// A client that asks everything once.
fn once(bench: &Bench) -> Api {
    bench.api_with(ApiOptions {
        attempts_max: 1,
        ..impatient()
    })
}
