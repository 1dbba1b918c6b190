//! The catalog side of puts: many of them in one transaction, each with its own outcome.
//!
//! Invariants
//! - A put is recorded only if its snapshot is open in the same transaction: sealing is a barrier.
//! - Every entry written refers to a chunk whose record is live in the same transaction and stamped with the epoch that the
//!   transaction holds; so no collection takes a chunk that an acknowledged put relies on.
//! - A frame that was stored in vain (the chunk was there already, or the put was refused) is noted in `frees`.
//! - Of several puts to one block in a batch, the last one to arrive wins.

use crate::batcher::{BatchLimits, Batcher};
use crate::cache::ChunkCache;
use crate::{Error, Metrics, limits};
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::put_entries::PutEntry;
use catalog::snapshots::State;
use catalog::{Db, DbExt, Location, Txn};
use chunkstore::ChunkId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Notify;
use types::{BlockIndex, Digest, SnapshotId};

/// One put, its data durable or known.
#[derive(Clone, Debug)]
pub(crate) struct PutItem {
    pub(crate) id: SnapshotId,
    pub(crate) index: BlockIndex,
    pub(crate) digest: Digest,
    /// Nothing for zeros; else the chunk, and its record if this put has stored it.
    pub(crate) chunk: Option<(ChunkId, Option<ChunkRecord>)>,
    pub(crate) progress: Option<u8>,
}

/// What became of one put.
#[derive(Debug)]
pub(crate) enum PutOutcome {
    /// Recorded, durably.
    Done,
    /// The snapshot does not take puts, or is gone.
    NotOpen(Option<State>),
    /// The chunk is not stored; the caller stores it and comes again.
    NeedsData,
    /// The transaction may or may not have happened; the caller comes again.
    Unknown,
    /// Nothing was recorded.
    Failed(Error),
}

/// What one run of the transaction came to.
#[derive(Default)]
struct Committed {
    outcomes: Vec<PutOutcome>,
    records: Vec<ChunkRecord>,
    frees: Vec<Location>,
}

/// Starts the group commit of puts.
pub(crate) fn put_batches(
    db: Arc<dyn Db>,
    known_chunks: Arc<ChunkCache>,
    frees: Arc<Notify>,
    metrics: Metrics,
) -> Batcher<PutItem, PutOutcome> {
    let bounds = BatchLimits {
        items: limits::PUT_BATCH,
        in_flight: limits::PUT_BATCHES_IN_FLIGHT,
        queue: limits::QUEUE,
    };
    Batcher::spawn(bounds, move |items: Vec<PutItem>| {
        let db = Arc::clone(&db);
        let known_chunks = Arc::clone(&known_chunks);
        let frees = Arc::clone(&frees);
        let metrics = metrics.clone();
        Box::pin(async move {
            metrics.put_batch.observe(items.len() as f64);
            let items = Arc::new(items);
            let batch = Arc::clone(&items);
            let committed = db
                .transact(move |txn| {
                    let batch = Arc::clone(&batch);
                    Box::pin(async move { commit(txn, &batch).await })
                })
                .await;
            match committed {
                Ok(committed) => {
                    for record in committed.records {
                        known_chunks.insert(record);
                    }
                    if !committed.frees.is_empty() {
                        frees.notify_one();
                    }
                    committed.outcomes
                }
                Err(error) => {
                    tracing::error!(%error, puts = items.len(), "a batch of puts failed");
                    items.iter().map(|_| failure(&error)).collect()
                }
            }
        })
    })
}

fn failure(error: &catalog::Error) -> PutOutcome {
    let reason = error.to_string();
    match error {
        catalog::Error::CommitUnknown { .. } => PutOutcome::Unknown,
        catalog::Error::NoSpace => PutOutcome::Failed(Error::NoSpace { reason }),
        catalog::Error::Unavailable { .. } => PutOutcome::Failed(Error::Unavailable { reason }),
        catalog::Error::Io { .. }
        | catalog::Error::Corrupt { .. }
        | catalog::Error::Statement { .. }
        | catalog::Error::NewerFormat { .. } => PutOutcome::Failed(Error::Internal { reason }),
    }
}

