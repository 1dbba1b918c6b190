//! How many block requests are on the way at once: more while that moves more, fewer when the server throttles.
//!
//! ```text
//! limit.rs    the logic: what the number is, from how requests end     <- start here
//! bucket.rs   the bandwidth that a user allows
//! ```
//!
//! Who wants to send waits for a place; places are given in the order in which they were asked for. When the limit sinks, places that
//! come back are not given out again until as few are out.

mod bucket;
mod limit;

pub(crate) use limit::Outcome;

use crate::{Counter, Meter, instant};
use bucket::Bucket;
use limit::{Limit, Round};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Places for block requests, and bandwidth for their data.
pub(crate) struct Flow {
    state: Mutex<State>,
    free: Semaphore,
    bucket: Option<Bucket>,
    meter: Arc<Meter>,
}

struct State {
    limit: Limit,
    /// Places that exist, given out or free.
    places: usize,
}

impl Flow {
    /// Never more places than so many, and never more bytes a second than so many.
    pub(crate) fn new(in_flight_max: usize, bandwidth: Option<u64>, meter: Arc<Meter>) -> Flow {
        let limit = Limit::new(in_flight_max);
        let places = limit.get();
        meter.set(Counter::InFlightLimit, places as u64);
        Flow {
            state: Mutex::new(State { limit, places }),
            free: Semaphore::new(places),
            bucket: bandwidth.map(Bucket::new),
            meter,
        }
    }

    /// Waits for a place. Dropping the future gives up the place in the line.
    pub(crate) async fn admit(&self) -> Place<'_> {
        let permit = self
            .free
            .acquire()
            .await
            .expect("nobody closes this semaphore");
        permit.forget();
        self.meter.add(Counter::InFlight, 1);
        Place {
            flow: self,
            round: self.state().limit.round(),
            outcome: Outcome::Other,
        }
    }

    /// Waits until so many bytes of block data may move.
    pub(crate) async fn pace(&self, bytes: usize) {
        if let Some(bucket) = &self.bucket {
            bucket.take(bytes).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in flight; given back when dropped.
pub(crate) struct Place<'a> {
    flow: &'a Flow,
    round: Round,
    outcome: Outcome,
}

impl Place<'_> {
    /// Gives the place back and says how the request ended.
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let flow = self.flow;
        flow.meter.sub(Counter::InFlight, 1);
        let mut state = flow.state();
        // Whoever waits for a place gets it in the moment when one comes back.
        let was_full = flow.free.available_permits() == 0;
        state
            .limit
            .ended(self.outcome, self.round, was_full, instant::now());
        let wanted = state.limit.get();
        flow.meter.set(Counter::InFlightLimit, wanted as u64);
        // The place that comes back is free, unless it is one too many.
        if state.places > wanted {
            state.places -= 1;
        } else {
            let more = wanted - state.places;
            state.places = wanted;
            flow.free.add_permits(1 + more);
        }
        // Free places beyond the limit are taken away at once.
        if state.places > wanted {
            state.places -= flow.free.forget_permits(state.places - wanted);
        }
    }
}

#[cfg(test)]
mod tests;
