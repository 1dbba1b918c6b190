//! Downloads through everything that can happen on the way.

use super::images::Image;
use super::{api, options, run, through};
use crate::client::proxy::{Fault, On, Proxy, Rule};
use crate::server::Place;
use client::Error;
use client::download::DownloadOptions;

#[tokio::test(flavor = "multi_thread")]
async fn faults_on_the_way_are_overcome() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    let faults = [
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::DropInBody,
        Fault::CorruptAnswer,
        Fault::InternalError,
        Fault::Unavailable,
        Fault::Throttled,
    ];
    // Each fault more often than a request is tried, but never for one request alone.
    let rules = faults.map(|fault| Rule::new(On::GET, fault).skip(2).times(2));
    let proxy = Proxy::start(server.address, rules);
    let target = place.path().join("disk.img");
    let api = through(&place, &proxy);
    run(&api, &options(&snapshot, &target)).await.expect("done");
    image.check(&target);
    for fault in faults {
        assert_eq!(proxy.count(fault), 2, "{fault:?}");
    }
    assert!(api.meter().read().retries >= 14);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_still_is_given_up() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    let rules = [Fault::Stall, Fault::StallInBody].map(|fault| Rule::new(On::GET, fault).times(1));
    let proxy = Proxy::start(server.address, rules);
    let target = place.path().join("disk.img");
    run(&through(&place, &proxy), &options(&snapshot, &target))
        .await
        .expect("done");
    image.check(&target);
    assert_eq!(proxy.faults(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_never_right_end_the_download() {
    let place = Place::new();
    let server = place.serve(&[]);
    let snapshot = Image::scattered().upload(&api(&place, &server), None).await;
    let rules = [Rule::new(On::GET, Fault::CorruptAnswer)];
    let proxy = Proxy::start(server.address, rules);
    let target = place.path().join("disk.img");
    let error = run(&through(&place, &proxy), &options(&snapshot, &target)).await;
    assert!(matches!(error, Err(Error::Corrupt { .. })), "{error:?}");
    assert!(!target.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_renewed_once() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    let target = place.path().join("disk.img");
    let expired = Rule::new(On::GET, Fault::TokenExpired);
    let proxy = Proxy::start(server.address, [expired.times(3)]);
    run(&through(&place, &proxy), &options(&snapshot, &target))
        .await
        .expect("done");
    image.check(&target);
    // The listing, and at least one more for each block.
    let lists = proxy.calls(On::LIST);
    assert!((2..=4).contains(&lists), "{lists}");

    let proxy = Proxy::start(server.address, [expired]);
    let error = run(&through(&place, &proxy), &options(&snapshot, &target)).await;
    let reason = |error: &Error| match error {
        Error::Refused(refusal) => refusal.reason.clone(),
        _ => None,
    };
    assert_eq!(
        error.as_ref().err().and_then(reason).as_deref(),
        Some("INVALID_BLOCK_TOKEN"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_has_lost_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    let target = place.path().join("disk.img");
    let going_on = DownloadOptions {
        keep_going: true,
        ..options(&snapshot, &target)
    };
    // All four attempts of the first page fail, the size of the volume can be had, then four fail again, or all.
    let unavailable = Rule::new(On::LIST, Fault::Unavailable);
    let away = |again: Rule| [unavailable.times(4), again.skip(1)];
    let proxy = Proxy::start(server.address, away(unavailable.times(4)));
    let report = run(&through(&place, &proxy), &going_on).await;
    assert_eq!(report.expect("done").bad, []);
    assert_eq!(proxy.count(Fault::Unavailable), 8);
    image.check(&target);
    std::fs::remove_file(&target).expect("removed");

    proxy.set(away(unavailable));
    let error = run(&through(&place, &proxy), &going_on).await;
    assert!(matches!(error, Err(Error::Unreachable { .. })), "{error:?}");
    assert!(!target.exists());
}
