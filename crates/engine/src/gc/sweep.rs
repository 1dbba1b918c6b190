//! Condemns what is live and unmarked, and deletes the records of what an earlier cycle condemned.
//!
//! Safety: each transaction reads the records again and acts only on what still is as the merge saw it. Whoever refers to a chunk does so
//! in a transaction that stamps its record and makes it live: it comes before, then nothing is done here; or after, then it revives
//! what is condemned, or finds no record and stores its bytes anew.

use super::Amount;
use super::merge::{Action, Candidates};
use super::pace::Pace;
use super::reference::decode_key;
use crate::Engine;
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::{Db, DbExt, Location, Txn};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Chunks in one transaction: some milliseconds of the one writer; puts go in between.
const CHUNKS: usize = 256;

/// What was done.
#[derive(Clone, Default)]
pub(crate) struct Swept {
    pub(crate) condemned: Amount,
    pub(crate) swept: Amount,
}

/// What one transaction did.
struct Done {
    condemned: Amount,
    gone: Vec<ChunkRecord>,
}

impl Engine {
    /// Carries out what the merge decided. `named` is kept true.
    pub(crate) async fn sweep(
        &self,
        candidates: &mut Candidates,
        epoch: i64,
        named: &mut HashMap<u64, u64>,
        pace: &mut Pace,
    ) -> Result<Swept, super::mark::MarkFault> {
        let mut total = Swept::default();
        pace.step("condemning and sweeping");
        loop {
            let batch = candidates.next(CHUNKS).await?;
            if batch.is_empty() {
                return Ok(total);
            }
            let chunks: Arc<Vec<(ChunkKey, Action)>> = Arc::new(
                batch
                    .iter()
                    .map(|bytes| (decode_key(bytes), Action::from_byte(bytes[bytes.len() - 1])))
                    .collect(),
            );
            let done = sweep_batch(&*self.inner.db, chunks, epoch).await?;
            let (count, bytes) = (done.condemned.count, done.condemned.bytes);
            total.condemned.count += count;
            total.condemned.bytes += bytes;
            self.inner.metrics.condemned_chunks.inc_by(count);
            for record in &done.gone {
                self.inner.known_chunks.forget(&record.key());
                let bytes = u64::from(record.location.length);
                total.swept.add(bytes);
                if let Some(named) = named.get_mut(&record.location.container) {
                    *named = named.saturating_sub(bytes);
                }
            }
            self.inner
                .metrics
                .swept_chunks
                .inc_by(done.gone.len() as u64);
            if !done.gone.is_empty() {
                self.inner.frees.notify_one();
            }
            pace.done(batch.len() as u64).await;
        }
    }
}

async fn sweep_batch(
    db: &dyn Db,
    chunks: Arc<Vec<(ChunkKey, Action)>>,
    epoch: i64,
) -> Result<Done, catalog::Error> {
    db.transact(move |txn| {
        let chunks = Arc::clone(&chunks);
        Box::pin(async move { act(txn, &chunks, epoch).await })
    })
    .await
}

async fn act(
    txn: &mut dyn Txn,
    chunks: &[(ChunkKey, Action)],
    epoch: i64,
) -> Result<Done, catalog::Error> {
    let keys: Vec<_> = chunks.iter().map(|(key, _)| *key).collect();
    let records = catalog::chunks::find(txn, &keys).await?;
    let mut done = Done {
        condemned: Amount::default(),
        gone: Vec::new(),
    };
    let mut condemned = Vec::new();
    for (key, action) in chunks {
        let Some(record) = records.get(key).filter(|record| record.epoch < epoch) else {
            continue;
        };
        match (action, record.state) {
            (Action::Condemn, ChunkState::Live) => {
                done.condemned.add(u64::from(record.location.length));
                condemned.push(*key);
            }
            (Action::Sweep, ChunkState::Condemned) | (Action::Drop, ChunkState::Damaged) => {
                done.gone.push(*record);
            }
            // Somebody referred to it, or found it damaged: the next cycle sees it anew.
            (Action::Condemn | Action::Sweep | Action::Drop, _) => {}
        }
    }
    catalog::chunks::condemn(txn, &condemned, epoch).await?;
    let gone: Vec<_> = done.gone.iter().map(ChunkRecord::key).collect();
    catalog::chunks::delete(txn, &gone).await?;
    let frames: Vec<Location> = done.gone.iter().map(|record| record.location).collect();
    catalog::containers::insert_frees(txn, &frames).await?;
    let mut unnamed = BTreeMap::<u64, u64>::new();
    for frame in &frames {
        *unnamed.entry(frame.container).or_default() += u64::from(frame.length);
    }
    for (container, bytes) in unnamed {
        catalog::containers::sub_live(txn, container, bytes).await?;
    }
    Ok(done)
}
