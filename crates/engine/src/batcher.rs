//! Group commit: whatever waits when a turn is free goes into the next batch.
//!
//! Nobody waits for a timer: alone, an item is a batch of one; under load, batches grow by themselves.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// The way into batches of `I`, each item answered with an `O`.
pub(crate) struct Batcher<I, O> {
    queue: mpsc::Sender<(I, oneshot::Sender<O>)>,
}

/// The bounds of a [`Batcher`].
pub(crate) struct BatchLimits {
    /// Items in one batch.
    pub(crate) items: usize,
    /// Batches under way at a time.
    pub(crate) in_flight: usize,
    /// Items that wait; beyond it callers wait for a place.
    pub(crate) queue: usize,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts a task that hands batches to `run`, which answers each item, in order.
    ///
    /// The task ends, after what is under way, when the batcher is dropped.
    pub(crate) fn spawn<F>(limits: BatchLimits, run: F) -> Batcher<I, O>
    where
        F: Fn(Vec<I>) -> BoxFuture<'static, Vec<O>> + Send + Sync + 'static,
    {
        let (queue, mut waiting) = mpsc::channel::<(I, oneshot::Sender<O>)>(limits.queue);
        let run = Arc::new(run);
        let turns = Arc::new(Semaphore::new(limits.in_flight));
        tokio::spawn(async move {
            let mut items = Vec::new();
            loop {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                    break;
                };
                if waiting.recv_many(&mut items, limits.items).await == 0 {
                    break;
                }
                let (batch, answers): (Vec<_>, Vec<_>) = items.drain(..).unzip();
                let run = Arc::clone(&run);
                tokio::spawn(async move {
                    let outcomes = run(batch).await;
                    drop(turn);
                    for (answer, outcome) in answers.into_iter().zip(outcomes) {
                        // A caller that went away does not want its answer.
                        let _ = answer.send(outcome);
                    }
                });
            }
        });
        Batcher { queue }
    }

    /// Puts an item into a batch and waits for its answer; `None` when the batch died.
    pub(crate) async fn call(&self, item: I) -> Option<O> {
        let (answer, outcome) = oneshot::channel();
        self.queue.send((item, answer)).await.ok()?;
        outcome.await.ok()
    }

    /// Items that wait for a batch.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn items_that_wait_share_a_batch_and_get_their_own_answers() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let gate = Arc::new(Semaphore::new(0));
        let (seen, opened) = (Arc::clone(&sizes), Arc::clone(&gate));
        let limits = BatchLimits {
            items: 8,
            in_flight: 1,
            queue: 64,
        };
        let batcher = Arc::new(Batcher::spawn(limits, move |batch: Vec<u32>| {
            let (seen, opened) = (Arc::clone(&seen), Arc::clone(&opened));
            Box::pin(async move {
                seen.lock().unwrap().push(batch.len());
                opened.acquire().await.unwrap().forget();
                batch.into_iter().map(|item| item * 2).collect()
            })
        }));
        let calls: Vec<_> = (0..20)
            .map(|item| {
                let batcher = Arc::clone(&batcher);
                tokio::spawn(async move { batcher.call(item).await })
            })
            .collect();
        // Enough turns of this one-threaded runtime for every call to be waiting.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(100);
        for (item, call) in (0..20).zip(calls) {
            assert_eq!(call.await.unwrap(), Some(item * 2));
        }
        let sizes = sizes.lock().unwrap();
        assert_eq!(sizes.iter().sum::<usize>(), 20);
        assert!(sizes.len() <= 4, "1 + 8 + 8 + 3, but was {sizes:?}");
    }
}
