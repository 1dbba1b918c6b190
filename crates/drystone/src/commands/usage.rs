//! `drystone usage`: what each snapshot alone holds, and what the store holds in all.
//!
//! With `--json` the answer is one object, `{"snapshots": [...], "totals": {...}}`, a snapshot a line.

use super::figures::bytes;
use super::{not_an_answer, print};
use crate::admin::{
    DataArgs, NAMED_MAX, Part, Reply, Request, SnapshotUsage, UsageRequest, UsageTotals, carry_out,
};
use anyhow::bail;
use clap::Args;

/// Arguments of `drystone usage`.
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Compute the figures now, in a dry run of a collection, instead of showing those of the last cycle
    #[arg(long)]
    refresh: bool,

    /// Show this snapshot; may be repeated [default: all]
    #[arg(long = "snapshot", value_name = "SNAP")]
    snapshots: Vec<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: DataArgs,
}

/// Runs the command. Snapshots are printed as they come: there may be very many.
pub async fn run(args: UsageArgs) -> anyhow::Result<()> {
    if args.snapshots.len() > NAMED_MAX {
        bail!("name at most {NAMED_MAX} snapshots, or none for all of them");
    }
    let request = Request::Usage(UsageRequest {
        refresh: args.refresh,
        snapshots: args.snapshots,
    });
    let mut listing = Listing {
        json: args.json,
        rows: 0,
    };
    let reply = carry_out(args.place, request, |part| match part {
        Part::Snapshots(some) => print(&listing.rows(&some)?),
        Part::Progress(_) | Part::Damaged(_) => Err(not_an_answer()),
    });
    match reply.await? {
        Reply::Usage(totals) => print(&listing.end(&totals)?),
        _ => Err(not_an_answer()),
    }
}

/// An answer that is printed piece by piece.
struct Listing {
    json: bool,
    rows: u64,
}

impl Listing {
    fn rows(&mut self, some: &[SnapshotUsage]) -> anyhow::Result<String> {
        let mut text = String::new();
        for usage in some {
            if self.json {
                text.push_str(match self.rows {
                    0 => "{\"snapshots\": [\n  ",
                    _ => ",\n  ",
                });
                text.push_str(&serde_json::to_string(usage)?);
            } else {
                if self.rows == 0 {
                    text.push_str(&line(
                        "SNAPSHOT",
                        "ACCOUNT",
                        "LOGICAL",
                        "OWN BLOCKS",
                        "OWN BYTES",
                    ));
                }
                text.push_str(&line(
                    &usage.snapshot,
                    &usage.account,
                    &bytes(usage.logical_bytes),
                    &usage.own_blocks.to_string(),
                    &bytes(usage.own_bytes),
                ));
            }
            self.rows += 1;
        }
        Ok(text)
    }

    fn end(&self, totals: &UsageTotals) -> anyhow::Result<String> {
        let (none, totals_json) = (self.rows == 0, serde_json::to_string(totals)?);
        Ok(match (self.json, none) {
            (true, true) => format!("{{\"snapshots\": [],\n \"totals\": {totals_json}}}\n"),
            (true, false) => format!("],\n \"totals\": {totals_json}}}\n"),
            (false, true) => summary(totals),
            (false, false) => format!("\n{}", summary(totals)),
        })
    }
}

fn line(snapshot: &str, account: &str, logical: &str, own_blocks: &str, own_bytes: &str) -> String {
    format!("{snapshot:22}  {account:12}  {logical:>10}  {own_blocks:>10}  {own_bytes:>10}\n")
}

fn summary(totals: &UsageTotals) -> String {
    let mut text = format!(
        "snapshots  {:>10}  completed, as of {}\n",
        totals.snapshots, totals.computed_at
    );
    for (name, count, note) in [
        (
            "logical",
            totals.logical_bytes,
            "blocks of all snapshots together",
        ),
        (
            "unique",
            totals.unique_bytes,
            "distinct blocks among them, and among pending ones",
        ),
        (
            "stored",
            totals.stored_bytes,
            "what they take, pages included",
        ),
        (
            "garbage",
            totals.garbage_bytes,
            "what collection gives back",
        ),
    ] {
        text.push_str(&format!("{name:9}  {:>10}  {note}\n", bytes(count)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(snapshot: &str) -> SnapshotUsage {
        SnapshotUsage {
            snapshot: snapshot.to_owned(),
            account: "123456789012".to_owned(),
            logical_bytes: 64 << 40,
            own_blocks: 134_217_728,
            own_bytes: 1_572_864,
        }
    }

    #[test]
    fn the_table_lines_up() {
        let mut listing = Listing {
            json: false,
            rows: 0,
        };
        let some = [
            usage("snap-0123456789abcdef0"),
            usage("snap-0123456789abcdef1"),
        ];
        assert_eq!(
            listing.rows(&some).expect("text"),
            "SNAPSHOT                ACCOUNT          LOGICAL  OWN BLOCKS   OWN BYTES\n\
             snap-0123456789abcdef0  123456789012    64.0 TiB   134217728     1.5 MiB\n\
             snap-0123456789abcdef1  123456789012    64.0 TiB   134217728     1.5 MiB\n"
        );
        assert_eq!(listing.rows(&some[..1]).expect("text").lines().count(), 1);
    }

    #[test]
    fn pieces_make_one_json_object() {
        for pieces in [&[][..], &[1][..], &[2, 1]] {
            let mut listing = Listing {
                json: true,
                rows: 0,
            };
            let mut text = String::new();
            for piece in pieces {
                let some = vec![usage("snap-0123456789abcdef0"); *piece];
                text.push_str(&listing.rows(&some).expect("text"));
            }
            text.push_str(&listing.end(&UsageTotals::default()).expect("text"));
            let parsed: serde_json::Value = serde_json::from_str(&text).expect(&text);
            let snapshots = parsed["snapshots"].as_array().expect("an array");
            assert_eq!(snapshots.len(), pieces.iter().sum::<usize>());
            assert_eq!(parsed["totals"]["garbage_bytes"], 0);
        }
    }
}
