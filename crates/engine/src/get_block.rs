//! Reads one block: one chunk record, one read.
//!
//! The digest comes from the block token, which only we can make; the block map is not walked. The bytes are proved to be
//! the chunk asked for by the chunk store, on this read. If they are not, the record is read again once, since the
//! chunk may have moved; then the chunk is marked damaged and the caller is told which block of which snapshot it is.

use crate::batcher::{BatchLimits, Batcher};
use crate::cache::ChunkCache;
use crate::error::chain;
use crate::pages::{chunk_id, location, mark_damaged};
use crate::{Engine, Error, limits};
use bytes::Bytes;
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::{Db, DbExt};
use chunkstore::ChunkKind;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;
use types::{AccountId, BLOCK_BYTES, BlockIndex, ChunkName, Digest, SnapshotId, VolumeSize};

static ZERO_BLOCK: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

impl Engine {
    /// The size of a completed snapshot that the account may read.
    pub async fn readable(&self, account: AccountId, id: SnapshotId) -> Result<VolumeSize, Error> {
        Ok(self.readable_snapshot(account, id).await?.volume_size)
    }

    /// The 512 KiB of a block, whose digest a token of ours has named.
    pub async fn get_block(
        &self,
        account: AccountId,
        id: SnapshotId,
        index: BlockIndex,
        digest: Digest,
    ) -> Result<Bytes, Error> {
        let _under_way = UnderWay::begin(&self.inner.metrics.gets_under_way);
        let snapshot = self.readable_snapshot(account, id).await?;
        if digest == Digest::ZERO_BLOCK {
            self.inner.metrics.blocks_read.inc();
            return Ok(Bytes::from_static(&ZERO_BLOCK));
        }
        let key = (snapshot.domain, ChunkName::plain(digest));
        let mut failure = "it has no chunk record".to_owned();
        for attempt in 0..2 {
            if attempt > 0 {
                self.inner.known_chunks.forget(&key);
            }
            let Some(record) = self.chunk_record(key).await? else {
                continue;
            };
            let read = self
                .inner
                .chunks
                .read(location(&record), chunk_id(&record, ChunkKind::Block));
            match read.await {
                Ok(data) if data.len() == BLOCK_BYTES => {
                    self.inner.metrics.blocks_read.inc();
                    return Ok(data);
                }
                Ok(data) => failure = format!("its chunk holds {} bytes", data.len()),
                Err(
                    error
                    @ (chunkstore::Error::Corrupt { .. } | chunkstore::Error::NotFound { .. }),
                ) => {
                    failure = chain(&error);
                    if attempt > 0 && record.state != ChunkState::Damaged {
                        self.inner.known_chunks.forget(&key);
                        mark_damaged(&*self.inner.db, record, &self.inner.metrics.damaged_chunks)
                            .await;
                    }
                }
                Err(error) => {
                    return Err(Error::Unavailable {
                        reason: chain(&error),
                    });
                }
            }
        }
        // The snapshot may have been deleted while we looked: then nothing is damaged.
        self.readable_snapshot(account, id).await?;
        Err(Error::BlockDamaged {
            id,
            index,
            reason: failure,
        })
    }

    /// The record of a chunk, as the catalog or the cache has it.
    pub(crate) async fn chunk_record(&self, key: ChunkKey) -> Result<Option<ChunkRecord>, Error> {
        if let Some(record) = self.inner.known_chunks.get(&key) {
            return Ok(Some(record));
        }
        match self.inner.lookups.call(key).await {
            Some(Ok(record)) => Ok(record),
            Some(Err(reason)) => Err(Error::Unavailable { reason }),
            None => Err(Error::Unavailable {
                reason: "shutting down".to_owned(),
            }),
        }
    }
}

/// Counts a get for as long as it lives: its caller may go away in the middle.
struct UnderWay<'a>(&'a Gauge);

impl<'a> UnderWay<'a> {
    fn begin(gauge: &'a Gauge) -> UnderWay<'a> {
        gauge.inc();
        UnderWay(gauge)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Starts the batches of look-ups.
pub(crate) fn lookup_batches(
    db: Arc<dyn Db>,
    known_chunks: Arc<ChunkCache>,
) -> Batcher<ChunkKey, Result<Option<ChunkRecord>, String>> {
    let bounds = BatchLimits {
        items: limits::LOOKUP_BATCH,
        in_flight: 2,
        queue: limits::QUEUE,
    };
    Batcher::spawn(bounds, move |keys: Vec<ChunkKey>| {
        let db = Arc::clone(&db);
        let known_chunks = Arc::clone(&known_chunks);
        Box::pin(async move {
            let keys = Arc::new(keys);
            let wanted = Arc::clone(&keys);
            let found = db
                .view(move |txn| {
                    let wanted = Arc::clone(&wanted);
                    Box::pin(async move { catalog::chunks::find(txn, &wanted).await })
                })
                .await;
            match found {
                Ok(found) => {
                    for record in found
                        .values()
                        .filter(|record| record.state == ChunkState::Live)
                    {
                        known_chunks.insert(*record);
                    }
                    keys.iter().map(|key| Ok(found.get(key).copied())).collect()
                }
                Err(error) => keys.iter().map(|_| Err(error.to_string())).collect(),
            }
        })
    })
}
