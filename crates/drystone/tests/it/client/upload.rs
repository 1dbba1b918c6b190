//! Uploads against a real server, and through faults: whatever was uploaded is read back and compared byte for byte.

mod faults;
mod parents;
mod resume;
mod whole;

use super::images::Bench;
use super::proxy::On;
use client::api::Api;
use client::source::{SourceOptions, SourcePath};
use client::upload::{UploadOptions, UploadReport, upload};
use client::{Error, SnapshotId};
use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use types::VolumeSize;

const MIB: u64 = 1024 * 1024;

/// Upload a file, and wait.
fn of_file(path: &Path) -> UploadOptions {
    UploadOptions {
        source: SourcePath::Path(path.to_owned()),
        reading: SourceOptions { map: None },
        parent: None,
        volume_size: None,
        description: None,
        tags: BTreeMap::new(),
        encrypted: None,
        kms_key_arn: None,
        client_token: None,
        digests: None,
        state: None,
        wait: true,
    }
}

fn on_parent(path: &Path, parent: &SnapshotId) -> UploadOptions {
    UploadOptions {
        parent: Some(parent.clone()),
        ..of_file(path)
    }
}

fn gib(gib: u64) -> Option<VolumeSize> {
    VolumeSize::from_gib(gib)
}

/// Uploads without interruption.
async fn uploaded(api: &Api, options: &UploadOptions) -> UploadReport {
    let report = upload(api, options, pending()).await.expect("uploaded");
    assert!(report.completed || !options.wait);
    let reading = api.meter().read();
    assert_eq!(reading.done, reading.total, "{reading:?}");
    let counted = reading.zero + reading.same + reading.moved + reading.by_digest + reading.zeroed;
    assert_eq!(reading.done, counted, "{reading:?}");
    assert_eq!(reading.in_flight, 0);
    report
}

/// Uploads in vain.
async fn failed(api: &Api, options: &UploadOptions) -> Error {
    upload(api, options, pending())
        .await
        .expect_err("it cannot be uploaded")
}

/// Indexes of the blocks that were sent with their data, in order, repeats included.
fn sent(bench: &Bench) -> Vec<u32> {
    let with_data = bench
        .proxy
        .seen(On::PUT)
        .into_iter()
        .filter(|put| put.body_bytes > 0);
    let mut sent: Vec<u32> = with_data
        .map(|put| {
            let index = put.target.rsplit('/').next().expect("an index");
            index.parse().expect("a number")
        })
        .collect();
    sent.sort_unstable();
    sent
}
