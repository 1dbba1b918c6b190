//! Time as something that is handed in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 00:00 UTC.
pub type UnixMillis = i64;

/// Where a component learns the time.
///
/// A trait because a replayed run needs a clock that only moves when the test says so.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock; it may step in either direction. For display, signatures and token expiry.
    fn now(&self) -> UnixMillis;

    /// Time since some fixed point; never goes back. For durations and timeouts.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    pub fn new() -> SystemClock {
        SystemClock {
            origin: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock"
    )]
    fn now(&self) -> UnixMillis {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock {
    wall: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl TestClock {
    /// A clock that shows `now`.
    pub fn at(now: UnixMillis) -> TestClock {
        TestClock {
            wall: AtomicI64::new(now),
            monotonic_ms: AtomicU64::new(0),
        }
    }

    /// Lets time pass: both the wall clock and the monotonic one move.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_ms.fetch_add(ms, Ordering::Relaxed);
        self.wall
            .fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Steps the wall clock alone, as an administrator or NTP does.
    pub fn step_to(&self, now: UnixMillis) {
        self.wall.store(now, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        self.wall.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
    }
}
