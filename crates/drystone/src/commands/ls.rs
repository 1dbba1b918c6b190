//! `drystone ls`: the caller's snapshots, oldest first, as a table, as trees of their lineages (`ls/tree.rs`), or as JSON.
//!
//! Parents, unique and shared bytes are told by Drystone alone: on other servers their columns are left out.

mod tree;

use super::answers::Snapshot;
use super::figures::bytes;
use super::remote::RemoteArgs;
use super::{print, print_json};
use anyhow::bail;
use clap::Args;
use client::api::{Description, Which};
use serde::Serialize;
use types::{Clock, SystemClock, UnixMillis};

/// Widest column of tags.
const TAGS_WIDTH: usize = 48;

/// Arguments of `drystone ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Show each snapshot below its parent
    #[arg(long, conflicts_with = "json")]
    tree: bool,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Serialize)]
struct Answer {
    snapshots: Vec<Snapshot>,
}

/// Runs the command.
pub async fn run(args: LsArgs) -> anyhow::Result<()> {
    let api = args.remote.connect()?;
    let mut all = Vec::new();
    api.describe_snapshots(&Which::Own, &mut |told| all.push(told))
        .await?;
    all.sort_by(|one, other| (one.start_time, &one.id).cmp(&(other.start_time, &other.id)));
    if args.remote.output.json {
        return print_json(&Answer {
            snapshots: all.into_iter().map(Snapshot::from).collect(),
        });
    }
    if all.is_empty() && !args.remote.output.quiet {
        eprintln!("drystone: no snapshots at {}", api.endpoint());
    }
    let names = match args.tree {
        false => all.iter().map(|told| told.id.to_string()).collect(),
        true if all.iter().any(|told| told.lineage.is_none()) => {
            bail!(
                "this server does not tell lineages: only `drystone ls` without --tree works there"
            )
        }
        true => {
            let (order, names) = tree::arrange(&all);
            all = order.into_iter().map(|place| all[place].clone()).collect();
            names
        }
    };
    print(&table(&all, &names, SystemClock::new().now()))
}

fn table(all: &[Description], names: &[String], now: UnixMillis) -> String {
    if all.is_empty() {
        return String::new();
    }
    let lineage = all.iter().any(|told| told.lineage.is_some());
    let mut rows = vec![head(lineage)];
    rows.extend(
        all.iter()
            .zip(names)
            .map(|(told, name)| row(told, name, lineage, now)),
    );
    aligned(&rows)
}

fn head(lineage: bool) -> Vec<String> {
    let columns = match lineage {
        true => &[
            "SNAPSHOT", "STATE", "SIZE", "DATA", "UNIQUE", "SHARED", "AGE", "PARENT", "TAGS",
        ][..],
        false => &["SNAPSHOT", "STATE", "SIZE", "DATA", "AGE", "TAGS"],
    };
    columns.iter().map(|name| (*name).to_owned()).collect()
}

fn row(told: &Description, name: &str, lineage: bool, now: UnixMillis) -> Vec<String> {
    let shape = Snapshot::from(told.clone());
    let size = |bytes_known: Option<u64>| bytes_known.map_or_else(|| "-".to_owned(), bytes);
    let mut row = vec![
        name.to_owned(),
        shape.state,
        size(shape.volume_size),
        size(shape.full_bytes),
    ];
    if lineage {
        row.extend([size(shape.unique_bytes), size(shape.shared_bytes)]);
    }
    row.push(
        told.start_time
            .map_or_else(|| "-".to_owned(), |start| age(now.saturating_sub(start))),
    );
    if lineage {
        row.push(shape.parent_snapshot_id.unwrap_or_else(|| "-".to_owned()));
    }
    row.push(tags(told));
    row
}

/// Tags in a line; what would break it is shown as a space.
fn tags(told: &Description) -> String {
    let tags = told
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let text = tags.collect::<Vec<_>>().join(",");
    let shown: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    match shown.chars().count() > TAGS_WIDTH {
        true => shown.chars().take(TAGS_WIDTH - 1).chain(['…']).collect(),
        false => shown,
    }
}

/// How long ago, in one unit.
fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Columns as wide as their widest word; figures stand right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let words = rows.iter().map(|row| row[column].chars().count());
        words.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let figures = |column: usize| {
        matches!(
            rows[0][column].as_str(),
            "SIZE" | "DATA" | "UNIQUE" | "SHARED" | "AGE"
        )
    };
    let mut text = String::new();
    for row in rows {
        let words: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, word)| match figures(column) {
                true => format!("{word:>width$}", width = widths[column]),
                false => format!("{word:width$}", width = widths[column]),
            })
            .collect();
        text.push_str(words.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::api::{Lineage, SnapshotState};
    use types::VolumeSize;

    pub fn told(id: &str, parent: Option<&str>) -> Description {
        Description {
            id: id.parse().expect("an id"),
            state: SnapshotState::Completed,
            state_message: None,
            start_time: Some(1_000_000),
            completion_time: None,
            progress: None,
            owner: "123456789012".to_owned(),
            volume_size: VolumeSize::from_gib(8),
            full_bytes: Some(3 << 20),
            description: String::new(),
            encrypted: false,
            kms_key: None,
            tags: [("Name".to_owned(), "disk".to_owned())].into(),
            lineage: Some(Lineage {
                parent: parent.map(|parent| parent.parse().expect("an id")),
                root: None,
                unique_bytes: Some(1 << 20),
                usage_time: None,
            }),
        }
    }

    #[test]
    fn the_table_has_the_columns_that_the_server_knows() {
        let known = [told("snap-1", None), told("snap-23", Some("snap-1"))];
        let names = ["snap-1".to_owned(), "snap-23".to_owned()];
        let now = 1_000_000 + 7_200_000;
        assert_eq!(
            table(&known, &names, now),
            "SNAPSHOT  STATE         SIZE     DATA   UNIQUE   SHARED  AGE  PARENT  TAGS\n\
             snap-1    completed  8.0 GiB  3.0 MiB  1.0 MiB  2.0 MiB  2 h  -       Name=disk\n\
             snap-23   completed  8.0 GiB  3.0 MiB  1.0 MiB  2.0 MiB  2 h  snap-1  Name=disk\n"
        );
        let elsewhere = known.map(|told| Description {
            lineage: None,
            ..told
        });
        assert_eq!(
            table(&elsewhere[..1], &names[..1], now),
            "SNAPSHOT  STATE         SIZE     DATA  AGE  TAGS\n\
             snap-1    completed  8.0 GiB  3.0 MiB  2 h  Name=disk\n"
        );
        assert_eq!(table(&[], &[], now), "");
    }

    #[test]
    fn tags_stay_on_their_line() {
        let mut long = told("snap-1", None);
        long.tags = [("a".to_owned(), format!("x\n{}", "y".repeat(100)))].into();
        let text = tags(&long);
        assert_eq!(text.chars().count(), TAGS_WIDTH);
        assert!(text.starts_with("a=x yy") && text.ends_with('…'), "{text}");
    }

    #[test]
    fn ages_have_one_unit() {
        let check = |ms, text: &str| assert_eq!(age(ms), text);
        check(-5, "0 s");
        check(59_999, "59 s");
        check(60_000, "1 m");
        check(86_399_000, "23 h");
        check(40 * 86_400_000, "40 d");
    }
}
