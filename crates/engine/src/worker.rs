//! The workers: what goes on without being asked.

use crate::{Engine, limits};
use std::time::Duration;
use tokio::task::JoinSet;

/// The running workers of an engine. They stop, wherever they are, when this is dropped: each of them can.
pub struct Workers {
    tasks: JoinSet<()>,
}

impl Workers {
    /// Starts them all: finisher, purge, frees, expiry, and what fills the filter.
    pub fn start(engine: &Engine) -> Workers {
        let mut tasks = JoinSet::new();
        let (finisher, purge) = (engine.clone(), engine.clone());
        let (frees, expiry) = (engine.clone(), engine.clone());
        tasks.spawn(async move { finisher.run_finisher().await });
        tasks.spawn(async move { purge.run_purge().await });
        tasks.spawn(async move { frees.run_frees().await });
        tasks.spawn(async move { expiry.run_expiry().await });
        // Where others store chunks too, the filter would say "no" to theirs.
        if engine.inner.exclusive_catalog {
            let engine = engine.clone();
            tasks.spawn(async move {
                engine.load_filter().await;
                std::future::pending().await
            });
        }
        Workers { tasks }
    }

    /// Resolves when a worker has died, which only a bug can do.
    pub async fn died(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) | None => "a worker returned".to_owned(),
        }
    }
}

/// Growing pauses between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            next: limits::RETRY_PAUSE,
        }
    }
}

impl Backoff {
    /// After a success.
    pub(crate) fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// After a failure: waits, longer each time.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(limits::RETRY_PAUSE_MAX);
    }
}
