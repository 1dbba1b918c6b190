//! What a download must not do to what it is given.

use super::images::Image;
use super::{api, options, run};
use crate::server::Place;
use client::download::{Base, DownloadOptions, download};
use client::target::TargetPath;
use client::{Counter, Error};
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_state_does_not_stand_where_the_disk_will() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let snapshot = Image::scattered().upload(&api, None).await;
    let target = place.path().join("disk.img");
    let at_target = DownloadOptions {
        state: Some(place.path().join("./disk.img")),
        ..options(&snapshot, &target)
    };
    let error = run(&api, &at_target).await;
    assert!(matches!(&error, Err(Error::Config(text)) if text.contains("at once")));
    assert!(!target.exists());

    // Digests of the base that are the disk itself.
    fs::write(&target, "precious").expect("written");
    let at_target = DownloadOptions {
        base: Some(Base {
            path: place.path().join("old.img"),
            snapshot: snapshot.clone(),
            digests: Some(target.clone()),
            trust: false,
        }),
        ..options(&snapshot, &target)
    };
    let error = run(&api, &at_target).await;
    assert!(matches!(&error, Err(Error::Config(text)) if text.contains("at once")));
    assert_eq!(fs::read(&target).expect("read"), b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_somebody_to_read_can_be_given_up() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let snapshot = Image::scattered().upload(&api, None).await;
    let fifo = place.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    let to_fifo = DownloadOptions {
        target: TargetPath::Path(fifo.clone()),
        ..options(&snapshot, &fifo)
    };
    // The total is known just before the target is opened.
    let opening = async {
        while api.meter().get(Counter::Total) == 0 {
            tokio::task::yield_now().await;
        }
    };
    let ended = timeout(Duration::from_secs(20), download(&api, &to_fifo, opening)).await;
    assert!(matches!(ended, Ok(Err(Error::Interrupted))), "{ended:?}");
}
