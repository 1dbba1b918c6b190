//! What requests were admitted to, and what became of those for which there was no room.

use engine::{Admission, AdmissionCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt::Error;

/// Reads the counts of bounded resources.
#[derive(Debug)]
pub struct AdmissionMetrics {
    /// Each by its name.
    pub resources: Vec<(&'static str, Admission)>,
}

impl Collector for AdmissionMetrics {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), Error> {
        let counts: Vec<(&str, AdmissionCounts)> = self
            .resources
            .iter()
            .map(|(name, resource)| (*name, resource.counts()))
            .collect();
        gauges(
            &mut to,
            "admission_in_use",
            "Units held now, by what they are of",
            counts.iter().map(|(name, counts)| (*name, counts.in_use)),
        )?;
        gauges(
            &mut to,
            "admission_waiting",
            "Requests that wait for units now",
            counts.iter().map(|(name, counts)| (*name, counts.waiting)),
        )?;
        for (name, help, values) in [
            (
                "admitted",
                "Requests admitted",
                Vec::from([("", of(&counts, |counts| counts.admitted))]),
            ),
            (
                "admission_waits",
                "Requests admitted after a wait",
                Vec::from([("", of(&counts, |counts| counts.waited))]),
            ),
            (
                "throttled",
                "Requests refused for want of room",
                Vec::from([
                    ("line_full", of(&counts, |counts| counts.refused_line_full)),
                    ("too_late", of(&counts, |counts| counts.refused_too_late)),
                ]),
            ),
            (
                "transfers_cut",
                "Clients cut off because others waited",
                Vec::from([
                    ("silent", of(&counts, |counts| counts.cut_silent)),
                    ("slowest", of(&counts, |counts| counts.cut_slowest)),
                ]),
            ),
        ] {
            counters(&mut to, name, help, &values)?;
        }
        Ok(())
    }
}

type Values = Vec<(&'static str, u64)>;

fn of(counts: &[(&'static str, AdmissionCounts)], value: fn(&AdmissionCounts) -> u64) -> Values {
    counts
        .iter()
        .map(|(name, counts)| (*name, value(counts)))
        .collect()
}

fn gauges<'a>(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'a str, u64)>,
) -> Result<(), Error> {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (resource, value) in values {
        let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        metric.encode(family.encode_family(&[("of", resource)])?)?;
    }
    Ok(())
}

/// Counters by resource, and by reason where there is one.
fn counters(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    reasons: &[(&'static str, Values)],
) -> Result<(), Error> {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, values) in reasons {
        for (resource, value) in values {
            let metric = ConstCounter::new(*value);
            match *reason {
                "" => metric.encode(family.encode_family(&[("of", *resource)])?)?,
                reason => metric
                    .encode(family.encode_family(&[("of", *resource), ("reason", reason)])?)?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use engine::AdmissionLimits;
    use std::sync::Arc;
    use types::SystemClock;

    #[tokio::test]
    async fn the_text_names_the_resource_and_the_reason() {
        let clock = Arc::new(SystemClock::new());
        let blocks = Admission::new(AdmissionLimits::fair(4, 0), clock);
        let _held = blocks.admit("a", 3).await.expect("there is room");
        assert!(blocks.admit("a", 1).await.is_err());
        let mut metrics = Metrics::new();
        metrics
            .registry()
            .register_collector(Box::new(AdmissionMetrics {
                resources: Vec::from([("blocks", blocks)]),
            }));
        let text = metrics.text().expect("it is text");
        for line in [
            "drystone_admission_in_use{of=\"blocks\"} 3",
            "drystone_admission_waiting{of=\"blocks\"} 0",
            "drystone_admitted_total{of=\"blocks\"} 1",
            "drystone_throttled_total{of=\"blocks\",reason=\"line_full\"} 1",
            "drystone_transfers_cut_total{of=\"blocks\",reason=\"silent\"} 0",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
    }
}
