//! Downloads and verification of snapshots that the server has lost in part.

use super::images::{Image, content as seeded};
use super::{api, options, run};
use crate::damage::{flip_a_bit, segments};
use crate::server::{Place, Server, Signal};
use crate::snapshots::{Client, content};
use client::download::{Base, DownloadOptions};
use client::source::{Extent, SourcePath};
use client::verify::{VerifyOptions, verify};
use client::{Counter, Error, SnapshotId};
use std::fs;
use std::path::Path;
use types::{BLOCK_BYTES, Digest};

/// A snapshot of blocks 1 to 8, of which 3 and 4 are damaged.
fn damaged(place: &Place) -> (Server, SnapshotId) {
    let server = place.serve(&[]);
    let snapshot = Client::of(place, &server).upload(1..9);
    server.end(Signal::Kill);
    flip_a_bit(place, 3);
    flip_a_bit(place, 4);
    (place.serve(&[]), snapshot.parse().expect("an id"))
}

fn check(target: &Path, lost: &[u32]) {
    let disk = fs::read(target).expect("readable");
    assert_eq!(disk.len(), 1 << 30);
    for (index, block) in (0..).zip(disk.chunks(BLOCK_BYTES).take(16)) {
        let good = match (1..9).contains(&index) && !lost.contains(&index) {
            true => block == content(index),
            false => block.iter().all(|byte| *byte == 0),
        };
        assert!(good, "block {index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_lost_block_is_named_and_nothing_is_claimed() {
    let place = Place::new();
    let (server, snapshot) = damaged(&place);
    let api = api(&place, &server);
    let target = place.path().join("disk.img");
    let error = run(&api, &options(&snapshot, &target)).await;
    let Err(Error::Unreadable { index, .. }) = error else {
        panic!("{error:?}");
    };
    assert!([3, 4].contains(&index.get()));
    assert!(!target.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_good_is_written_and_what_is_lost_is_listed() {
    let place = Place::new();
    let (server, snapshot) = damaged(&place);
    let api = api(&place, &server);
    let target = place.path().join("disk.img");
    let going_on = DownloadOptions {
        keep_going: true,
        ..options(&snapshot, &target)
    };
    let report = run(&api, &going_on).await.expect("done");
    assert_eq!(report.bad, [Extent { start: 3, count: 2 }]);
    assert!(!report.bad_cut);
    check(&target, &[3, 4]);
    let read = api.meter().read();
    assert_eq!((read.moved, read.bad, read.done), (6, 2, 2048));
    assert_eq!(api.meter().get(Counter::Bad), 2);

    let options = VerifyOptions {
        snapshot,
        disk: SourcePath::Path(target),
        checksums_only: false,
    };
    let report = verify(&api, &options, std::future::pending()).await;
    let report = report.expect("compared");
    assert_eq!(report.bad, [Extent { start: 3, count: 2 }]);
    assert_eq!((report.compared, report.differing), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_stays_as_the_base_has_it() {
    let place = Place::new();
    let (server, snapshot) = damaged(&place);
    let api = api(&place, &server);
    let base = place.path().join("old.img");
    let older = Image((1..12).map(|index| (index, 70)).collect());
    older.write(&base);
    for target in [&place.path().join("new.img"), &base] {
        let onto_base = DownloadOptions {
            base: Some(Base {
                path: base.clone(),
                snapshot: snapshot.clone(),
                digests: None,
                trust: false,
            }),
            keep_going: true,
            ..options(&snapshot, target)
        };
        let report = run(&api, &onto_base).await.expect("done");
        assert_eq!(report.bad, [Extent { start: 3, count: 2 }]);
        let disk = fs::read(target).expect("readable");
        for (index, block) in (0..).zip(disk.chunks(BLOCK_BYTES).take(16)) {
            let good = match index {
                3 | 4 => block == seeded(70),
                1..9 => block == content(index),
                _ => block.iter().all(|byte| *byte == 0),
            };
            assert!(good, "block {index}");
        }
    }
}

/// Flips a bit in the pages that list a block with this content.
fn flip_a_bit_of_the_listing(place: &Place, seed: u64) {
    let digest = Digest::of(&seeded(seed));
    let mut found = 0;
    for path in segments(place, "pages") {
        let mut bytes = fs::read(&path).expect("readable");
        let wanted = digest.as_bytes();
        let places = bytes.windows(wanted.len()).enumerate();
        let places = places.filter(|(_, found)| found == wanted);
        let places: Vec<usize> = places.map(|(at, _)| at).collect();
        places.iter().for_each(|at| bytes[*at] ^= 1);
        found += places.len();
        fs::write(&path, bytes).expect("written");
    }
    assert!(found > 0, "no page names it");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_no_longer_listed_are_a_range_that_is_lost() {
    let place = Place::new();
    let server = place.serve(&[]);
    let blocks = (0..250).map(|index| (index, 7));
    let image = Image(blocks.collect());
    let image = image.with([(256, 1), (259, 2), (384, 3), (390, 4), (1000, 5)]);
    let snapshot = image.upload(&api(&place, &server), None).await;
    server.end(Signal::Kill);
    flip_a_bit_of_the_listing(&place, 1);
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let target = place.path().join("disk.img");
    let plain = options(&snapshot, &target);
    let error = run(&api, &plain).await;
    assert!(
        matches!(
            &error,
            Err(Error::Unreachable {
                operation: "ListSnapshotBlocks",
                ..
            })
        ),
        "{error:?}"
    );
    assert!(!target.exists());

    let going_on = DownloadOptions {
        keep_going: true,
        ..plain
    };
    let report = run(&api, &going_on).await.expect("done");
    // From behind the last block that is listed to the first place that is listed again.
    let lost = Extent {
        start: 250,
        count: 134,
    };
    assert_eq!(report.bad, [lost]);
    let mut rest = image;
    rest.0.retain(|index, _| !(250..384).contains(index));
    rest.check(&target);

    // A base keeps what it has there.
    let base = place.path().join("old.img");
    Image([(2, 80), (300, 81)].into()).write(&base);
    let in_place = DownloadOptions {
        base: Some(Base {
            path: base.clone(),
            snapshot: snapshot.clone(),
            digests: None,
            trust: false,
        }),
        ..options(&snapshot, &base)
    };
    let going_on = DownloadOptions {
        keep_going: true,
        ..in_place
    };
    let report = run(&api, &going_on).await.expect("done");
    assert_eq!(report.bad, [lost]);
    rest.with([(300, 81)]).check(&base);
}
