//! Tasks that end with whoever started them, and whose results come in the order of starting, or as they are.

use crate::Error;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// A task that is stopped when this is dropped.
pub(crate) struct Task<T>(JoinHandle<Result<T, Error>>);

impl<T: Send + 'static> Task<T> {
    /// Starts it.
    pub(crate) fn start(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Task<T> {
        Task(tokio::spawn(work))
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(settle)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tasks that are under way; all are stopped when this is dropped.
pub(crate) enum Tasks<T> {
    /// Results come as tasks end.
    Unordered(FuturesUnordered<Task<T>>),
    /// Results come in the order in which tasks were started.
    Ordered(FuturesOrdered<Task<T>>),
}

impl<T: Send + 'static> Tasks<T> {
    /// None yet.
    pub(crate) fn new(ordered: bool) -> Tasks<T> {
        match ordered {
            true => Tasks::Ordered(FuturesOrdered::new()),
            false => Tasks::Unordered(FuturesUnordered::new()),
        }
    }

    /// Starts one.
    pub(crate) fn start(&mut self, work: impl Future<Output = Result<T, Error>> + Send + 'static) {
        match self {
            Tasks::Unordered(tasks) => tasks.push(Task::start(work)),
            Tasks::Ordered(tasks) => tasks.push_back(Task::start(work)),
        }
    }

    /// How many were started whose results were not taken.
    pub(crate) fn len(&self) -> usize {
        match self {
            Tasks::Unordered(tasks) => tasks.len(),
            Tasks::Ordered(tasks) => tasks.len(),
        }
    }

    /// The next result; nothing when none is under way. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<T, Error>> {
        match self {
            Tasks::Unordered(tasks) => tasks.next().await,
            Tasks::Ordered(tasks) => tasks.next().await,
        }
    }

    /// Stops all, and waits until they hold nothing any more.
    pub(crate) async fn stop(&mut self) {
        match self {
            Tasks::Unordered(tasks) => tasks.iter().for_each(|task| task.0.abort()),
            // These cannot be looked at without waiting; dropping one stops it.
            Tasks::Ordered(tasks) => *tasks = FuturesOrdered::new(),
        }
        while self.next().await.is_some() {}
    }
}

/// Work that blocks, away from the threads that serve connections.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    settle(tokio::task::spawn_blocking(work).await)
}

fn settle<T>(joined: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    match joined {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Interrupted),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn order_is_kept_where_it_is_wanted() {
        for ordered in [true, false] {
            let mut tasks = Tasks::new(ordered);
            let (release, wait) = oneshot::channel::<()>();
            tasks.start(async move {
                let _ = wait.await;
                Ok(1)
            });
            tasks.start(async { Ok(2) });
            let mut release = Some(release);
            if ordered {
                release.take().map(|release| release.send(()));
            }
            let first = tasks.next().await.unwrap().unwrap();
            release.take().map(|release| release.send(()));
            let second = tasks.next().await.unwrap().unwrap();
            assert_eq!((first, second), if ordered { (1, 2) } else { (2, 1) });
            assert!(tasks.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_is_stopped_lets_go() {
        let held = Arc::new(());
        let mut tasks = Tasks::<()>::new(false);
        for _ in 0..4 {
            let held = Arc::clone(&held);
            tasks.start(async move {
                let _held = held;
                std::future::pending().await
            });
        }
        assert_eq!(tasks.len(), 4);
        tasks.stop().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
