//! The blocks of one rescued snapshot, in order, each proved by its digest.

use super::RescueError;
use super::maps::{MapWalk, Source, Step, fault_of};
use super::records::blocking;
use crate::error::chain;
use crate::pages::{chunk_id, location};
use crate::touched::is_damage;
use bytes::Bytes;
use catalog::chunks::ChunkRecord;
use catalog::snapshots::{SnapshotRecord, State};
use catalog::{Db, DbExt};
use chunkstore::{ChunkKind, ChunkStore};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use types::{BLOCK_BYTES, BlockIndex, Digest, SnapshotId};

/// Blocks read at a time, and held at a time: 8 MiB.
const READS: usize = 16;

/// A part of a snapshot. What is not told of is zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Salvaged {
    /// A block, whose bytes have the digest that the block map names.
    Block {
        /// Where.
        index: BlockIndex,
        /// Its 512 KiB.
        data: Bytes,
    },
    /// Blocks that cannot be read.
    Bad {
        /// The first.
        start: BlockIndex,
        /// How many block indexes.
        count: u32,
        /// Why.
        reason: String,
    },
}

/// A walk over the blocks of a snapshot in a rebuilt catalog.
pub struct SnapshotBlocks {
    db: Arc<dyn Db>,
    chunks: Arc<dyn ChunkStore>,
    snapshot: SnapshotRecord,
    walk: MapWalk,
    waiting: VecDeque<(BlockIndex, Digest, Option<ChunkRecord>)>,
}

impl SnapshotBlocks {
    /// The blocks of a completed snapshot.
    ///
    /// # Errors
    /// [`RescueError::NoSnapshot`].
    pub async fn open(
        db: Arc<dyn Db>,
        chunks: Arc<dyn ChunkStore>,
        id: SnapshotId,
    ) -> Result<SnapshotBlocks, RescueError> {
        let found = db
            .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }))
            .await?;
        let found = found.filter(|record| record.state == State::Completed);
        let snapshot = found.ok_or(RescueError::NoSnapshot { id })?;
        let root = snapshot.finished.map(|finished| finished.root);
        let walk = MapWalk::new(&snapshot, root.ok_or(RescueError::NoSnapshot { id })?);
        Ok(SnapshotBlocks {
            db,
            chunks,
            snapshot,
            walk,
            waiting: VecDeque::new(),
        })
    }

    /// The snapshot's record.
    pub fn snapshot(&self) -> &SnapshotRecord {
        &self.snapshot
    }

    /// The next parts, in index order, at most 16; none at the end.
    ///
    /// # Errors
    /// When the catalog fails, or the disk in another way than by bad sectors.
    pub async fn next(&mut self) -> Result<Vec<Salvaged>, RescueError> {
        let nothing = HashSet::new();
        while self.waiting.is_empty() {
            let source = Source {
                db: &*self.db,
                chunks: &*self.chunks,
            };
            match self.walk.next(source, &nothing).await? {
                None => return Ok(Vec::new()),
                Some(Step::Left { .. }) => {}
                Some(Step::Blocks(blocks)) => self.waiting.extend(
                    blocks
                        .into_iter()
                        .filter(|(_, digest, _)| *digest != Digest::ZERO_BLOCK),
                ),
                Some(Step::Unreadable {
                    start,
                    count,
                    reason,
                }) => {
                    if let Some(start) = BlockIndex::new(start) {
                        return Ok(vec![Salvaged::Bad {
                            start,
                            count,
                            reason,
                        }]);
                    }
                }
            }
        }
        let batch = self.waiting.drain(..self.waiting.len().min(READS));
        let batch: Vec<_> = batch.collect();
        let reads = batch
            .into_iter()
            .map(|(index, digest, record)| read(&*self.chunks, index, digest, record));
        stream::iter(reads).buffered(READS).try_collect().await
    }
}

async fn read(
    chunks: &dyn ChunkStore,
    index: BlockIndex,
    digest: Digest,
    record: Option<ChunkRecord>,
) -> Result<Salvaged, RescueError> {
    let bad = move |reason: String| Salvaged::Bad {
        start: index,
        count: 1,
        reason,
    };
    let record = match (record, fault_of(digest, record)) {
        (Some(record), None) => record,
        (_, fault) => return Ok(bad(fault.unwrap_or("it has no record").to_owned())),
    };
    let data = match chunks
        .read(location(&record), chunk_id(&record, ChunkKind::Block))
        .await
    {
        Ok(data) => data,
        Err(error) if is_damage(&error) => return Ok(bad(chain(&error))),
        Err(error) => return Err(error.into()),
    };
    blocking(move || {
        let found = Digest::of(&data);
        Ok(if found == digest && data.len() == BLOCK_BYTES {
            Salvaged::Block { index, data }
        } else {
            bad(format!("the digest of its bytes is {found}"))
        })
    })
    .await
}
