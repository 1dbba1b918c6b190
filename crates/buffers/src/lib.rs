//! Aligned memory: the fixed pool that bounds what block data in flight may take.
//!
//! A block is received into a pooled buffer, hashed there, written from there with `O_DIRECT` (which wants memory
//! aligned to [`ALIGNMENT`]) and only then given back. The number of buffers is the one limit on that memory: who
//! finds none free waits its turn.
//!
//! Invariants
//! - At most `buffers` are out at a time; those waiting are served first come, first served.
//! - The bytes of a buffer never move while it is out, so that its alignment holds.
//! - Memory is touched when a buffer is first used, never before, and the warmest buffer is reused first.

use bytes::Bytes;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// What `O_DIRECT` wants of addresses, offsets and lengths, on every device in use.
pub const ALIGNMENT: usize = 4096;

/// A fixed number of equal, aligned buffers; clones share them.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    buffers: usize,
    bytes_each: usize,
    free: Semaphore,
    waiting: AtomicUsize,
    /// Memory that was used before and is free now, warmest last.
    idle: Mutex<Vec<Aligned>>,
}

impl BufferPool {
    /// A pool of `buffers` buffers of `bytes_each` bytes. Nothing is allocated yet.
    ///
    /// # Panics
    /// When either number is zero.
    pub fn new(buffers: usize, bytes_each: usize) -> BufferPool {
        assert!(
            buffers > 0 && bytes_each > 0,
            "a pool of nothing gives nothing"
        );
        let shared = Shared {
            buffers,
            bytes_each,
            free: Semaphore::new(buffers),
            waiting: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
        };
        BufferPool {
            shared: Arc::new(shared),
        }
    }

    /// A buffer, as soon as one is free; those who wait are served in order. Its bytes are whatever was there before.
    ///
    /// Dropping the future gives up the place in the line.
    pub async fn take(&self) -> AlignedBuf {
        if let Some(buffer) = self.try_take() {
            return buffer;
        }
        let _waiting = Waiting::new(&self.shared.waiting);
        let permit = self
            .shared
            .free
            .acquire()
            .await
            .expect("the pool never closes its semaphore");
        permit.forget();
        self.handed_out()
    }

    /// A buffer if one is free and nobody waits for it.
    pub fn try_take(&self) -> Option<AlignedBuf> {
        let permit = self.shared.free.try_acquire().ok()?;
        permit.forget();
        Some(self.handed_out())
    }

    /// Number of buffers, in use or not.
    pub fn total(&self) -> usize {
        self.shared.buffers
    }

    /// Length of each buffer in bytes.
    pub fn bytes_each(&self) -> usize {
        self.shared.bytes_each
    }

    /// Buffers that are out now.
    pub fn in_use(&self) -> usize {
        self.shared.buffers - self.shared.free.available_permits()
    }

    /// Callers that wait for a buffer now.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    fn handed_out(&self) -> AlignedBuf {
        let idle = self
            .shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let memory = idle.unwrap_or_else(|| Aligned::zeroed(self.shared.bytes_each));
        AlignedBuf {
            memory,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("total", &self.total())
            .field("in_use", &self.in_use())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// Counts a caller that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A buffer of a [`BufferPool`], aligned to [`ALIGNMENT`]; it returns to the pool when dropped.
pub struct AlignedBuf {
    memory: Aligned,
    shared: Arc<Shared>,
}

impl AlignedBuf {
    /// The same memory, now shared and unchanging; it returns to the pool when the last clone or slice is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(memory);
        self.shared.free.add_permits(1);
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory.as_slice()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut_slice()
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len())
    }
}

/// Bytes whose address is a multiple of [`ALIGNMENT`]: a vector with slack, used from its first aligned byte on.
#[derive(Default)]
pub struct Aligned {
    /// Never grown or moved out, or the alignment would be lost.
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// `bytes` zeros. The allocator gives large zeroed memory untouched, so this costs nothing yet.
    pub fn zeroed(bytes: usize) -> Aligned {
        let memory = vec![0; bytes + ALIGNMENT - 1];
        let start = memory.as_ptr().addr().next_multiple_of(ALIGNMENT) - memory.as_ptr().addr();
        Aligned {
            memory,
            start,
            bytes,
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }

    /// The bytes, to write to.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

/// Whether these bytes can be written with `O_DIRECT` as they are.
pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) && bytes.len().is_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn buffers_are_aligned_whole_and_bounded() {
        let pool = BufferPool::new(3, 512 * 1024);
        let taken: Vec<AlignedBuf> = (0..3).map(|_| pool.try_take().unwrap()).collect();
        for buffer in &taken {
            assert_eq!(buffer.len(), 512 * 1024);
            assert!(is_aligned(buffer));
        }
        assert!(pool.try_take().is_none());
        assert_eq!((pool.total(), pool.in_use(), pool.waiting()), (3, 3, 0));
        drop(taken);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn memory_is_reused_and_returns_with_the_last_clone() {
        let pool = BufferPool::new(2, 4096);
        let mut buffer = pool.try_take().unwrap();
        buffer.fill(7);
        let address = buffer.as_ptr().addr();
        let frozen = buffer.freeze();
        assert_eq!(frozen.as_ptr().addr(), address);
        let part = frozen.slice(100..200);
        drop(frozen);
        assert_eq!(pool.in_use(), 1);
        assert!(part.iter().all(|byte| *byte == 7));
        drop(part);
        assert_eq!(pool.in_use(), 0);
        assert_eq!(pool.try_take().unwrap().as_ptr().addr(), address);
    }

    #[tokio::test]
    async fn waiters_are_served_in_order_and_may_leave() {
        let pool = BufferPool::new(1, 64);
        let out = pool.take().await;
        let mut first = Box::pin(pool.take());
        let mut second = Box::pin(pool.take());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(pool.waiting(), 2);
        drop(out);
        assert!(
            pool.try_take().is_none(),
            "the free buffer belongs to the first waiter"
        );
        drop(first);
        assert_eq!(pool.waiting(), 1);
        let buffer = second.await;
        assert_eq!((pool.in_use(), pool.waiting()), (1, 0));
        drop(buffer);
    }
}
