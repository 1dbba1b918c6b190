//! Frees the frames that no record names any more.
//!
//! A row of `frees` is written by the transaction that took the last name from a frame, or that found a frame stored in vain. The
//! frame is freed first and the row deleted afterwards; repeating that is harmless, since locations are never written twice.

use crate::error::chain;
use crate::pages::store_location;
use crate::worker::Backoff;
use crate::{Engine, Error, limits};
use catalog::DbExt;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Chunks(#[from] chunkstore::Error),
}

impl Engine {
    /// Frees what is noted, and answers when all of it is. For who runs no [`crate::Workers`]; they do it by themselves.
    ///
    /// # Errors
    /// When something could not be freed; what could be is, and the rest stays noted.
    pub async fn free_now(&self) -> Result<(), Error> {
        self.free_all().await.map_err(|fault| match fault {
            Fault::Catalog(error) => Error::of_catalog(error),
            Fault::Chunks(error) => Error::Internal {
                reason: chain(&error),
            },
        })
    }

    /// Frees what is noted, now and whenever something is; never returns.
    pub(crate) async fn run_frees(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.free_all().await {
                Ok(()) => {
                    backoff.reset();
                    self.inner.frees.notified().await;
                }
                Err(error) => {
                    tracing::error!(
                        error = chain(&error),
                        "frames could not be freed; will retry"
                    );
                    backoff.pause().await;
                }
            }
        }
    }

    /// One round over all containers; one that fails does not keep the others from it. Answers the last failure.
    pub(crate) async fn free_all(&self) -> Result<(), Fault> {
        let (mut outcome, mut after) = (Ok(()), 0);
        loop {
            let next = self.inner.db.view(move |txn| {
                Box::pin(async move { catalog::containers::next_to_free(txn, after).await })
            });
            let Some(container) = next.await? else {
                return outcome;
            };
            after = container;
            if let Err(error) = self.free_in(container).await {
                outcome = Err(error);
            }
        }
    }

    async fn free_in(&self, container: u64) -> Result<(), Fault> {
        loop {
            let frames = self.inner.db.view(move |txn| {
                Box::pin(async move {
                    catalog::containers::some_frees(txn, container, limits::FREES).await
                })
            });
            let frames = Arc::new(frames.await?);
            if frames.is_empty() {
                return Ok(());
            }
            self.inner
                .chunks
                .free(frames.iter().copied().map(store_location).collect())
                .await?;
            let freed = self.inner.db.transact(move |txn| {
                let frames = Arc::clone(&frames);
                Box::pin(async move { catalog::containers::delete_frees(txn, &frames).await })
            });
            freed.await?;
        }
    }
}
