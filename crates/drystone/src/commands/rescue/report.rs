//! What a rebuild says when it is done.

use super::credentials::Keys;
use crate::commands::figures::{bytes, counted};
use crate::commands::{DataInDanger, print, print_json};
use engine::rescue::{IncompleteSnapshot, RebuildReport};
use serde::Serialize;
use std::path::PathBuf;

/// How the rebuild ended.
pub enum Outcome {
    /// Nothing was put in place.
    DryRun,
    /// The new catalog is in place.
    Done {
        /// Where what was there before is now.
        archive: PathBuf,
        /// What became of the access keys.
        keys: Keys,
        /// The credentials file.
        credentials: PathBuf,
    },
}

/// The answer of the command.
pub struct Answer {
    report: RebuildReport,
    outcome: Outcome,
}

/// The answer to programs.
#[derive(Serialize)]
struct Json {
    dry_run: bool,
    segments: u64,
    segment_bytes: u64,
    chunks: u64,
    chunk_bytes: u64,
    duplicate_frames: u64,
    damaged_chunks: u64,
    gaps: u64,
    gap_bytes: u64,
    gap_examples: Vec<String>,
    snapshots: u64,
    snapshots_incomplete: u64,
    snapshots_left_out: u64,
    incomplete: Vec<JsonIncomplete>,
    unknown_to_old_catalog: Option<Vec<String>>,
    taken_over: Vec<JsonTaken>,
    old_catalog_refused: Option<String>,
    archive: Option<PathBuf>,
    keys_kept: u64,
    keys_lost: u64,
    key_restored: Option<String>,
    keys_made: Vec<String>,
}

#[derive(Serialize)]
struct JsonIncomplete {
    snapshot: String,
    account: String,
    kept: bool,
    bad_blocks: u64,
    /// First block index and count of each; the first hundred.
    bad: Vec<(u32, u32)>,
    reason: String,
}

#[derive(Serialize)]
struct JsonTaken {
    table: &'static str,
    rows: u64,
    failure: Option<String>,
}

impl Answer {
    /// The answer.
    pub fn new(report: RebuildReport, outcome: Outcome) -> Answer {
        Answer { report, outcome }
    }

    /// Prints it. Data that is lost is an error of its own kind.
    pub fn tell(self, json: bool) -> anyhow::Result<()> {
        let danger = self.danger();
        match json {
            true => print_json(&self.into_json())?,
            false => print(&self.text())?,
        }
        match danger {
            Some(danger) => Err(DataInDanger(danger).into()),
            None => Ok(()),
        }
    }

    fn danger(&self) -> Option<String> {
        let report = &self.report;
        let mut found = Vec::new();
        let kept = report.incomplete_count - report.left_out;
        if kept > 0 {
            let snapshots = counted(kept, "snapshot");
            found.push(format!("{snapshots} with blocks that cannot be read"));
        }
        if report.left_out > 0 {
            let snapshots = counted(report.left_out, "incomplete snapshot");
            found.push(format!(
                "{snapshots} left out (a collection frees what they alone hold; to have them, run the rebuild again with \
                 --keep-incomplete before the server is started)"
            ));
        }
        if report.damaged > 0 {
            found.push(counted(report.damaged, "damaged chunk"));
        }
        (!found.is_empty()).then(|| found.join(", "))
    }

    fn text(&self) -> String {
        let report = &self.report;
        let mut text = match &self.outcome {
            Outcome::DryRun => "Dry run: nothing was put in place.\n".to_owned(),
            Outcome::Done { archive, .. } => format!(
                "A new catalog is in place; what was there before is in {}\n",
                archive.display()
            ),
        };
        let mut line = |name: &str, what: String| {
            text.push_str(&format!("{name:12}  {what}\n"));
        };
        line(
            "segments",
            format!(
                "{} ({})",
                report.segments.count,
                bytes(report.segments.bytes)
            ),
        );
        line(
            "chunks",
            format!(
                "{} ({}), {} of them damaged; {}",
                report.chunks.count,
                bytes(report.chunks.bytes),
                report.damaged,
                counted(report.duplicates, "duplicate frame")
            ),
        );
        line("snapshots", self.snapshots());
        if report.gaps.count > 0 {
            let gaps = counted(report.gaps.count, "place");
            line(
                "no frames",
                format!("{gaps} ({}) that hold none", bytes(report.gaps.bytes)),
            );
        }
        for example in &report.gap_examples {
            line("", example.clone());
        }
        self.old_catalog(&mut line);
        self.keys(&mut line);
        for snapshot in &report.incomplete {
            text.push_str(&incomplete(snapshot));
        }
        text
    }

