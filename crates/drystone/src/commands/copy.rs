//! `drystone copy`: moves a snapshot from one server to another.

use super::remote::{OutputArgs, RequestArgs};
use anyhow::bail;
use clap::Args;

/// Arguments of `drystone copy`.
#[derive(Debug, Args)]
pub struct CopyArgs {
    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the command.
pub async fn run(args: CopyArgs) -> anyhow::Result<()> {
    let _ = args;
    bail!("not available")
}
