//! How long the HTTP side waits for clients.

use std::time::Duration;

/// The limits of time for everything that a client may be slow at; its bodies are judged in the crates of the APIs.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first byte of a head to its end.
    pub head: Duration,
    /// For the first request of a connection, while others wait for a place.
    pub first: Duration,
    /// For a place among the connections.
    pub place: Duration,
    /// For the head of a client that is told to come again, and for its taking the answer.
    pub telling: Duration,
    /// Without a byte of an answer being taken.
    pub stall: Duration,
    /// For an answer whatever the rate, counted from when the system first took no more.
    pub grace: Duration,
    /// Bytes per second of an answer that are taken after the grace.
    pub rate_min: u64,
}

impl Patience {
    /// What `serve` uses.
    pub const STANDARD: Patience = Patience {
        // Clients send a head in one piece.
        head: Duration::from_secs(10),
        // Clients connect when they have a request; a round trip around the world takes 300 ms.
        first: Duration::from_secs(1),
        // A place comes free within milliseconds when clients behave: answers then end their connections.
        place: Duration::from_secs(2),
        telling: Duration::from_secs(5),
        // Longer than the retransmissions of a lossy mobile line.
        stall: Duration::from_secs(20),
        grace: Duration::from_secs(10),
        // 64 downloads at a time over 10 Mbit/s pass; while others wait, more is asked for (engine::Admission).
        rate_min: 16 * 1024,
    };
}
