//! Turns a sealed snapshot's put entries into its block map.
//!
//! 1. Streams the entries in index order; counts them and computes the LINEAR aggregate of their digests (SPEC 3.4).
//! 2. Applies them to the base root's tree. New pages are stored in packs; each pack's records, and the fact that this
//!    snapshot refers to these pages, are committed together (`listed_pages`).
//! 3. Compares count and aggregate with what Complete promised. A wrong one fails the snapshot: the only ways to `error`.
//! 4. Stores the snapshot's own frame, then commits root, counts, frame and state in one transaction, and hands
//!    the entries over to the purge.
//!
//! Invariants
//! - A page's record exists before a committed root names the page, and the page is listed from the same commit on.
//! - Whatever else goes wrong (I/O, a full disk, an unreadable page of the base) is retried for as long as the server runs.
//! - Memory is one batch of entries and a few pages, whatever the size of the snapshot.
//!
//! A crash anywhere leaves the snapshot sealed; the work begins again from the entries. Pages stored twice have one record: the
//! second frame goes to `frees`. A delete in between makes step 4 find nothing, and the frame goes to `frees`, too.

use crate::error::chain;
use crate::pages::{catalog_location, live_record};
use crate::snapshot_frame::SnapshotFrame;
use crate::worker::Backoff;
use crate::{Engine, limits};
use blockmap::{EncodedPage, Update};
use catalog::chunks::{ChunkRecord, ChunkState};
use catalog::snapshots::{Finished, SnapshotRecord, State};
use catalog::{DbExt, Txn};
use chunkstore::{ChunkId, ChunkKind, NewChunk};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use types::{BlockIndex, ChunkName, Digest, DigestContext, Domain, SnapshotId};

const WRONG_COUNT: &str = "Changed blocks count mismatch for snapshot";
const WRONG_CHECKSUM: &str = "Checksum mismatch for snapshot";

/// Why a snapshot is not finished yet. All of these are retried.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Chunks(#[from] chunkstore::Error),
    #[error("the parent's block map cannot be read")]
    Base(#[from] blockmap::Error<crate::pages::PageFault>),
    #[error("a sealed snapshot has no promise in its record")]
    NoPromise,
}

