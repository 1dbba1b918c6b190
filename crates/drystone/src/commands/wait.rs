//! `drystone wait`: ends when a snapshot is completed, or never will be.

use super::answers::{Snapshot, state_name};
use super::figures::duration;
use super::remote::{RemoteArgs, snapshot, time};
use super::{print, print_json};
use anyhow::{Context, bail};
use clap::Args;
use client::SnapshotId;
use client::api::{Api, Description};
use client::wait::wait_until_completed;
use std::future::pending;
use std::time::Duration;
use tokio::time::timeout;

/// Arguments of `drystone wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The snapshot
    #[arg(value_parser = snapshot)]
    snapshot: SnapshotId,

    /// Longest time to wait, such as 10m [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: WaitArgs) -> anyhow::Result<()> {
    let api = args.remote.connect()?;
    if !args.remote.output.quiet {
        eprintln!("drystone: waiting until {} is completed", args.snapshot);
    }
    let described = completed(&api, &args).await?;
    match args.remote.output.json {
        true => print_json(&Snapshot::from(described)),
        false => print(&format!("{}\n", state_name(&described.state))),
    }
}

async fn completed(api: &Api, args: &WaitArgs) -> anyhow::Result<Description> {
    // A signal ends the process: there is nothing to clean up.
    let work = wait_until_completed(api, &args.snapshot, pending());
    let Some(longest) = args.timeout else {
        return Ok(work.await?);
    };
    match timeout(longest, work).await {
        Ok(described) => Ok(described?),
        Err(_) => {
            let ms = u64::try_from(longest.as_millis()).context("a time too long")?;
            let waited = duration(ms);
            bail!("{} is still pending after {waited}", args.snapshot)
        }
    }
}
