//! The numbers of the crates below, under the names that an operator sees.
//!
//! They are read when a scraper asks, so counting costs the crates below an addition and no more.

use catalog::db::Sqlite;
use chunkstore::Histogram;
use engine::Engine;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt::{self, Debug, Error, Formatter};
use std::sync::Arc;

/// Reads what the components count.
pub struct StoreMetrics {
    /// The chunk store's counts.
    pub chunks: Arc<chunkstore::Metrics>,
    /// The catalog.
    pub catalog: Arc<Sqlite>,
    /// The engine, for its buffers and its cache; its other metrics register themselves.
    pub engine: Engine,
}

impl Debug for StoreMetrics {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}

impl Collector for StoreMetrics {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), Error> {
        self.chunk_store(&mut to)?;
        self.catalog(&mut to)?;
        self.memory(&mut to)
    }
}

impl StoreMetrics {
    fn chunk_store(&self, to: &mut DescriptorEncoder) -> Result<(), Error> {
        let counts = &self.chunks;
        for (name, help, value) in [
            (
                "chunks_frames_written",
                "Frames made durable",
                counts.frames.get(),
            ),
            (
                "chunks_written_bytes",
                "Bytes written to segments, headers included",
                counts.written_bytes.get(),
            ),
            (
                "chunks_codec_saved_bytes",
                "Bytes saved by compression",
                counts.codec_saved_bytes.get(),
            ),
            (
                "chunks_batches_failed",
                "Batches that failed",
                counts.batches_failed.get(),
            ),
            (
                "chunks_segments_failed",
                "Segments closed by a failed write or sync",
                counts.segments_failed.get(),
            ),
            (
                "chunks_read",
                "Chunks read and verified",
                counts.reads.get(),
            ),
            (
                "chunks_read_bytes",
                "Bytes of frames read",
                counts.read_bytes.get(),
            ),
            (
                "chunks_corrupt_reads",
                "Reads that met a failed check",
                counts.reads_corrupt.get(),
            ),
            (
                "chunks_freed_bytes",
                "Bytes given back to the file system",
                counts.freed_bytes.get(),
            ),
        ] {
            counter(to, name, help, value)?;
        }
        gauge(
            to,
            "chunks_queued_frames",
            "Frames that wait for a writer",
            counts.queued_frames_now.get(),
        )?;
        histogram(
            to,
            "chunks_batch_frames",
            "Frames synced together",
            &counts.batch_frames,
            1.0,
        )?;
        histogram(
            to,
            "chunks_sync_seconds",
            "Time of each sync of a batch",
            &counts.sync_micros,
            1e-6,
        )
    }

    fn catalog(&self, to: &mut DescriptorEncoder) -> Result<(), Error> {
        let counts = self.catalog.counts();
        counter(
            to,
            "catalog_commits",
            "Transactions committed, each with a sync",
            counts.commits,
        )?;
        counter(
            to,
            "catalog_bodies",
            "Units of work in those transactions",
            counts.bodies,
        )?;
        counter(
            to,
            "catalog_checkpoints",
            "Checkpoints of the write-ahead log",
            counts.checkpoints,
        )?;
        gauge(
            to,
            "catalog_waiting_writes",
            "Writes that wait for the writer",
            counts.waiting_writes,
        )
    }

    fn memory(&self, to: &mut DescriptorEncoder) -> Result<(), Error> {
        let buffers = self.engine.buffers();
        gauge(
            to,
            "buffers_in_use",
            "Block buffers in use",
            buffers.in_use() as u64,
        )?;
        let pages = self.engine.page_cache();
        counter(
            to,
            "page_cache_hits",
            "Pages found in the cache",
            pages.hits(),
        )?;
        counter(
            to,
            "page_cache_misses",
            "Pages read from the store",
            pages.misses(),
        )?;
        gauge(
            to,
            "page_cache_bytes",
            "Memory of the page cache",
            pages.bytes() as u64,
        )
    }
}

pub(super) fn counter(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), Error> {
    let metric = ConstCounter::new(value);
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

pub(super) fn gauge(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), Error> {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Buckets end at powers of two, of which `scale` makes the unit of the metric.
fn histogram(
    to: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    seen: &Histogram,
    scale: f64,
) -> Result<(), Error> {
    let mut buckets: Vec<(f64, u64)> = seen
        .buckets()
        .map(|(bound, count)| (bound as f64 * scale, count))
        .collect();
    // The last one also holds everything larger.
    if let Some((bound, _)) = buckets.last_mut() {
        *bound = f64::MAX;
    }
    let count = buckets.iter().map(|(_, count)| count).sum();
    let mut encoder = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    encoder.encode_histogram::<NoLabelSet>(seen.sum() as f64 * scale, count, &buckets, None)
}
