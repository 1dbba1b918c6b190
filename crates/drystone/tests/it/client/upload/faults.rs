//! Uploads through what can go wrong: nothing is claimed that is not so, and nothing is left behind.

use super::super::images::{Bench, Image, impatient};
use super::super::proxy::{Fault, On, Rule};
use super::{MIB, failed, of_file, on_parent, uploaded};
use client::Error;
use client::api::StartSnapshot;
use client::config::ApiOptions;
use client::upload::{UploadOptions, upload};
use client::wait::wait_until_completed;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::future::pending;
use std::time::Duration;
use types::{DigestContext, VolumeSize};

#[tokio::test(flavor = "multi_thread")]
async fn faults_on_the_way_do_not_show_in_what_arrives() {
    let often = |on, fault| Rule::new(on, fault).chance(0.04);
    let bench = Bench::start([
        often(On::PUT, Fault::DropBefore),
        often(On::PUT, Fault::DropAfter),
        often(On::PUT, Fault::CorruptRequest),
        often(On::PUT, Fault::InternalError),
        often(On::PUT, Fault::Unavailable),
        often(On::PUT, Fault::Throttled),
        often(On::PUT, Fault::BodyNotRead),
        Rule::new(On::PUT, Fault::Stall).skip(30).times(2),
        Rule::new(On::START, Fault::DropAfter).times(1),
        Rule::new(On::COMPLETE, Fault::DropAfter).times(1),
        Rule::new(On::QUERY, Fault::Unavailable).times(1),
        Rule::new(On::LIST, Fault::DropInBody).times(1),
    ]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(200 * MIB, (0..150).chain(300..350));
    image.write(&path);
    let api = bench.api();
    let parent = uploaded(&api, &of_file(&path)).await;
    assert_eq!(parent.blocks_put, 200);
    bench.assert_holds(&parent.snapshot, &image).await;
    assert!(api.meter().read().retries >= 10);

    for block in 100..180 {
        image.set(block, 1_000 + u64::from(block));
    }
    image.write(&path);
    let child = uploaded(&bench.api(), &on_parent(&path, &parent.snapshot)).await;
    assert_eq!(child.blocks_put, 80);
    bench.assert_holds(&child.snapshot, &image).await;
    assert!(bench.proxy.faults() > 20, "{}", bench.proxy.faults());
    assert_eq!(bench.snapshots().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_for_good_leaves_no_snapshot() {
    let bench = Bench::start([Rule::new(On::PUT, Fault::InternalError).skip(20)]);
    let path = bench.path("disk.img");
    Image::filled(100 * MIB, 0..100).write(&path);
    let api = bench.api_with(ApiOptions {
        attempts_max: 2,
        ..impatient()
    });
    let error = failed(&api, &of_file(&path)).await;
    assert!(!matches!(error, Error::Interrupted), "{error}");
    assert_eq!(bench.snapshots().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_leaves_no_snapshot() {
    let bench = Bench::start([Rule::new(On::PUT, Fault::Stall).skip(20)]);
    let path = bench.path("disk.img");
    Image::filled(100 * MIB, 0..100).write(&path);
    let api = bench.api_with(ApiOptions {
        stall_timeout: Duration::from_secs(60),
        ..impatient()
    });
    let stalled = async {
        while bench.proxy.count(Fault::Stall) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let error = upload(&api, &of_file(&path), stalled).await;
    assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
    assert_eq!(bench.snapshots().await, []);
    assert_eq!(api.meter().read().in_flight, 0);
}

/// A run deleted, when it failed, the snapshot that another run with the same client token had filled, completed and reported.
#[tokio::test(flavor = "multi_thread")]
async fn who_fails_deletes_no_snapshot_of_a_client_token() {
    let bench = Bench::start([Rule::new(On::PUT, Fault::Stall).skip(20)]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(100 * MIB, 0..100);
    image.write(&path);
    let options = UploadOptions {
        client_token: Some("monday".to_owned()),
        wait: false,
        ..of_file(&path)
    };
    let slow = bench.api_with(ApiOptions {
        in_flight_max: 4,
        stall_timeout: Duration::from_secs(60),
        ..impatient()
    });
    let stalled = async {
        while bench.proxy.count(Fault::Stall) < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.proxy.set([]);
        // What the first run put, and is zeros now, must not make a snapshot that nobody hears is broken.
        let report = uploaded(&bench.api(), &options).await;
        assert!(report.completed, "it was looked at");
        report.snapshot
    };
    let mut filled = None;
    let error = upload(&slow, &options, async { filled = Some(stalled.await) }).await;
    assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
    bench.assert_holds(&filled.expect("filled"), &image).await;

    let other = UploadOptions {
        client_token: Some("tuesday".to_owned()),
        ..options
    };
    bench
        .proxy
        .set([Rule::new(On::PUT, Fault::InternalError).skip(20)]);
    let api = bench.api_with(ApiOptions {
        attempts_max: 1,
        ..impatient()
    });
    failed(&api, &other).await;
    bench.proxy.set([]);
    for block in 0..100 {
        image.clear(block);
    }
    image.write(&path);
    let error = failed(&bench.api(), &other).await;
    assert!(matches!(error, Error::SnapshotFailed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_its_length_is_no_snapshot() {
    for bytes in [50 * MIB, 150 * MIB] {
        let bench = Bench::start([Rule::new(On::PUT, Fault::Stall).times(1)]);
        let path = bench.path("disk.img");
        Image::filled(100 * MIB, 0..20).write(&path);
        let api = bench.api();
        let change = async {
            while bench.proxy.count(Fault::Stall) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let file = OpenOptions::new().write(true).open(&path).expect("a file");
            file.set_len(bytes).expect("a length");
        };
        let options = of_file(&path);
        let (error, ()) = tokio::join!(failed(&api, &options), change);
        assert!(matches!(error, Error::Unfit(_)), "{error}");
        assert_eq!(bench.snapshots().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_does_not_exist_is_said_at_once() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    Image::filled(10 * MIB, 0..10).write(&path);
    let parent = "snap-0123456789abcdef0".parse().expect("an id");
    let error = failed(&bench.api(), &on_parent(&path, &parent)).await;
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(bench.proxy.calls(On::START), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_tells_how_a_snapshot_failed() {
    let bench = Bench::start([]);
    let api = bench.api();
    let request = StartSnapshot {
        volume_size: VolumeSize::from_gib(1).expect("a size"),
        parent: None,
        description: None,
        tags: BTreeMap::new(),
        encrypted: None,
        kms_key_arn: None,
        client_token: "wrong".to_owned(),
        timeout_minutes: 60,
    };
    let id = api.start_snapshot(&request).await.expect("started").id;
    let waiting = wait_until_completed(&api, &id, std::future::ready(())).await;
    assert!(matches!(waiting, Err(Error::Interrupted)), "{waiting:?}");

    let nothing = DigestContext::new().finish();
    api.complete_snapshot(&id, 3, nothing)
        .await
        .expect("accepted");
    let error = wait_until_completed(&api, &id, pending())
        .await
        .expect_err("nothing was put");
    match error {
        Error::SnapshotFailed { state, message, .. } => {
            assert_eq!(state, "error");
            assert!(message.is_some_and(|text| !text.is_empty()));
        }
        other => panic!("{other}"),
    }
}
