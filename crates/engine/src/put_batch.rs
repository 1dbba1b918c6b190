//! The catalog side of puts: many of them in one transaction, each with its own outcome.
//!
//! Invariants
//! - A put is recorded only if its snapshot is open in the same transaction: sealing is a barrier.
//! - Every entry written refers to a chunk by the rule of `references.rs`, so no collection takes a chunk that an acknowledged
//!   put relies on. A frame that was stored in vain is noted in `frees`.
//! - A put that brings no bytes refers to a chunk of kind block alone: its caller may have named any digest, that of a page too.
//! - Of several puts to one block in a batch, the last one to arrive wins.

use crate::batcher::{BatchLimits, Batcher};
use crate::cache::ChunkCache;
use crate::filter::ChunkFilter;
use crate::references::References;
use crate::{Error, Metrics, limits};
use catalog::chunks::{ChunkKey, ChunkRecord};
use catalog::put_entries::PutEntry;
use catalog::snapshots::{PutTarget, State};
use catalog::{Db, DbExt, Txn};
use chunkstore::ChunkKind;
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
    pub(crate) content: Content,
    pub(crate) progress: Option<u8>,
}

/// Where the data of a put is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Nowhere: it is zeros.
    Zeros,
    /// In a chunk that seemed to be stored: of kind block, or it is as good as absent.
    Known(ChunkKey),
    /// In a frame that this put has stored.
    Stored(ChunkRecord),
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
    frees: bool,
}

/// Starts the group commit of puts.
pub(crate) fn put_batches(
    db: Arc<dyn Db>,
    known_chunks: Arc<ChunkCache>,
    filter: Arc<ChunkFilter>,
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
        let filter = Arc::clone(&filter);
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
                        filter.insert(&record.key());
                        known_chunks.insert(record);
                    }
                    if committed.frees {
                        frees.notify_one();
                    }
                    committed.outcomes
                }
                Err(error) => items.iter().map(|_| failure(&error)).collect(),
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
    let keys: BTreeSet<_> = items
        .iter()
        .filter_map(|item| match &item.content {
            Content::Zeros => None,
            Content::Known(key) => Some(*key),
            Content::Stored(record) => Some(record.key()),
        })
        .collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let brought = items.iter().filter_map(|item| match &item.content {
        Content::Zeros | Content::Known(_) => None,
        Content::Stored(record) => Some(record),
    });
    let mut references = References::begin(txn, &keys, brought).await?;
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

    let Decided {
        outcomes,
        entries,
        progress,
    } = decide(items, &targets, &mut references);

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
    catalog::put_entries::put(txn, &entries).await?;
    catalog::snapshots::touch(txn, &touched).await?;
    for (id, percent) in progress {
        catalog::snapshots::set_progress(txn, id, percent).await?;
    }
    let (records, frees) = references.commit(txn).await?;
    Ok(Committed {
        outcomes,
        records,
        frees,
    })
}

/// What a batch comes to, before it is written.
struct Decided {
    outcomes: Vec<PutOutcome>,
    /// The last digest of each block.
    entries: BTreeMap<(SnapshotId, BlockIndex), Digest>,
    /// The last progress told of each snapshot.
    progress: BTreeMap<SnapshotId, u8>,
}

fn decide(
    items: &[PutItem],
    targets: &HashMap<SnapshotId, PutTarget>,
    references: &mut References,
) -> Decided {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut entries = BTreeMap::new();
    let mut progress = BTreeMap::new();
    for item in items {
        let state = targets.get(&item.id).map(|target| target.state);
        if state != Some(State::Open) {
            if let Content::Stored(record) = &item.content {
                references.discard(record);
            }
            outcomes.push(PutOutcome::NotOpen(state));
            continue;
        }
        let stored = match &item.content {
            Content::Zeros => true,
            Content::Known(key) => {
                references.is_of_kind(key, ChunkKind::Block) && references.refer_to(*key, None)
            }
            Content::Stored(record) => references.refer_to(record.key(), Some(record)),
        };
        if !stored {
            outcomes.push(PutOutcome::NeedsData);
            continue;
        }
        entries.insert((item.id, item.index), item.digest);
        if let Some(percent) = item.progress {
            progress.insert(item.id, percent);
        }
        outcomes.push(PutOutcome::Done);
    }
    Decided {
        outcomes,
        entries,
        progress,
    }
}