async fn commit(txn: &mut dyn Txn, items: &[PutItem]) -> Result<Committed, catalog::Error> {
    let epoch = txn.hold_epoch_shared().await?;
    let ids: Vec<_> = items
        .iter()
        .map(|item| item.id)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let targets: HashMap<_, _> = catalog::snapshots::put_targets(txn, &ids)
        .await?
        .into_iter()
        .map(|target| (target.id, target))
        .collect();
    let keys: BTreeSet<ChunkKey> = items
        .iter()
        .filter_map(|item| item.chunk)
        .map(|(chunk, _)| (chunk.domain, chunk.name))
        .collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let mut chunks = Chunks {
        known: catalog::chunks::find(txn, &keys).await?,
        epoch,
        written: BTreeSet::new(),
        stamped: BTreeSet::new(),
        frees: Vec::new(),
    };

    let mut outcomes = Vec::with_capacity(items.len());
    let mut entries = BTreeMap::new();
    let mut progress = BTreeMap::new();
    for item in items {
        let state = targets.get(&item.id).map(|target| target.state);
        let outcome = if state != Some(State::Open) {
            chunks.discard(item);
            PutOutcome::NotOpen(state)
        } else if !chunks.refer_to(item) {
            PutOutcome::NeedsData
        } else {
            entries.insert((item.id, item.index), item.digest);
            if let Some(percent) = item.progress {
                progress.insert(item.id, percent);
            }
            PutOutcome::Done
        };
        outcomes.push(outcome);
    }

    let records: Vec<_> = chunks
        .written
        .iter()
        .filter_map(|key| chunks.known.get(key))
        .copied()
        .collect();
    let stamped: Vec<_> = chunks
        .stamped
        .difference(&chunks.written)
        .copied()
        .collect();
    let touched: Vec<_> = entries
        .keys()
        .map(|(id, _)| *id)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter(|id| targets.get(id).is_some_and(|target| !target.touched))
        .collect();
    let entries: Vec<_> = entries
        .into_iter()
        .map(|((snapshot, index), digest)| PutEntry {
            snapshot,
            index,
            digest,
        })
        .collect();
    catalog::chunks::put(txn, &records).await?;
    catalog::chunks::stamp(txn, &stamped, epoch).await?;
    catalog::put_entries::put(txn, &entries).await?;
    catalog::snapshots::touch(txn, &touched).await?;
    for (id, percent) in progress {
        catalog::snapshots::set_progress(txn, id, percent).await?;
    }
    catalog::containers::insert_frees(txn, &chunks.frees).await?;
    let known = chunks
        .known
        .into_values()
        .filter(|record| record.state == ChunkState::Live);
    Ok(Committed {
        outcomes,
        records: known.collect(),
        frees: chunks.frees,
    })
}

/// The chunk records that a batch works on.
struct Chunks {
    known: HashMap<ChunkKey, ChunkRecord>,
    epoch: i64,
    written: BTreeSet<ChunkKey>,
    stamped: BTreeSet<ChunkKey>,
    frees: Vec<Location>,
}

impl Chunks {
    /// Makes the item's chunk one that may be referred to; false when its data is needed for that.
    fn refer_to(&mut self, item: &PutItem) -> bool {
        let Some((chunk, stored)) = item.chunk else {
            return true;
        };
        let key = (chunk.domain, chunk.name);
        let usable = match self.known.get_mut(&key) {
            Some(record) if record.state != ChunkState::Damaged => {
                if record.state == ChunkState::Condemned || record.epoch < self.epoch {
                    record.state = ChunkState::Live;
                    record.epoch = self.epoch;
                    self.stamped.insert(key);
                }
                Some(record.location)
            }
            Some(damaged) if stored.is_some() => {
                self.frees.push(damaged.location);
                None
            }
            Some(_) | None => None,
        };
        match (usable, stored) {
            (Some(used), Some(stored)) if stored.location != used => {
                self.frees.push(stored.location);
                true
            }
            (Some(_), _) => true,
            (None, Some(stored)) => {
                self.known.insert(
                    key,
                    ChunkRecord {
                        epoch: self.epoch,
                        ..stored
                    },
                );
                self.written.insert(key);
                true
            }
            (None, None) => false,
        }
    }

    /// Notes the frame of a refused put, unless it is the one that the record names (a put that is repeated
    /// after an unknown outcome).
    fn discard(&mut self, item: &PutItem) {
        let Some((chunk, Some(stored))) = item.chunk else {
            return;
        };
        let named = self.known.get(&(chunk.domain, chunk.name));
        if named.is_none_or(|record| record.location != stored.location) {
            self.frees.push(stored.location);
        }
    }
}
