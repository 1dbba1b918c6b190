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
    /// Read nothing: list what is known to be damaged
    #[arg(long, conflicts_with_all = ["restart", "rate"])]
    known: bool,

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
    scrubbed: Option<&'a Scrubbed>,
    /// Part of the above where there is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<u64>,
    chunks_damaged: &'a [Damaged],
}

/// Runs the command.
pub async fn run(args: ScrubArgs) -> anyhow::Result<()> {
    let request = Request::Scrub(ScrubRequest {
        restart: args.restart,
        bytes_per_second: args.rate.map(ByteSize::bytes),
        known: args.known,
    });
    let mut chunks_damaged = Vec::new();
    let reply = carry_out(args.place, request, |part| match part {
        Part::Damaged(chunk) => {
            chunks_damaged.push(chunk);
            Ok(())
        }
        Part::Progress(_) | Part::Snapshots(_) => Err(not_an_answer()),
    });
    let (scrubbed, damaged) = match reply.await? {
        Reply::Scrubbed(scrubbed) => (Some(scrubbed), scrubbed.damaged),
        Reply::KnownDamage(damaged) => (None, damaged),
        _ => return Err(not_an_answer()),
    };
    match args.json {
        true => print_json(&Answer {
            scrubbed: scrubbed.as_ref(),
            damaged: scrubbed.is_none().then_some(damaged),
            chunks_damaged: &chunks_damaged,
        })?,
        false => {
            let head = scrubbed.as_ref().map(summary).unwrap_or_default();
            print(&(head + &list(damaged, &chunks_damaged)))?;
        }
    }
    match damaged {
        0 => Ok(()),
        _ => Err(DataInDanger(
            "data is damaged: see docs/operations.md, \"When something is damaged\"".to_owned(),
        )
        .into()),
    }
}

fn summary(scrubbed: &Scrubbed) -> String {
    let mut text = format!(
        "Verified {}, {}, in {}.\n",
        counted(scrubbed.chunks, "chunk"),
        bytes(scrubbed.bytes),
        duration(scrubbed.took_ms),
    );
    if scrubbed.healed > 0 {
        let healed = counted(scrubbed.healed, "chunk");
        text.push_str(&format!("{healed} damaged before, good again.\n"));
    }
    text
}

fn list(count: u64, damaged: &[Damaged]) -> String {
    let mut text = match count {
        0 => "Nothing is damaged.\n".to_owned(),
        1 => "1 chunk is damaged:\n".to_owned(),
        _ => format!("{count} chunks are damaged:\n"),
    };
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
    let unlisted = count.saturating_sub(damaged.len() as u64);
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
        0 => format!("{snapshot}  its own frame, which only rescue needs"),
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
            healed: 0,
            took_ms: 1500,
        };
        assert_eq!(
            summary(&scrubbed) + &list(2, &[chunk]),
            "Verified 2 chunks, 1.0 MiB, in 1.5 s.\n\
             2 chunks are damaged:\n\n\
             block ab12 (domain 7): the digest differs\n    \
             snap-0123456789abcdef0  block 3\n    \
             snap-0123456789abcdef0  blocks 7 to 8\n    \
             and 3 more extents\n\n\
             and 1 more chunk\n"
        );
    }
}
