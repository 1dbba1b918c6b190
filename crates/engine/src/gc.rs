//! Collects garbage: chunks that nothing refers to, and the space that they take.
//!
//! A cycle
//! 1. begins a new epoch: from here on, whoever refers to a chunk stamps it with this epoch;
//! 2. marks everything that is referred to (`gc/mark.rs`);
//! 3. compares that with the chunk records, changing nothing (`gc/merge.rs`), and keeps what each snapshot alone holds (`gc/usage.rs`);
//! 4. condemns what is live, unmarked and not stamped; deletes the records of what an earlier cycle condemned (`gc/sweep.rs`);
//! 5. gives containers back (`gc/reclaim.rs`) and frees frames (`frees.rs`).
//!
//! Policy
//! - So a chunk goes in the second cycle after its last reference, not by time.
//! - Work rests after each step, longer while requests wait (`gc/pace.rs`).
//! - The cost is one read of each distinct live page, one pass over the chunk records, and a sort of the references: it follows what is
//!   live, not what ever was.
//!
//! Invariants
//! - G1: a frame that a record names is never freed.
//! - G2: a chunk that something refers to keeps its record.
//! - G3: a cycle that was interrupted anywhere is begun again from the start, with the next epoch.
//! - G4: memory is bounded: three sorters, a list of snapshots and one of containers.
//!
//! Safety: `docs/concurrency.md` has each pair of operations. A put may find a chunk already present and store nothing. Its transaction
//! holds the epoch and stamps the record, so a cycle that began before cannot condemn it; a condemned record is revived there; a vanished
//! one makes the put store the bytes that it still holds.
//!
//! Failure
//! - A page that cannot be read ends the cycle with an alarm: nothing is condemned on an incomplete mark. So does any error of the catalog.
//! - A condemned chunk that is found marked is revived and raises an alarm, and nothing is swept in that cycle.
//! - Frames and containers that cannot be given back are logged, and tried again.

pub(crate) mod mark;
mod merge;
pub(crate) mod pace;
mod reclaim;
pub(crate) mod reference;
mod sweep;
mod usage;

pub use pace::Progress;
pub use usage::{SnapshotUsage, UsageTotals};

use crate::error::chain;
use crate::pages::PageFault;
use crate::{Engine, Error};
use catalog::containers::ContainerUse;
use catalog::{DbExt, meta};
use mark::{Mark, MarkFault, Marked, Unreadable};
use merge::{Merge, Merged};
use pace::Pace;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// What a collection is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CollectMode {
    /// Marks, and says what a collection would do. Changes nothing but the stored usage figures.
    DryRun,
    /// A whole cycle.
    Cycle,
}

/// A number of chunks (or containers) and the bytes that their frames (or files) take.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What a cycle did, or a dry run would do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CollectReport {
    /// The cycle's epoch; in a dry run the current one.
    pub epoch: i64,
    /// Pages that something refers to.
    pub live_pages: Amount,
    /// Blocks that something refers to.
    pub live_blocks: Amount,
    /// Chunks condemned by this cycle: the next one sweeps them.
    pub condemned: Amount,
    /// Condemned chunks that the mark found in use. More than 0 is an alarm.
    pub revived: u64,
    /// Chunks whose record was deleted.
    pub swept: Amount,
    /// Frames without a record that were freed.
    pub leaked: Amount,
    /// Chunks copied out of containers that are mostly garbage.
    pub moved: Amount,
    /// Containers removed, and their bytes.
    pub removed: Amount,
    /// Chunks that something refers to and that have no record. More than 0 is an alarm.
    pub missing: u64,
    /// Pages read.
    pub pages_read: u64,
    /// How long it took.
    pub took: Duration,
}

/// Why a cycle ended early. What it did stays done.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Mark(#[from] MarkFault),
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Reclaim(#[from] reclaim::ReclaimFault),
}

