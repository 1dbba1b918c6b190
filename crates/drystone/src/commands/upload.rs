//! `drystone upload`: makes a snapshot of a file, a block device or a stream. Its id is all that goes to standard output.

use super::answers::{Transfer, volume_bytes};
use super::progress::{Wording, with_progress};
use super::remote::{RemoteArgs, environment, snapshot, tag, tags};
use super::state::{Kind, default_file, from_everywhere};
use super::{WrongArguments, print, print_json};
use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use client::SnapshotId;
use client::api::Api;
use client::source::{SourceOptions, SourcePath};
use client::upload::{ParentKnownBy, UploadOptions, UploadReport, upload};
use serde::Serialize;
use std::path::{Path, PathBuf};
use types::VolumeSize;

/// Arguments of `drystone upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// What is read: a file, a block device, or `-` for standard input
    source: PathBuf,

    /// The snapshot that the new one is based on: only blocks that differ from it are sent
    #[arg(long, value_name = "SNAP", value_parser = snapshot)]
    parent: Option<SnapshotId>,

    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,

    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Size of the volume [default: the source's, rounded up, and at least the parent's]
    #[arg(long, value_name = "GIB", value_parser = volume_size)]
    volume_size: Option<VolumeSize>,

    /// Encrypt the snapshot at rest
    #[arg(long)]
    encrypted: bool,

    /// The key to encrypt with
    #[arg(long, value_name = "ARN", requires = "encrypted")]
    kms_key: Option<String>,

    /// Makes repeats of this upload harmless: the same token is the same snapshot, which stays after a failure
    #[arg(long, value_name = "TOKEN")]
    client_token: Option<String>,

    /// End only when the snapshot is completed
    #[arg(long)]
    wait: bool,

    /// Keep what is needed to go on after an interruption, and go on if there is such
    #[arg(long)]
    resume: bool,

    /// The file for --resume [default: one in ${XDG_STATE_HOME:-~/.local/state}/drystone/uploads]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Digests of the source's blocks: read if the parent's cannot be listed, and written for the next upload
    #[arg(long, value_name = "FILE")]
    digests: Option<PathBuf>,

    /// Where the source has holes, as `qemu-img map --output=json` says
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: UploadArgs) -> anyhow::Result<()> {
    let options = args.options()?;
    let api = args.remote.connect()?;
    let options = UploadOptions {
        state: args.state_file(&api)?,
        ..options
    };
    // Once the server was asked to complete the snapshot it stays whatever the options, and the error that follows names it.
    let cleaning_up = match (&options.state, &options.client_token) {
        (Some(_), _) => "what was sent is kept for --resume",
        (None, Some(_)) => "the pending snapshot is kept for a repeat with this client token",
        (None, None) => "the pending snapshot is deleted, unless it has everything",
    };
    let output = &args.remote.output;
    let (report, took) = with_progress(
        Wording::UPLOAD,
        api.meter(),
        output,
        cleaning_up,
        async |cancel| upload(&api, &options, cancel).await,
    )
    .await?;
    for warning in &report.warnings {
        eprintln!("drystone: note: {warning}");
    }
    if output.json {
        let transfer = Transfer::of(&api.meter().read(), took);
        return print_json(&answer(&report, args.parent.as_ref(), transfer));
    }
    print(&format!("{}\n", report.snapshot))
}

impl UploadArgs {
    fn options(&self) -> anyhow::Result<UploadOptions> {
        Ok(UploadOptions {
            source: source_path(&self.source),
            reading: SourceOptions {
                map: self.map.clone(),
            },
            parent: self.parent.clone(),
            volume_size: self.volume_size,
            description: self.description.clone(),
            tags: tags(&self.tags)?,
            // An explicit `false` is refused by some servers, so it is never said.
            encrypted: self.encrypted.then_some(true),
            kms_key_arn: self.kms_key.clone(),
            client_token: self.client_token.clone(),
            digests: self.digests.clone(),
            state: None,
            wait: self.wait,
        })
    }

