//! Downloads and verification of snapshots that the server has lost in part.

use super::{api, options, run};
use crate::damage::flip_a_bit;
use crate::server::{Place, Server, Signal};
use crate::snapshots::{Client, content};
use client::download::DownloadOptions;
use client::source::{Extent, SourcePath};
use client::verify::{VerifyOptions, verify};
use client::{Counter, Error, SnapshotId};
use std::fs;
use std::path::Path;
use types::BLOCK_BYTES;

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