impl Engine {
    /// Runs a collection, after the one that is running. It goes on to its end, also when the caller goes away.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when catalog, chunk store or scratch directory failed, [`Error::Internal`] when a page cannot be
    /// read; in both cases nothing that is referred to was touched, and the next cycle begins anew.
    pub async fn collect(&self, mode: CollectMode) -> Result<CollectReport, Error> {
        let engine = self.clone();
        crate::to_its_end(async move {
            let _turn = engine.inner.collecting.lock().await;
            let mut pace = engine.pace();
            // What is deleted from here on is for the next cycle.
            let garbage = engine.inner.garbage.swap(false, Ordering::Relaxed);
            let outcome = engine.cycle(mode, &mut pace).await;
            pace.end();
            let (left, outcome) = match outcome {
                Ok((report, left)) => (left, Ok(report)),
                Err(fault) => (true, Err(engine.alarm(&fault))),
            };
            let unknown = mode == CollectMode::DryRun && garbage;
            if left || unknown {
                engine.inner.garbage.store(true, Ordering::Relaxed);
            }
            outcome
        })
        .await
    }

    /// How far the running collection is; nothing when none runs.
    pub fn collect_progress(&self) -> Option<Progress> {
        let progress = &self.inner.collect_progress;
        progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether a collection may find something: something was deleted or failed, or a cycle condemned something, or nothing is known
    /// since the start.
    pub fn may_hold_garbage(&self) -> bool {
        self.inner.garbage.load(Ordering::Relaxed)
    }

    fn pace(&self) -> Pace {
        Pace::new(
            Arc::clone(&self.inner.clock),
            Some(self.inner.metrics.clone()),
            Arc::clone(&self.inner.collect_progress),
        )
    }

    fn alarm(&self, fault: &Fault) -> Error {
        let reason = chain(fault);
        self.inner.metrics.collections_failed.inc();
        tracing::error!(
            reason,
            "a collection ended early; nothing in use was touched"
        );
        match fault {
            Fault::Mark(MarkFault::Page(blockmap::Error::Load(PageFault::Catalog(_)))) => {
                Error::Unavailable { reason }
            }
            Fault::Mark(MarkFault::Page(_)) => Error::Internal { reason },
            Fault::Mark(MarkFault::Catalog(_) | MarkFault::Scratch(_))
            | Fault::Catalog(_)
            | Fault::Reclaim(_) => Error::Unavailable { reason },
        }
    }

    /// Answers also whether the next cycle has something to do.
    async fn cycle(
        &self,
        mode: CollectMode,
        pace: &mut Pace,
    ) -> Result<(CollectReport, bool), Fault> {
        let began = self.inner.clock.monotonic();
        let db = &self.inner.db;
        let epoch = match mode {
            CollectMode::Cycle => db.transact(|txn| txn.begin_epoch()).await?,
            CollectMode::DryRun => {
                db.view(|txn| Box::pin(async move { meta::epoch(txn).await }))
                    .await?
            }
        };
        // Before any record is looked at: what is closed here gets no new names.
        let containers = self.containers_in_use().await?;
        let mut marked = self.mark_references(pace).await?;
        let mut merged = self.compare(&mut marked, mode, epoch, pace).await?;
        self.keep_usage(&marked, &merged).await?;
        let mut report = CollectReport {
            epoch,
            live_pages: merged.live_pages,
            live_blocks: merged.live_blocks,
            condemned: merged.condemn,
            swept: merged.sweep,
            revived: merged.revived,
            missing: merged.missing,
            pages_read: marked.pages_read,
            ..CollectReport::default()
        };
        self.tell_alarms(&merged, mode);
        let mut left = report.condemned.count + report.swept.count + report.revived > 0;
        if mode == CollectMode::Cycle {
            let unsettled = self
                .act(&marked, &mut merged, &containers, &mut report, pace)
                .await?;
            left = unsettled || report.condemned.count + report.revived > 0;
        }
        report.took = self.inner.clock.monotonic().saturating_sub(began);
        tracing::info!(
            epoch,
            dry_run = mode == CollectMode::DryRun,
            live = report.live_blocks.count + report.live_pages.count,
            condemned = report.condemned.count,
            swept = report.swept.count,
            removed_bytes = report.removed.bytes,
            "collected"
        );
        Ok((report, left))
    }

    async fn mark_references(&self, pace: &Pace) -> Result<Marked, MarkFault> {
        let mark = Mark {
            db: Arc::clone(&self.inner.db),
            chunks: Arc::clone(&self.inner.chunks),
            scratch: Arc::clone(&self.inner.scratch),
            pace: pace.clone(),
            unreadable: Unreadable::Stop(self.inner.metrics.damaged_chunks.clone()),
        };
        mark.run().await
    }

    async fn compare(
        &self,
        marked: &mut Marked,
        mode: CollectMode,
        epoch: i64,
        pace: &Pace,
    ) -> Result<Merged, MarkFault> {
        let merge = Merge {
            db: Arc::clone(&self.inner.db),
            scratch: Arc::clone(&self.inner.scratch),
            pace: pace.clone(),
            // A dry run has begun no epoch: what is stamped with the current one may be in use or not.
            epoch: match mode {
                CollectMode::Cycle => epoch,
                CollectMode::DryRun => epoch + 1,
            },
            revive: mode == CollectMode::Cycle,
        };
        merge.run(marked).await
    }

    /// The part of a cycle that changes things. Answers whether containers wait for the next one.
    async fn act(
        &self,
        marked: &Marked,
        merged: &mut Merged,
        containers: &[ContainerUse],
        report: &mut CollectReport,
        pace: &mut Pace,
    ) -> Result<bool, Fault> {
        (report.condemned, report.swept) = (Amount::default(), Amount::default());
        if merged.revived > 0 {
            return Ok(true);
        }
        let mut named: HashMap<u64, u64> = std::mem::take(&mut merged.named);
        for frame in marked.holders.iter().filter_map(|holder| holder.frame) {
            *named.entry(frame.container).or_default() += u64::from(frame.length);
        }
        let swept = self
            .sweep(&mut merged.candidates, report.epoch, &mut named, pace)
            .await?;
        (report.condemned, report.swept) = (swept.condemned, swept.swept);
        self.forget_garbage(swept.swept.bytes).await?;
        let reclaimed = self.reclaim(containers, &mut named, pace).await?;
        report.leaked = reclaimed.leaked;
        report.moved = reclaimed.moved;
        report.removed = reclaimed.removed;
        pace.step("freeing frames");
        if let Err(error) = self.free_all().await {
            tracing::warn!(
                error = chain(&error),
                "frames could not be freed; they are tried again"
            );
        }
        let now = self.inner.clock.now();
        self.inner
            .db
            .transact(move |txn| {
                Box::pin(
                    async move { meta::set_number(txn, meta::COLLECTION_FINISHED_AT, now).await },
                )
            })
            .await?;
        self.inner.metrics.collections.inc();
        Ok(reclaimed.unsettled)
    }

    fn tell_alarms(&self, merged: &Merged, mode: CollectMode) {
        if merged.revived > 0 {
            let count = merged.revived;
            match mode {
                CollectMode::Cycle => {
                    self.inner.metrics.revived_chunks.inc_by(count);
                    tracing::error!(
                        count,
                        "condemned chunks are in use; they were revived, and this cycle sweeps nothing: please report this"
                    );
                }
                CollectMode::DryRun => tracing::error!(
                    count,
                    "condemned chunks are in use; a collection will revive them: please report this"
                ),
            }
        }
        for (missing, snapshot) in &merged.missing_first {
            tracing::error!(
                chunk = %missing.digest,
                snapshot = snapshot.map(|id| id.to_string()),
                "a chunk that is referred to has no record: its blocks cannot be read until they are put again"
            );
        }
    }
}
