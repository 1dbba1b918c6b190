//! `drystone audit`: compares the catalog with what is stored, and changes neither.

use super::{DataInDanger, not_an_answer, print, print_json};
use crate::admin::{
    AuditRequest, Audited, DataArgs, Depth, Kind, LookedAt, Reply, Request, carry_out,
};
use clap::Args;

/// Arguments of `drystone audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// How closely to look: at the catalog and the containers, or also at the header of each frame
    #[arg(long, value_name = "DEPTH", default_value = "catalog")]
    depth: Depth,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    place: DataArgs,
}

/// Runs the command. What only wastes space is told and is no failure: collection gives it back.
pub async fn run(args: AuditArgs) -> anyhow::Result<()> {
    let request = Request::Audit(AuditRequest { depth: args.depth });
    let reply = carry_out(args.place, request, |_| Err(not_an_answer())).await?;
    let Reply::Audited(audited) = reply else {
        return Err(not_an_answer());
    };
    match args.json {
        true => print_json(&audited)?,
        false => print(&table(&audited))?,
    }
    match audited.findings.iter().filter(|kind| kind.grave).count() {
        0 => Ok(()),
        _ => Err(DataInDanger(
            "data is lost or in danger: see docs/operations.md, \"When something is damaged\""
                .to_owned(),
        )
        .into()),
    }
}

fn table(audited: &Audited) -> String {
    let mut text = "Looked at\n".to_owned();
    for LookedAt { what, count } in &audited.looked_at {
        text.push_str(&format!("{count:>12}  {what}\n"));
    }
    text.push_str(match audited.findings.is_empty() {
        true => "All is well.\n",
        false => "\n",
    });
    let width = audited
        .findings
        .iter()
        .map(|finding| finding.kind.len())
        .max();
    let width = width.unwrap_or_default();
    // What matters comes first.
    for grave in [true, false] {
        for finding in audited.findings.iter().filter(|kind| kind.grave == grave) {
            text.push_str(&row(finding, width));
        }
    }
    text
}

fn row(finding: &Kind, width: usize) -> String {
    let weight = match finding.grave {
        true => "GRAVE",
        false => "waste",
    };
    let mut examples = finding.examples.join("; ");
    if finding.count > finding.examples.len() as u64 && !examples.is_empty() {
        examples.push_str("; …");
    }
    format!(
        "{weight}  {:width$}  {:>8}  {examples}\n",
        finding.kind, finding.count
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_take_a_line_each_and_grave_ones_come_first() {
        let finding = |kind: &str, grave, count, example: &str| Kind {
            kind: kind.to_owned(),
            grave,
            count,
            examples: vec![example.to_owned()],
        };
        let mut audited = Audited {
            looked_at: vec![LookedAt {
                what: "snapshots".to_owned(),
                count: 12,
            }],
            findings: vec![
                finding("frame-unnamed", false, 2, "container 3 at 4096"),
                finding(
                    "chunk-missing",
                    true,
                    1,
                    "block 7 of snap-0123456789abcdef0",
                ),
            ],
        };
        assert_eq!(
            table(&audited),
            "Looked at\n          12  snapshots\n\n\
             GRAVE  chunk-missing         1  block 7 of snap-0123456789abcdef0\n\
             waste  frame-unnamed         2  container 3 at 4096; …\n"
        );
        audited.findings.clear();
        assert_eq!(
            table(&audited),
            "Looked at\n          12  snapshots\nAll is well.\n"
        );
    }
}
