//! What the steps of a demo took: a row is printed when its step has ended.

use crate::commands::figures::{bytes, duration};
use crate::commands::print;
use serde::Serialize;
use std::time::Duration;

/// The steps so far.
#[derive(Debug, Serialize)]
pub struct Table {
    steps: Vec<Step>,
    /// Nothing is printed before the end.
    #[serde(skip)]
    silent: bool,
}

/// A step.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Step {
    /// What was done.
    pub step: String,
    /// The snapshot that was made, if any.
    pub snapshot: Option<String>,
    /// How long that took.
    pub took_ms: u64,
    /// Bytes of the disk that were read here, if any.
    pub read_bytes: Option<u64>,
    /// Bytes of block data that went over the wire, in either direction.
    pub wire_bytes: Option<u64>,
    /// What the store holds now for its snapshots.
    pub stored_bytes: Option<u64>,
    /// Bytes of the image that the step dealt with, a second.
    pub rate: Option<u64>,
    /// What came of it, in words, where the rate does not say it.
    pub result: Option<String>,
}

impl Step {
    /// A step that dealt with so many bytes of the image.
    pub fn of(step: impl Into<String>, took: Duration, image_bytes: Option<u64>) -> Step {
        let rate = |bytes: u64| (bytes as f64 / took.as_secs_f64().max(1e-6)) as u64;
        Step {
            step: step.into(),
            snapshot: None,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            read_bytes: None,
            wire_bytes: None,
            stored_bytes: None,
            rate: image_bytes.map(rate),
            result: None,
        }
    }

    fn line(&self) -> String {
        let size = |count: Option<u64>| count.map(bytes).unwrap_or_default();
        let rate = self.rate.map(|rate| format!("at {}/s", bytes(rate)));
        let line = row([
            &self.step,
            &duration(self.took_ms),
            &size(self.read_bytes),
            &size(self.wire_bytes),
            &size(self.stored_bytes),
            self.result
                .as_ref()
                .or(rate.as_ref())
                .map_or("", String::as_str),
        ]);
        line.trim_end().to_owned() + "\n"
    }
}

/// Narrow enough for a terminal of 80 columns.
fn row([step, took, read, wire, stored, outcome]: [&str; 6]) -> String {
    format!("{step:<22}{took:>8}{read:>11}{wire:>11}{stored:>11}  {outcome}")
}

impl Table {
    /// Without rows.
    pub fn new(silent: bool) -> Table {
        Table {
            steps: Vec::new(),
            silent,
        }
    }

    /// A line of the story.
    pub fn say(&self, text: &str) -> anyhow::Result<()> {
        match self.silent {
            true => Ok(()),
            false => print(&format!("{text}\n")),
        }
    }

    /// A step that has ended.
    pub fn add(&mut self, step: Step) -> anyhow::Result<()> {
        if !self.silent {
            if self.steps.is_empty() {
                let head = row(["STEP", "TIME", "READ", "WIRE", "STORED", ""]);
                print(&format!("\n{}\n", head.trim_end()))?;
            }
            print(&step.line())?;
        }
        self.steps.push(step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_line() {
        let step = Step {
            read_bytes: Some(160 << 20),
            wire_bytes: Some(129 << 20),
            stored_bytes: Some(130 << 20),
            ..Step::of("upload", Duration::from_millis(500), Some(256 << 20))
        };
        assert_eq!(
            step.line(),
            "upload                  500 ms  160.0 MiB  129.0 MiB  130.0 MiB  at 512.0 MiB/s\n"
        );
        let step = Step {
            result: Some("equal".to_owned()),
            ..Step::of("compare", Duration::ZERO, None)
        };
        assert!(step.line().ends_with("  equal\n"), "{:?}", step.line());
    }
}
