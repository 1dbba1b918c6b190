//! `drystone show`: all that a server tells of one snapshot.

use super::advice::printable;
use super::answers::Snapshot;
use super::figures::bytes;
use super::remote::{RemoteArgs, snapshot};
use super::{print, print_json};
use anyhow::Context;
use clap::Args;
use client::SnapshotId;
use client::api::Which;

/// Arguments of `drystone show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The snapshot
    #[arg(value_parser = snapshot)]
    snapshot: SnapshotId,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: ShowArgs) -> anyhow::Result<()> {
    let api = args.remote.connect()?;
    let mut found = None;
    let which = Which::Ids(vec![args.snapshot.clone()]);
    api.describe_snapshots(&which, &mut |told| found = Some(told))
        .await?;
    let found = found.with_context(|| format!("the server told nothing of {}", args.snapshot))?;
    let shape = Snapshot::from(found);
    match args.remote.output.json {
        true => print_json(&shape),
        false => print(&lines(&shape)),
    }
}

/// A line for each thing that is known; what others wrote is printed without what terminals obey.
fn lines(snapshot: &Snapshot) -> String {
    let size = |count: Option<u64>| count.map(|count| format!("{} ({count} bytes)", bytes(count)));
    let text = |word: &Option<String>| word.as_deref().map(printable);
    let state = match &snapshot.state_message {
        Some(message) => format!("{}: {message}", snapshot.state),
        None => snapshot.state.clone(),
    };
    let tags: Vec<String> = snapshot
        .tags
        .iter()
        .map(|(key, value)| printable(&format!("{key}={value}")))
        .collect();
    let nothing = |words: String| Some(words).filter(|words| !words.is_empty());
    let encryption = match (&snapshot.kms_key_arn, snapshot.encrypted) {
        (Some(key), _) => format!("with {}", printable(key)),
        (None, true) => "yes".to_owned(),
        (None, false) => "no".to_owned(),
    };
    [
        ("snapshot", Some(snapshot.snapshot_id.clone())),
        ("state", Some(printable(&state))),
        ("progress", text(&snapshot.progress)),
        ("description", nothing(printable(&snapshot.description))),
        ("started", text(&snapshot.start_time)),
        ("completed", text(&snapshot.completion_time)),
        ("owner", Some(printable(&snapshot.owner_id))),
        ("size", size(snapshot.volume_size)),
        ("data", size(snapshot.full_bytes)),
        ("unique", size(snapshot.unique_bytes)),
        ("shared", size(snapshot.shared_bytes)),
        ("as of", text(&snapshot.usage_time)),
        ("parent", text(&snapshot.parent_snapshot_id)),
        ("root digest", text(&snapshot.root_digest)),
        ("encrypted", Some(encryption)),
        ("tags", nothing(tags.join("\n             "))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!("{name:11}  {}\n", value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_line() {
        let snapshot = Snapshot {
            snapshot_id: "snap-1".to_owned(),
            state: "error".to_owned(),
            state_message: Some("too few\x1bblocks".to_owned()),
            progress: None,
            start_time: Some("2026-11-18T15:46:40.000Z".to_owned()),
            completion_time: None,
            owner_id: "123456789012".to_owned(),
            description: String::new(),
            volume_size: Some(8 << 30),
            full_bytes: None,
            unique_bytes: None,
            shared_bytes: None,
            usage_time: None,
            parent_snapshot_id: None,
            root_digest: None,
            encrypted: false,
            kms_key_arn: None,
            tags: [("a", "1"), ("b", "\n2")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        assert_eq!(
            lines(&snapshot),
            "snapshot     snap-1\n\
             state        error: too few blocks\n\
             started      2026-11-18T15:46:40.000Z\n\
             owner        123456789012\n\
             size         8.0 GiB (8589934592 bytes)\n\
             encrypted    no\n\
             tags         a=1\n\
             \x20            b= 2\n"
        );
    }
}
