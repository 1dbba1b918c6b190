//! `drystone demo`: the whole story on a throw-away server.

use anyhow::bail;
use clap::Args;

/// Arguments of `drystone demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {}

/// Runs the command.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let _ = args;
    bail!("not available")
}
