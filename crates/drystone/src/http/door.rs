//! Who comes in: a bounded number of connections, and what becomes of those beyond it.
//!
//! Policy
//! - Up to `connections_max` connections are served.
//! - The next ones wait a moment. Meanwhile answers end their connections, and for each client that waits the connection that has
//!   been without a request for longest is closed. A half-sent head is no request, but a first request has a moment to come.
//! - Who waited in vain is told to come again, in words that SDKs retry, as are those who find the waiting room full. Telling is
//!   bounded too: past that, connections are closed without a word, which SDKs retry as well.
//!
//! Invariants
//! - No step waits for a client without a limit of time, and none holds memory without a limit of number.
//! - Whoever waits either sees a connection that became idle, or is seen by it: a connection stores that it is idle before it looks
//!   whether somebody waits, and who waits counts itself before it looks for idle connections.

use super::exchange::Exchange;
use super::patience::Patience;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Clients that are told at a time, each for some milliseconds, or for 5 s when it neither reads nor closes.
const TOLD_MAX: usize = 512;

/// Pause after no connection was found idle.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Idle connections chosen in one look at all of them.
const VICTIMS: usize = 64;

/// The bounded number of connections.
pub struct Door {
    connections_max: usize,
    patience: Patience,
    served: Arc<Semaphore>,
    told: Arc<Semaphore>,
    waiting: AtomicUsize,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    taken: HashMap<u64, Arc<Exchange>>,
    next_number: u64,
    /// Connections that were idle for longest when last looked.
    victims: VecDeque<Arc<Exchange>>,
}

/// What becomes of a client.
pub enum Entry {
    /// It is served, for as long as this is held.
    Served(OwnedSemaphorePermit),
    /// It is told to come again, for as long as this is held.
    Told(OwnedSemaphorePermit),
    /// It is not even told.
    Dropped,
}

impl Door {
    /// A door to so many places.
    pub fn new(connections_max: usize, patience: Patience) -> Door {
        Door {
            connections_max,
            patience,
            served: Arc::new(Semaphore::new(connections_max)),
            told: Arc::new(Semaphore::new(TOLD_MAX)),
            waiting: AtomicUsize::new(0),
            seats: Mutex::default(),
        }
    }

    /// Finds out what becomes of a client, in bounded time.
    pub async fn enter(&self) -> Entry {
        if let Ok(permit) = Arc::clone(&self.served).try_acquire_owned() {
            return Entry::Served(permit);
        }
        if let Some(_waiting) = self.wait()
            && let Ok(permit) = timeout(self.patience.place, self.place()).await
        {
            return Entry::Served(permit);
        }
        match Arc::clone(&self.told).try_acquire_owned() {
            Ok(permit) => Entry::Told(permit),
            Err(_) => Entry::Dropped,
        }
    }

    /// Whether clients wait for a place.
    pub fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Makes the connection one of those that may be closed when they are idle, until the seat is dropped.
    pub fn seat(self: &Arc<Self>, exchange: &Arc<Exchange>) -> Seat {
        let mut seats = self.seats();
        let number = seats.next_number;
        seats.next_number += 1;
        seats.taken.insert(number, Arc::clone(exchange));
        Seat {
            door: Arc::clone(self),
            number,
        }
    }

    /// Waits until nobody is served, for a bounded time. Answers how many still are.
    pub async fn emptied(&self, within: Duration) -> usize {
        let all = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        match timeout(within, self.served.acquire_many(all)).await {
            Ok(_) => 0,
            Err(_) => self.connections_max - self.served.available_permits(),
        }
    }

    /// The next place, for which idle connections are closed.
    async fn place(&self) -> OwnedSemaphorePermit {
        let mut place = pin!(Arc::clone(&self.served).acquire_owned());
        while !self.evict_idle() {
            // Some may have become idle for long enough by then.
            if let Ok(place) = timeout(LOOK_AGAIN, &mut place).await {
                return place.expect("the door never closes its semaphore");
            }
        }
        place.await.expect("the door never closes its semaphore")
    }

    fn wait(&self) -> Option<Waiting<'_>> {
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(self);
        (before < self.connections_max).then_some(waiting)
    }

    /// Asks the connection that has been idle for longest to end. Answers whether there was one.
    fn evict_idle(&self) -> bool {
        let first = self.patience.first;
        let mut seats = self.seats();
        loop {
            while let Some(victim) = seats.victims.pop_front() {
                if victim.evictable_since(first).is_some() && victim.evict() {
                    return true;
                }
            }
            let mut idle: Vec<(Duration, &Arc<Exchange>)> = seats
                .taken
                .values()
                .filter(|exchange| !exchange.is_evicted())
                .filter_map(|exchange| Some((exchange.evictable_since(first)?, exchange)))
                .collect();
            if idle.is_empty() {
                return false;
            }
            if idle.len() > VICTIMS {
                idle.select_nth_unstable_by_key(VICTIMS, |(since, _)| *since);
                idle.truncate(VICTIMS);
            }
            idle.sort_unstable_by_key(|(since, _)| *since);
            let victims = idle
                .into_iter()
                .map(|(_, victim)| Arc::clone(victim))
                .collect();
            seats.victims = victims;
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client in the waiting room.
struct Waiting<'a>(&'a Door);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection's place among those that may be closed.
pub struct Seat {
    door: Arc<Door>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(exchange) = self.door.seats().taken.remove(&self.number) {
            // It may be among the victims, where it would be closed in place of one that lives.
            exchange.evict();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Clock, TestClock};

    #[test]
    fn a_connection_that_has_ended_is_no_victim() {
        let patience = Patience {
            first: Duration::ZERO,
            ..Patience::STANDARD
        };
        let door = Arc::new(Door::new(VICTIMS, patience));
        let clock: Arc<dyn Clock> = Arc::new(TestClock::at(0));
        let connect = || {
            let exchange = Arc::new(Exchange::new(Arc::clone(&clock)));
            (door.seat(&exchange), exchange)
        };
        let ended: Vec<_> = (0..VICTIMS).map(|_| connect()).collect();
        assert!(door.evict_idle());
        assert_eq!(door.seats().victims.len(), VICTIMS - 1);
        drop(ended);
        let (_seat, living) = connect();
        assert!(door.evict_idle());
        assert!(living.is_evicted());
        assert!(!door.evict_idle(), "nobody else is there");
    }
}
