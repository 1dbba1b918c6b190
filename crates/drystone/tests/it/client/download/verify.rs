//! Disks compared with snapshots, and snapshots with each other.

use super::images::{Image, content, write_block};
use super::{api, through};
use crate::client::proxy::{Fault, On, Proxy, Rule};
use crate::server::Place;
use client::api::Api;
use client::diff::{Change, ChangedExtent, diff};
use client::source::{Extent, SourcePath};
use client::verify::{VerifyOptions, VerifyReport, verify};
use client::{Counter, Error, SnapshotId};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::thread;
use types::BLOCK_BYTES;

async fn compare(
    api: &Api,
    snapshot: &SnapshotId,
    disk: &Path,
    checksums_only: bool,
) -> Result<VerifyReport, Error> {
    let options = VerifyOptions {
        snapshot: snapshot.clone(),
        disk: SourcePath::Path(disk.to_owned()),
        checksums_only,
    };
    verify(api, &options, std::future::pending()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_blocks_that_differ_are_found() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let image = Image::scattered();
    let snapshot = image.upload(&api, None).await;
    let disk = place.path().join("disk.img");
    image.write(&disk);
    let run = |start, count| Extent { start, count };
    for checksums_only in [true, false] {
        let report = compare(&api, &snapshot, &disk, checksums_only).await;
        let report = report.expect("compared");
        assert_eq!((report.compared, report.differing), (image.data(), 0));
        assert!(!report.longer && !report.modified && !report.cut);
    }
    assert_eq!(api.meter().get(Counter::Done), 2 * 2048);
    let (data, listed) = (image.data(), image.0.len() as u64);
    let read = api.meter().read();
    assert_eq!((read.same, read.moved), (data, listed));
    assert_eq!(read.zero, 2 * 2048 - data - listed);

    // One bit of two neighbours, something where nothing was, zeros where something was.
    let file = OpenOptions::new().write(true).open(&disk).expect("a disk");
    for (index, at) in [(2, 0), (3, BLOCK_BYTES - 1)] {
        let mut block = image.block(index);
        block[at] ^= 1;
        write_block(&file, index, &block);
    }
    write_block(&file, 800, &content(1));
    write_block(&file, 1005, &content(1));
    write_block(&file, 2047, &vec![0; BLOCK_BYTES]);
    let expected = [run(2, 2), run(800, 1), run(1005, 1), run(2047, 1)];
    for checksums_only in [true, false] {
        let report = compare(&api, &snapshot, &disk, checksums_only).await;
        let report = report.expect("compared");
        assert_eq!(report.extents, expected);
        assert_eq!((report.differing, report.compared), (5, image.data() + 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_disk_lacks_or_has_too_much() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let image = Image([(0, 1), (3, 2)].into());
    let snapshot = image.upload(&api, None).await;
    let disk = place.path().join("disk.img");
    image.write(&disk);
    let file = OpenOptions::new().write(true).open(&disk).expect("a disk");
    let check = async |bytes: u64| {
        file.set_len(bytes).expect("a length");
        let report = compare(&api, &snapshot, &disk, false).await;
        let report = report.expect("compared");
        (report.differing, report.longer)
    };
    assert_eq!(check((1 << 30) + 1).await, (0, true));
    assert_eq!(check(1 << 30).await, (0, false));
    assert_eq!(check(4 * BLOCK_BYTES as u64).await, (0, false));
    assert_eq!(check(4 * BLOCK_BYTES as u64 - 1).await, (1, false));
    assert_eq!(check(0).await, (2, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_compared_as_it_comes() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let image = Image::scattered();
    let snapshot = image.upload(&api, None).await;
    let disk = place.path().join("disk.img");
    image.clone().with([(1, 99), (1200, 98)]).write(&disk);
    let fifo = place.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    for longer in [false, true] {
        if longer {
            let file = OpenOptions::new().write(true).open(&disk);
            file.and_then(|file| file.set_len((1 << 30) + 5))
                .expect("a length");
        }
        let writer = {
            let (fifo, disk) = (fifo.clone(), disk.clone());
            thread::spawn(move || {
                let mut from = std::fs::File::open(disk).expect("a disk");
                let mut to = OpenOptions::new().write(true).open(fifo).expect("a reader");
                std::io::copy(&mut from, &mut to).expect("copied");
            })
        };
        let report = compare(&api, &snapshot, &fifo, false).await;
        let report = report.expect("compared");
        let one = |start| Extent { start, count: 1 };
        assert_eq!(report.extents, [one(1), one(1200)]);
        assert_eq!(report.longer, longer);
        writer.join().expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_must_be_there_to_be_enough() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image([(0, 1)].into());
    let snapshot = image.upload(&api(&place, &server), None).await;
    let disk = place.path().join("disk.img");
    image.write(&disk);
    let proxy = Proxy::start(server.address, [Rule::new(On::ANY, Fault::NoExtensions)]);
    let api = through(&place, &proxy);
    let error = compare(&api, &snapshot, &disk, true).await;
    assert!(matches!(error, Err(Error::Config(_))), "{error:?}");
    let report = compare(&api, &snapshot, &disk, false).await;
    assert_eq!(report.expect("compared").differing, 0);
}

/// Differences as single blocks.
async fn differences(
    api: &Api,
    first: &SnapshotId,
    second: &SnapshotId,
) -> Result<BTreeMap<u32, Change>, Error> {
    let mut found = BTreeMap::new();
    let mut each = |extent: ChangedExtent| {
        let blocks = extent.start..extent.start + extent.count;
        found.extend(blocks.map(|index| (index, extent.change)));
        Ok(())
    };
    let totals = diff(api, first, second, &mut each).await?;
    assert_eq!(totals.volume_size.map(|size| size.gib()), Some(1));
    let count = |change| found.values().filter(|found| **found == change).count() as u64;
    assert_eq!(totals.changed, count(Change::Changed));
    assert_eq!(totals.added, count(Change::Added));
    assert_eq!(totals.removed, count(Change::Removed));
    Ok(found)
}

fn expected(first: &Image, second: &Image) -> BTreeMap<u32, Change> {
    let indexes = first.0.keys().chain(second.0.keys());
    let change = |index: &u32| match (first.0.get(index), second.0.get(index)) {
        (Some(one), Some(other)) if one == other => None,
        (Some(_), Some(_)) => Some(Change::Changed),
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
    };
    indexes
        .filter_map(|index| Some((*index, change(index)?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_those_of_the_contents() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let one = Image::scattered();
    let two = one.clone().with([(3, 901), (4, 902), (700, 903), (128, 0)]);
    let other = Image([(0, 1), (1, 901), (128, 0), (1500, 5)].into());
    let first = one.upload(&api, None).await;
    let second = two.upload(&api, Some((&first, &one))).await;
    let unrelated = other.upload(&api, None).await;
    let images = [(&first, &one), (&second, &two), (&unrelated, &other)];
    for (from, before) in images {
        for (to, after) in images {
            let found = differences(&api, from, to).await.expect("compared");
            assert_eq!(found, expected(before, after), "{from} to {to}");
        }
    }

    let proxy = Proxy::start(server.address, [Rule::new(On::ANY, Fault::NoExtensions)]);
    let api = through(&place, &proxy);
    let found = differences(&api, &first, &second).await.expect("compared");
    assert_eq!(found, expected(&one, &two));
    let error = differences(&api, &first, &unrelated).await;
    let Err(Error::Refused(refusal)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.reason.as_deref(), Some("UNRELATED_SNAPSHOTS"));
    assert!(refusal.message.contains("verify"), "{refusal}");
}
