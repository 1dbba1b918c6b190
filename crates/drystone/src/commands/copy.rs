//! `drystone copy`: moves a snapshot from one server to another. The copy's id is all that goes to standard output, except with
//! `--dry-run`, which prints what the copy would take.
//!
//! ```text
//! copy/side.rs     a server on the command line: profile, endpoint, region
//! copy/prices.rs   what AWS charges for the calls of a copy
//! copy/show.rs     what a dry run prints
//! ```

mod prices;
mod show;
mod side;

use super::answers::{Transfer, bytes_of, volume_bytes};
use super::progress::{Wording, with_progress};
use super::remote::{OutputArgs, RequestArgs, environment, snapshot, tag, tags};
use super::state::{Kind, default_file};
use super::{WrongArguments, print, print_json};
use clap::Args;
use client::SnapshotId;
use client::api::Api;
use client::config::Environment;
use client::copy::{CopyBase, CopyOptions, CopyReport, Prepared, copy, plan, prepare};
use serde::Serialize;
use show::DryRun;
use side::Side;
use std::path::PathBuf;

/// Arguments of `drystone copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The snapshot to copy
    #[arg(value_name = "SNAP", value_parser = snapshot)]
    snapshot: SnapshotId,

    /// Where it is: a profile, a URL, or `profile=NAME,endpoint=URL,region=NAME,ca-bundle=FILE`, of which any may be missing
    #[arg(
        long,
        value_name = "SERVER",
        default_value = "",
        hide_default_value = true
    )]
    from: Side,

    /// Where the copy goes, in the same way. What is said of neither is as for other commands
    #[arg(
        long,
        value_name = "SERVER",
        default_value = "",
        hide_default_value = true
    )]
    to: Side,

    /// A snapshot at the source that was copied before: only what differs from it is copied [default: the nearest ancestor
    /// with a copy, where the source tells]
    #[arg(long, value_name = "SNAP", value_parser = snapshot, conflicts_with = "full")]
    parent: Option<SnapshotId>,

    /// Base the copy on nothing
    #[arg(long)]
    full: bool,

    /// Copy once more what was copied before
    #[arg(long)]
    again: bool,

    /// One more tag for the copy; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,

    /// For people [default: the source's]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Encrypt the copy at rest
    #[arg(long)]
    encrypted: bool,

    /// The key to encrypt with, at the destination
    #[arg(long, value_name = "ARN", requires = "encrypted")]
    kms_key: Option<String>,

    /// Keep what is needed to go on after an interruption, and go on if there is such
    #[arg(long)]
    resume: bool,

    /// The file for --resume [default: one in ${XDG_STATE_HOME:-~/.local/state}/drystone/copies]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// End only when the copy is completed
    #[arg(long)]
    wait: bool,

    /// Change nothing: print the calls that the copy would make, and what AWS charges for them
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    requests: RequestArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub async fn run(args: CopyArgs) -> anyhow::Result<()> {
    let options = args.options()?;
    let environment = environment();
    let from = args.from.connect(&args.requests, &environment)?;
    let to = args.to.connect(&args.requests, &environment)?;
    let prepared = prepare(&from, &to, &options).await?;
    for warning in &prepared.warnings {
        eprintln!("drystone: note: {warning}");
    }
    if args.dry_run {
        let plan = plan(&from, &options, &prepared).await?;
        let dry = DryRun::of(&from, &to, &prepared, &plan);
        return match args.output.json {
            true => print_json(&dry),
            false => print(&dry.text()),
        };
    }
    let options = CopyOptions {
        state: args.state_file(&from, &to, &environment)?,
        ..options
    };
    let cleaning_up = match &options.state {
        Some(_) => "what was copied is kept for --resume",
        // The destination may be completing it already: then it stays, and is named.
        None => "the copy is deleted, unless it has everything",
    };
    let (report, took) = with_progress(
        Wording::COPY,
        to.meter(),
        &args.output,
        cleaning_up,
        async |cancel| copy(&from, &to, &options, &prepared, cancel).await,
    )
    .await?;
    if args.output.json {
        let transfer = Transfer::of(&to.meter().read(), took);
        let fetched = from.meter().read().bytes;
        return print_json(&answer(&prepared, &report, transfer, fetched));
    }
    if report.existed && !args.output.quiet {
        eprintln!(
            "drystone: {} is a copy already; --again makes another",
            report.snapshot
        );
    }
    print(&format!("{}\n", report.snapshot))
}

impl CopyArgs {
    fn options(&self) -> anyhow::Result<CopyOptions> {
        if self.from.is_usual() && self.to.is_usual() {
            let text = "say where from or where to: --from and --to take a profile, a URL, or \
                        `profile=NAME,endpoint=URL,region=NAME`";
            return Err(WrongArguments(text.to_owned()).into());
        }
        Ok(CopyOptions {
            snapshot: self.snapshot.clone(),
            base: match (&self.parent, self.full) {
                (Some(parent), _) => CopyBase::Snapshot(parent.clone()),
                (None, true) => CopyBase::Nothing,
                (None, false) => CopyBase::Nearest,
            },
            tags: tags(&self.tags)?,
            description: self.description.clone(),
            // An explicit `false` is refused by some servers, so it is never said.
            encrypted: self.encrypted.then_some(true),
            kms_key_arn: self.kms_key.clone(),
            again: self.again,
            state: None,
            wait: self.wait,
        })
    }

    fn state_file(
        &self,
        from: &Api,
        to: &Api,
        environment: &Environment,
    ) -> anyhow::Result<Option<PathBuf>> {
        if self.state.is_some() || !self.resume {
            return Ok(self.state.clone());
        }
        let about = [&*from.realm(), self.snapshot.as_str(), &*to.realm()];
        default_file(environment, Kind::Copy, &about).map(Some)
    }
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    snapshot_id: &'a str,
    state: &'static str,
    existed: bool,
    parent_snapshot_id: Option<&'a str>,
    source_snapshot_id: &'a str,
    source_parent_snapshot_id: Option<&'a str>,
    volume_size: Option<u64>,
    blocks_put: u32,
    put_bytes: u64,
    fetched_bytes: u64,
    warnings: &'a [String],
    transfer: Transfer,
}

fn answer<'a>(
    prepared: &'a Prepared,
    report: &'a CopyReport,
    transfer: Transfer,
    fetched_bytes: u64,
) -> Answer<'a> {
    let parent = report.parent.as_ref();
    Answer {
        snapshot_id: report.snapshot.as_str(),
        state: match report.completed {
            true => "completed",
            false => "pending",
        },
        existed: report.existed,
        parent_snapshot_id: parent.map(|(_, there)| there.as_str()),
        source_snapshot_id: prepared.source.id.as_str(),
        source_parent_snapshot_id: parent.map(|(here, _)| here.as_str()),
        volume_size: prepared.source.volume_size.map(volume_bytes),
        blocks_put: report.blocks_put,
        put_bytes: bytes_of(report.blocks_put.into()),
        fetched_bytes,
        warnings: &prepared.warnings,
        transfer,
    }
}
