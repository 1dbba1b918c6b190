//! Downloads that are interrupted and gone on with.

use super::images::{Image, content, write_block};
use super::{api, options, run, through};
use crate::client::proxy::{Fault, On, Proxy, Rule};
use crate::server::Place;
use client::api::Api;
use client::download::{DownloadOptions, download};
use client::{Counter, Error, SnapshotId};
use std::fs;
use std::path::{Path, PathBuf};

fn resumable(snapshot: &SnapshotId, target: &Path, state: &Path) -> DownloadOptions {
    DownloadOptions {
        state: Some(state.to_owned()),
        ..options(snapshot, target)
    }
}

/// Interrupts a download when so many blocks have come; answers how many had.
async fn interrupt(api: &Api, options: &DownloadOptions, blocks: u64) -> u64 {
    let meter = api.meter().clone();
    let cancel = async move {
        while meter.get(Counter::Moved) < blocks {
            tokio::task::yield_now().await;
        }
    };
    let error = download(api, options, cancel).await;
    assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
    api.meter().get(Counter::Moved)
}

fn partial(target: &Path) -> PathBuf {
    let name = target.file_name().expect("a name").to_string_lossy();
    target.with_file_name(format!(".{name}.drystone-part"))
}

/// Fetches all but a few blocks before it waits for ever: those that come first are held up.
fn stalling() -> Vec<Rule> {
    vec![Rule::new(On::GET, Fault::Stall).skip(12)]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_not_written_is_fetched() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    for rules in [vec![], vec![Rule::new(On::LIST, Fault::NoExtensions)]] {
        let (target, state) = (place.path().join("disk.img"), place.path().join("state"));
        let resumable = resumable(&snapshot, &target, &state);
        let proxy = Proxy::start(server.address, [rules.clone(), stalling()].concat());
        let came = interrupt(&through(&place, &proxy), &resumable, 6).await;
        assert!((6..=12).contains(&came), "{came}");
        assert!(!target.exists() && state.exists());

        proxy.set(rules);
        let api = through(&place, &proxy);
        run(&api, &resumable).await.expect("done");
        image.check(&target);
        let read = api.meter().read();
        let in_all = read.moved + read.same;
        // Zeros are not fetched where checksums are listed.
        assert!(
            in_all == image.data() || in_all == image.data() + 1,
            "{read:?}"
        );
        assert!(read.same >= came, "{read:?} after {came}");
        assert!(!state.exists() && !partial(&target).exists());
        fs::remove_file(&target).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_meanwhile_is_fetched_again() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    let (target, state) = (place.path().join("disk.img"), place.path().join("state"));
    let resumable = resumable(&snapshot, &target, &state);
    let proxy = Proxy::start(server.address, stalling());
    interrupt(&through(&place, &proxy), &resumable, 12).await;

    // Lost writes, and somebody's writes, to what was written and what was not.
    let file = fs::OpenOptions::new().write(true).open(partial(&target));
    let file = file.expect("a partial file");
    for index in [0..16, 120..140, 498..505, 990..1030, 2040..2048]
        .into_iter()
        .flatten()
    {
        write_block(&file, index, &content(5000 + u64::from(index)));
    }
    drop(file);
    proxy.set([]);
    let api = through(&place, &proxy);
    run(&api, &resumable).await.expect("done");
    image.check(&target);
    assert_eq!(api.meter().get(Counter::Moved), image.data());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_partial_file_it_begins_anew() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    let (target, state) = (place.path().join("disk.img"), place.path().join("state"));
    let resumable = resumable(&snapshot, &target, &state);
    let proxy = Proxy::start(server.address, stalling());
    interrupt(&through(&place, &proxy), &resumable, 6).await;
    fs::remove_file(partial(&target)).expect("removed");
    proxy.set([]);
    let api = through(&place, &proxy);
    run(&api, &resumable).await.expect("done");
    image.check(&target);
    assert_eq!(api.meter().get(Counter::Moved), image.data());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_download_is_refused() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let image = Image::scattered();
    let snapshot = image.upload(&api, None).await;
    let other = Image([(0, 1)].into()).upload(&api, None).await;
    let (target, state) = (place.path().join("disk.img"), place.path().join("state"));
    let proxy = Proxy::start(server.address, stalling());
    let through = through(&place, &proxy);
    interrupt(&through, &resumable(&snapshot, &target, &state), 6).await;
    let before = fs::read(&state).expect("a state");
    let error = run(&through, &resumable(&other, &target, &state)).await;
    assert!(matches!(error, Err(Error::Config(_))), "{error:?}");
    assert!(fs::read(&state).expect("a state") == before);
    let text = place.path().join("text");
    fs::write(&text, "something of mine").expect("written");
    let error = run(&api, &resumable(&snapshot, &target, &text)).await;
    assert!(matches!(error, Err(Error::Config(_))), "{error:?}");
    assert_eq!(fs::read(&text).expect("readable"), b"something of mine");
}
