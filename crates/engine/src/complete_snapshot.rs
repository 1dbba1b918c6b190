//! Completes a snapshot: seals it in one transaction, and leaves the rest to the finisher.
//!
//! The seal is a barrier: every put acknowledged before it counts, every later one is refused, since each batch of puts reads
//! the state in its own transaction. What the client promised (count, checksum) is kept in the record and checked by the
//! finisher (SPEC 1.3). Repeating is harmless: the answer is the state.
//!
//! A crash before the commit leaves the snapshot open, after it sealed; the finisher finds it at the next start.

use crate::{Engine, Error, SnapshotState, to_its_end};
use catalog::DbExt;
use catalog::snapshots::{Promise, State};
use std::sync::Arc;
use types::{AccountId, SnapshotId};

/// A request to complete a snapshot.
#[derive(Clone, Debug)]
pub struct CompleteSnapshot {
    /// Who asks.
    pub account: AccountId,
    /// The snapshot.
    pub id: SnapshotId,
    /// Number of distinct block indexes that were put (SPEC 3.3).
    pub changed_blocks: u64,
    /// The LINEAR aggregate of their digests, as the client decoded it (SPEC 3.4); it may have any length.
    pub checksum: Option<Vec<u8>>,
}

impl Engine {
    /// Seals the snapshot; answers its state.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`].
    pub async fn complete_snapshot(
        &self,
        request: CompleteSnapshot,
    ) -> Result<SnapshotState, Error> {
        let CompleteSnapshot {
            account,
            id,
            changed_blocks,
            checksum,
        } = request;
        // Larger counts than a column holds are as wrong as this one.
        let promise = Promise {
            count: changed_blocks.min(i64::MAX as u64),
            checksum,
        };
        let promise = Arc::new(promise);
        let engine = self.clone();
        to_its_end(async move { engine.seal(account, id, promise).await }).await
    }

    async fn seal(
        &self,
        account: AccountId,
        id: SnapshotId,
        promise: Arc<Promise>,
    ) -> Result<SnapshotState, Error> {
        let sealed = self
            .inner
            .db
            .transact(move |txn| {
                let promise = Arc::clone(&promise);
                Box::pin(async move {
                    let record = catalog::snapshots::get(txn, id).await?;
                    let Some(record) = record.filter(|record| record.account == account) else {
                        return Ok(None);
                    };
                    if record.state == State::Open {
                        catalog::snapshots::seal(txn, id, &promise).await?;
                    }
                    Ok(Some(record.state))
                })
            })
            .await;
        // Also when the outcome is unknown: it may have happened, and the client asks again.
        self.inner.snapshots.forget(id);
        self.inner.sealed.notify_one();
        match sealed.map_err(Error::of_catalog)? {
            None => Err(Error::SnapshotNotFound { id }),
            Some(State::Open | State::Sealed) => Ok(SnapshotState::Pending),
            Some(State::Completed) => Ok(SnapshotState::Completed),
            Some(State::Failed) => Ok(SnapshotState::Error),
        }
    }
}
