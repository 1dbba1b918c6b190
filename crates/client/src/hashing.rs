//! Digests, away from the threads that serve connections.

use buffers::AlignedBuf;
use bytes::Bytes;
use std::sync::LazyLock;
use tokio::sync::Semaphore;
use types::Digest;

/// As many as there are cores: more would only take turns.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(cores)
});

/// The digest of a buffer, computed on a blocking thread; at most as many at once as there are cores.
pub(crate) async fn digest(data: AlignedBuf) -> (AlignedBuf, Digest) {
    on_blocking_thread(move || {
        let digest = Digest::of(&data);
        (data, digest)
    })
    .await
}

/// The same for shared bytes.
pub(crate) async fn digest_of_bytes(data: Bytes) -> Digest {
    on_blocking_thread(move || Digest::of(&data)).await
}

async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let _place = PLACES
        .acquire()
        .await
        .expect("nobody closes this semaphore");
    tokio::task::spawn_blocking(work)
        .await
        .expect("hashing does not panic, and nobody awaits it when the runtime ends")
}

#[cfg(test)]
mod tests {
    use super::*;
    use buffers::BufferPool;

    #[tokio::test]
    async fn buffers_come_back_with_their_digest() {
        let pool = BufferPool::new(1, 4096);
        let mut buffer = pool.take().await;
        buffer.fill(7);
        let (buffer, found) = digest(buffer).await;
        assert_eq!(found, Digest::of(&[7; 4096]));
        assert_eq!(digest_of_bytes(buffer.freeze()).await, found);
    }
}
