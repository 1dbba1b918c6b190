//! What the parts of a connection tell each other: the service, the wire, and the door.
//!
//! ```text
//! idle ── a head was read ──> busy ── the handler answered ──> sending ── all of it went out ──> idle
//! ```

use super::framing::Announced;
use engine::Transfer;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use types::Clock;

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const SENDING: u8 = 2;

/// The state of one connection.
pub struct Exchange {
    /// Responses on their way out.
    pub announced: Announced,
    clock: Arc<dyn Clock>,
    phase: AtomicU8,
    /// Requests begun so far.
    requests: AtomicU64,
    /// When it became idle, in microseconds of the monotonic clock.
    idle_since: AtomicU64,
    answered: AtomicBool,
    evicted: AtomicBool,
    eviction: Notify,
    deliveries: Mutex<Vec<Arc<Transfer>>>,
}

impl Exchange {
    /// A connection that waits for its first request.
    pub fn new(clock: Arc<dyn Clock>) -> Exchange {
        Exchange {
            announced: Announced::default(),
            phase: AtomicU8::new(IDLE),
            requests: AtomicU64::new(0),
            idle_since: AtomicU64::new(micros(clock.monotonic())),
            clock,
            answered: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            eviction: Notify::new(),
            deliveries: Mutex::default(),
        }
    }

    /// A request was read and is with the service until the answer is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.phase.store(BUSY, Ordering::SeqCst);
        Busy(Arc::clone(self))
    }

    /// An answer of this transfer is on its way out.
    pub fn deliver(&self, transfer: Arc<Transfer>) {
        transfer.start();
        self.deliveries().push(transfer);
    }

    /// So many bytes of answers went out.
    pub fn delivered(&self, bytes: usize) {
        for transfer in self.deliveries().iter() {
            transfer.moved(bytes);
        }
    }

    /// The answer that is on its way out.
    pub fn delivery(&self) -> Option<Arc<Transfer>> {
        self.deliveries().first().map(Arc::clone)
    }

    /// Everything that was answered has gone out.
    pub fn all_sent(&self) {
        self.deliveries().clear();
        if self.phase.load(Ordering::SeqCst) == SENDING {
            let now = micros(self.clock.monotonic());
            self.idle_since.store(now, Ordering::Relaxed);
            self.answered.store(true, Ordering::Relaxed);
            // Unless the next request has come meanwhile.
            let _ = self
                .phase
                .compare_exchange(SENDING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Whether no request is under way; perhaps a part of a head has come.
    pub fn is_idle(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == IDLE
    }

    /// Whether a request was answered and none is under way.
    pub fn is_between_requests(&self) -> bool {
        self.is_idle() && self.answered.load(Ordering::Relaxed)
    }

    /// Requests begun so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Since when no request is under way, if it may be closed for that: its first request has so long to come.
    pub fn evictable_since(&self, first: Duration) -> Option<Duration> {
        let since = Duration::from_micros(self.idle_since.load(Ordering::Relaxed));
        let has_had_its_time = || {
            self.answered.load(Ordering::Relaxed)
                || self.clock.monotonic().saturating_sub(since) >= first
        };
        (self.is_idle() && has_had_its_time()).then_some(since)
    }

    /// Asks the connection to end as soon as it is idle. Answers whether this is the first time.
    pub fn evict(&self) -> bool {
        let first = !self.evicted.swap(true, Ordering::Relaxed);
        if first {
            self.eviction.notify_one();
        }
        first
    }

    /// Whether the connection was asked to end.
    pub fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Comes when the connection is asked to end.
    pub async fn eviction(&self) {
        self.eviction.notified().await;
    }

    fn deliveries(&self) -> MutexGuard<'_, Vec<Arc<Transfer>>> {
        self.deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way on a connection.
pub struct Busy(Arc<Exchange>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.phase.store(SENDING, Ordering::SeqCst);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
