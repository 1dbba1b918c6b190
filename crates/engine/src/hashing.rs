//! The hashing pool: a thread per core that computes digests of blocks, and one queue before them.
//!
//! A block takes 300 µs, too long for a thread that serves requests. The threads take the next block from the queue themselves, so under load
//! none of them sleeps between two blocks. The queue needs no bound of its own: each waiting block holds a pooled buffer.

use crate::AlignedBuf;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use types::{BLOCK_BYTES, Digest, is_zero};

/// Data of one block, with its digest.
#[derive(Clone, Debug)]
pub struct HashedBlock {
    pub(crate) digest: Digest,
    /// Nothing for a block of zeros.
    pub(crate) data: Option<Bytes>,
}

impl HashedBlock {
    /// SHA-256 of the data.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    fn of(data: AlignedBuf, digest: impl Fn(&[u8]) -> Digest) -> HashedBlock {
        if is_zero(&data) {
            return HashedBlock {
                digest: Digest::ZERO_BLOCK,
                data: None,
            };
        }
        HashedBlock {
            digest: digest(&data),
            data: Some(data.freeze()),
        }
    }
}

/// The pool. Its threads end, after the block at hand, when it is dropped.
pub struct HashPool {
    place: Place,
}

enum Place {
    Threads(Arc<Shared>),
    #[cfg(any(test, feature = "test-support"))]
    Caller(Hash),
}

#[cfg(any(test, feature = "test-support"))]
type Hash = Box<dyn Fn(&[u8]) -> Digest + Send + Sync>;

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

enum Job {
    /// A block that came in.
    Block(AlignedBuf, oneshot::Sender<HashedBlock>),
    /// What is stored, to be verified.
    Stored(Bytes, oneshot::Sender<Digest>),
}

impl Job {
    fn run(self) {
        // A caller that went away does not want its answer.
        match self {
            Job::Block(data, answer) if !answer.is_closed() => {
                let _ = answer.send(HashedBlock::of(data, Digest::of));
            }
            Job::Stored(data, answer) if !answer.is_closed() => {
                let _ = answer.send(Digest::of(&data));
            }
            Job::Block(..) | Job::Stored(..) => {}
        }
    }
}

impl HashPool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(threads: usize) -> io::Result<HashPool> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
        });
        let pool = HashPool {
            place: Place::Threads(Arc::clone(&shared)),
        };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("hash-{number}"));
            thread.spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// No threads: `digest` is called where a block is to be hashed. For simulations, which repeat exactly, and often know the
    /// digests of their blocks.
    #[cfg(any(test, feature = "test-support"))]
    pub fn inline(digest: impl Fn(&[u8]) -> Digest + Send + Sync + 'static) -> HashPool {
        HashPool {
            place: Place::Caller(Box::new(digest)),
        }
    }

    /// The digest of a whole block; nothing when the pool has ended.
    ///
    /// # Panics
    /// When the buffer is not one of 512 KiB.
    pub async fn hash(&self, data: AlignedBuf) -> Option<HashedBlock> {
        assert_eq!(data.len(), BLOCK_BYTES, "a block has 512 KiB");
        let shared = match &self.place {
            Place::Threads(shared) => shared,
            #[cfg(any(test, feature = "test-support"))]
            Place::Caller(digest) => return Some(HashedBlock::of(data, digest)),
        };
        let (answer, hashed) = oneshot::channel();
        shared.push(Job::Block(data, answer));
        hashed.await.ok()
    }

    /// The digest of what a chunk holds; nothing when the pool has ended. The caller bounds how many it asks for at a time.
    pub(crate) async fn digest(&self, data: Bytes) -> Option<Digest> {
        let shared = match &self.place {
            Place::Threads(shared) => shared,
            #[cfg(any(test, feature = "test-support"))]
            Place::Caller(digest) => return Some(digest(&data)),
        };
        let (answer, hashed) = oneshot::channel();
        shared.push(Job::Stored(data, answer));
        hashed.await.ok()
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        let shared = match &self.place {
            Place::Threads(shared) => shared,
            #[cfg(any(test, feature = "test-support"))]
            Place::Caller(_) => return,
        };
        shared.queue().closed = true;
        shared.filled.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        self.queue().jobs.push_back(job);
        self.filled.notify_one();
    }

    fn work(&self) {
        loop {
            let queue = self.queue();
            let empty = |queue: &mut Queue| queue.jobs.is_empty() && !queue.closed;
            let filled = self.filled.wait_while(queue, empty);
            let job = filled
                .unwrap_or_else(PoisonError::into_inner)
                .jobs
                .pop_front();
            let Some(job) = job else { return };
            job.run();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BufferPool;

    #[tokio::test]
    async fn every_block_gets_its_own_digest() {
        let pool = Arc::new(HashPool::start(2).unwrap());
        let buffers = BufferPool::new(4, BLOCK_BYTES);
        let hashes: Vec<_> = (0..16_u8)
            .map(|byte| {
                let (pool, buffers) = (Arc::clone(&pool), buffers.clone());
                tokio::spawn(async move {
                    let mut buffer = buffers.take().await;
                    buffer.fill(byte);
                    pool.hash(buffer).await.unwrap()
                })
            })
            .collect();
        for (byte, hashed) in (0..16_u8).zip(hashes) {
            let hashed = hashed.await.unwrap();
            assert_eq!(hashed.digest(), Digest::of(&[byte; BLOCK_BYTES]));
            assert_eq!(hashed.data.is_none(), byte == 0, "zeros keep no data");
        }
    }

    #[tokio::test]
    async fn a_last_zero_or_other_byte_makes_the_difference() {
        let pool = HashPool::start(1).unwrap();
        let buffers = BufferPool::new(1, BLOCK_BYTES);
        let mut buffer = buffers.take().await;
        buffer.fill(0);
        buffer[BLOCK_BYTES - 1] = 1;
        let hashed = pool.hash(buffer).await.unwrap();
        assert_ne!(hashed.digest(), Digest::ZERO_BLOCK);
        assert!(hashed.data.is_some());
    }
}
