//! Block data on its way in: from a socket into one of a fixed number of buffers.
//!
//! Policy
//! - A buffer is taken before the first byte is read, so memory is bounded by the pool and TCP holds the rest back.
//! - No access key has more than its share of the buffers; its further requests wait in line.
//! - Whoever waits for a buffer longer than `pressure` has the slowest body cut, once it has had as long itself. The cut
//!   client gets `Failed to read block data`, which tells it to send again.
//! - A body that stalls or crawls is cut anyway (`body.rs`).
//!
//! There are two intakes: one for bodies whose signature is verified, and a small one for those that must be hashed first.

use crate::body::{BodyFault, BodyLimits, Pace, RequestBody};
use crate::error::ApiError;
use auth::AccessKeyId;
use bytes::Bytes;
use engine::{AlignedBuf, BufferPool};
use http_body::Body;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use types::{BLOCK_BYTES, Clock, Digest, DigestContext};

/// The part of the buffers that one key may hold: three quarters, so that others always find some.
const SHARE: (usize, usize) = (3, 4);

/// Buffers, and who may have them.
pub(crate) struct Intake {
    pool: BufferPool,
    limits: BodyLimits,
    clock: Arc<dyn Clock>,
    share: usize,
    lanes: Arc<Mutex<HashMap<AccessKeyId, Lane>>>,
    receiving: Mutex<Receiving>,
}

/// The buffers of one key, for as long as it has requests.
struct Lane {
    requests: usize,
    free: Arc<Semaphore>,
}

/// The bodies being received now.
#[derive(Default)]
struct Receiving {
    next_number: u64,
    bodies: HashMap<u64, Arc<Reception>>,
    last_cut: Option<Duration>,
}

/// One body being received.
struct Reception {
    begun: Duration,
    received: AtomicUsize,
    cut: Notify,
}

/// What came in.
pub(crate) enum Received {
    /// Exactly a block.
    Block(ReceivedBlock),
    /// Another length; the digest is that of all bytes, where asked for.
    WrongLength(Option<Digest>),
}

/// A block of bytes and the right to hold them.
pub(crate) struct ReceivedBlock {
    /// The bytes.
    pub(crate) data: AlignedBuf,
    /// To be kept until the buffer is free again.
    pub(crate) slot: Slot,
}

