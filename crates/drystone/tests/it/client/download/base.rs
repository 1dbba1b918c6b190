//! Downloads onto a disk that holds another snapshot.

use super::images::{Image, content, write_block};
use super::{api, options, run, through};
use crate::client::proxy::{Fault, On, Proxy, Rule};
use crate::server::{Place, Server};
use client::api::Api;
use client::download::{Base, DownloadOptions};
use client::source::{SourceOptions, SourcePath};
use client::upload::{UploadOptions, upload};
use client::{Counter, Error, SnapshotId};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Two snapshots of one lineage, and a disk that holds the first.
struct Pair {
    old: SnapshotId,
    new: SnapshotId,
    image: Image,
    disk: PathBuf,
}

impl Pair {
    /// In the second, two blocks differ, one is new, one has become zeros.
    async fn new(place: &Place, server: &Server) -> Pair {
        let api = api(place, server);
        let before = Image::scattered();
        let old = before.upload(&api, None).await;
        let image = before
            .clone()
            .with([(3, 901), (1001, 902), (700, 903), (128, 0)]);
        let new = image.upload(&api, Some((&old, &before))).await;
        let disk = place.path().join("old.img");
        before.write(&disk);
        Pair {
            old,
            new,
            image,
            disk,
        }
    }

    fn onto(&self, target: &Path) -> DownloadOptions {
        DownloadOptions {
            base: Some(Base {
                path: self.disk.clone(),
                snapshot: self.old.clone(),
                digests: None,
                trust: false,
            }),
            ..options(&self.new, target)
        }
    }

    /// Somebody wrote to the disk: where there was data, and where there was none.
    fn tamper(&self) {
        let file = OpenOptions::new().write(true).open(&self.disk);
        let file = file.expect("a disk");
        write_block(&file, 1003, &content(77));
        write_block(&file, 1500, &content(78));
    }
}

fn moved(api: &Api) -> u64 {
    api.meter().get(Counter::Moved)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_difference_is_fetched_in_place_and_to_another_file() {
    let place = Place::new();
    let server = place.serve(&[]);
    let pair = Pair::new(&place, &server).await;
    let target = place.path().join("new.img");
    for target in [&target, &pair.disk] {
        let api = api(&place, &server);
        run(&api, &pair.onto(target)).await.expect("done");
        pair.image.check(target);
        let read = api.meter().read();
        assert_eq!((read.moved, read.done), (3, 2048));
        assert_eq!(read.same + read.zeroed, pair.image.0.len() as u64 - 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_was_changed_is_found_out() {
    let place = Place::new();
    let server = place.serve(&[]);
    let pair = Pair::new(&place, &server).await;
    pair.tamper();
    let api = api(&place, &server);
    run(&api, &pair.onto(&pair.disk)).await.expect("done");
    pair.image.check(&pair.disk);
    assert_eq!(moved(&api), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_do_without_the_base_snapshot() {
    let place = Place::new();
    let server = place.serve(&[]);
    let pair = Pair::new(&place, &server).await;
    let api = api(&place, &server);
    api.delete_snapshot(&pair.old).await.expect("deleted");
    run(&api, &pair.onto(&pair.disk)).await.expect("done");
    pair.image.check(&pair.disk);
    assert_eq!(moved(&api), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checksums_a_base_is_trusted_only_when_that_is_said() {
    let place = Place::new();
    let server = place.serve(&[]);
    let pair = Pair::new(&place, &server).await;
    let proxy = Proxy::start(server.address, [Rule::new(On::ANY, Fault::NoExtensions)]);
    let api = through(&place, &proxy);
    let error = run(&api, &pair.onto(&pair.disk)).await;
    assert!(
        matches!(&error, Err(Error::Config(text)) if text.contains("digest file")),
        "{error:?}"
    );
    let mut trusting = pair.onto(&pair.disk);
    trusting.base.as_mut().expect("a base").trust = true;
    run(&api, &trusting).await.expect("done");
    pair.image.check(&pair.disk);
    // Without checksums nobody knows that a block became zeros before it is there.
    assert_eq!(moved(&api), 4);
    assert!(proxy.calls(On::LIST_CHANGED) > 0);
}

/// Uploads a disk again, for the digest file that comes of it.
async fn with_digests(api: &Api, disk: &Path, digests: &Path) -> SnapshotId {
    let options = UploadOptions {
        source: SourcePath::Path(disk.to_owned()),
        reading: SourceOptions { map: None },
        parent: None,
        volume_size: None,
        description: None,
        tags: BTreeMap::new(),
        encrypted: None,
        kms_key_arn: None,
        client_token: None,
        digests: Some(digests.to_owned()),
        state: None,
        wait: true,
    };
    let report = upload(api, &options, std::future::pending()).await;
    report.expect("uploaded").snapshot
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_file_finds_out_what_checksums_would() {
    let place = Place::new();
    let server = place.serve(&[]);
    let direct = api(&place, &server);
    let before = Image::scattered();
    let disk = place.path().join("old.img");
    before.write(&disk);
    let digests = place.path().join("digests");
    let old = with_digests(&direct, &disk, &digests).await;
    let image = before.clone().with([(3, 901), (700, 903), (128, 0)]);
    let new = image.upload(&direct, Some((&old, &before))).await;
    let pair = Pair {
        old: old.clone(),
        new: new.clone(),
        image,
        disk,
    };
    pair.tamper();

    let proxy = Proxy::start(server.address, [Rule::new(On::ANY, Fault::NoExtensions)]);
    let behind = through(&place, &proxy);
    let mut options = pair.onto(&pair.disk);
    let base = options.base.as_mut().expect("a base");
    base.digests = Some(digests);
    // What can be checked is not believed.
    base.trust = true;
    run(&behind, &options).await.expect("done");
    pair.image.check(&pair.disk);
    assert_eq!(moved(&behind), 4);

    options.base.as_mut().expect("a base").snapshot = new;
    let error = run(&behind, &options).await;
    assert!(
        matches!(&error, Err(Error::Config(text)) if text.contains(old.as_str())),
        "{error:?}"
    );
}
