//! The one door to blocking threads.

use crate::Error;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Runs work that blocks or computes for long, off the async workers, at most as many at a time as there are permits.
/// Work that has begun is finished, and keeps its permit, also when the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let permit = Arc::clone(permits).acquire_owned().await;
    let permit = permit.expect("the semaphore is never closed");
    let ended = tokio::task::spawn_blocking(move || {
        let outcome = work();
        drop(permit);
        outcome
    });
    ended.await.map_err(|error| Error::Closed {
        reason: format!("a blocking thread ended early: {error}"),
    })?
}
