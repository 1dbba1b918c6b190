//! Bounds of what takes long: how many requests of a kind may be under way, each going on without its client.

use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};

/// Requests of one kind, the one that is worked on among them; more are refused.
const ADMITTED_MAX: usize = 4;

/// The lanes of a server.
#[derive(Debug)]
pub struct Jobs {
    /// Collections, and refreshed usage figures.
    pub collection: Lane,
    /// Scrubs.
    pub scrub: Lane,
    /// Audits, one after the other: each takes memory and reads the whole catalog.
    pub audit: Lane,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs {
            collection: Lane::new("collections"),
            scrub: Lane::new("scrubs"),
            audit: Lane::new("audits"),
        }
    }
}

/// Requests of one kind.
#[derive(Clone, Debug)]
pub struct Lane {
    plural: &'static str,
    admitted: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

impl Lane {
    fn new(plural: &'static str) -> Lane {
        Lane {
            plural,
            admitted: Arc::new(Semaphore::new(ADMITTED_MAX)),
            turn: Arc::default(),
        }
    }

    /// Runs the job to its end, also when the caller goes away.
    ///
    /// # Errors
    /// Words for a reply, when too many wait already or the job died.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let permit = Arc::clone(&self.admitted)
            .try_acquire_owned()
            .map_err(|_| {
                format!(
                    "{ADMITTED_MAX} {} are under way or wait; try again when one is done",
                    self.plural
                )
            })?;
        let end = tokio::spawn(async move {
            let done = job.await;
            drop(permit);
            done
        });
        end.await
            .map_err(|error| format!("the job died: {error}; please report this"))
    }

    /// The same, one job after the other.
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub async fn run_alone<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, String> {
        let turn = Arc::clone(&self.turn);
        self.run(async move {
            let _turn = turn.lock().await;
            job.await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn a_job_goes_on_without_its_caller_and_keeps_its_place() {
        let lane = Lane::new("audits");
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        for _ in 0..ADMITTED_MAX {
            let (go, done) = (Arc::clone(&go), Arc::clone(&done));
            let mut caller = Box::pin(lane.run(async move {
                go.notified().await;
                done.notify_one();
            }));
            assert!((&mut caller).now_or_never().is_none());
        }
        let refused = lane.run(async {}).await.expect_err("the lane is full");
        assert!(
            refused.contains("4 audits are under way or wait"),
            "{refused}"
        );
        yield_now().await;
        go.notify_waiters();
        done.notified().await;
        while lane.admitted.available_permits() < ADMITTED_MAX {
            yield_now().await;
        }
        assert_eq!(lane.run(async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn jobs_that_must_be_alone_take_turns() {
        let lane = Lane::new("audits");
        let turn = Arc::clone(&lane.turn).lock_owned().await;
        let mut waits = Box::pin(lane.run_alone(async { 7 }));
        for _ in 0..10 {
            assert!((&mut waits).now_or_never().is_none());
            yield_now().await;
        }
        drop(turn);
        assert_eq!(waits.await, Ok(7));
    }
}
