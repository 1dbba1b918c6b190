//! Uploads with a parent: only what differs is put, however the parent's content is known.

use super::super::images::{Bench, Image, ZEROS};
use super::super::proxy::{Fault, On, Rule};
use super::{MIB, failed, gib, of_file, on_parent, sent, uploaded};
use client::Error;
use client::upload::{ParentKnownBy, UploadOptions};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_put() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(200 * MIB, (0..60).chain(300..320));
    image.write(&path);
    let parent = uploaded(&bench.api(), &of_file(&path)).await;

    let same = uploaded(&bench.api(), &on_parent(&path, &parent.snapshot)).await;
    assert_eq!(same.blocks_put, 0);
    assert_eq!(same.parent_known_by, ParentKnownBy::Checksums);
    bench.assert_holds(&same.snapshot, &image).await;

    for block in [3, 50, 310] {
        image.set(block, 1_000 + u64::from(block));
    }
    image.set(100, 5_000);
    image.clear(10);
    image.set(11, ZEROS);
    image.write(&path);
    let api = bench.api();
    let child = uploaded(&api, &on_parent(&path, &same.snapshot)).await;
    assert_eq!(child.blocks_put, 6);
    let reading = api.meter().read();
    assert_eq!((reading.moved, reading.zeroed), (4, 2));
    assert_eq!(reading.bytes, 4 * MIB / 2, "zeros are put by digest");
    bench.assert_holds(&child.snapshot, &image).await;

    // Zeros that are listed are as good as those that are not.
    let again = uploaded(&bench.api(), &on_parent(&path, &child.snapshot)).await;
    assert_eq!(again.blocks_put, 0);
    bench.assert_holds(&again.snapshot, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_shrank_or_grew_is_told_apart_from_its_parent() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(2000 * MIB, [0, 1, 100, 2500, 3999]);
    image.write(&path);
    let parent = uploaded(&bench.api(), &of_file(&path)).await;
    assert_eq!(Some(parent.volume_size), gib(2));

    image.resize(MIB + 10);
    image.set(2, 77);
    image.write(&path);
    let shrunk = uploaded(&bench.api(), &on_parent(&path, &parent.snapshot)).await;
    assert_eq!(Some(shrunk.volume_size), gib(2), "at least the parent's");
    assert_eq!(shrunk.blocks_put, 4, "three blocks of zeros, one of data");
    bench.assert_holds(&shrunk.snapshot, &image).await;

    image.resize(2500 * MIB);
    image.set(4990, 78);
    image.write(&path);
    let grown = uploaded(&bench.api(), &on_parent(&path, &shrunk.snapshot)).await;
    assert_eq!(Some(grown.volume_size), gib(3));
    bench.assert_holds(&grown.snapshot, &image).await;

    let small = UploadOptions {
        volume_size: gib(2),
        ..on_parent(&path, &grown.snapshot)
    };
    let error = failed(&bench.api(), &small).await;
    assert!(matches!(error, Error::Config(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checksums_the_parent_is_read() {
    let bench = Bench::start([Rule::new(On::ANY, Fault::NoExtensions)]);
    let path = bench.path("disk.img");
    let mut image = Image::filled(100 * MIB, 0..120);
    image.write(&path);
    let parent = uploaded(&bench.api(), &of_file(&path)).await;
    assert_eq!(sent(&bench), image.data());
    assert_eq!(bench.proxy.calls(On::PUT), 120, "no put goes by digest");

    image.set(5, 500);
    image.clear(6);
    image.write(&path);
    let api = bench.api();
    let child = uploaded(&api, &on_parent(&path, &parent.snapshot)).await;
    assert_eq!(child.parent_known_by, ParentKnownBy::Reading);
    assert_eq!(child.blocks_put, 2);
    assert_eq!(bench.proxy.calls(On::GET), 120);
    assert_eq!(bench.proxy.calls(On::PUT), 122);
    bench.assert_holds(&child.snapshot, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_file_spares_reading_the_parent() {
    let bench = Bench::start([Rule::new(On::ANY, Fault::NoExtensions)]);
    let (path, digests) = (bench.path("disk.img"), bench.path("disk.digests"));
    let with_digests = |options: UploadOptions| UploadOptions {
        digests: Some(digests.clone()),
        ..options
    };
    let mut image = Image::filled(100 * MIB, 0..60);
    image.write(&path);
    let first = uploaded(&bench.api(), &with_digests(of_file(&path))).await;
    let of_first = fs::read(&digests).expect("a digest file");

    let mut parent = first.snapshot.clone();
    for round in 0..3 {
        image.set(round, 1_000 + u64::from(round));
        image.clear(20 + round);
        image.write(&path);
        let before = bench.proxy.calls(On::GET);
        let options = with_digests(on_parent(&path, &parent));
        let child = uploaded(&bench.api(), &options).await;
        assert_eq!(child.parent_known_by, ParentKnownBy::DigestFile);
        assert_eq!(child.blocks_put, 2);
        assert!(child.warnings.is_empty(), "{:?}", child.warnings);
        assert_eq!(bench.proxy.calls(On::GET) - before, 1, "one to make sure");
        bench.assert_holds(&child.snapshot, &image).await;
        parent = child.snapshot;
    }

    // The file of another snapshot, and a damaged one, are not believed.
    let last = fs::read(&digests).expect("a digest file");
    let mut damaged = last.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for (content, word) in [(of_first, "digest file of snap-"), (damaged, "damaged")] {
        fs::write(&digests, content).expect("written");
        let options = with_digests(on_parent(&path, &parent));
        let child = uploaded(&bench.api(), &options).await;
        assert_eq!(child.parent_known_by, ParentKnownBy::Reading);
        assert_eq!(child.blocks_put, 0);
        assert!(child.warnings[0].contains(word), "{:?}", child.warnings);
        bench.assert_holds(&child.snapshot, &image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_file_is_written_also_where_checksums_are_listed() {
    let bench = Bench::start([]);
    let (path, digests) = (bench.path("disk.img"), bench.path("disk.digests"));
    let mut image = Image::filled(100 * MIB, 0..30);
    image.write(&path);
    let options = UploadOptions {
        digests: Some(digests.clone()),
        ..of_file(&path)
    };
    let parent = uploaded(&bench.api(), &options).await;
    image.set(3, 99);
    image.clear(4);
    image.write(&path);
    let options = UploadOptions {
        digests: Some(digests.clone()),
        ..on_parent(&path, &parent.snapshot)
    };
    let child = uploaded(&bench.api(), &options).await;
    assert_eq!(child.parent_known_by, ParentKnownBy::Checksums);

    bench.proxy.set([Rule::new(On::ANY, Fault::NoExtensions)]);
    let options = UploadOptions {
        parent: Some(child.snapshot.clone()),
        ..options
    };
    let next = uploaded(&bench.api(), &options).await;
    assert_eq!(next.parent_known_by, ParentKnownBy::DigestFile);
    assert_eq!(next.blocks_put, 0);
    bench.assert_holds(&next.snapshot, &image).await;
}
