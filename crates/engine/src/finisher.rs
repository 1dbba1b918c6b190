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
//! - Memory is one batch of entries and some packs of pages (a run makes at most three pages an entry), whatever the size of the
//!   snapshot and however scattered its entries.
//!
//! A crash anywhere leaves the snapshot sealed; the work begins again from the entries. Pages stored twice have one record: the
//! second frame goes to `frees`. After a delete in between, nothing is listed, failed or completed any more: each transaction
//! reads the state, and what was stored for it goes to `frees`.

#[cfg(test)]
mod tests;

use crate::error::chain;
use crate::pages::{catalog_location, live_record};
use crate::references::References;
use crate::snapshot_frame::SnapshotFrame;
use crate::worker::Backoff;
use crate::{Engine, limits};
use blockmap::{EncodedPage, Update};
use catalog::chunks::ChunkRecord;
use catalog::snapshots::{Finished, SnapshotRecord, State};
use catalog::{DbExt, Txn};
use chunkstore::{ChunkId, ChunkKind, NewChunk};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::Semaphore;
use types::{BlockIndex, ChunkName, Digest, DigestContext, Domain, SnapshotId};

const WRONG_COUNT: &str = "Changed blocks count mismatch for snapshot";
const WRONG_CHECKSUM: &str = "Checksum mismatch for snapshot";

/// Snapshots that are being finished or wait for another attempt. Beyond it, the others wait for their turn.
const JOBS_MAX: usize = 1_000;

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
    #[error("the container of its frame was closed meanwhile")]
    FrameLost,
    #[error("the attempt panicked")]
    Panicked,
}

impl Engine {
    /// Finishes whatever is sealed, now and whenever something is; never returns.
    ///
    /// A few snapshots are worked on at a time. One whose attempt failed waits on its own, without keeping others from it.
    pub(crate) async fn run_finisher(&self) {
        let turns = Semaphore::new(limits::FINISHERS);
        let mut jobs = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut backoff = Backoff::default();
        loop {
            match self.sealed_beside(&busy).await {
                Ok(found) => {
                    backoff.reset();
                    for id in found {
                        busy.insert(id);
                        jobs.push(self.finish_in_the_end(id, &turns));
                    }
                    tokio::select! {
                        biased;
                        Some(id) = jobs.next() => { busy.remove(&id); }
                        () = self.inner.sealed.notified() => {}
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "sealed snapshots cannot be looked for; will retry");
                    let pause = backoff.pause();
                    tokio::pin!(pause);
                    loop {
                        tokio::select! {
                            biased;
                            Some(id) = jobs.next() => { busy.remove(&id); }
                            () = &mut pause => break,
                        }
                    }
                }
            }
        }
    }

    /// Sealed snapshots that are not being worked on, as many as there is room for.
    async fn sealed_beside(
        &self,
        busy: &BTreeSet<SnapshotId>,
    ) -> Result<Vec<SnapshotId>, catalog::Error> {
        let (mut found, mut after) = (Vec::new(), None);
        while busy.len() + found.len() < JOBS_MAX {
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
            found.extend(
                sealed
                    .iter()
                    .map(|record| record.id)
                    .filter(|id| !busy.contains(id)),
            );
        }
        Ok(found)
    }

    /// Attempts until the snapshot is not sealed any more.
    async fn finish_in_the_end(&self, id: SnapshotId, turns: &Semaphore) -> SnapshotId {
        let mut backoff = Backoff::default();
        loop {
            let turn = turns.acquire().await;
            let attempt = AssertUnwindSafe(self.attempt(id)).catch_unwind().await;
            drop(turn);
            match attempt.unwrap_or(Err(Fault::Panicked)) {
                Ok(()) => return id,
                Err(error) => {
                    self.inner.metrics.finisher_retries.inc();
                    let error = chain(&error);
                    tracing::error!(snapshot = %id, error, "could not be finished; will retry");
                    backoff.pause().await;
                }
            }
        }
    }

