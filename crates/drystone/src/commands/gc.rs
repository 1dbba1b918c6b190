//! `drystone gc`: runs a cycle of garbage collection now, and says what it did.
//!
//! A cycle condemns what nothing refers to; the next one sweeps what is still condemned. So what a delete left is freed by
//! the second cycle after it.

use super::figures::{bytes, counted, duration};
use super::{DataInDanger, not_an_answer, print, print_json};
use crate::admin::{CollectRequest, Collected, DataArgs, Reply, Request, carry_out};
use clap::Args;

/// Arguments of `drystone gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Change nothing; say what a cycle would do
    #[arg(long)]
    dry_run: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: DataArgs,
}

/// Runs the command.
pub async fn run(args: GcArgs) -> anyhow::Result<()> {
    let request = Request::Collect(CollectRequest {
        dry_run: args.dry_run,
    });
    let reply = carry_out(args.place, request, |_| Err(not_an_answer())).await?;
    let Reply::Collected(report) = reply else {
        return Err(not_an_answer());
    };
    match args.json {
        true => print_json(&report)?,
        false => print(&table(&report))?,
    }
    alarm(&report)
}

fn alarm(report: &Collected) -> anyhow::Result<()> {
    let mut found = Vec::new();
    if report.missing > 0 {
        let chunks = counted(report.missing, "chunk");
        found.push(format!("{chunks} in use without a record"));
    }
    if report.revived > 0 {
        let chunks = counted(report.revived, "condemned chunk");
        found.push(format!("{chunks} in use"));
    }
    if found.is_empty() {
        return Ok(());
    }
    let found = found.join(", ");
    Err(DataInDanger(format!(
        "{found}: run `drystone audit`, and please report this"
    ))
    .into())
}

fn table(report: &Collected) -> String {
    let mut text = match report.dry_run {
        true => "Dry run: nothing was changed, this is what a cycle would do".to_owned(),
        false => format!("Cycle {}", report.epoch),
    };
    text.push_str(&format!(
        " ({}, {} read)\n\n{:10}  {:>12}  {:>10}\n",
        duration(report.took_ms),
        counted(report.pages_read, "page"),
        "",
        "COUNT",
        "BYTES"
    ));
    for (name, amount, note) in [
        ("pages", report.live_pages, "in use"),
        ("blocks", report.live_blocks, "in use"),
        (
            "condemned",
            report.condemned,
            "for the next cycle to sweep, unless put again",
        ),
        ("swept", report.swept, "condemned before, freed now"),
        (
            "leaked",
            report.leaked,
            "frames without a record, freed now",
        ),
        (
            "moved",
            report.moved,
            "out of containers that are mostly garbage",
        ),
        ("removed", report.removed, "containers"),
    ] {
        let (count, bytes) = (amount.count, bytes(amount.bytes));
        text.push_str(&format!("{name:10}  {count:>12}  {bytes:>10}  {note}\n"));
    }
    text
}
