//! `drystone scrub`: reads and verifies everything that is stored, and says what is damaged and what that touches.

use super::figures::{bytes, counted, duration};
use super::{DataInDanger, not_an_answer, print, print_json};
use crate::admin::{
    Damaged, DataArgs, Part, Reply, Request, ScrubRequest, Scrubbed, Touched, carry_out,
};
use crate::settings::ByteSize;
use clap::Args;
use serde::Serialize;

/// Arguments of `drystone scrub`.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Begin anew instead of where the last scrub stopped
    #[arg(long)]
    restart: bool,

    /// Bytes read in a second at most, as in `64 MiB` [default: the setting scrub.rate]
    #[arg(long, value_name = "BYTES")]
    rate: Option<ByteSize>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: DataArgs,
}

/// The answer to programs.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    scrubbed: &'a Scrubbed,
    chunks_damaged: &'a [Damaged],
}

/// Runs the command.
pub async fn run(args: ScrubArgs) -> anyhow::Result<()> {
    let request = Request::Scrub(ScrubRequest {
        restart: args.restart,
        bytes_per_second: args.rate.map(ByteSize::bytes),
    });
    let mut damaged = Vec::new();
    let reply = carry_out(args.place, request, |part| match part {
        Part::Damaged(chunk) => {
            damaged.push(chunk);
            Ok(())
        }
        Part::Progress(_) | Part::Snapshots(_) => Err(not_an_answer()),
    });
    let Reply::Scrubbed(scrubbed) = reply.await? else {
        return Err(not_an_answer());
    };
    match args.json {
        true => print_json(&Answer {
            scrubbed: &scrubbed,
            chunks_damaged: &damaged,
        })?,
        false => print(&table(&scrubbed, &damaged))?,
    }
    match scrubbed.damaged {
        0 => Ok(()),
        count => Err(DataInDanger(format!(
            "{} damaged: put the blocks above again from a good source, that heals them",
            counted(count, "chunk")
        ))
        .into()),
    }
}

fn table(scrubbed: &Scrubbed, damaged: &[Damaged]) -> String {
    let mut text = format!(
        "Verified {}, {}, in {}; {} damaged.\n",
        counted(scrubbed.chunks, "chunk"),
        bytes(scrubbed.bytes),
        duration(scrubbed.took_ms),
        match scrubbed.damaged {
            0 => "none is".to_owned(),
            1 => "1 is".to_owned(),
            count => format!("{count} are"),
        }
    );
    for chunk in damaged {
        text.push_str(&format!(
            "\n{} {} (domain {}): {}\n",
            chunk.kind, chunk.name, chunk.domain, chunk.reason
        ));
        for touched in &chunk.touches {
            text.push_str(&format!("    {}\n", extent(touched)));
        }
        let listed = chunk.touches.len() as u64;
        match chunk.touches_count.saturating_sub(listed) {
            0 if listed == 0 => text.push_str("    no snapshot uses it\n"),
            0 => {}
            more => text.push_str(&format!("    and {}\n", counted(more, "more extent"))),
        }
    }
    let unlisted = scrubbed.damaged.saturating_sub(damaged.len() as u64);
    if unlisted > 0 {
        text.push_str(&format!("\nand {}\n", counted(unlisted, "more chunk")));
    }
    text
}

fn extent(touched: &Touched) -> String {
    let Touched {
        snapshot,
        start,
        count,
    } = touched;
    match count {
        1 => format!("{snapshot}  block {start}"),
        _ => {
            let last = start.saturating_add(count.saturating_sub(1));
            format!("{snapshot}  blocks {start} to {last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_is_named() {
        let touched = |start, count| Touched {
            snapshot: "snap-0123456789abcdef0".to_owned(),
            start,
            count,
        };
        let chunk = Damaged {
            domain: 7,
            name: "ab12".to_owned(),
            kind: "block".to_owned(),
            reason: "the digest differs".to_owned(),
            touches: vec![touched(3, 1), touched(7, 2)],
            touches_count: 5,
        };
        let scrubbed = Scrubbed {
            chunks: 2,
            bytes: 1 << 20,
            damaged: 2,
            took_ms: 1500,
        };
        assert_eq!(
            table(&scrubbed, &[chunk]),
            "Verified 2 chunks, 1.0 MiB, in 1.5 s; 2 are damaged.\n\n\
             block ab12 (domain 7): the digest differs\n    \
             snap-0123456789abcdef0  block 3\n    \
             snap-0123456789abcdef0  blocks 7 to 8\n    \
             and 3 more extents\n\n\
             and 1 more chunk\n"
        );
    }
}