    async fn attempt(&self, id: SnapshotId) -> Result<(), Fault> {
        let record = self
            .inner
            .db
            .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }))
            .await?;
        match record.filter(|record| record.state == State::Sealed) {
            Some(record) => self.finish(record).await,
            None => Ok(()),
        }
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
            for run in entries.chunks(limits::FINISHER_RUN) {
                update.apply(run).await?;
                unstored.extend(update.take_pages());
                self.store_full_packs(&record, &mut unstored).await?;
            }
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

    /// Stores those of the pages that are not there yet, and lists all of them for the snapshot, if it is still sealed.
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
            let mut missing = self
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
            let batch: Vec<_> = pages
                .iter()
                .filter(|page| missing.remove(&page.digest))
                .map(chunk)
                .collect();
            let ids: Vec<_> = batch.iter().map(|chunk| chunk.id).collect();
            let answers = self.inner.chunks.append(batch).await?;
            let records = ids
                .into_iter()
                .zip(answers)
                .map(|(id, stored)| live_record(id, stored, 0));
            Arc::make_mut(&mut stored).extend(records);
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
        let ended = self
            .inner
            .db
            .transact(move |txn| Box::pin(async move { end(txn, id, &finished).await }))
            .await?;
        let completed = match ended {
            End::FrameLost => return Err(Fault::FrameLost),
            End::Completed => true,
            End::NotSealed => false,
        };
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
        let failed = self
            .inner
            .db
            .transact(move |txn| {
                Box::pin(async move {
                    let record = catalog::snapshots::get(txn, id).await?;
                    if record.is_none_or(|record| record.state != State::Sealed) {
                        return Ok(false);
                    }
                    catalog::snapshots::fail(txn, id, status_message).await?;
                    catalog::put_entries::insert_purge(txn, id).await?;
                    Ok(true)
                })
            })
            .await?;
        self.inner.snapshots.forget(id);
        self.inner.purges.notify_one();
        self.inner.settled.notify_waiters();
        if failed {
            self.inner.metrics.snapshots_failed.inc();
            tracing::warn!(snapshot = %id, status_message, "failed");
        }
        Ok(())
    }
}

/// What the last transaction of a finisher came to.
enum End {
    Completed,
    /// The snapshot was deleted, or an attempt whose outcome was unknown had completed it.
    NotSealed,
    /// The frame can get no name; another one is needed.
    FrameLost,
}

async fn end(
    txn: &mut dyn Txn,
    id: SnapshotId,
    finished: &Finished,
) -> Result<End, catalog::Error> {
    txn.hold_epoch_shared().await?;
    let frame = finished.frame;
    let now = catalog::snapshots::get(txn, id).await?;
    let finished_before = now.as_ref().and_then(|record| record.finished);
    if now.is_some_and(|record| record.state == State::Sealed) {
        let nameable = catalog::containers::nameable(txn, &[frame.container]).await?;
        if nameable.is_empty() {
            return Ok(End::FrameLost);
        }
        catalog::containers::add_live(txn, frame.container, u64::from(frame.length)).await?;
        catalog::snapshots::finish(txn, id, finished).await?;
        catalog::put_entries::insert_purge(txn, id).await?;
        return Ok(End::Completed);
    }
    if finished_before.is_none_or(|before| before.frame != frame) {
        catalog::containers::insert_frees(txn, &[frame]).await?;
    }
    Ok(End::NotSealed)
}

/// Lists `pages` for the snapshot and makes their records live; answers those that are neither stored nor in `new`. Nothing is
/// written while one is missing, nor for a snapshot that was deleted meanwhile: nobody would take its list away.
async fn refer_to_pages(
    txn: &mut dyn Txn,
    domain: Domain,
    id: SnapshotId,
    pages: &[Digest],
    new: &[ChunkRecord],
) -> Result<BTreeSet<Digest>, catalog::Error> {
    let keys: Vec<_> = pages
        .iter()
        .map(|page| (domain, ChunkName::plain(*page)))
        .collect();
    let mut references = References::begin(txn, &keys, new.iter()).await?;
    let record = catalog::snapshots::get(txn, id).await?;
    if record.is_none_or(|record| record.state != State::Sealed) {
        for record in new {
            references.discard(record);
        }
        references.commit(txn).await?;
        return Ok(BTreeSet::new());
    }
    // Of several frames of one page (it was found damaged while the others were stored), the last one.
    let new: HashMap<_, _> = new.iter().map(|record| (record.key(), record)).collect();
    let missing: BTreeSet<_> = pages
        .iter()
        .zip(&keys)
        .filter(|(_, key)| !references.refer_to(**key, new.get(key).copied()))
        .map(|(page, _)| *page)
        .collect();
    if missing.is_empty() {
        references.commit(txn).await?;
        catalog::put_entries::list_pages(txn, id, pages).await?;
    }
    Ok(missing)
}
