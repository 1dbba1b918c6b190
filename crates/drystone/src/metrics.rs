//! What the server counts about itself, in the text form of Prometheus.
//!
//! The HTTP side is counted here. The crates below count with plain numbers of their own; `metrics/store.rs` names them.
//! `metrics/health.rs` has what an operator sets alarms on: garbage, damage, space.

mod admission;
mod health;
mod store;

pub use admission::AdmissionMetrics;
pub use health::{HealthMetrics, StoreHealth};
pub use store::StoreMetrics;

use anyhow::Context;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// Upper bounds of the latency buckets in seconds: a cached read takes about 1 ms, a durable put a few, a stall a minute.
const LATENCY_BUCKETS: [f64; 15] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 4.0, 16.0, 64.0,
];

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry with a prefix of ours.
    pub fn new() -> Metrics {
        Metrics {
            registry: Registry::with_prefix("drystone"),
        }
    }

    /// The registry, to add to.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Everything, as a scraper reads it.
    pub fn text(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .context("the metrics cannot be written")?;
        Ok(text)
    }
}

/// The counts of the HTTP side.
#[derive(Debug)]
pub struct HttpMetrics {
    requests: Family<Outcome, Counter>,
    seconds: Family<Operation, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    connections: Gauge,
    received: Counter,
    sent: Counter,
    refused: Family<Code, Counter>,
    crowded_out: Family<Reason, Counter>,
    cut: Family<Reason, Counter>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Outcome {
    operation: &'static str,
    status: u16,
    code: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

impl HttpMetrics {
    /// Fresh counts, named in `registry`.
    pub fn register(registry: &mut Registry) -> HttpMetrics {
        let metrics = HttpMetrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            refused: Family::default(),
            crowded_out: Family::default(),
            cut: Family::default(),
        };
        let HttpMetrics {
            requests,
            seconds,
            in_flight,
            connections,
            received,
            sent,
            refused,
            crowded_out,
            cut,
        } = &metrics;
        registry.register(
            "requests",
            "Requests answered, by operation and outcome",
            requests.clone(),
        );
        registry.register_with_unit(
            "request",
            "Time from the head of a request to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests under way",
            in_flight.clone(),
        );
        registry.register("connections", "Connections open", connections.clone());
        registry.register_with_unit(
            "received",
            "Bytes read from clients",
            Unit::Bytes,
            received.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Bytes written to clients",
            Unit::Bytes,
            sent.clone(),
        );
        registry.register(
            "unreadable_requests",
            "Requests that are not valid HTTP",
            refused.clone(),
        );
        registry.register(
            "connections_crowded_out",
            "Connections beyond the limit, told to come again or dropped",
            crowded_out.clone(),
        );
        registry.register(
            "connections_cut",
            "Connections ended because their client was too slow, or idle while others waited",
            cut.clone(),
        );
        metrics
    }

    /// A request is under way until the value is dropped.
    pub fn request(&self) -> InProgress {
        InProgress::new(&self.in_flight)
    }

    /// A connection is open until the value is dropped.
    pub fn connection(&self) -> InProgress {
        InProgress::new(&self.connections)
    }

    /// A request was answered.
    pub fn answered(
        &self,
        operation: &'static str,
        status: u16,
        code: &'static str,
        took: Duration,
    ) {
        self.requests
            .get_or_create_owned(&Outcome {
                operation,
                status,
                code,
            })
            .inc();
        self.seconds
            .get_or_create_owned(&Operation { operation })
            .observe(took.as_secs_f64());
    }

    /// A request could not be read.
    pub fn refused(&self, code: &'static str) {
        self.refused.get_or_create(&Code { code }).inc();
    }

    /// A client found no place.
    pub fn crowded_out(&self, reason: &'static str) {
        self.crowded_out.get_or_create(&Reason { reason }).inc();
    }

    /// A connection was ended on its client.
    pub fn cut(&self, reason: &'static str) {
        self.cut.get_or_create(&Reason { reason }).inc();
    }

    /// Bytes came in.
    pub fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// Bytes went out.
    pub fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }
}

/// Something that a gauge counts while it lasts.
#[derive(Debug)]
pub struct InProgress(Gauge);

impl InProgress {
    fn new(gauge: &Gauge) -> InProgress {
        gauge.inc();
        InProgress(gauge.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_was_counted() {
        let mut metrics = Metrics::new();
        let http = HttpMetrics::register(metrics.registry());
        let open = http.connection();
        http.answered("get_snapshot_block", 200, "", Duration::from_millis(3));
        http.answered(
            "get_snapshot_block",
            404,
            "ResourceNotFoundException",
            Duration::ZERO,
        );
        http.received(7);
        http.refused("MalformedHttpRequestException");
        let text = metrics.text().expect("it is text");
        for line in [
            "drystone_requests_total{operation=\"get_snapshot_block\",status=\"200\",code=\"\"} 1",
            "drystone_request_seconds_count{operation=\"get_snapshot_block\"} 2",
            "drystone_request_seconds_bucket{le=\"0.004\",operation=\"get_snapshot_block\"} 2",
            "drystone_connections 1",
            "drystone_received_bytes_total 7",
            "drystone_unreadable_requests_total{code=\"MalformedHttpRequestException\"} 1",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        drop(open);
        assert!(
            metrics
                .text()
                .expect("it is text")
                .contains("drystone_connections 0")
        );
    }
}
