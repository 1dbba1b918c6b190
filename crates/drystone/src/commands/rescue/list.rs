//! `drystone rescue list`: which snapshots the segments hold, by the frames that completed snapshots leave there.

use super::look;
use crate::commands::{print, print_json};
use crate::data_dir::Layout;
use clap::Args;
use engine::SnapshotFrame;
use engine::rescue::snapshot_frames;
use jiff::Timestamp;
use serde::Serialize;

/// Arguments of `drystone rescue list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A snapshot that the segments hold.
#[derive(Serialize)]
struct Listed {
    snapshot: String,
    account: String,
    parent: Option<String>,
    volume_gib: u32,
    blocks: u64,
    completed: String,
    description: Option<String>,
}

/// Runs the command.
pub async fn run(args: ListArgs, layout: &Layout) -> anyhow::Result<()> {
    let (io, survey) = look(layout).await?;
    let mut frames = snapshot_frames(&io, &survey).await?;
    frames.sort_by_key(|frame| (frame.account, frame.completion_time, frame.id));
    let listed: Vec<Listed> = frames.into_iter().map(listed).collect();
    match args.json {
        true => print_json(&listed),
        false => print(&table(&listed)),
    }
}

fn listed(frame: SnapshotFrame) -> Listed {
    let completed = Timestamp::from_second(frame.completion_time.div_euclid(1000));
    Listed {
        snapshot: frame.id.to_string(),
        account: frame.account.to_string(),
        parent: frame.parent.map(|parent| parent.to_string()),
        volume_gib: frame.volume_size.gib(),
        blocks: frame.full_count,
        completed: completed.unwrap_or(Timestamp::UNIX_EPOCH).to_string(),
        description: frame.description,
    }
}

fn table(snapshots: &[Listed]) -> String {
    let mut text = format!(
        "{:22}  {:12}  {:>7}  {:>10}  {:20}  DESCRIPTION\n",
        "SNAPSHOT", "ACCOUNT", "GIB", "BLOCKS", "COMPLETED"
    );
    for Listed {
        snapshot,
        account,
        volume_gib,
        blocks,
        completed,
        description,
        ..
    } in snapshots
    {
        // A line is a line, whatever somebody wrote.
        let description: String = description
            .as_deref()
            .unwrap_or_default()
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let line = format!(
            "{snapshot:22}  {account:12}  {volume_gib:7}  {blocks:10}  {completed:20}  {description}"
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_stays_on_its_line() {
        let snapshot = Listed {
            snapshot: "snap-00000000000000007".to_owned(),
            account: "123456789012".to_owned(),
            parent: None,
            volume_gib: 1,
            blocks: 2,
            completed: "2026-01-02T03:04:05Z".to_owned(),
            description: Some("two\nlines".to_owned()),
        };
        assert_eq!(
            table(&[snapshot]),
            "SNAPSHOT                ACCOUNT           GIB      BLOCKS  COMPLETED             DESCRIPTION\n\
             snap-00000000000000007  123456789012        1           2  2026-01-02T03:04:05Z  two lines\n"
        );
    }
}
