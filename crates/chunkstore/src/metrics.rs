//! What a store counts about itself. The binary reads these numbers and names them for its monitoring.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that is added to from many threads. It orders nothing else.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }
}

/// Buckets of a [`Histogram`].
const BUCKETS: usize = 32;

/// How often values of each size were seen: bucket `i` counts those below 2^`i` and not below 2^(`i`-1).
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [Count; BUCKETS],
    sum: Count,
}

impl Histogram {
    /// The buckets as (exclusive upper bound, values seen), smallest first; larger values are in the last one.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets
            .iter()
            .enumerate()
            .map(|(power, count)| (1 << power, count.get()))
    }

    /// Number of values seen.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Count::get).sum()
    }

    /// Sum of the values seen.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    pub(crate) fn see(&self, value: u64) {
        let power = (u64::BITS - value.leading_zeros()) as usize;
        self.buckets[power.min(BUCKETS - 1)].add(1);
        self.sum.add(value);
    }

    pub(crate) fn see_micros(&self, duration: Duration) {
        self.see(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The numbers of one store. Counters only grow, except the gauges named `now`.
#[derive(Default, Debug)]
pub struct Metrics {
    /// Bytes written to segments or objects, headers and padding included.
    pub written_bytes: Count,
    /// Frames made durable.
    pub frames: Count,
    /// Bytes saved by compression, before padding.
    pub codec_saved_bytes: Count,
    /// Frames in each batch that was written and synced together.
    pub batch_frames: Histogram,
    /// Microseconds each sync of a batch took.
    pub sync_micros: Histogram,
    /// Batches that failed, for whatever reason.
    pub batches_failed: Count,
    /// Segments closed because a write or a sync failed.
    pub segments_failed: Count,
    /// Frames that wait for a writer.
    pub queued_frames_now: Count,
    /// Chunks read and verified.
    pub reads: Count,
    /// Bytes of frames read.
    pub read_bytes: Count,
    /// Reads that met bytes which failed a check.
    pub reads_corrupt: Count,
    /// Bytes given back by punching holes or removing containers.
    pub freed_bytes: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_below_their_bound() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, u64::MAX >> 20, 1 << 40] {
            histogram.see(value);
        }
        let seen: Vec<(u64, u64)> = histogram.buckets().filter(|(_, seen)| *seen > 0).collect();
        assert_eq!(seen, [(1, 1), (2, 1), (4, 2), (8, 1), (1 << 31, 2)]);
        assert_eq!(histogram.count(), 7);
    }
}
