//! The verbs of Drystone, one file each, over a catalog and a chunk store.
//!
//! The engine knows no HTTP, no names of AWS, no tokens (DESIGN 2.3, 7). It decides who may do what to which snapshot, in
//! transactions of the catalog; it keeps the order "chunk durable, then record" (DESIGN 2.3, 1); and it runs the
//! workers that finish, expire and clean up. `docs/concurrency.md` says what makes each pair of operations safe.

mod admission;
mod audit;
mod batcher;
mod cache;
mod complete_snapshot;
mod containers;
mod delete_snapshot;
mod describe_snapshots;
mod error;
mod expiry;
mod filter;
mod finisher;
mod frees;
mod gc;
mod get_block;
mod hashing;
mod limits;
mod list_blocks;
mod list_changed_blocks;
mod metrics;
mod pages;
mod purge;
mod put_batch;
mod put_block;
mod put_by_digest;
mod recovery;
mod references;
pub mod rescue;
mod scrub;
mod snapshot_frame;
mod sorter;
mod start_snapshot;
mod tags;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod touched;
mod worker;

pub use admission::{Admission, AdmissionCounts, AdmissionLimits, Admitted, Refused, Transfer};
pub use audit::{AuditDepth, AuditOptions, AuditReport, Finding, audit};
pub use chunkstore::{AlignedBuf, BufferPool};
pub use complete_snapshot::CompleteSnapshot;
pub use containers::ContainerCatalog;
pub use describe_snapshots::{SnapshotState, SnapshotView};
pub use error::Error;
pub use gc::{Amount, CollectMode, CollectReport, Progress, SnapshotUsage, UsageTotals};
pub use hashing::{HashPool, HashedBlock};
pub use list_blocks::BlockList;
pub use list_changed_blocks::{ChangedBlock, ChangedBlockList};
pub use metrics::Metrics;
pub use put_block::PutPermit;
pub use put_by_digest::ByDigest;
pub use recovery::settle_recovered;
pub use scrub::{DamagedChunk, ScrubOptions, ScrubReport, Touched};
pub use snapshot_frame::SnapshotFrame;
pub use start_snapshot::{StartSnapshot, Started};
pub use tags::{Tag, TagSelector};
pub use worker::Workers;

use crate::batcher::Batcher;
use crate::cache::{ChunkCache, SnapshotCache};
use crate::filter::ChunkFilter;
use crate::put_batch::{PutItem, PutOutcome};
use blockmap::PageCache;
use catalog::chunks::{ChunkKey, ChunkRecord};
use catalog::snapshots::{SnapshotRecord, State};
use catalog::{Db, DbExt};
use chunkstore::ChunkStore;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use types::{AccountId, BLOCK_BYTES, Clock, Domain, Random, SnapshotId};

/// Which snapshots share equal blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DedupScope {
    /// Those of one account: nobody learns by timing what another account stores.
    Account,
    /// All of the store; for a single tenant.
    Store,
}

/// What an engine is made of.
pub struct EngineOptions {
    /// The catalog, migrated to the current format.
    pub db: Arc<dyn Db>,
    /// Whether this process alone changes the catalog, so that records may be cached.
    pub exclusive_catalog: bool,
    /// The chunk store.
    pub chunks: Arc<dyn ChunkStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Random,
    /// Which snapshots share equal blocks; taken when a snapshot starts.
    pub dedup: DedupScope,
    /// Memory for pages of block maps, in bytes.
    pub page_cache_bytes: usize,
    /// Block buffers of 512 KiB for bodies from verified senders.
    pub buffers: usize,
    /// Block buffers for bodies whose sender is not verified yet.
    pub unverified_buffers: usize,
    /// What computes digests.
    pub hashing: HashPool,
    /// A directory of this engine's own, for what collection sorts beyond its memory; empty at the start.
    pub scratch: PathBuf,
}