impl Engine {
    /// Finishes whatever is sealed, now and whenever something is; never returns.
    pub(crate) async fn run_finisher(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.finish_sealed().await {
                Ok(0) => {
                    backoff.reset();
                    self.inner.sealed.notified().await;
                }
                Ok(_) => backoff.reset(),
                Err(error) => {
                    self.inner.metrics.finisher_retries.inc();
                    tracing::error!(
                        error = chain(&error),
                        "a snapshot could not be finished; will retry"
                    );
                    backoff.pause().await;
                }
            }
        }
    }

    /// Finishes the snapshots that are sealed now. One that cannot be finished does not keep others from it.
    async fn finish_sealed(&self) -> Result<usize, Fault> {
        let (mut finished, mut failed) = (0, None);
        let mut after = None;
        loop {
            let sealed = self
                .inner
                .db
                .view(move |txn| {
                    Box::pin(async move {
                        catalog::snapshots::in_state(txn, State::Sealed, after, 100).await
                    })
                })
                .await?;
            let Some(last) = sealed.last() else { break };
            after = Some(last.id);
            let mut waiting = sealed.into_iter();
            let mut running: FuturesUnordered<_> = waiting
                .by_ref()
                .take(limits::FINISHERS)
                .map(|record| self.finish(record))
                .collect();
            while let Some(outcome) = running.next().await {
                match outcome {
                    Ok(()) => finished += 1,
                    Err(fault) => failed = Some(fault),
                }
                if let Some(record) = waiting.next() {
                    running.push(self.finish(record));
                }
            }
        }
        failed.map_or(Ok(finished), Err)
    }

    async fn finish(&self, record: SnapshotRecord) -> Result<(), Fault> {
        let promise = record.promise.clone().ok_or(Fault::NoPromise)?;
        let pages = self.pages(record.domain);
        let mut update = Update::new(&pages, record.base_root);
        let mut aggregate = DigestContext::new();
        let mut own_count = 0_u64;
        let mut unstored = Vec::new();
        let mut from = Some(BlockIndex::ZERO);
        while let Some(start) = from {
            let entries = self.entries(record.id, start).await?;
            from = entries.last().and_then(|(index, _)| index.next());
            for (_, digest) in &entries {
                aggregate.update(digest.as_bytes());
            }
            own_count += entries.len() as u64;
            update.apply(&entries).await?;
            unstored.extend(update.take_pages());
            self.store_full_packs(&record, &mut unstored).await?;
            if entries.len() < limits::FINISHER_ENTRIES as usize {
                break;
            }
        }
        if own_count != promise.count {
            return self.fail(record.id, WRONG_COUNT).await;
        }
        let aggregate = aggregate.finish();
        if promise
            .checksum
            .is_some_and(|promised| promised != aggregate.as_bytes())
        {
            return self.fail(record.id, WRONG_CHECKSUM).await;
        }
        let updated = update.finish().await?;
        unstored.extend(updated.pages);
        for pack in unstored.chunks(limits::FINISHER_PAGES) {
            self.store_pages(record.domain, record.id, pack).await?;
        }
        let full_count = record.base_count + updated.added;
        self.commit_root(record, updated.root, own_count, full_count)
            .await
    }

    async fn entries(
        &self,
        id: SnapshotId,
        from: BlockIndex,
    ) -> Result<Vec<(BlockIndex, Digest)>, Fault> {
        let entries = self.inner.db.view(move |txn| {
            Box::pin(async move {
                catalog::put_entries::range(txn, id, from, limits::FINISHER_ENTRIES).await
            })
        });
        Ok(entries.await?)
    }

    async fn store_full_packs(
        &self,
        record: &SnapshotRecord,
        unstored: &mut Vec<EncodedPage>,
    ) -> Result<(), Fault> {
        while unstored.len() >= limits::FINISHER_PAGES {
            let rest = unstored.split_off(limits::FINISHER_PAGES);
            let pack = std::mem::replace(unstored, rest);
            self.store_pages(record.domain, record.id, &pack).await?;
        }
        Ok(())
    }

    /// Stores those of the pages that are not there yet, and lists all of them for the snapshot.
    async fn store_pages(
        &self,
        domain: Domain,
        id: SnapshotId,
        pages: &[EncodedPage],
    ) -> Result<(), Fault> {
        let digests: BTreeSet<_> = pages.iter().map(|page| page.digest).collect();
        let digests: Arc<Vec<_>> = Arc::new(digests.into_iter().collect());
        let mut stored: Arc<Vec<ChunkRecord>> = Arc::default();
        loop {
            let (listed, new) = (Arc::clone(&digests), Arc::clone(&stored));
            let missing = self
                .inner
                .db
                .transact(move |txn| {
                    let (listed, new) = (Arc::clone(&listed), Arc::clone(&new));
                    Box::pin(async move { refer_to_pages(txn, domain, id, &listed, &new).await })
                })
                .await?;
            if missing.is_empty() {
                return Ok(());
            }
            let chunk = |page: &EncodedPage| NewChunk {
                id: ChunkId {
                    domain,
                    name: ChunkName::plain(page.digest),
                    kind: ChunkKind::Page,
                },
                digest: page.digest,
                data: page.bytes.clone(),
            };
            let mut wanted = missing;
            let batch: Vec<_> = pages
                .iter()
                .filter(|page| wanted.remove(&page.digest))
                .map(chunk)
                .collect();
            let ids: Vec<_> = batch.iter().map(|chunk| chunk.id).collect();
            let answers = self.inner.chunks.append(batch).await?;
            let records = ids
                .into_iter()
                .zip(answers)
                .map(|(id, stored)| live_record(id, stored, 0));
            stored = Arc::new(records.collect());
        }
    }

    /// Stores the snapshot's own frame and makes it a completed one.
    async fn commit_root(
        &self,
        record: SnapshotRecord,
        root: Digest,
        own_count: u64,
        full_count: u64,
    ) -> Result<(), Fault> {
        let id = record.id;
        let frame = SnapshotFrame {
            id,
            account: record.account,
            domain: record.domain,
            parent: record.parent,
            lineage: record.lineage,
            volume_size: record.volume_size,
            description: record.description,
            start_time: record.start_time,
            completion_time: self.inner.clock.now(),
            own_count,
            full_count,
            root,
        };
        let bytes = frame.encode();
        let digest = Digest::of(&bytes);
        let chunk = NewChunk {
            id: ChunkId {
                domain: record.domain,
                name: ChunkName::plain(digest),
                kind: ChunkKind::Snapshot,
            },
            digest,
            data: bytes.into(),
        };
        let stored = self.inner.chunks.append(vec![chunk]).await?;
        let location = catalog_location(stored[0].location);
        let finished = Finished {
            root,
            own_count,
            full_count,
            completion_time: frame.completion_time,
            frame: location,
        };
        let completed = self
            .inner
            .db
            .transact(move |txn| {
                Box::pin(async move {
                    txn.hold_epoch_shared().await?;
                    let now = catalog::snapshots::get(txn, id).await?;
                    let finished_before = now.as_ref().and_then(|record| record.finished);
                    if now.is_some_and(|record| record.state == State::Sealed) {
                        catalog::snapshots::finish(txn, id, &finished).await?;
                        catalog::put_entries::insert_purge(txn, id).await?;
                        return Ok(true);
                    }
                    if finished_before.is_none_or(|before| before.frame != location) {
                        catalog::containers::insert_frees(txn, &[location]).await?;
                    }
                    Ok(false)
                })
            })
            .await?;
        self.inner.snapshots.forget(id);
        self.inner.purges.notify_one();
        self.inner.settled.notify_waiters();
        if completed {
            self.inner.metrics.snapshots_completed.inc();
            tracing::info!(snapshot = %id, blocks = own_count, %root, "completed");
        } else {
            self.inner.frees.notify_one();
        }
        Ok(())
    }

    /// Fails a sealed snapshot whose promise was wrong.
    async fn fail(&self, id: SnapshotId, status_message: &'static str) -> Result<(), Fault> {
        self.inner
            .db
            .transact(move |txn| {
                Box::pin(async move {
                    let record = catalog::snapshots::get(txn, id).await?;
                    if record.is_some_and(|record| record.state == State::Sealed) {
                        catalog::snapshots::fail(txn, id, status_message).await?;
                        catalog::put_entries::insert_purge(txn, id).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        self.inner.snapshots.forget(id);
        self.inner.purges.notify_one();
        self.inner.settled.notify_waiters();
        self.inner.metrics.snapshots_failed.inc();
        tracing::warn!(snapshot = %id, status_message, "failed");
        Ok(())
    }
}

/// Lists `pages` for the snapshot and makes their records live; answers those that are neither stored nor in `new`.
/// Nothing is written while one is missing. Records of `new` that lost a race go to `frees`.
async fn refer_to_pages(
    txn: &mut dyn Txn,
    domain: Domain,
    id: SnapshotId,
    pages: &[Digest],
    new: &[ChunkRecord],
) -> Result<BTreeSet<Digest>, catalog::Error> {
    let epoch = txn.hold_epoch_shared().await?;
    let keys: Vec<_> = pages
        .iter()
        .map(|page| (domain, ChunkName::plain(*page)))
        .collect();
    let known = catalog::chunks::find(txn, &keys).await?;
    let usable = |key| {
        known
            .get(key)
            .filter(|record| record.state != ChunkState::Damaged)
    };
    let missing: BTreeSet<_> = pages
        .iter()
        .zip(&keys)
        .filter(|(_, key)| usable(key).is_none() && !new.iter().any(|record| record.key() == **key))
        .map(|(page, _)| *page)
        .collect();
    if !missing.is_empty() {
        return Ok(missing);
    }
    let (mut records, mut frees) = (Vec::new(), Vec::new());
    for record in new {
        match known.get(&record.key()) {
            Some(old) if old.location == record.location => {}
            Some(old) if old.state == ChunkState::Damaged => {
                frees.push(old.location);
                records.push(ChunkRecord { epoch, ..*record });
            }
            Some(_) => frees.push(record.location),
            None => records.push(ChunkRecord { epoch, ..*record }),
        }
    }
    let stale: Vec<_> = keys
        .iter()
        .filter(|key| {
            usable(key)
                .is_some_and(|record| record.epoch < epoch || record.state == ChunkState::Condemned)
        })
        .copied()
        .collect();
    catalog::chunks::put(txn, &records).await?;
    catalog::chunks::stamp(txn, &stale, epoch).await?;
    catalog::containers::insert_frees(txn, &frees).await?;
    catalog::put_entries::list_pages(txn, id, pages).await?;
    Ok(missing)
}
