//! Frees the frames that no record names any more.
//!
//! A row of `frees` is written by the transaction that took the last name from a frame, or that found a frame stored in vain. The
//! frame is freed first and the row deleted afterwards; repeating that is harmless, since locations are never written twice.

use crate::error::chain;
use crate::pages::store_location;
use crate::worker::Backoff;
use crate::{Engine, limits};
use catalog::DbExt;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Chunks(#[from] chunkstore::Error),
}

impl Engine {
    /// Frees what is noted, now and whenever something is; never returns.
    pub(crate) async fn run_frees(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.free_some().await {
                Ok(true) => backoff.reset(),
                Ok(false) => self.inner.frees.notified().await,
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

    async fn free_some(&self) -> Result<bool, Fault> {
        let frames = self
            .inner
            .db
            .view(|txn| {
                Box::pin(async move { catalog::containers::some_frees(txn, limits::FREES).await })
            })
            .await?;
        if frames.is_empty() {
            return Ok(false);
        }
        self.inner
            .chunks
            .free(frames.iter().copied().map(store_location).collect())
            .await?;
        let frames = Arc::new(frames);
        self.inner
            .db
            .transact(move |txn| {
                let frames = Arc::clone(&frames);
                Box::pin(async move { catalog::containers::delete_frees(txn, &frames).await })
            })
            .await?;
        Ok(true)
    }
}
