//! Threads that look at blocks: they take items in order, read, hash and decide; what must be put goes on to `send.rs`, the rest is done
//! with here.
//!
//! On threads of their own, because reading and hashing block; a few more than there are processors, so that some read while others
//! hash. They end when the plan does, when one of them fails, or when nobody wants what they find.

use super::collect::{Message, Settled, SharedJournal};
use super::decide::{Verdict, decide};
use super::plan::{Content, Plan};
use crate::Error;
use crate::source::Source;
use buffers::{AlignedBuf, BufferPool};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use types::{BlockIndex, Digest, is_zero};

/// Most threads that read and hash.
const THREADS_MAX: usize = 8;

/// A block that must be put.
#[derive(Debug)]
pub(super) struct Put {
    /// Its place among all items.
    pub(super) sequence: u64,
    /// Which block.
    pub(super) index: BlockIndex,
    /// Digest of its content.
    pub(super) digest: Digest,
    /// Its content; nothing for zeros.
    pub(super) data: Option<Bytes>,
}

/// What readers share.
#[derive(Clone)]
pub(super) struct Readers {
    pub(super) runtime: Handle,
    pub(super) source: Arc<Source>,
    pub(super) plan: Arc<Mutex<Plan>>,
    /// A permit for each item that may be taken.
    pub(super) gate: Arc<Semaphore>,
    pub(super) buffers: BufferPool,
    pub(super) journal: Option<SharedJournal>,
    pub(super) puts: mpsc::Sender<Result<Put, Error>>,
    pub(super) settled: mpsc::Sender<Message>,
}

/// Whether to go on.
enum Next {
    Item,
    End,
}

impl Readers {
    /// Starts the threads. They hold the only senders of puts, so that the channel ends when they do.
    pub(super) fn start(self) -> Result<(), Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for number in 0..(cores + 1).min(THREADS_MAX) {
            let reader = self.clone();
            std::thread::Builder::new()
                .name(format!("upload-reader-{number}"))
                .spawn(move || reader.run())
                .map_err(Error::io("a thread cannot be started"))?;
        }
        Ok(())
    }

    fn run(self) {
        loop {
            match self.step() {
                Ok(Next::Item) => {}
                Ok(Next::End) => return,
                Err(error) => {
                    // When it cannot be told, the transfer has ended already.
                    let _ = self.puts.blocking_send(Err(error));
                    return;
                }
            }
        }
    }

    fn step(&self) -> Result<Next, Error> {
        if !self.wait_at_the_gate() {
            return Ok(Next::End);
        }
        let next = self
            .plan
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()?;
        let Some(item) = next else {
            return Ok(Next::End);
        };
        let (digest, data) = self.look_at(item.index, item.content)?;
        let verdict = decide(digest, item.parent, item.own);
        let sent = if verdict == Verdict::Put {
            if let Some(journal) = &self.journal {
                let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
                journal.begin(item.index)?;
            }
            let put = Put {
                sequence: item.sequence,
                index: item.index,
                digest,
                data: data.map(AlignedBuf::freeze),
            };
            self.puts.blocking_send(Ok(put)).is_ok()
        } else {
            let place = (item.sequence, item.index);
            let settled = Settled::skipped(place, digest, item.parent.is_some(), verdict);
            self.settled
                .blocking_send(Message::Settled(settled))
                .is_ok()
        };
        Ok(if sent { Next::Item } else { Next::End })
    }

    fn wait_at_the_gate(&self) -> bool {
        let permit = match self.gate.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match self.runtime.block_on(self.gate.acquire()) {
                Ok(permit) => permit,
                Err(_) => return false,
            },
        };
        permit.forget();
        true
    }

    /// The digest of a block, and its content unless that is zeros.
    fn look_at(
        &self,
        index: BlockIndex,
        content: Content,
    ) -> Result<(Digest, Option<AlignedBuf>), Error> {
        let data = match content {
            Content::Zeros => return Ok((Digest::ZERO_BLOCK, None)),
            Content::Read(data) => data,
            Content::ToRead => {
                let mut buffer = take(&self.runtime, &self.buffers);
                self.source.read_block(index, &mut buffer)?;
                buffer
            }
        };
        if is_zero(&data) {
            return Ok((Digest::ZERO_BLOCK, None));
        }
        Ok((Digest::of(&data), Some(data)))
    }
}

/// A buffer, waiting for it on a thread that may block.
pub(super) fn take(runtime: &Handle, buffers: &BufferPool) -> AlignedBuf {
    buffers
        .try_take()
        .unwrap_or_else(|| runtime.block_on(buffers.take()))
}
