//! `drystone download`: makes a file, a block device or a stream of a snapshot.

use super::answers::{Range, Transfer, volume_bytes};
use super::figures::{bytes, counted};
use super::progress::{Wording, with_progress};
use super::remote::{RemoteArgs, environment, size, snapshot};
use super::state::{Kind, default_file, from_everywhere};
use super::{DataInDanger, WrongArguments, print_json};
use crate::settings::ByteSize;
use anyhow::bail;
use clap::Args;
use client::SnapshotId;
use client::api::Api;
use client::download::{Base, DownloadOptions, DownloadReport, Left, download};
use client::source::Extent;
use client::target::TargetPath;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Ranges that are named on standard error; JSON has them all.
const NAMED_MAX: usize = 100;

/// Arguments of `drystone download`.
#[derive(Debug, Args)]
pub struct DownloadArgs {
    /// The snapshot
    #[arg(value_parser = snapshot)]
    snapshot: SnapshotId,

    /// Where to: a file, a block device, or `-` for standard output
    target: PathBuf,

    /// A file or device that holds --base-snapshot: only what differs from it is fetched; may be the target itself
    #[arg(long, value_name = "PATH", requires = "base_snapshot")]
    base: Option<PathBuf>,

    /// The snapshot that --base holds
    #[arg(long, value_name = "SNAP", value_parser = snapshot, requires = "base")]
    base_snapshot: Option<SnapshotId>,

    /// Digests of --base, as `upload --digests` wrote them, for servers that list no checksums
    #[arg(long, value_name = "FILE", requires = "base")]
    base_digests: Option<PathBuf>,

    /// Believe that --base holds --base-snapshot where that cannot be checked
    #[arg(long, requires = "base")]
    trust_base: bool,

    /// Keep what is needed to go on after an interruption, and go on if there is such
    #[arg(long)]
    resume: bool,

    /// The file for --resume [default: one in ${XDG_STATE_HOME:-~/.local/state}/drystone/downloads]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Go on past blocks that the server has lost: they become zeros, or stay as --base has them; they are named at the end, and
    /// the exit code is 4
    #[arg(long)]
    keep_going: bool,

    /// Length of a file target, such as 10G; what lies behind it must be zeros [default: the volume's]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    size: Option<ByteSize>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: DownloadArgs) -> anyhow::Result<()> {
    let options = args.options()?;
    let api = args.remote.connect()?;
    let options = DownloadOptions {
        state: args.state_file(&api)?,
        ..options
    };
    let cleaning_up = match options.left_by_interruption() {
        Left::Stream => "what was written is not complete",
        Left::State => "what was received is kept for --resume",
        Left::Mixture => "the target is neither old nor new",
        Left::Nothing => "what was received is removed",
    };
    let output = &args.remote.output;
    let (report, took) = with_progress(
        Wording::DOWNLOAD,
        api.meter(),
        output,
        cleaning_up,
        async |cancel| download(&api, &options, cancel).await,
    )
    .await?;
    if output.json {
        let transfer = Transfer::of(&api.meter().read(), took);
        print_json(&answer(&args, &report, transfer))?;
    }
    lost(&args.snapshot, &report.bad, report.bad_cut)
}

impl DownloadArgs {
    fn options(&self) -> anyhow::Result<DownloadOptions> {
        let target = match self.target.as_os_str() == "-" {
            true => TargetPath::Stdout,
            false => TargetPath::Path(self.target.clone()),
        };
        let refuse = |text: &str| Err(WrongArguments(text.to_owned()).into());
        if target == TargetPath::Stdout {
            if self.remote.output.json {
                return refuse("standard output takes the disk or --json, not both");
            }
            if self.resume || self.state.is_some() {
                return refuse("standard output cannot be resumed");
            }
        }
        let base = self.base.clone().zip(self.base_snapshot.clone());
        Ok(DownloadOptions {
            snapshot: self.snapshot.clone(),
            target,
            bytes: self.size.map(ByteSize::bytes),
            base: base.map(|(path, snapshot)| Base {
                path,
                snapshot,
                digests: self.base_digests.clone(),
                trust: self.trust_base,
            }),
            state: None,
            keep_going: self.keep_going,
        })
    }

