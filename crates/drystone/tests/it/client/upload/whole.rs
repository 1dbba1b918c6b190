//! Uploads without a parent: files, streams, sizes.

use super::super::images::{Bench, Image, ZEROS, content};
use super::super::proxy::On;
use super::{MIB, failed, gib, of_file, sent, uploaded};
use client::Error;
use client::upload::{ParentKnownBy, UploadOptions};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use types::{BLOCK_BYTES, DigestContext};

#[tokio::test(flavor = "multi_thread")]
async fn only_data_is_sent() {
    let bench = Bench::start([]);
    let mut image = Image::filled(300 * MIB + 1000, (0..40).chain([300, 500, 600]));
    image.set(7, ZEROS);
    image.set(41, ZEROS);
    let path = bench.path("disk.img");
    image.write(&path);

    let api = bench.api();
    let options = UploadOptions {
        description: Some("a disk".to_owned()),
        tags: BTreeMap::from([("Name".to_owned(), "disk".to_owned())]),
        ..of_file(&path)
    };
    let report = uploaded(&api, &options).await;
    assert_eq!(Some(report.volume_size), gib(1));
    assert_eq!(report.blocks_put, 42);
    assert_eq!(report.parent_known_by, ParentKnownBy::NoParent);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let mut aggregate = DigestContext::new();
    for block in image.data() {
        aggregate.update(types::Digest::of(&image.block(block)).as_bytes());
    }
    assert_eq!(report.aggregate, aggregate.finish());
    assert_eq!(sent(&bench), image.data());
    let reading = api.meter().read();
    assert_eq!((reading.moved, reading.zero), (42, 601 - 42));
    bench.assert_holds(&report.snapshot, &image).await;

    let described = bench.snapshots().await;
    assert_eq!(described.len(), 1);
    assert_eq!(described[0].description, "a disk");
    assert_eq!(described[0].tags["Name"], "disk");
    assert_eq!(described[0].full_bytes, Some(42 * BLOCK_BYTES as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_at_all_is_a_snapshot_too() {
    let bench = Bench::start([]);
    for (name, bytes) in [("empty", 0), ("zeros", 3000 * MIB)] {
        let image = Image::new(bytes);
        image.write(&bench.path(name));
        let report = uploaded(&bench.api(), &of_file(&bench.path(name))).await;
        assert_eq!(report.blocks_put, 0);
        assert_eq!(
            Some(report.volume_size),
            gib(bytes.div_ceil(1024 * MIB).max(1))
        );
        bench.assert_holds(&report.snapshot, &image).await;
    }
    assert_eq!(bench.proxy.calls(On::PUT), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_holds_is_named_and_not_sent() {
    let bench = Bench::start([]);
    let image = Image::filled(100 * MIB, 0..150);
    image.write(&bench.path("disk.img"));
    uploaded(&bench.api(), &of_file(&bench.path("disk.img"))).await;
    assert_eq!(sent(&bench), image.data());

    let api = bench.api();
    let report = uploaded(&api, &of_file(&bench.path("disk.img"))).await;
    let reading = api.meter().read();
    assert_eq!(
        (reading.by_digest, reading.moved, reading.bytes),
        (150, 0, 0)
    );
    assert_eq!(sent(&bench), image.data(), "nothing was sent again");
    bench.assert_holds(&report.snapshot, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_everywhere_is_sent_once() {
    let bench = Bench::start([]);
    let mut image = Image::new(128 * MIB);
    for block in 0..250 {
        image.set(block, 1 + u64::from(block % 2));
    }
    image.write(&bench.path("disk.img"));
    let api = bench.api();
    let report = uploaded(&api, &of_file(&bench.path("disk.img"))).await;
    assert_eq!(report.blocks_put, 250);
    assert!(sent(&bench).len() < 50, "{} blocks", sent(&bench).len());
    bench.assert_holds(&report.snapshot, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_do_not_fit_are_said_before_anything_is_sent() {
    let bench = Bench::start([]);
    let path = bench.path("disk.img");
    Image::new(1024 * MIB + 1).write(&path);
    let small = UploadOptions {
        volume_size: gib(1),
        ..of_file(&path)
    };
    let error = failed(&bench.api(), &small).await;
    assert!(matches!(error, Error::Unfit(_)), "{error}");
    let fifo = fifo(&bench, Vec::new());
    let error = failed(&bench.api(), &of_file(&fifo)).await;
    assert!(matches!(error, Error::Config(_)), "{error}");
    let image = UploadOptions {
        digests: Some(path.clone()),
        ..of_file(&path)
    };
    let error = failed(&bench.api(), &image).await;
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert_eq!(bench.proxy.calls(On::ANY), 0);

    let large = UploadOptions {
        volume_size: gib(9),
        ..of_file(&path)
    };
    let report = uploaded(&bench.api(), &large).await;
    assert_eq!(Some(report.volume_size), gib(9));
}

/// A FIFO that gives these blocks, by their seeds, and half a block more.
fn fifo(bench: &Bench, seeds: Vec<u64>) -> PathBuf {
    let path = bench.path(&format!("fifo-{}", seeds.len()));
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
    let there = path.clone();
    std::thread::spawn(move || {
        let mut stream = OpenOptions::new().write(true).open(there).expect("a FIFO");
        // Whoever reads may have seen enough.
        for seed in seeds {
            if stream.write_all(&content(seed)).is_err() {
                return;
            }
        }
        let _ = stream.write_all(&content(99)[..BLOCK_BYTES / 2]);
    });
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_uploaded_as_it_comes() {
    let bench = Bench::start([]);
    let blocks = 50;
    let mut image = Image::filled((2 * blocks + 1) * MIB / 4, 0..blocks as u32);
    image.set(blocks as u32, 99);
    image.set(20, ZEROS);
    let seeds = (0..blocks).map(|block| if block == 20 { ZEROS } else { block + 1 });
    let options = UploadOptions {
        volume_size: gib(1),
        ..of_file(&fifo(&bench, seeds.collect()))
    };
    let api = bench.api();
    let report = uploaded(&api, &options).await;
    assert_eq!(report.blocks_put, 50);
    // Whoever writes may have died: how much came is said.
    assert!(
        report.warnings[0].contains("26476544 bytes"),
        "{:?}",
        report.warnings
    );
    assert_eq!(api.meter().read().total, 51);
    bench.assert_holds(&report.snapshot, &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_longer_than_the_volume_is_refused() {
    let bench = Bench::start([]);
    let options = UploadOptions {
        volume_size: gib(1),
        ..of_file(&fifo(&bench, vec![ZEROS; 2048]))
    };
    let error = failed(&bench.api(), &options).await;
    assert!(matches!(error, Error::Unfit(_)), "{error}");
    assert_eq!(bench.snapshots().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_token_makes_a_repeat_harmless() {
    let bench = Bench::start([]);
    let image = Image::filled(64 * MIB, 0..10);
    image.write(&bench.path("disk.img"));
    let options = UploadOptions {
        client_token: Some("monday".to_owned()),
        ..of_file(&bench.path("disk.img"))
    };
    let first = uploaded(&bench.api(), &options).await;
    let puts = bench.proxy.calls(On::PUT);
    let api = bench.api();
    let second = client::upload::upload(&api, &options, std::future::pending())
        .await
        .expect("done");
    assert_eq!(second.snapshot, first.snapshot);
    assert!(second.completed && second.done_before && !first.done_before);
    assert!(!second.warnings.is_empty());
    assert_eq!(bench.proxy.calls(On::PUT), puts);
    bench.assert_holds(&first.snapshot, &image).await;
}
