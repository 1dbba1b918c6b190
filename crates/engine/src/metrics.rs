//! What the engine counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The engine's counters; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Blocks whose put was acknowledged.
    pub blocks_put: Counter,
    /// Of these, blocks of zeros, which store nothing.
    pub zero_blocks: Counter,
    /// Of these, blocks whose chunk was already there.
    pub dedup_hits: Counter,
    /// Of all blocks put, those that were named by their digest alone.
    pub by_digest_hits: Counter,
    /// Puts by digest that were told to send the data.
    pub by_digest_misses: Counter,
    /// Blocks read.
    pub blocks_read: Counter,
    /// Puts in one catalog transaction.
    pub put_batch: Histogram,
    /// Puts that wait for their transaction or are in one.
    pub puts_waiting: Gauge,
    /// Snapshots completed.
    pub snapshots_completed: Counter,
    /// Snapshots that failed: timeout, wrong count or checksum.
    pub snapshots_failed: Counter,
    /// Snapshots deleted.
    pub snapshots_deleted: Counter,
    /// Puts refused because the disk is full, but for the reserve.
    pub puts_without_space: Counter,
    /// Attempts of the finisher that failed and will be made again. Anything but 0 deserves a look.
    pub finisher_retries: Counter,
    /// Chunks found damaged.
    pub damaged_chunks: Counter,
    /// Gets that are under way.
    pub gets_under_way: Gauge,
    /// Collection cycles that came to their end.
    pub collections: Counter,
    /// Collection cycles that ended early. Anything but 0 deserves a look.
    pub collections_failed: Counter,
    /// Chunks condemned.
    pub condemned_chunks: Counter,
    /// Chunks whose record a collection deleted.
    pub swept_chunks: Counter,
    /// Condemned chunks that a mark found in use. Anything but 0 is a fault of the program.
    pub revived_chunks: Counter,
    /// Chunks copied out of containers that were mostly garbage.
    pub moved_chunks: Counter,
    /// Containers removed.
    pub removed_containers: Counter,
    /// Containers that could not be given back and will be tried again. Anything but 0 deserves a look.
    pub reclaims_failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            blocks_put: Counter::default(),
            zero_blocks: Counter::default(),
            dedup_hits: Counter::default(),
            by_digest_hits: Counter::default(),
            by_digest_misses: Counter::default(),
            blocks_read: Counter::default(),
            put_batch: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            puts_waiting: Gauge::default(),
            snapshots_completed: Counter::default(),
            snapshots_failed: Counter::default(),
            snapshots_deleted: Counter::default(),
            puts_without_space: Counter::default(),
            finisher_retries: Counter::default(),
            damaged_chunks: Counter::default(),
            gets_under_way: Gauge::default(),
            collections: Counter::default(),
            collections_failed: Counter::default(),
            condemned_chunks: Counter::default(),
            swept_chunks: Counter::default(),
            revived_chunks: Counter::default(),
            moved_chunks: Counter::default(),
            removed_containers: Counter::default(),
            reclaims_failed: Counter::default(),
        }
    }
}

impl Metrics {
    /// Makes everything visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("blocks_put", "Blocks put", self.blocks_put.clone());
        registry.register(
            "zero_blocks_put",
            "Blocks of zeros put",
            self.zero_blocks.clone(),
        );
        registry.register(
            "dedup_hits",
            "Puts of content that was stored",
            self.dedup_hits.clone(),
        );
        registry.register(
            "by_digest_hits",
            "Blocks put by digest alone",
            self.by_digest_hits.clone(),
        );
        registry.register(
            "by_digest_misses",
            "Puts by digest that were told to send the data",
            self.by_digest_misses.clone(),
        );
        registry.register("blocks_read", "Blocks read", self.blocks_read.clone());
        registry.register(
            "put_batch_size",
            "Puts per transaction",
            self.put_batch.clone(),
        );
        registry.register(
            "puts_waiting",
            "Puts waiting for a commit",
            self.puts_waiting.clone(),
        );
        registry.register(
            "snapshots_completed",
            "Snapshots completed",
            self.snapshots_completed.clone(),
        );
        registry.register(
            "snapshots_failed",
            "Snapshots failed",
            self.snapshots_failed.clone(),
        );
        registry.register(
            "snapshots_deleted",
            "Snapshots deleted",
            self.snapshots_deleted.clone(),
        );
        registry.register(
            "puts_without_space",
            "Puts refused for lack of space",
            self.puts_without_space.clone(),
        );
        registry.register(
            "finisher_retries",
            "Failed attempts to finish a snapshot",
            self.finisher_retries.clone(),
        );
        registry.register(
            "damaged_chunks",
            "Chunks found damaged",
            self.damaged_chunks.clone(),
        );
        registry.register(
            "gets_under_way",
            "Gets that are under way",
            self.gets_under_way.clone(),
        );
        registry.register(
            "collections",
            "Collection cycles that came to their end",
            self.collections.clone(),
        );
        registry.register(
            "collections_failed",
            "Collection cycles that ended early",
            self.collections_failed.clone(),
        );
        registry.register(
            "condemned_chunks",
            "Chunks condemned",
            self.condemned_chunks.clone(),
        );
        registry.register(
            "swept_chunks",
            "Chunks whose record a collection deleted",
            self.swept_chunks.clone(),
        );
        registry.register(
            "revived_chunks",
            "Condemned chunks that a mark found in use",
            self.revived_chunks.clone(),
        );
        registry.register(
            "moved_chunks",
            "Chunks copied out of containers that were mostly garbage",
            self.moved_chunks.clone(),
        );
        registry.register(
            "removed_containers",
            "Containers removed",
            self.removed_containers.clone(),
        );
        registry.register(
            "reclaims_failed",
            "Containers that could not be given back yet",
            self.reclaims_failed.clone(),
        );
    }
}
