//! Pages of block maps, kept as chunks.

use crate::error::chain;
use crate::{Engine, Error};
use blockmap::{PageLoader, PageSource};
use bytes::Bytes;
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::{Db, DbExt};
use chunkstore::{ChunkId, ChunkKind, ChunkStore, ContainerId, Location};
use futures_util::future::try_join_all;
use prometheus_client::metrics::counter::Counter;
use std::collections::HashMap;
use std::sync::Arc;
use types::{ChunkName, Digest, Domain, SnapshotId};

/// Loads pages of one domain.
#[derive(Clone)]
pub(crate) struct StoredPages {
    db: Arc<dyn Db>,
    chunks: Arc<dyn ChunkStore>,
    domain: Domain,
    /// Counts pages that are marked as damaged; nothing for who changes nothing.
    damaged_chunks: Option<Counter>,
}

/// Why a page could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageFault {
    /// The page is listed in a block map and there is no such chunk.
    #[error("page {page} has no chunk record")]
    Missing {
        /// The page.
        page: Digest,
    },
    /// The chunk store could not give the page's bytes.
    #[error("page {page} cannot be read: {reason}")]
    Unreadable {
        /// The page.
        page: Digest,
        /// Why.
        reason: String,
    },
    /// The catalog could not be asked.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
}

impl PageLoader for StoredPages {
    type Error = PageFault;

    async fn load(&self, pages: &[Digest]) -> Result<Vec<Bytes>, PageFault> {
        let records = self.records(pages).await?;
        let reads = pages
            .iter()
            .map(|page| self.read(*page, records.get(&self.key(*page)).copied()));
        try_join_all(reads).await
    }
}

impl StoredPages {
    /// A loader of this domain's pages. Those found damaged are marked and counted, if there is a counter.
    pub(crate) fn new(
        db: Arc<dyn Db>,
        chunks: Arc<dyn ChunkStore>,
        domain: Domain,
        damaged_chunks: Option<Counter>,
    ) -> StoredPages {
        StoredPages {
            db,
            chunks,
            domain,
            damaged_chunks,
        }
    }

    fn key(&self, page: Digest) -> ChunkKey {
        (self.domain, ChunkName::plain(page))
    }

    async fn records(
        &self,
        pages: &[Digest],
    ) -> Result<HashMap<ChunkKey, ChunkRecord>, catalog::Error> {
        let keys: Arc<Vec<_>> = Arc::new(pages.iter().map(|page| self.key(*page)).collect());
        self.db
            .view(move |txn| {
                let keys = Arc::clone(&keys);
                Box::pin(async move { catalog::chunks::find(txn, &keys).await })
            })
            .await
    }

    /// Reads a page; on a mismatch once more by its record of now, since the chunk may have moved. One that still does not match is marked,
    /// so that whoever makes the same page again stores it anew.
    async fn read(&self, page: Digest, record: Option<ChunkRecord>) -> Result<Bytes, PageFault> {
        let mut record = record.ok_or(PageFault::Missing { page })?;
        let mut read_again = false;
        loop {
            let read = self
                .chunks
                .read(location(&record), chunk_id(&record, ChunkKind::Page))
                .await;
            let error = match read {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            let mismatch = matches!(
                error,
                chunkstore::Error::Corrupt { .. } | chunkstore::Error::NotFound { .. }
            );
            if mismatch && !read_again {
                read_again = true;
                let records = self.records(&[page]).await?;
                record = *records
                    .get(&self.key(page))
                    .ok_or(PageFault::Missing { page })?;
                continue;
            }
            if mismatch
                && record.state != ChunkState::Damaged
                && let Some(damaged_chunks) = &self.damaged_chunks
            {
                mark_damaged(&*self.db, record, damaged_chunks).await;
            }
            return Err(PageFault::Unreadable {
                page,
                reason: chain(&error),
            });
        }
    }
}

/// Keeps a chunk from being used for new puts. That it could not be noted does not change the answer to the reader.
pub(crate) async fn mark_damaged(db: &dyn Db, record: ChunkRecord, damaged_chunks: &Counter) {
    let marked = db
        .transact(move |txn| {
            Box::pin(async move {
                catalog::chunks::mark_damaged(txn, record.key(), record.location).await
            })
        })
        .await;
    match marked {
        Ok(true) => {
            damaged_chunks.inc();
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "a damaged chunk could not be marked"),
    }
}

impl Engine {
    /// The pages of this domain's block maps, behind the shared cache.
    pub(crate) fn pages(&self, domain: Domain) -> PageSource<StoredPages> {
        let loader = StoredPages::new(
            Arc::clone(&self.inner.db),
            Arc::clone(&self.inner.chunks),
            domain,
            Some(self.inner.metrics.damaged_chunks.clone()),
        );
        PageSource::new(loader, Arc::clone(&self.inner.page_cache))
    }
}

/// What a fault in a snapshot's block map means to the caller of a verb.
pub(crate) fn map_error(id: SnapshotId, error: blockmap::Error<PageFault>) -> Error {
    let damaged = |reason| Error::MapDamaged { id, reason };
    match error {
        blockmap::Error::Load(PageFault::Catalog(error)) => Error::of_catalog(error),
        blockmap::Error::Load(fault) => damaged(fault.to_string()),
        error @ blockmap::Error::Damaged { .. } => damaged(chain(&error)),
    }
}

/// Where the chunk store keeps a recorded chunk.
pub(crate) fn location(record: &ChunkRecord) -> Location {
    store_location(record.location)
}

/// A recorded location in the chunk store's words.
pub(crate) fn store_location(location: catalog::Location) -> Location {
    Location {
        container: ContainerId(location.container),
        offset: location.offset,
        length: location.length,
    }
}

/// The chunk store's location in the catalog's words.
pub(crate) fn catalog_location(location: Location) -> catalog::Location {
    catalog::Location {
        container: location.container.0,
        offset: location.offset,
        length: location.length,
    }
}

/// The identity under which a recorded chunk is read.
pub(crate) fn chunk_id(record: &ChunkRecord, kind: ChunkKind) -> ChunkId {
    ChunkId {
        domain: record.domain,
        name: record.name,
        kind,
    }
}

/// The record of a chunk that has just been stored.
pub(crate) fn live_record(id: ChunkId, stored: chunkstore::Stored, epoch: i64) -> ChunkRecord {
    ChunkRecord {
        domain: id.domain,
        name: id.name,
        kind: id.kind as u8,
        state: ChunkState::Live,
        location: catalog_location(stored.location),
        stored_bytes: stored.stored_bytes,
        codec: stored.codec as u8,
        data_key: 0,
        epoch,
    }
}
