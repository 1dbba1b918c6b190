//! A bandwidth that is not exceeded: bytes are let through one after the other, each taking its time.
//!
//! Nothing is saved up while nobody sends, so that there are no bursts but of what was asked for at once: a block. What is delayed by the
//! timer is not lost: the times are reckoned from one to the next, so that the rate is exact in the long run.

use crate::instant;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Lets bytes through at a rate.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes_per_second: u64,
    /// When what has been let through is through.
    free_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// At least a byte a second.
    pub(super) fn new(bytes_per_second: u64) -> Bucket {
        Bucket {
            bytes_per_second: bytes_per_second.max(1),
            free_at: Mutex::new(None),
        }
    }

    /// Waits until these bytes may move. Dropping the future gives nothing back: it is for attempts that are made.
    pub(super) async fn take(&self, bytes: usize) {
        let begin = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = instant::now();
            let begin = free_at.map_or(now, |at| at.max(now));
            *free_at = Some(begin + self.time_of(bytes));
            begin
        };
        sleep_until(begin).await;
    }

    fn time_of(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::task::JoinSet;

    const BLOCK: usize = 512 * 1024;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_exact_in_the_long_run_however_many_ask() {
        // Some 19 blocks a second, in times that are no whole milliseconds.
        let bucket = Arc::new(Bucket::new(10_000_000));
        let begun = instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let bucket = Arc::clone(&bucket);
            tasks.spawn(async move {
                for _ in 0..250 {
                    bucket.take(BLOCK).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        let took = instant::now().duration_since(begun).as_secs_f64();
        let exact = (1999 * BLOCK) as f64 / 10e6;
        assert!((took - exact).abs() < 0.01, "{took} for {exact}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_saved_up() {
        let bucket = Bucket::new(BLOCK as u64);
        bucket.take(BLOCK).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        let begun = instant::now();
        for _ in 0..3 {
            bucket.take(BLOCK).await;
        }
        let took = instant::now().duration_since(begun);
        assert_eq!(took.as_secs(), 2);
    }
}