    fn snapshots(&self) -> String {
        let report = &self.report;
        let mut text = report.snapshots.to_string();
        if let Some(unknown) = report
            .unknown_before
            .as_ref()
            .filter(|found| !found.is_empty())
        {
            let listed: Vec<String> = unknown.iter().take(10).map(ToString::to_string).collect();
            let more = if unknown.len() > listed.len() {
                ", …"
            } else {
                ""
            };
            text.push_str(&format!(
                "; not in the old catalog, so deleted before or newer than it: {}{more}",
                listed.join(", ")
            ));
        } else if report.unknown_before.is_none() && report.snapshots > 0 {
            text.push_str("; some of them may have been deleted before, and came back");
        }
        text
    }

    fn old_catalog(&self, line: &mut impl FnMut(&str, String)) {
        let report = &self.report;
        if let Some(reason) = &report.old_refused {
            line("old catalog", format!("nothing was taken over: {reason}"));
        } else if report.taken_over.is_empty() {
            line(
                "old catalog",
                "there was none to take anything over from".to_owned(),
            );
        }
        for taken in &report.taken_over {
            let mut what = format!("{} of {}", counted(taken.rows, "row"), taken.table);
            if let Some(failure) = &taken.failure {
                what.push_str(&format!(", the others are lost: {failure}"));
            }
            line("taken over", what);
        }
    }

    fn keys(&self, line: &mut impl FnMut(&str, String)) {
        let Outcome::Done {
            keys, credentials, ..
        } = &self.outcome
        else {
            return;
        };
        if keys.lost > 0 {
            let lost = counted(keys.lost, "access key");
            line(
                "keys",
                format!("{lost} cannot be opened with root.key, and are gone"),
            );
        }
        if let Some(id) = &keys.restored {
            line(
                "keys",
                format!(
                    "{id} was restored from {}; if it had been deleted, delete it again: drystone key delete {id}",
                    credentials.display()
                ),
            );
        }
        for (account, id) in &keys.made {
            line(
                "keys",
                format!(
                    "{id} was made for account {account}; its secret is in {}",
                    credentials.display()
                ),
            );
        }
    }

    fn into_json(self) -> Json {
        let report = self.report;
        let (archive, keys, dry_run) = match self.outcome {
            Outcome::DryRun => (None, Keys::default(), true),
            Outcome::Done { archive, keys, .. } => (Some(archive), keys, false),
        };
        Json {
            dry_run,
            segments: report.segments.count,
            segment_bytes: report.segments.bytes,
            chunks: report.chunks.count,
            chunk_bytes: report.chunks.bytes,
            duplicate_frames: report.duplicates,
            damaged_chunks: report.damaged,
            gaps: report.gaps.count,
            gap_bytes: report.gaps.bytes,
            gap_examples: report.gap_examples,
            snapshots: report.snapshots,
            snapshots_incomplete: report.incomplete_count,
            snapshots_left_out: report.left_out,
            incomplete: report.incomplete.iter().map(json_incomplete).collect(),
            unknown_to_old_catalog: report
                .unknown_before
                .map(|ids| ids.iter().map(ToString::to_string).collect()),
            taken_over: report
                .taken_over
                .into_iter()
                .map(|taken| JsonTaken {
                    table: taken.table,
                    rows: taken.rows,
                    failure: taken.failure,
                })
                .collect(),
            old_catalog_refused: report.old_refused,
            archive,
            keys_kept: keys.kept,
            keys_lost: keys.lost,
            key_restored: keys.restored,
            keys_made: keys.made.into_values().collect(),
        }
    }
}

fn json_incomplete(snapshot: &IncompleteSnapshot) -> JsonIncomplete {
    JsonIncomplete {
        snapshot: snapshot.id.to_string(),
        account: snapshot.account.to_string(),
        kept: snapshot.kept,
        bad_blocks: snapshot.bad_blocks,
        bad: snapshot
            .bad
            .iter()
            .map(|bad| (bad.start.get(), bad.count))
            .collect(),
        reason: snapshot.reason.clone(),
    }
}

fn incomplete(snapshot: &IncompleteSnapshot) -> String {
    let extents: Vec<String> = snapshot
        .bad
        .iter()
        .take(10)
        .map(|bad| match bad.count {
            1 => bad.start.get().to_string(),
            count => format!("{}-{}", bad.start.get(), bad.start.get() + (count - 1)),
        })
        .collect();
    let more = if snapshot.bad.len() > extents.len() {
        ", …"
    } else {
        ""
    };
    format!(
        "{}: {} of account {}: {} cannot be read ({}{more}): {}\n",
        if snapshot.kept {
            "incomplete"
        } else {
            "left out"
        },
        snapshot.id,
        snapshot.account,
        counted(snapshot.bad_blocks, "block"),
        extents.join(", "),
        snapshot.reason
    )
}
