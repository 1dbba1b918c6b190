//! Holds one call of the catalog or the chunk store, so that a test decides what comes between it and the call before.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The gate that calls pass, each before it begins and after it ended.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many more pass before one is held.
    hold_after: Option<u64>,
    held: bool,
}

impl Gate {
    /// Lets `calls` more pass, and holds the next.
    pub fn hold_after(&self, calls: u64) {
        self.state().hold_after = Some(calls);
    }

    /// Resolves once one is held.
    pub async fn held(&self) {
        while !self.state().held {
            self.changed.notified().await;
        }
    }

    /// Lets all pass.
    pub fn release(&self) {
        *self.state() = State::default();
        self.changed.notify_waiters();
    }

    /// Passes, at once or when it is released.
    pub async fn pass(&self) {
        {
            let mut state = self.state();
            match &mut state.hold_after {
                None => return,
                Some(0) => state.hold_after = None,
                Some(left) => {
                    *left -= 1;
                    return;
                }
            }
            state.held = true;
        }
        self.changed.notify_one();
        while self.state().held {
            self.changed.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn one_is_held_until_it_is_released() {
        let gate = Gate::default();
        assert!(gate.pass().now_or_never().is_some(), "nothing is held yet");
        gate.hold_after(1);
        assert!(gate.pass().now_or_never().is_some());
        let mut held = Box::pin(gate.pass());
        assert!(held.as_mut().now_or_never().is_none());
        assert!(gate.held().now_or_never().is_some());
        assert!(gate.pass().now_or_never().is_some(), "others pass");
        gate.release();
        assert!(held.now_or_never().is_some());
    }
}