/// The store's verbs; clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    db: Arc<dyn Db>,
    chunks: Arc<dyn ChunkStore>,
    clock: Arc<dyn Clock>,
    random: Random,
    dedup: DedupScope,
    buffers: BufferPool,
    unverified_buffers: BufferPool,
    hashing: HashPool,
    scratch: Arc<Path>,
    page_cache: Arc<PageCache>,
    snapshots: SnapshotCache,
    known_chunks: Arc<ChunkCache>,
    filter: Arc<ChunkFilter>,
    exclusive_catalog: bool,
    lookups: Batcher<ChunkKey, Result<Option<ChunkRecord>, String>>,
    puts: Batcher<PutItem, PutOutcome>,
    metrics: Metrics,
    sealed: Notify,
    purges: Notify,
    frees: Arc<Notify>,
    /// Held by the collection that runs.
    collecting: tokio::sync::Mutex<()>,
    collect_progress: Arc<Mutex<Option<Progress>>>,
    /// Whether a collection may find something.
    garbage: AtomicBool,
    scrubs: scrub::Scrubs,
    /// Told whenever the finisher is done with a snapshot.
    #[cfg_attr(not(any(test, feature = "test-support")), allow(dead_code))]
    settled: Notify,
}

impl Engine {
    /// Makes an engine; must be called on a tokio runtime. Nothing runs in the background until [`Workers::start`].
    pub fn new(options: EngineOptions) -> Engine {
        let metrics = Metrics::default();
        let known_chunks = Arc::new(ChunkCache::new(limits::CHUNK_CACHE));
        let filter = Arc::new(ChunkFilter::new());
        let frees = Arc::new(Notify::new());
        let lookups = get_block::lookup_batches(Arc::clone(&options.db), Arc::clone(&known_chunks));
        let puts = put_batch::put_batches(
            Arc::clone(&options.db),
            Arc::clone(&known_chunks),
            Arc::clone(&filter),
            Arc::clone(&frees),
            metrics.clone(),
        );
        Engine {
            inner: Arc::new(Inner {
                db: options.db,
                chunks: options.chunks,
                clock: options.clock,
                random: options.random,
                dedup: options.dedup,
                buffers: BufferPool::new(options.buffers, BLOCK_BYTES),
                unverified_buffers: BufferPool::new(options.unverified_buffers, BLOCK_BYTES),
                hashing: options.hashing,
                scratch: options.scratch.into(),
                collecting: tokio::sync::Mutex::new(()),
                collect_progress: Arc::default(),
                garbage: AtomicBool::new(true),
                page_cache: Arc::new(PageCache::new(options.page_cache_bytes)),
                snapshots: SnapshotCache::new(limits::SNAPSHOT_CACHE, options.exclusive_catalog),
                known_chunks,
                filter,
                exclusive_catalog: options.exclusive_catalog,
                lookups,
                puts,
                metrics,
                sealed: Notify::new(),
                purges: Notify::new(),
                frees,
                scrubs: scrub::Scrubs::default(),
                settled: Notify::new(),
            }),
        }
    }

    /// What the engine counts.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The cache of block-map pages, for its hit counts.
    pub fn page_cache(&self) -> &PageCache {
        &self.inner.page_cache
    }

    /// The domain that a plain snapshot of this account has its chunks in.
    fn plain_domain(&self, account: AccountId) -> Domain {
        match self.inner.dedup {
            DedupScope::Account => Domain::of_account(account),
            DedupScope::Store => Domain::STORE,
        }
    }

    /// The record of a snapshot, from the cache where that is the truth.
    async fn snapshot(&self, id: SnapshotId) -> Result<Option<Arc<SnapshotRecord>>, Error> {
        if let Some(record) = self.inner.snapshots.get(id) {
            return Ok(Some(record));
        }
        let mark = self.inner.snapshots.before_read();
        let record = self
            .inner
            .db
            .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }))
            .await
            .map_err(Error::of_catalog)?;
        let Some(record) = record.map(Arc::new) else {
            return Ok(None);
        };
        self.inner.snapshots.keep(mark, &record);
        Ok(Some(record))
    }

    /// The record of a completed snapshot that the account may read.
    async fn readable_snapshot(
        &self,
        account: AccountId,
        id: SnapshotId,
    ) -> Result<Arc<SnapshotRecord>, Error> {
        self.snapshot(id)
            .await?
            .filter(|record| record.account == account && record.state == State::Completed)
            .ok_or(Error::SnapshotNotFound { id })
    }
}

/// Runs the rest of a verb in a task of its own: what was committed is followed by what has to follow it (caches, workers told),
/// also when the caller goes away in the middle.
async fn to_its_end<T: Send + 'static>(
    verb: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let end = tokio::spawn(verb).await;
    end.unwrap_or_else(|error| {
        Err(Error::Internal {
            reason: format!("a verb died: {error}"),
        })
    })
}
