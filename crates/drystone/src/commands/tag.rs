//! `drystone tag`: sets and removes tags of a snapshot.

use super::remote::{RemoteArgs, snapshot, tag, tags};
use super::{WrongArguments, print_json};
use anyhow::bail;
use clap::Args;
use client::SnapshotId;
use serde::Serialize;
use std::collections::BTreeMap;

/// Arguments of `drystone tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// The snapshot
    #[arg(value_parser = snapshot)]
    snapshot: SnapshotId,

    /// Tags to set
    #[arg(value_name = "KEY=VALUE", value_parser = tag, required_unless_present = "remove")]
    set: Vec<(String, String)>,

    /// A tag to remove; may be repeated
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    snapshot_id: &'a str,
    set: &'a BTreeMap<String, String>,
    removed: &'a [String],
}

/// Runs the command.
pub async fn run(args: TagArgs) -> anyhow::Result<()> {
    let set = tags(&args.set)?;
    if let Some(both) = args.remove.iter().find(|key| set.contains_key(*key)) {
        bail!(WrongArguments(format!("`{both}` is to be set and removed")));
    }
    let api = args.remote.connect()?;
    let ids = [args.snapshot.clone()];
    if !args.remove.is_empty() {
        api.delete_tags(&ids, &args.remove).await?;
    }
    if !set.is_empty() {
        api.create_tags(&ids, &set).await?;
    }
    match args.remote.output.json {
        true => print_json(&Answer {
            snapshot_id: args.snapshot.as_str(),
            set: &set,
            removed: &args.remove,
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_this_shape() {
        let answer = Answer {
            snapshot_id: "snap-1",
            set: &[("a".to_owned(), "1".to_owned())].into(),
            removed: &["b".to_owned()],
        };
        let shape = serde_json::json!({
            "snapshot_id": "snap-1",
            "set": { "a": "1" },
            "removed": ["b"],
        });
        assert_eq!(serde_json::to_value(answer).expect("JSON"), shape);
    }
}
