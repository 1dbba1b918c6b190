//! What a bench asks of a load generator, and what it gets back.

use super::requests::{Content, Key};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One run.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// The server.
    pub address: SocketAddr,
    /// Who signs.
    pub key: Key,
    /// Connections, each with one request in flight.
    pub in_flight: usize,
    /// No request begins later than this after the first, in milliseconds.
    pub millis_max: u64,
    /// What is sent.
    pub work: Work,
}

/// What a run sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Puts of blocks, one after the other.
    Put {
        /// Into this snapshot.
        snapshot: String,
        /// What they hold.
        content: Content,
        /// The distance between two of their indexes; the first is 0.
        index_step: u32,
        /// Requests that are prepared.
        requests: u64,
        /// What happens after the last of them.
        then: Then,
    },
    /// Gets of the first blocks of a snapshot, at most 10,000.
    Get {
        /// Of this snapshot.
        snapshot: String,
        /// The server that lists them; not always the one that is measured.
        listed_by: SocketAddr,
        /// What happens after the last of them.
        then: Then,
    },
    /// The same GET again and again; its first answer is kept and its items are counted.
    Call {
        /// Path and query.
        target: String,
        /// Times at most.
        requests: u64,
    },
}

/// What happens after the last prepared request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Then {
    /// The run ends.
    End,
    /// The first is sent again.
    Repeat,
}

/// What a run measured.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Requests answered, all of them with success.
    pub requests: u64,
    /// Bytes of block data, or of answers where there is none.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Latency of the request that began first.
    pub first_ms: f64,
    /// Median latency; of all requests but the first where the first is apart ([`Work::Call`]).
    pub p50_ms: f64,
    /// 99th percentile, likewise.
    pub p99_ms: f64,
    /// Processor time of the load generator.
    pub cpu_seconds: f64,
    /// Items in the first answer of [`Work::Call`].
    pub items: u64,
}
