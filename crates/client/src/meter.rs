//! Counts what is going on: one meter for each transfer, read by whoever shows progress and by the final report.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of the latency histogram: eight to a factor of two, from 64 µs to over an hour.
const BUCKETS: usize = 8 * 26;

/// Counters of one transfer; everyone in it holds the same.
#[derive(Debug)]
pub struct Meter {
    counters: [AtomicU64; Counter::COUNT],
    latencies: [AtomicU64; BUCKETS],
}

/// What is counted; units are blocks unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Blocks to look at in all, where that is known: of the source, or listed.
    Total,
    /// Blocks done with, moved or skipped: `Total` at the end.
    Done,
    /// Skipped: holes and zeros that need nothing.
    Zero,
    /// Skipped: equal to the parent, the base, or what an earlier attempt moved.
    Same,
    /// Moved with their data.
    Moved,
    /// Put without their data, by digest.
    ByDigest,
    /// Put or written as zeros.
    Zeroed,
    /// Lost on the server.
    Bad,
    /// Bytes of block data sent or received, repeats included.
    Bytes,
    /// Requests sent, repeats included.
    Requests,
    /// Requests repeated.
    Retries,
    /// Of these, because of throttling.
    Throttled,
    /// Requests on the way now.
    InFlight,
    /// Most requests allowed on the way now.
    InFlightLimit,
}

impl Counter {
    const COUNT: usize = Counter::InFlightLimit as usize + 1;
}

impl Meter {
    /// All zero.
    pub fn new() -> Meter {
        Meter {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            latencies: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, count: u64) {
        self.counters[counter as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Takes away from a counter.
    pub fn sub(&self, counter: Counter, count: u64) {
        self.counters[counter as usize].fetch_sub(count, Ordering::Relaxed);
    }

    /// Sets a counter.
    pub fn set(&self, counter: Counter, value: u64) {
        self.counters[counter as usize].store(value, Ordering::Relaxed);
    }

    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Notes how long a request for one block took, from its first attempt to its answer.
    pub fn took(&self, time: Duration) {
        self.latencies[bucket(time)].fetch_add(1, Ordering::Relaxed);
    }

    /// Everything, now.
    pub fn read(&self) -> Reading {
        let counts = self
            .latencies
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        let of = |counter| self.get(counter);
        Reading {
            total: of(Counter::Total),
            done: of(Counter::Done),
            zero: of(Counter::Zero),
            same: of(Counter::Same),
            moved: of(Counter::Moved),
            by_digest: of(Counter::ByDigest),
            zeroed: of(Counter::Zeroed),
            bad: of(Counter::Bad),
            bytes: of(Counter::Bytes),
            requests: of(Counter::Requests),
            retries: of(Counter::Retries),
            throttled: of(Counter::Throttled),
            in_flight: of(Counter::InFlight),
            in_flight_limit: of(Counter::InFlightLimit),
            p50: quantile(&counts, 0.50),
            p99: quantile(&counts, 0.99),
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Meter::new()
    }
}

/// What a [`Meter`] showed; see [`Counter`] for the meaning of each.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[allow(missing_docs, reason = "the names are those of Counter")]
pub struct Reading {
    pub total: u64,
    pub done: u64,
    pub zero: u64,
    pub same: u64,
    pub moved: u64,
    pub by_digest: u64,
    pub zeroed: u64,
    pub bad: u64,
    pub bytes: u64,
    pub requests: u64,
    pub retries: u64,
    pub throttled: u64,
    pub in_flight: u64,
    pub in_flight_limit: u64,
    /// Half of the block requests took no longer.
    pub p50: Option<Duration>,
    /// All but a hundredth of them took no longer.
    pub p99: Option<Duration>,
}

fn bucket(time: Duration) -> usize {
    let units = time.as_micros() as f64 / 64.0;
    let position = (units.max(1.0).log2() * 8.0) as usize;
    position.min(BUCKETS - 1)
}

/// The upper bound of the bucket in which the quantile lies.
fn quantile(counts: &[u64; BUCKETS], part: f64) -> Option<Duration> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = (all as f64 * part).ceil() as u64;
    let mut seen = 0;
    let position = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    })?;
    let micros = 64.0 * ((position + 1) as f64 / 8.0).exp2();
    Some(Duration::from_micros(micros as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let meter = Meter::new();
        assert_eq!(meter.read().p50, None);
        for millis in 1..=100 {
            meter.took(Duration::from_millis(millis));
        }
        let check = |found: Option<Duration>, truth: f64| {
            let found = found.expect("a quantile").as_secs_f64() * 1e3;
            assert!((truth..truth * 1.1).contains(&found), "{found} for {truth}");
        };
        check(meter.read().p50, 50.0);
        check(meter.read().p99, 99.0);
    }

    #[test]
    fn the_extremes_have_buckets() {
        let meter = Meter::new();
        meter.took(Duration::ZERO);
        meter.took(Duration::from_secs(1 << 30));
        assert!(meter.read().p99.is_some());
    }
}
