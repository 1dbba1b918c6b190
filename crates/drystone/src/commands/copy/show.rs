//! What `drystone copy --dry-run` prints: what would be moved, the calls, and what AWS charges for them.

use super::prices;
use crate::commands::answers::bytes_of;
use crate::commands::figures::bytes;
use client::SnapshotId;
use client::api::Api;
use client::copy::{CopyPlan, Prepared};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A dry run, as programs read it.
#[derive(Debug, Serialize)]
pub struct DryRun {
    source_snapshot_id: String,
    existing_snapshot_id: Option<String>,
    parent_snapshot_id: Option<String>,
    source_parent_snapshot_id: Option<String>,
    data_bytes: u64,
    zeroed_bytes: u64,
    source: Calls,
    destination: Calls,
    prices: &'static str,
    warnings: Vec<String>,
}

/// The calls at one end.
#[derive(Debug, Serialize)]
struct Calls {
    endpoint: String,
    region: String,
    /// Whether AWS charges for them, or only would.
    aws: bool,
    calls: BTreeMap<&'static str, u64>,
    usd: f64,
}

impl Calls {
    fn of(api: &Api, calls: &BTreeMap<&'static str, u64>) -> Calls {
        let endpoint = api.endpoint();
        Calls {
            aws: prices::are_charged_by(&endpoint),
            endpoint,
            region: api.region().to_owned(),
            usd: calls
                .iter()
                .map(|(name, calls)| prices::of(name, *calls))
                .sum(),
            calls: calls.clone(),
        }
    }
}

impl DryRun {
    /// Of a plan.
    pub fn of(from: &Api, to: &Api, prepared: &Prepared, plan: &CopyPlan) -> DryRun {
        let text = SnapshotId::to_string;
        let parent = prepared.parent.as_ref();
        DryRun {
            source_snapshot_id: text(&prepared.source.id),
            existing_snapshot_id: prepared.existing.as_ref().map(text),
            parent_snapshot_id: parent.map(|(_, there)| text(there)),
            source_parent_snapshot_id: parent.map(|(here, _)| text(here)),
            data_bytes: bytes_of(plan.data_blocks),
            zeroed_bytes: bytes_of(plan.zero_blocks),
            source: Calls::of(from, &plan.source_calls),
            destination: Calls::of(to, &plan.destination_calls),
            prices: prices::HOLD_FOR,
            warnings: prepared.warnings.clone(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text)
            .expect("a String takes whatever is written to it");
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        let source = &self.source_snapshot_id;
        if let Some(existing) = &self.existing_snapshot_id {
            return writeln!(
                to,
                "{source} is copied already: {existing}. Nothing would be done."
            );
        }
        match (&self.source_parent_snapshot_id, &self.parent_snapshot_id) {
            (Some(here), Some(there)) => writeln!(
                to,
                "{source} would be copied as what differs from {here}, which is {there} at the destination"
            )?,
            _ => writeln!(to, "{source} would be copied whole")?,
        }
        writeln!(
            to,
            "{} of data, {} of zeros; what the destination holds already would not be moved\n",
            bytes(self.data_bytes),
            bytes(self.zeroed_bytes)
        )?;
        writeln!(
            to,
            "{:<44} {:>12} {:>12} {:>12}",
            "CALLS", "", "A THOUSAND", ""
        )?;
        for (name, calls) in [("source", &self.source), ("destination", &self.destination)] {
            writeln!(to, "{name} {} ({})", calls.endpoint, calls.region)?;
            for (operation, count) in &calls.calls {
                let price = prices::for_a_thousand(operation);
                let price = price.map_or("free".to_owned(), |price| format!("${price}"));
                let charge = dollars(prices::of(operation, *count));
                writeln!(to, "  {operation:<42} {count:>12} {price:>12} {charge:>12}")?;
            }
            let charged = match calls.aws {
                true => "AWS charges",
                false => "is not AWS; there it would cost",
            };
            writeln!(
                to,
                "  {charged:<42} {:>12} {:>12} {:>12}",
                "",
                "",
                dollars(calls.usd)
            )?;
        }
        writeln!(
            to,
            "\nPrices: {}. Storage, and transfer out of AWS, come on top.",
            self.prices
        )
    }
}

/// As many digits as small sums need.
fn dollars(sum: f64) -> String {
    match sum {
        0.0 => "$0".to_owned(),
        sum if sum < 0.01 => format!("${sum:.6}"),
        sum => format!("${sum:.2}"),
    }
}