    fn state_file(&self, api: &Api) -> anyhow::Result<Option<PathBuf>> {
        if self.state.is_some() || !self.resume {
            return Ok(self.state.clone());
        }
        let target = from_everywhere(&self.target)?;
        let about = [&*api.realm(), self.snapshot.as_str(), &target];
        default_file(&environment(), Kind::Download, &about).map(Some)
    }
}

/// Names what the server has lost, and makes an exit code of it.
pub fn lost(snapshot: &SnapshotId, bad: &[Extent], cut: bool) -> anyhow::Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    for extent in bad.iter().take(NAMED_MAX) {
        let Range { offset, length } = Range::from(*extent);
        eprintln!("drystone: lost: {length} bytes at {offset}");
    }
    let more = match bad.len() > NAMED_MAX || cut {
        true => ", not all of them named",
        false => "",
    };
    let blocks: u64 = bad.iter().map(|extent| u64::from(extent.count)).sum();
    let least = if cut { "at least " } else { "" };
    bail!(DataInDanger(format!(
        "the server has lost {least}{} of {snapshot} in {}{more}; `drystone scrub` there says what else is damaged",
        bytes(super::answers::bytes_of(blocks)),
        counted(bad.len() as u64, "range"),
    )))
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    snapshot_id: &'a str,
    target: &'a Path,
    base_snapshot_id: Option<&'a str>,
    volume_size: u64,
    lost: Vec<Range>,
    lost_cut: bool,
    transfer: Transfer,
}

fn answer<'a>(args: &'a DownloadArgs, report: &DownloadReport, transfer: Transfer) -> Answer<'a> {
    Answer {
        snapshot_id: args.snapshot.as_str(),
        target: &args.target,
        base_snapshot_id: args.base_snapshot.as_ref().map(SnapshotId::as_str),
        volume_size: volume_bytes(report.volume_size),
        lost: report.bad.iter().copied().map(Range::from).collect(),
        lost_cut: report.bad_cut,
        transfer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use client::Reading;
    use std::time::Duration;
    use types::VolumeSize;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: DownloadArgs,
    }

    fn parse(words: &[&str]) -> Result<DownloadArgs, clap::Error> {
        let line = ["download", "snap-0123456789abcdef0"].iter();
        Line::try_parse_from(line.chain(words)).map(|line| line.args)
    }

    #[test]
    fn the_answer_has_this_shape() {
        let args = parse(&["disk.img"]).expect("arguments");
        let report = DownloadReport {
            volume_size: VolumeSize::from_gib(1).expect("a size"),
            bad: vec![Extent { start: 2, count: 3 }],
            bad_cut: false,
        };
        let transfer = Transfer::of(&Reading::default(), Duration::ZERO);
        let found = serde_json::to_value(answer(&args, &report, transfer.clone()));
        let shape = serde_json::json!({
            "snapshot_id": "snap-0123456789abcdef0",
            "target": "disk.img",
            "base_snapshot_id": null,
            "volume_size": 1_073_741_824,
            "lost": [{ "offset": 1_048_576, "length": 1_572_864 }],
            "lost_cut": false,
            "transfer": serde_json::to_value(transfer).expect("JSON"),
        });
        assert_eq!(found.expect("JSON"), shape);
    }

    #[test]
    fn a_base_has_a_path_and_a_snapshot() {
        let base = ["t", "--base", "old.img"];
        let snapshot = ["--base-snapshot", "snap-1"];
        assert!(parse(&base).is_err());
        assert!(parse(&[&["t"], &snapshot[..]].concat()).is_err());
        let both = parse(&[&base[..], &snapshot].concat()).expect("arguments");
        assert!(both.options().expect("options").base.is_some());
        assert!(parse(&["t", "--trust-base"]).is_err());
    }

    #[test]
    fn standard_output_takes_one_thing() {
        for words in [&["-", "--json"][..], &["-", "--resume"]] {
            let refused = parse(words).expect("arguments").options();
            assert!(refused.expect_err("refused").is::<WrongArguments>());
        }
    }
}