/// One of a key's buffers, given back when dropped.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl Intake {
    /// An intake into the buffers of `pool`.
    pub(crate) fn new(pool: BufferPool, limits: BodyLimits, clock: Arc<dyn Clock>) -> Intake {
        let share = (pool.total() * SHARE.0 / SHARE.1).max(1);
        Intake {
            pool,
            limits,
            clock,
            share,
            lanes: Arc::default(),
            receiving: Mutex::default(),
        }
    }

    /// Receives a body of exactly one block for this key.
    ///
    /// # Errors
    /// `Failed to read block data` for another length, a stall or a broken connection; unavailable when no buffer came free.
    pub(crate) async fn block<B>(
        &self,
        key: &AccessKeyId,
        body: &mut RequestBody<B>,
    ) -> Result<ReceivedBlock, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body
            .declared()
            .is_some_and(|declared| declared != BLOCK_BYTES as u64)
        {
            return Err(ApiError::unreadable_block());
        }
        match self.receive(key, body, WrongLength::Refused).await? {
            Received::Block(block) => Ok(block),
            Received::WrongLength(_) => Err(ApiError::unreadable_block()),
        }
    }

    /// Receives a body of any length that may be drained; its digest is known afterwards, whatever the length.
    pub(crate) async fn any<B>(
        &self,
        key: &AccessKeyId,
        body: &mut RequestBody<B>,
    ) -> Result<Received, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body
            .declared()
            .is_some_and(|declared| declared > self.limits.drain_bytes_max)
        {
            return Err(ApiError::unreadable_block());
        }
        self.receive(key, body, WrongLength::Hashed).await
    }

    async fn receive<B>(
        &self,
        key: &AccessKeyId,
        body: &mut RequestBody<B>,
        wrong_length: WrongLength,
    ) -> Result<Received, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let waited = timeout(self.limits.queue, self.buffer(key)).await;
        let (mut data, slot) =
            waited.map_err(|_| ApiError::unavailable("no buffer came free in time"))?;
        let (_registered, reception) = self.register();
        let cut = reception.cut.notified();
        let received = tokio::select! {
            biased;
            received = self.fill(&mut data, body, &reception, wrong_length) => received,
            () = cut => Err(BodyFault::Slow),
        };
        match received {
            Ok(Filled::Exactly) => Ok(Received::Block(ReceivedBlock { data, slot })),
            Ok(Filled::Other(digest)) => Ok(Received::WrongLength(digest)),
            Err(BodyFault::Broken | BodyFault::Slow) => Err(ApiError::unreadable_block()),
        }
    }

    /// Waits for the key's turn and for a buffer; has slow bodies cut meanwhile.
    async fn buffer(&self, key: &AccessKeyId) -> (AlignedBuf, Slot) {
        let place = Place::enter(&self.lanes, key, self.share);
        let permit = Arc::clone(&place.free).acquire_owned().await;
        let permit = permit.expect("a lane never closes its semaphore");
        let slot = Slot {
            _permit: permit,
            _place: place,
        };
        if let Some(data) = self.pool.try_take() {
            return (data, slot);
        }
        let mut taken = std::pin::pin!(self.pool.take());
        loop {
            match timeout(self.limits.pressure, &mut taken).await {
                Ok(data) => return (data, slot),
                Err(_) => self.cut_slowest(),
            }
        }
    }

    async fn fill<B>(
        &self,
        data: &mut AlignedBuf,
        body: &mut RequestBody<B>,
        reception: &Reception,
        wrong_length: WrongLength,
    ) -> Result<Filled, BodyFault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut pace = Pace::new(&self.limits);
        let mut filled = 0;
        while let Some(part) = pace.next(body).await? {
            let Some(room) = data.get_mut(filled..filled + part.len()) else {
                return self
                    .overlong(&data[..filled], &part, body, &mut pace, wrong_length)
                    .await;
            };
            room.copy_from_slice(&part);
            filled += part.len();
            reception.received.store(filled, Ordering::Relaxed);
        }
        if filled == data.len() {
            return Ok(Filled::Exactly);
        }
        let digest = match wrong_length {
            WrongLength::Refused => None,
            WrongLength::Hashed => {
                Some(hashed(DigestContext::new(), &data[..filled]).await.finish())
            }
        };
        Ok(Filled::Other(digest))
    }

    async fn overlong<B>(
        &self,
        begin: &[u8],
        part: &[u8],
        body: &mut RequestBody<B>,
        pace: &mut Pace<'_>,
        wrong_length: WrongLength,
    ) -> Result<Filled, BodyFault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if wrong_length == WrongLength::Refused {
            return Ok(Filled::Other(None));
        }
        let mut context = hashed(hashed(DigestContext::new(), begin).await, part).await;
        let mut length = (begin.len() + part.len()) as u64;
        while let Some(part) = pace.next(body).await? {
            length += part.len() as u64;
            if length > self.limits.drain_bytes_max {
                return Err(BodyFault::Slow);
            }
            context = hashed(context, &part).await;
        }
        Ok(Filled::Other(Some(context.finish())))
    }

    fn register(&self) -> (Registered<'_>, Arc<Reception>) {
        let begun = self.clock.monotonic();
        let reception = Arc::new(Reception {
            begun,
            received: AtomicUsize::new(0),
            cut: Notify::new(),
        });
        let mut receiving = lock(&self.receiving);
        let number = receiving.next_number;
        receiving.next_number += 1;
        receiving.bodies.insert(number, Arc::clone(&reception));
        (
            Registered {
                receiving: &self.receiving,
                number,
            },
            reception,
        )
    }

    /// Cuts the body with the lowest rate among those that have had their time, unless one was cut just now.
    fn cut_slowest(&self) {
        let now = self.clock.monotonic();
        let patience = self.limits.pressure;
        let mut receiving = lock(&self.receiving);
        if receiving
            .last_cut
            .is_some_and(|last| now.saturating_sub(last) < patience)
        {
            return;
        }
        let age = |body: &Reception| now.saturating_sub(body.begun);
        let rate = |body: &Reception| {
            let received = body.received.load(Ordering::Relaxed) as u128;
            received * 1_000_000 / age(body).as_micros().max(1)
        };
        let late = receiving
            .bodies
            .values()
            .filter(|body| age(body) >= patience);
        if let Some(slowest) = late.min_by_key(|body| rate(body)) {
            slowest.cut.notify_one();
            receiving.last_cut = Some(now);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WrongLength {
    Refused,
    Hashed,
}

enum Filled {
    Exactly,
    Other(Option<Digest>),
}

/// Takes the body from the list when it is no longer being received.
struct Registered<'a> {
    receiving: &'a Mutex<Receiving>,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(self.receiving).bodies.remove(&self.number);
    }
}

/// A request of a key; the key's lane goes with its last request.
struct Place {
    lanes: Arc<Mutex<HashMap<AccessKeyId, Lane>>>,
    key: AccessKeyId,
    free: Arc<Semaphore>,
}

impl Place {
    fn enter(
        lanes: &Arc<Mutex<HashMap<AccessKeyId, Lane>>>,
        key: &AccessKeyId,
        share: usize,
    ) -> Place {
        let mut locked = lock(lanes);
        let lane = locked.entry(key.clone()).or_insert_with(|| Lane {
            requests: 0,
            free: Arc::new(Semaphore::new(share)),
        });
        lane.requests += 1;
        Place {
            lanes: Arc::clone(lanes),
            key: key.clone(),
            free: Arc::clone(&lane.free),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.get_mut(&self.key) {
            lane.requests -= 1;
            if lane.requests == 0 {
                lanes.remove(&self.key);
            }
        }
    }
}

/// Hashes bytes that no valid request has, in steps that let others run.
async fn hashed(mut context: DigestContext, bytes: &[u8]) -> DigestContext {
    for step in bytes.chunks(64 * 1024) {
        context.update(step);
        tokio::task::yield_now().await;
    }
    context
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
