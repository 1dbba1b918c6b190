//! Pages of block maps, kept as chunks.

use crate::error::chain;
use crate::{Engine, Error};
use blockmap::{PageLoader, PageSource};
use bytes::Bytes;
use catalog::chunks::{ChunkRecord, ChunkState};
use catalog::{Db, DbExt};
use chunkstore::{ChunkId, ChunkKind, ChunkStore, ContainerId, Location};
use futures_util::future::try_join_all;
use std::sync::Arc;
use types::{ChunkName, Digest, Domain, SnapshotId};

/// Loads pages of one domain.
#[derive(Clone)]
pub(crate) struct StoredPages {
    db: Arc<dyn Db>,
    chunks: Arc<dyn ChunkStore>,
    domain: Domain,
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
        let domain = self.domain;
        let keys: Arc<Vec<_>> = Arc::new(
            pages
                .iter()
                .map(|page| (domain, ChunkName::plain(*page)))
                .collect(),
        );
        let wanted = Arc::clone(&keys);
        let records = self
            .db
            .view(move |txn| {
                let wanted = Arc::clone(&wanted);
                Box::pin(async move { catalog::chunks::find(txn, &wanted).await })
            })
            .await?;
        let reads = pages.iter().zip(keys.iter()).map(|(page, key)| {
            let record = records.get(key).copied();
            async move {
                let record = record.ok_or(PageFault::Missing { page: *page })?;
                let unreadable = |reason| PageFault::Unreadable {
                    page: *page,
                    reason,
                };
                if record.state == ChunkState::Damaged {
                    return Err(unreadable("it was found damaged".to_owned()));
                }
                self.chunks
                    .read(location(&record), chunk_id(&record, ChunkKind::Page))
                    .await
                    .map_err(|error| unreadable(chain(&error)))
            }
        });
        try_join_all(reads).await
    }
}

impl Engine {
    /// The pages of this domain's block maps, behind the shared cache.
    pub(crate) fn pages(&self, domain: Domain) -> PageSource<StoredPages> {
        let loader = StoredPages {
            db: Arc::clone(&self.inner.db),
            chunks: Arc::clone(&self.inner.chunks),
            domain,
        };
        PageSource::new(loader, Arc::clone(&self.inner.page_cache))
    }
}

/// What a fault in a snapshot's block map means to the caller of a verb. Logged here, where it is known whose map it is.
pub(crate) fn map_error(id: SnapshotId, error: blockmap::Error<PageFault>) -> Error {
    let damaged = |reason: String| {
        tracing::error!(snapshot = %id, reason, "the block map cannot be read");
        Error::MapDamaged { id, reason }
    };
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
