//! To files, devices and streams that hold something else before.

use super::images::{Image, write_block};
use super::{api, options, run};
use crate::server::Place;
use client::download::{Base, DownloadOptions, download};
use client::target::TargetPath;
use client::{Counter, Error};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use types::{BLOCK_BYTES, BLOCKS_PER_GIB};

/// A file of the volume's length, full of ones.
fn ones(path: &Path) {
    let file = fs::File::create(path).expect("created");
    let block = vec![0xff; BLOCK_BYTES];
    (0..BLOCKS_PER_GIB).for_each(|index| write_block(&file, index, &block));
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("readable").map(|entry| {
        let name = entry.expect("readable").file_name();
        name.to_string_lossy().into_owned()
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_takes_the_place_of_another_and_is_sparse() {
    let place = Place::new();
    let server = place.serve(&[]);
    let image = Image::scattered();
    let snapshot = image.upload(&api(&place, &server), None).await;
    let folder = place.path().join("targets");
    fs::create_dir(&folder).expect("created");
    let target = folder.join("disk.img");
    fs::write(&target, vec![0xff; 3 << 20]).expect("written");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("permitted");

    let api = api(&place, &server);
    let report = run(&api, &options(&snapshot, &target)).await.expect("done");
    assert_eq!((report.volume_size.gib(), report.bad.len()), (1, 0));
    image.check(&target);
    let metadata = fs::metadata(&target).expect("a file");
    assert_eq!(metadata.mode() & 0o777, 0o640);
    let stored = metadata.blocks() * 512;
    let data = image.data() * BLOCK_BYTES as u64;
    assert!(
        stored <= data + (1 << 20),
        "{stored} of {data} bytes are stored"
    );
    assert_eq!(files(&folder), ["disk.img"]);

    let read = api.meter().read();
    assert_eq!((read.total, read.done), (2048, 2048));
    assert_eq!((read.moved, read.zeroed, read.same), (image.data(), 1, 0));
    assert_eq!(read.zero, 2048 - image.0.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_be_shorter_than_the_volume_where_there_are_zeros() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let snapshot = Image([(0, 1), (3, 2)].into()).upload(&api, None).await;
    let target = place.path().join("disk.img");
    let shorter = |bytes| DownloadOptions {
        bytes: Some(bytes),
        ..options(&snapshot, &target)
    };
    let bytes = 4 * BLOCK_BYTES as u64 + 512;
    run(&api, &shorter(bytes)).await.expect("done");
    assert_eq!(fs::metadata(&target).expect("a file").len(), bytes);
    let error = run(&api, &shorter(bytes - BLOCK_BYTES as u64)).await;
    assert!(matches!(error, Err(Error::Unfit(_))), "{error:?}");
    assert_eq!(fs::metadata(&target).expect("a file").len(), bytes);
    let error = run(&api, &shorter(2 << 30)).await;
    assert!(matches!(error, Err(Error::Unfit(_))), "{error:?}");
}

/// A loop device on a file; only the administrator has these.
struct Device(PathBuf);

impl Device {
    fn on(backing: &Path) -> Option<Device> {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(backing)
            .output()
            .ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        (output.status.success()).then(|| Device(PathBuf::from(name.trim())))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let status = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_device_keeps_nothing_of_what_it_held() {
    let place = Place::new();
    let backing = place.path().join("backing");
    ones(&backing);
    let Some(device) = Device::on(&backing) else {
        return;
    };
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let image = Image::scattered();
    let snapshot = image.upload(&api, None).await;
    run(&api, &options(&snapshot, &device.0))
        .await
        .expect("done");
    image.check(&device.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_too_small_is_left_alone() {
    let place = Place::new();
    let backing = place.path().join("backing");
    fs::write(&backing, vec![0xff; 8 << 20]).expect("written");
    let Some(device) = Device::on(&backing) else {
        return;
    };
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let snapshot = Image::scattered().upload(&api, None).await;
    let error = run(&api, &options(&snapshot, &device.0)).await;
    assert!(matches!(error, Err(Error::Unfit(_))), "{error:?}");
    assert!(
        fs::read(&backing)
            .expect("readable")
            .iter()
            .all(|byte| *byte == 0xff)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_written_in_order() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let image = Image::scattered();
    let snapshot = image.upload(&api, None).await;
    let fifo = place.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    let copy = place.path().join("copy.img");
    let reader = {
        let (fifo, copy) = (fifo.clone(), copy.clone());
        thread::spawn(move || {
            let mut from = fs::File::open(fifo).expect("a writer");
            let mut to = fs::File::create(copy).expect("created");
            std::io::copy(&mut from, &mut to).expect("copied")
        })
    };
    run(&api, &options(&snapshot, &fifo)).await.expect("done");
    assert_eq!(reader.join().expect("read"), 1 << 30);
    image.check(&copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_reader_leaves_fails() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let snapshot = Image::scattered().upload(&api, None).await;
    let fifo = place.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    let mut reader = Command::new("head")
        .args(["-c", "4000000"])
        .arg(&fifo)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let error = run(&api, &options(&snapshot, &fifo)).await;
    assert!(matches!(error, Err(Error::Io { .. })), "{error:?}");
    assert!(reader.wait().expect("ended").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_no_base_and_no_state() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let snapshot = Image([(0, 1)].into()).upload(&api, None).await;
    let plain = DownloadOptions {
        target: TargetPath::Stdout,
        ..options(&snapshot, Path::new("-"))
    };
    let with_base = DownloadOptions {
        base: Some(Base {
            path: place.path().join("base"),
            snapshot: snapshot.clone(),
            digests: None,
            trust: false,
        }),
        ..plain.clone()
    };
    let with_state = DownloadOptions {
        state: Some(place.path().join("state")),
        ..plain
    };
    for options in [with_base, with_state] {
        let error = run(&api, &options).await;
        assert!(matches!(error, Err(Error::Config(_))), "{error:?}");
    }
    assert!(!place.path().join("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cancelled_leaves_what_was_there() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let snapshot = Image::scattered().upload(&api, None).await;
    let folder = place.path().join("targets");
    fs::create_dir(&folder).expect("created");
    let target = folder.join("disk.img");
    fs::write(&target, b"old").expect("written");
    // Some blocks have come by then, or none, or all but the name.
    for moved in [0, 1, 8, 20] {
        let before = api.meter().get(Counter::Moved);
        let meter = api.meter().clone();
        let cancel = async move {
            while meter.get(Counter::Moved) < before + moved {
                tokio::task::yield_now().await;
            }
        };
        let error = download(&api, &options(&snapshot, &target), cancel).await;
        assert!(matches!(error, Err(Error::Interrupted)), "{error:?}");
        assert_eq!(fs::read(&target).expect("readable"), b"old");
        assert_eq!(files(&folder), ["disk.img"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_there_touches_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server);
    let target = place.path().join("disk.img");
    let snapshot = "snap-0123456789abcdef0".parse().expect("an id");
    let error = run(&api, &options(&snapshot, &target)).await;
    assert!(
        matches!(&error, Err(Error::Refused(refusal)) if refusal.status == 404),
        "{error:?}"
    );
    assert!(!target.exists());
}
