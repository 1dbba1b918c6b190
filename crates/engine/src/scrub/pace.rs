//! How fast a scrub may go: a bound in bytes, and behind those who wait.

use std::sync::Arc;
use std::time::Duration;
use types::Clock;

/// Below this much debt nobody sleeps: timers are no finer than a millisecond.
const SLEEP_MIN: Duration = Duration::from_millis(20);

/// Time without reading that counts as saved up, at most.
const CREDIT_MAX: Duration = Duration::from_millis(100);

/// One look at whether requests still wait.
const YIELD: Duration = Duration::from_millis(5);

/// Looks before going on all the same: under load without end a read begins every 50 ms.
const YIELDS_MAX: u32 = 10;

/// A bound on bytes in a second.
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    bytes_per_second: u64,
    /// Time that what was read so far takes at that rate, and that has not passed yet.
    debt: Duration,
    /// Time that passed and was not used.
    credit: Duration,
    last: Duration,
}

impl Pace {
    pub(super) fn new(clock: Arc<dyn Clock>, bytes_per_second: u64) -> Pace {
        let last = clock.monotonic();
        Pace {
            clock,
            bytes_per_second: bytes_per_second.max(1),
            debt: Duration::ZERO,
            credit: Duration::ZERO,
            last,
        }
    }

    /// Waits until these bytes may be read.
    pub(super) async fn take(&mut self, bytes: u64) {
        self.pass();
        self.debt = self.debt.saturating_sub(self.credit);
        self.credit = Duration::ZERO;
        if self.debt >= SLEEP_MIN {
            tokio::time::sleep(self.debt).await;
            // The time slept has passed, also by a clock that stands still.
            let slept = self.clock.monotonic().saturating_sub(self.last);
            self.credit = slept.saturating_sub(self.debt).min(CREDIT_MAX);
            self.debt = Duration::ZERO;
            self.last = self.clock.monotonic();
        }
        self.debt += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
    }

    /// Counts the time since the last look.
    fn pass(&mut self) {
        let now = self.clock.monotonic();
        let passed = now.saturating_sub(self.last);
        self.last = now;
        let unused = passed.saturating_sub(self.debt);
        self.debt = self.debt.saturating_sub(passed);
        self.credit = (self.credit + unused).min(CREDIT_MAX);
    }
}

/// Lets requests go first for as long as they wait, within a bound.
pub(super) async fn give_way(are_waiting: impl Fn() -> bool) {
    for _ in 0..YIELDS_MAX {
        if !are_waiting() {
            return;
        }
        tokio::time::sleep(YIELD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::TestClock;

    /// Reads blocks at 100 MB/s for `blocks` blocks; answers how long it has slept. The runtime's own clock stands still except for sleeping.
    async fn slept(blocks: u32, between: Duration) -> Duration {
        let clock = Arc::new(TestClock::at(0));
        let mut pace = Pace::new(Arc::clone(&clock) as _, 100_000_000);
        let mut slept = Duration::ZERO;
        for _ in 0..blocks {
            clock.advance(between);
            let before = pace.debt;
            pace.take(500_000).await;
            if pace.debt < before {
                slept += before;
            }
        }
        slept
    }

    #[tokio::test(start_paused = true)]
    async fn reading_takes_as_long_as_its_bytes_at_the_rate() {
        // 1,000 blocks of 5 ms each, less what is not slept for yet.
        let all = slept(1_000, Duration::ZERO).await;
        assert!(all >= Duration::from_millis(4_970), "{all:?}");
        assert!(all <= Duration::from_millis(5_000), "{all:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slower_than_the_rate_never_sleeps() {
        assert_eq!(slept(1_000, Duration::from_millis(6)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_go_first_but_not_for_ever() {
        let looks = std::cell::Cell::new(0);
        give_way(|| {
            looks.set(looks.get() + 1);
            looks.get() < 3
        })
        .await;
        assert_eq!(looks.get(), 3);
        give_way(|| {
            looks.set(looks.get() + 1);
            true
        })
        .await;
        assert_eq!(looks.get(), 3 + YIELDS_MAX);
    }
}
