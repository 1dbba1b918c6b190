//! `drystone rm`: deletes snapshots. What depends on them is not touched; their space comes back with garbage collection.

use super::remote::{RemoteArgs, snapshot};
use super::{advice, print, print_json};
use anyhow::bail;
use clap::Args;
use client::SnapshotId;
use serde::Serialize;

/// Arguments of `drystone rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The snapshots
    #[arg(required = true, value_name = "SNAP", value_parser = snapshot)]
    snapshots: Vec<SnapshotId>,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Default, Serialize)]
struct Answer {
    deleted: Vec<String>,
    failed: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct Failure {
    snapshot_id: String,
    error: String,
}

/// Runs the command: one that cannot be deleted does not keep the others.
pub async fn run(args: RmArgs) -> anyhow::Result<()> {
    let api = args.remote.connect()?;
    let json = args.remote.output.json;
    let mut answer = Answer::default();
    for id in &args.snapshots {
        match api.delete_snapshot(id).await {
            Ok(()) => {
                if !json {
                    print(&format!("{id}\n"))?;
                }
                answer.deleted.push(id.to_string());
            }
            Err(error) => {
                let error = advice::told(&error);
                eprintln!("drystone: {id}: {error}");
                answer.failed.push(Failure {
                    snapshot_id: id.to_string(),
                    error,
                });
            }
        }
    }
    if json {
        print_json(&answer)?;
    }
    match answer.failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} not deleted", args.snapshots.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_this_shape() {
        let answer = Answer {
            deleted: vec!["snap-1".to_owned()],
            failed: vec![Failure {
                snapshot_id: "snap-2".to_owned(),
                error: "no".to_owned(),
            }],
        };
        let shape = serde_json::json!({
            "deleted": ["snap-1"],
            "failed": [{ "snapshot_id": "snap-2", "error": "no" }],
        });
        assert_eq!(serde_json::to_value(answer).expect("JSON"), shape);
    }
}
