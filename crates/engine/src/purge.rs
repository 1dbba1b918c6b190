//! Deletes the put entries and listed pages of snapshots that need them no more.
//!
//! They are noted in `purges` by the transaction that completed, failed or deleted the snapshot. Each step is a short transaction of
//! [`limits::PURGE_ROWS`] rows, and puts go in between. A crash leaves the note; the work goes on at the next start.

use crate::worker::Backoff;
use crate::{Engine, Error, limits};
use catalog::DbExt;
use std::sync::atomic::Ordering;

impl Engine {
    /// Purges what is noted, and answers when all of it is. For who runs no [`crate::Workers`]; they do it by themselves.
    ///
    /// # Errors
    /// When the catalog fails; the rest stays noted.
    pub async fn purge_now(&self) -> Result<(), Error> {
        while self.purge_some().await.map_err(Error::of_catalog)? {}
        Ok(())
    }

    /// Purges what is noted, now and whenever something is; never returns.
    pub(crate) async fn run_purge(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.purge_some().await {
                Ok(true) => {
                    backoff.reset();
                    // Entries of failed snapshots held chunks; so did blocks that were put twice.
                    self.inner.garbage.store(true, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                Ok(false) => self.inner.purges.notified().await,
                Err(error) => {
                    tracing::error!(%error, "put entries could not be purged; will retry");
                    backoff.pause().await;
                }
            }
        }
    }

    /// One short transaction; answers whether there was anything to do.
    pub(crate) async fn purge_some(&self) -> Result<bool, catalog::Error> {
        self.inner
            .db
            .transact(|txn| {
                Box::pin(async move {
                    let Some(snapshot) = catalog::put_entries::next_purge(txn).await? else {
                        return Ok(false);
                    };
                    catalog::put_entries::purge_some(txn, snapshot, limits::PURGE_ROWS).await?;
                    Ok(true)
                })
            })
            .await
    }
}