    fn state_file(&self, api: &Api) -> anyhow::Result<Option<PathBuf>> {
        if self.state.is_some() || !self.resume {
            return Ok(self.state.clone());
        }
        let SourcePath::Path(path) = source_path(&self.source) else {
            let text = "standard input has no name to find its state by: say --state FILE";
            bail!(WrongArguments(text.to_owned()));
        };
        let parent = self.parent.as_ref().map_or("", SnapshotId::as_str);
        let source = from_everywhere(&path)?;
        let about = [&*api.realm(), &source, parent];
        default_file(&environment(), Kind::Upload, &about).map(Some)
    }
}

/// `-` is standard input, as everywhere.
pub fn source_path(path: &Path) -> SourcePath {
    match path.as_os_str() == "-" {
        true => SourcePath::Stdin,
        false => SourcePath::Path(path.to_owned()),
    }
}

fn volume_size(text: &str) -> Result<VolumeSize, String> {
    text.parse()
        .ok()
        .and_then(VolumeSize::from_gib)
        .ok_or_else(|| format!("a volume has 1 to {} GiB", VolumeSize::GIB_MAX))
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    snapshot_id: &'a str,
    state: &'static str,
    parent_snapshot_id: Option<&'a str>,
    parent_known_by: Option<&'static str>,
    volume_size: u64,
    /// Not known when an earlier upload with the same client token had completed it; the checksum neither.
    blocks_put: Option<u32>,
    checksum: Option<String>,
    warnings: &'a [String],
    transfer: Transfer,
}

fn answer<'a>(
    report: &'a UploadReport,
    parent: Option<&'a SnapshotId>,
    transfer: Transfer,
) -> Answer<'a> {
    Answer {
        snapshot_id: report.snapshot.as_str(),
        state: match report.completed {
            true => "completed",
            false => "pending",
        },
        parent_snapshot_id: parent.map(SnapshotId::as_str),
        parent_known_by: match report.parent_known_by {
            ParentKnownBy::NoParent => None,
            ParentKnownBy::Checksums => Some("checksums"),
            ParentKnownBy::DigestFile => Some("digest_file"),
            ParentKnownBy::Reading => Some("reading"),
        },
        volume_size: volume_bytes(report.volume_size),
        blocks_put: (!report.done_before).then_some(report.blocks_put),
        checksum: (!report.done_before).then(|| STANDARD.encode(report.aggregate.as_bytes())),
        warnings: &report.warnings,
        transfer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Reading;
    use std::time::Duration;
    use types::Digest;

    #[test]
    fn the_answer_has_this_shape() {
        let id = |text: &str| text.parse::<SnapshotId>().expect("an id");
        let report = UploadReport {
            snapshot: id("snap-0123456789abcdef0"),
            volume_size: VolumeSize::from_gib(1).expect("a size"),
            done_before: false,
            blocks_put: 3,
            aggregate: Digest::from_bytes([0; 32]),
            parent_known_by: ParentKnownBy::DigestFile,
            completed: true,
            warnings: vec!["it moved".to_owned()],
        };
        let transfer = Transfer::of(&Reading::default(), Duration::ZERO);
        let parent = id("snap-0123456789abcdef1");
        let found = serde_json::to_value(answer(&report, Some(&parent), transfer.clone()));
        let shape = serde_json::json!({
            "snapshot_id": "snap-0123456789abcdef0",
            "state": "completed",
            "parent_snapshot_id": "snap-0123456789abcdef1",
            "parent_known_by": "digest_file",
            "volume_size": 1_073_741_824,
            "blocks_put": 3,
            "checksum": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "warnings": ["it moved"],
            "transfer": serde_json::to_value(transfer).expect("JSON"),
        });
        assert_eq!(found.expect("JSON"), shape);
    }

    #[test]
    fn volumes_are_counted_in_gib() {
        assert!(volume_size("0").is_err() && volume_size("65537").is_err());
        assert_eq!(volume_size("65536").map(VolumeSize::gib), Ok(65_536));
    }
}
