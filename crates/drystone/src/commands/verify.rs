//! `drystone verify`: compares a disk with a snapshot, and names what differs.

use super::answers::{Range, Transfer, bytes_of};
use super::download::lost;
use super::figures::{bytes, counted};
use super::progress::{Wording, with_progress};
use super::remote::{RemoteArgs, snapshot};
use super::upload::source_path;
use super::{Differences, print, print_json};
use anyhow::bail;
use clap::Args;
use client::SnapshotId;
use client::verify::{VerifyOptions, VerifyReport, verify};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments of `drystone verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The snapshot
    #[arg(value_parser = snapshot)]
    snapshot: SnapshotId,

    /// The disk: a file, a block device, or `-` for standard input
    target: PathBuf,

    /// Compare with the checksums that the server lists, without fetching blocks
    #[arg(long)]
    checksums_only: bool,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: VerifyArgs) -> anyhow::Result<()> {
    let api = args.remote.connect()?;
    let options = VerifyOptions {
        snapshot: args.snapshot.clone(),
        disk: source_path(&args.target),
        checksums_only: args.checksums_only,
    };
    let output = &args.remote.output;
    let (report, took) = with_progress(
        Wording::VERIFY,
        api.meter(),
        output,
        "nothing was changed",
        async |cancel| verify(&api, &options, cancel).await,
    )
    .await?;
    match output.json {
        true => {
            let transfer = Transfer::of(&api.meter().read(), took);
            print_json(&answer(&args, &report, transfer))?;
        }
        false => print(&table(&args, &report))?,
    }
    ending(&args, &report)
}

/// The exit code, and its reason. That data is lost is the worse news: it decides where blocks differ as well, and both are said.
fn ending(args: &VerifyArgs, report: &VerifyReport) -> anyhow::Result<()> {
    if report.differing > 0 {
        let text = format!(
            "{} of {} {} from {}",
            counted(report.differing, "block"),
            args.target.display(),
            if report.differing == 1 {
                "differs"
            } else {
                "differ"
            },
            args.snapshot
        );
        if report.bad.is_empty() {
            bail!(Differences(text));
        }
        eprintln!("drystone: {text}");
    }
    lost(&args.snapshot, &report.bad, report.cut)
}

fn table(args: &VerifyArgs, report: &VerifyReport) -> String {
    let (snapshot, target) = (&args.snapshot, args.target.display());
    let compared = format!(
        "{} ({}) compared",
        counted(report.compared, "block"),
        bytes(bytes_of(report.compared))
    );
    let mut notes = String::new();
    if report.longer {
        notes.push_str(
            "The disk is larger than the volume; what it has behind its end was not compared.\n",
        );
    }
    if report.modified {
        notes.push_str("The disk was modified while it was read.\n");
    }
    if report.extents.is_empty() && report.bad.is_empty() {
        return format!("{snapshot} and {target} are the same: {compared}\n{notes}");
    }
    let mut text = format!("{:>15}  {:>15}  STATE\n", "OFFSET", "LENGTH");
    let differs = report.extents.iter().map(|extent| (*extent, "differs"));
    let lost = report.bad.iter().map(|extent| (*extent, "lost"));
    let mut rows: Vec<_> = differs.chain(lost).collect();
    rows.sort_by_key(|(extent, _)| extent.start);
    for (extent, state) in rows {
        let Range { offset, length } = Range::from(extent);
        text.push_str(&format!("{offset:>15}  {length:>15}  {state}\n"));
    }
    if report.cut {
        text.push_str("There are more.\n");
    }
    text.push_str(&format!("\n{compared}\n{notes}"));
    text
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    snapshot_id: &'a str,
    target: &'a Path,
    same: bool,
    compared_bytes: u64,
    differing_bytes: u64,
    differing: Vec<Range>,
    lost: Vec<Range>,
    cut: bool,
    longer: bool,
    modified: bool,
    transfer: Transfer,
}

fn answer<'a>(args: &'a VerifyArgs, report: &VerifyReport, transfer: Transfer) -> Answer<'a> {
    Answer {
        snapshot_id: args.snapshot.as_str(),
        target: &args.target,
        same: report.differing == 0 && report.bad.is_empty(),
        compared_bytes: bytes_of(report.compared),
        differing_bytes: bytes_of(report.differing),
        differing: report.extents.iter().copied().map(Range::from).collect(),
        lost: report.bad.iter().copied().map(Range::from).collect(),
        cut: report.cut,
        longer: report.longer,
        modified: report.modified,
        transfer,
    }
}

#[cfg(test)]
mod tests {
    use super::super::DataInDanger;
    use super::*;
    use clap::Parser;
    use client::Reading;
    use client::source::Extent;
    use std::time::Duration;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: VerifyArgs,
    }

    fn args() -> VerifyArgs {
        Line::parse_from(["verify", "snap-1", "disk"]).args
    }

    fn report() -> VerifyReport {
        VerifyReport {
            compared: 8,
            differing: 3,
            extents: vec![Extent { start: 0, count: 1 }, Extent { start: 4, count: 2 }],
            bad: vec![Extent { start: 1, count: 1 }],
            cut: false,
            longer: false,
            modified: false,
        }
    }

    #[test]
    fn the_answer_has_this_shape() {
        let transfer = Transfer::of(&Reading::default(), Duration::ZERO);
        let found = serde_json::to_value(answer(&args(), &report(), transfer.clone()));
        let shape = serde_json::json!({
            "snapshot_id": "snap-1",
            "target": "disk",
            "same": false,
            "compared_bytes": 4_194_304,
            "differing_bytes": 1_572_864,
            "differing": [
                { "offset": 0, "length": 524_288 },
                { "offset": 2_097_152, "length": 1_048_576 },
            ],
            "lost": [{ "offset": 524_288, "length": 524_288 }],
            "cut": false,
            "longer": false,
            "modified": false,
            "transfer": serde_json::to_value(transfer).expect("JSON"),
        });
        assert_eq!(found.expect("JSON"), shape);
    }

    #[test]
    fn lost_data_decides_the_exit_code() {
        let (both, args) = (report(), args());
        let error = ending(&args, &both).expect_err("not the same");
        assert!(error.is::<DataInDanger>());
        let differs = VerifyReport {
            bad: Vec::new(),
            ..both
        };
        let error = ending(&args, &differs).expect_err("not the same");
        assert!(error.is::<Differences>());
        let same = VerifyReport {
            differing: 0,
            extents: Vec::new(),
            ..differs
        };
        assert!(ending(&args, &same).is_ok());
    }

    #[test]
    fn the_table_is_in_the_order_of_the_disk() {
        assert_eq!(
            table(&args(), &report()),
            "         OFFSET           LENGTH  STATE\n\
             \x20             0           524288  differs\n\
             \x20        524288           524288  lost\n\
             \x20       2097152          1048576  differs\n\
             \n8 blocks (4.0 MiB) compared\n"
        );
        let same = VerifyReport {
            differing: 0,
            extents: Vec::new(),
            bad: Vec::new(),
            ..report()
        };
        assert_eq!(
            table(&args(), &same),
            "snap-1 and disk are the same: 8 blocks (4.0 MiB) compared\n"
        );
        let longer = VerifyReport {
            longer: true,
            modified: true,
            ..same
        };
        let text = table(&args(), &longer);
        assert!(text.contains("larger than the volume") && text.contains("was modified"));
    }
}
