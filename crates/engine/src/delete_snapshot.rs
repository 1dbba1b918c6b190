//! Deletes a snapshot, in any state: one transaction on its record.
//!
//! Other snapshots are untouched: a child has its own copy of the base root, and chunks are shared by name. From the commit on
//! the snapshot is gone for every request; puts, the finisher and the expiry find no record in their own transactions. Its
//! put entries go with the purge, its own frame with the frees, its chunks with garbage collection.

use crate::{Engine, Error, to_its_end};
use catalog::DbExt;
use std::sync::atomic::Ordering;
use types::{AccountId, SnapshotId};

impl Engine {
    /// Deletes the snapshot.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], also for a second delete.
    pub async fn delete_snapshot(&self, account: AccountId, id: SnapshotId) -> Result<(), Error> {
        let engine = self.clone();
        to_its_end(async move { engine.delete(account, id).await }).await
    }

    async fn delete(&self, account: AccountId, id: SnapshotId) -> Result<(), Error> {
        let deleted = self
            .inner
            .db
            .transact(move |txn| {
                Box::pin(async move {
                    let record = catalog::snapshots::get(txn, id).await?;
                    let Some(record) = record.filter(|record| record.account == account) else {
                        return Ok(false);
                    };
                    catalog::snapshots::delete(txn, id).await?;
                    catalog::tags::delete_all(txn, account, id).await?;
                    catalog::put_entries::insert_purge(txn, id).await?;
                    if let Some(finished) = record.finished {
                        let frame = finished.frame;
                        catalog::containers::insert_frees(txn, &[frame]).await?;
                        let bytes = u64::from(frame.length);
                        catalog::containers::sub_live(txn, frame.container, bytes).await?;
                    }
                    Ok(true)
                })
            })
            .await;
        self.inner.snapshots.forget(id);
        self.inner.purges.notify_one();
        self.inner.frees.notify_one();
        self.inner.garbage.store(true, Ordering::Relaxed);
        let deleted = match deleted {
            Err(error @ catalog::Error::CommitUnknown { .. }) => {
                if self.snapshot(id).await?.is_some() {
                    return Err(Error::of_catalog(error));
                }
                true
            }
            known => known.map_err(Error::of_catalog)?,
        };
        if deleted {
            self.inner.metrics.snapshots_deleted.inc();
            tracing::info!(snapshot = %id, "deleted");
            Ok(())
        } else {
            Err(Error::SnapshotNotFound { id })
        }
    }
}
