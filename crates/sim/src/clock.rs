//! The simulated machine's clock: it moves with the runtime's paused time, and stands still while the machine is off.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::{Clock, UnixMillis};

/// When simulated time starts: 2026-09-25 11:57:20 UTC.
const START: UnixMillis = 1_790_337_440_000;

/// Time of all lives of a machine, one after the other.
#[derive(Debug, Default)]
pub struct SimClock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Of the lives before.
    passed: Duration,
    /// When the life that goes on began, in its runtime's time.
    began: Option<Instant>,
}

impl SimClock {
    /// A life begins; called on its runtime.
    #[allow(
        clippy::disallowed_methods,
        reason = "the runtime's time is paused: nothing but the simulation moves it"
    )]
    pub fn begin(&self) {
        self.state().began = Some(Instant::now());
    }

    /// The life has ended; called on its runtime.
    pub fn end(&self) {
        let passed = self.monotonic();
        *self.state() = State {
            passed,
            began: None,
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now(&self) -> UnixMillis {
        START + UnixMillis::try_from(self.monotonic().as_millis()).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        let state = self.state();
        let passed = state.began.map(|began| began.elapsed());
        state.passed + passed.unwrap_or_default()
    }
}
