//! The bounded queue between those who append and the writer threads.
//!
//! Whatever waits when a writer is free becomes its next batch, oldest first, so batches grow with the load and an
//! idle store answers at once. Blocks and pages lie in different segments and therefore never share a batch.

use crate::encode::Encoded;
use crate::metrics::Metrics;
use crate::{ContainerKind, Error, Stored};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes of frames that may wait or be written at a time; who brings more waits outside.
const QUEUE_BYTES_MAX: u64 = 128 << 20;

/// The semaphore counts in this unit, since it cannot count to [`QUEUE_BYTES_MAX`] in bytes.
const PERMIT_BYTES: u64 = 4096;

/// Chunks that are stored together or not at all.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) kind: ContainerKind,
    pub(crate) frames: Vec<Encoded>,
    /// Bytes of all frames.
    pub(crate) bytes: u64,
    pub(crate) answer: oneshot::Sender<Result<Vec<Stored>, Error>>,
    /// Its share of the queue, given back when the job is done.
    _room: OwnedSemaphorePermit,
}

/// Jobs that wait for a writer.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    /// With the number that tells which came first.
    blocks: VecDeque<(u64, Job)>,
    pages: VecDeque<(u64, Job)>,
    pushed: u64,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Queue {
        Queue {
            state: Mutex::default(),
            changed: Condvar::new(),
            room: Arc::new(Semaphore::new((QUEUE_BYTES_MAX / PERMIT_BYTES) as usize)),
            metrics,
        }
    }

    /// Queues frames as soon as there is room; what is answered comes through the receiver.
    pub(crate) async fn push(
        &self,
        kind: ContainerKind,
        frames: Vec<Encoded>,
        bytes: u64,
    ) -> Result<oneshot::Receiver<Result<Vec<Stored>, Error>>, Error> {
        let permits = bytes.div_ceil(PERMIT_BYTES) as u32;
        let room = Arc::clone(&self.room)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| closed())?;
        let (answer, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        self.metrics.queued_frames_now.add(frames.len() as u64);
        let number = state.pushed;
        state.pushed += 1;
        state.lane(kind).push_back((
            number,
            Job {
                kind,
                frames,
                bytes,
                answer,
                _room: room,
            },
        ));
        drop(state);
        self.changed.notify_one();
        Ok(receiver)
    }

    /// Waits for jobs and takes what fits into one batch, all of one kind; `None` once the queue is closed and empty.
    pub(crate) fn next_batch(&self, bytes_max: u64, frames_max: usize) -> Option<Vec<Job>> {
        let waits = |state: &mut State| state.oldest().is_none() && !state.closed;
        let state = self.changed.wait_while(self.state(), waits);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        self.take_batch(state, bytes_max, frames_max)
    }

    /// The same without waiting: `None` when nothing is queued.
    pub(crate) fn waiting_batch(&self, bytes_max: u64, frames_max: usize) -> Option<Vec<Job>> {
        self.take_batch(self.state(), bytes_max, frames_max)
    }

    fn take_batch(
        &self,
        mut state: MutexGuard<'_, State>,
        bytes_max: u64,
        frames_max: usize,
    ) -> Option<Vec<Job>> {
        let kind = state.oldest()?;
        let lane = state.lane(kind);
        let (mut batch, mut bytes, mut frames) = (Vec::new(), 0, 0);
        while let Some((_, job)) = lane.front() {
            bytes += job.bytes;
            frames += job.frames.len();
            if !batch.is_empty() && (bytes > bytes_max || frames > frames_max) {
                break;
            }
            batch.extend(lane.pop_front().map(|(_, job)| job));
        }
        let taken: usize = batch.iter().map(|job| job.frames.len()).sum();
        self.metrics.queued_frames_now.subtract(taken as u64);
        Some(batch)
    }

    /// Takes no more jobs. Those that wait are still written.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.room.close();
        self.changed.notify_all();
    }

    /// Takes no more jobs and forgets those that wait: their callers learn that the store is closed.
    pub(crate) fn abort(&self) {
        self.close();
        let mut state = self.state();
        let forgotten: usize = [ContainerKind::Blocks, ContainerKind::Pages]
            .into_iter()
            .flat_map(|kind| std::mem::take(state.lane(kind)))
            .map(|(_, job)| job.frames.len())
            .sum();
        self.metrics.queued_frames_now.subtract(forgotten as u64);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, kind: ContainerKind) -> &mut VecDeque<(u64, Job)> {
        match kind {
            ContainerKind::Blocks => &mut self.blocks,
            ContainerKind::Pages => &mut self.pages,
        }
    }

    /// The kind whose first job came first.
    fn oldest(&self) -> Option<ContainerKind> {
        let heads = [
            self.blocks
                .front()
                .map(|(number, _)| (number, ContainerKind::Blocks)),
            self.pages
                .front()
                .map(|(number, _)| (number, ContainerKind::Pages)),
        ];
        heads
            .into_iter()
            .flatten()
            .min_by_key(|(number, _)| **number)
            .map(|(_, kind)| kind)
    }
}

fn closed() -> Error {
    Error::Closed {
        reason: "it was shut down".to_owned(),
    }
}
