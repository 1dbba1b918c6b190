//! The local chunk store: preallocated, append-only segment files.
//!
//! ```text
//! append ─> encode ─> queue ─> 2 writers ─> segment files ─> answer
//!                                │    ^
//!                      places    v    │ segments ready to use
//!                            allocator <── keeper (creates, seals) ──> registry
//! read ──> reader ──> segment files
//! ```
//!
//! Invariants
//! - L1: a chunk is durable before `append` answers (`writer.rs`).
//! - L2: a location is given out once: ids come from the registry, places only grow, a segment that failed or was open
//!   at the last end of the process is never appended to.
//! - L3: a segment is recorded open before its first frame, and sealed only when its length is final (`keeper.rs`).
//! - L4: files and registry that contradict each other stop the start, before anything is changed (`recovery.rs`).
//! - L5: bytes that leave `read` matched checksums and identity on that read (`reader.rs`).
//!
//! Failure: a failed write or sync closes its segment and fails what is in flight there; appends go on in a new one.
//! A full disk is no fault: block appends stop at the reserve, and go on when there is space again.

mod allocator;
mod append;
mod file_io;
mod freeing;
pub(crate) mod io;
mod keeper;
mod queue;
mod read_only;
mod reader;
mod recovery;
pub(crate) mod scan;
pub(crate) mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

pub use file_io::{FileIo, WriteMode};
pub use io::{SegmentIo, SegmentReader, SegmentWriter};
pub use read_only::{ReadOnlyStore, segment_store_ids};
pub use recovery::RecoveredSegment;

use crate::blocking::blocking;
use crate::codec::CodecSetting;
use crate::encode::Encoding;
use crate::frame::{FRAME_BYTES_MAX, StoreKey};
use crate::metrics::Metrics;
use crate::{
    ChunkId, ChunkStore, ContainerId, ContainerRegistry, ContainerStatus, Error, FoundFrame,
    Location, NewChunk, Stored,
};
use allocator::{Allocator, KeeperSeat};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use keeper::{Keeper, KeeperThread, Task};
use queue::Queue;
use reader::Reader;
use segment::SEGMENT_HEADER_BYTES;
use shared::{Shared, Sizes};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use types::Clock;
use writer::{BATCH_BYTES_MAX, Writer};

/// Batches that are written and synced at a time: one is written while the other is synced.
const STREAMS: usize = 2;

/// Reads at a time: enough to keep a fast disk busy; each holds a blocking thread.
const READS_MAX: usize = 64;

/// Calls at a time that free, remove or recover: they yield to reads and writes.
const CHORES_MAX: usize = 4;

/// The smallest allowed [`LocalOptions::segment_bytes_min`].
pub const SEGMENT_BYTES_FLOOR: u64 = 2 << 20;

/// What a [`LocalStore`] is made of.
pub struct LocalOptions {
    /// The store's random id; it stands in every frame.
    pub store_id: [u8; 16],
    /// The directory of segments, of this store alone.
    pub io: Arc<dyn SegmentIo>,
    /// Where containers are remembered.
    pub registry: Arc<dyn ContainerRegistry>,
    /// How new blocks are encoded.
    pub codec: CodecSetting,
    /// Chunks encoded at a time, each on a thread of its own.
    pub encoders: usize,
    /// Free bytes that blocks leave to pages, snapshot records and the catalog.
    pub reserve_bytes: u64,
    /// Size of the first segments; a power of two, at least [`SEGMENT_BYTES_FLOOR`]. 64 MiB in production.
    pub segment_bytes_min: u64,
    /// Size at which segments stop growing; not below the first size. 1 GiB in production.
    pub segment_bytes_max: u64,
    /// For durations in the metrics.
    pub clock: Arc<dyn Clock>,
    /// Where the store counts.
    pub metrics: Arc<Metrics>,
}

/// A chunk store on local segment files.
///
/// Dropping it ends its threads once everything queued is written; [`LocalStore::close`] waits for that.
pub struct LocalStore {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    reader: Arc<Reader>,
    encoding: Encoding,
    reading: Arc<Semaphore>,
    chores: Arc<Semaphore>,
    batch_bytes_max: u64,
    /// Segments that were open at the last end of the process and are not sealed yet.
    recovered: Mutex<BTreeMap<ContainerId, RecoveredSegment>>,
    hands: Hands,
}

/// Who does the work of a store.
enum Hands {
    /// Threads of its own.
    Threads(Mutex<Threads>),
    /// Those who call it, in place, while they wait.
    Caller(Box<Mutex<Writer>>),
}

struct Threads {
    writers: Vec<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    tasks: Sender<Task>,
}

impl LocalStore {
    /// Opens the store in its directory and scans what was open when the process last ended; each segment answered is
    /// owed a [`LocalStore::finish_recovery`]. Appends may begin at once, they go to new segments. Must be called within
    /// a Tokio runtime, which has to outlive the store.
    ///
    /// # Errors
    /// [`Error::Foreign`] when files and registry contradict each other; nothing was changed then.
    ///
    /// # Panics
    /// When the options contradict each other.
    pub async fn open(options: LocalOptions) -> Result<(LocalStore, Vec<RecoveredSegment>), Error> {
        LocalStore::open_with(options, Some(Handle::current())).await
    }

    /// The same without any thread: all work is done in place, by those who call the store, so that a run can be repeated
    /// exactly. The registry has to answer at once.
    ///
    /// # Errors
    /// As [`LocalStore::open`].
    #[cfg(any(test, feature = "test-support"))]
    pub async fn open_without_threads(
        options: LocalOptions,
    ) -> Result<(LocalStore, Vec<RecoveredSegment>), Error> {
        LocalStore::open_with(options, None).await
    }

    /// With threads when there is a runtime that they may wait on.
    async fn open_with(
        options: LocalOptions,
        runtime: Option<Handle>,
    ) -> Result<(LocalStore, Vec<RecoveredSegment>), Error> {
        options.check();
        let (highest, known) = options.registry.known().await?;
        let shared = Arc::new(Shared {
            io: options.io,
            registry: options.registry,
            key: StoreKey::new(options.store_id),
            clock: options.clock,
            metrics: options.metrics,
            sizes: Sizes {
                segment_bytes_min: options.segment_bytes_min,
                segment_bytes_max: options.segment_bytes_max,
                reserve_bytes: options.reserve_bytes,
            },
            containers: RwLock::new(known.iter().map(|status| (status.id, *status)).collect()),
        });
        let scanned = Arc::clone(&shared);
        let chores = Arc::new(Semaphore::new(CHORES_MAX));
        let recovery = move || recovery::recover(&scanned, highest, &known);
        let recovered = match &runtime {
            Some(_) => blocking(&chores, recovery).await?,
            None => recovery()?,
        };
        let (codec, encoders) = (options.codec, options.encoders);
        let (key, metrics) = (shared.key.clone(), Arc::clone(&shared.metrics));
        let encoding = Encoding::new(codec, key, encoders, metrics);
        let queue = Arc::new(Queue::new(Arc::clone(&shared.metrics)));
        // A batch leaves room for others in the smallest segment.
        let half = (options.segment_bytes_min - SEGMENT_HEADER_BYTES as u64) / 2;
        let batch_bytes_max = BATCH_BYTES_MAX.min(half / 4096 * 4096);
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            runtime,
        };
        let writer = |allocator: &Arc<Allocator>| {
            let (shared, queue) = (Arc::clone(&shared), Arc::clone(&queue));
            Writer::new(shared, queue, Arc::clone(allocator), batch_bytes_max)
        };
        let hands = if keeper.runtime.is_some() {
            Hands::Threads(Mutex::new(start_threads(keeper, writer)?))
        } else {
            let allocator = Arc::new(Allocator::new(KeeperSeat::Caller(keeper)));
            Hands::Caller(Box::new(Mutex::new(writer(&allocator))))
        };
        let store = LocalStore {
            reader: Arc::new(Reader::new(Arc::clone(&shared))),
            shared,
            queue,
            encoding,
            reading: Arc::new(Semaphore::new(READS_MAX)),
            chores,
            batch_bytes_max,
            recovered: Mutex::new(
                recovered
                    .iter()
                    .map(|found| (found.container, found.clone()))
                    .collect(),
            ),
            hands,
        };
        Ok((store, recovered))
    }

    /// What the store counts about itself.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Takes no more appends and waits until everything queued is written and all threads have ended.
    pub async fn close(&self) {
        self.queue.close();
        let (writers, keeper, tasks) = {
            let threads = match &self.hands {
                Hands::Threads(threads) => threads,
                Hands::Caller(writer) => {
                    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                    return writer.run_waiting();
                }
            };
            let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
            let writers = std::mem::take(&mut threads.writers);
            (writers, threads.keeper.take(), threads.tasks.clone())
        };
        let ended = tokio::task::spawn_blocking(move || {
            for thread in writers {
                // A panic has been reported where it happened.
                let _ = thread.join();
            }
            let _ = tasks.send(Task::Stop);
            keeper.map(JoinHandle::join)
        });
        drop(ended.await);
    }
}

impl LocalStore {
    /// Runs work that may take its time behind reads and writes.
    async fn chore<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.work(&self.chores, work).await
    }

    /// Runs work that blocks, on a thread for it or in place; there, others get a turn before.
    async fn work<T: Send + 'static>(
        &self,
        permits: &Arc<Semaphore>,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match &self.hands {
            Hands::Threads(_) => blocking(permits, work).await,
            Hands::Caller(_) => {
                tokio::task::yield_now().await;
                work()
            }
        }
    }
}

impl ChunkStore for LocalStore {
    /// See [`ChunkStore::append`]. A batch beyond one write is written in parts; it is stored when all of them are.
    ///
    /// # Panics
    /// When the batch has more than [`crate::BATCH_CHUNKS_MAX`] chunks or one of more than [`crate::CHUNK_BYTES_MAX`] bytes.
    fn append(&self, batch: Vec<NewChunk>) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(self.append_batch(batch))
    }

    fn read(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(async move {
            if let Some(content) = self.reader.read_cached(location, id)? {
                return Ok(content);
            }
            let reader = Arc::clone(&self.reader);
            self.work(&self.reading, move || reader.read(location, id))
                .await
        })
    }

    fn read_stored(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(async move {
            let reader = Arc::clone(&self.reader);
            self.work(&self.reading, move || reader.read_stored(location, id))
                .await
        })
    }

    fn free(&self, locations: Vec<Location>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.free_locations(locations))
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, Error>> {
        Box::pin(async move { Ok(self.shared.all()) })
    }

    fn frames(
        &self,
        container: ContainerId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<FoundFrame>, Error>> {
        Box::pin(async move {
            let status = self.complete(container)?;
            let shared = Arc::clone(&self.shared);
            self.chore(move || recovery::frames(&shared, status, from, limit))
                .await
        })
    }

    fn remove_container(&self, container: ContainerId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match self.complete(container) {
                Ok(status) => self.remove(status).await,
                Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.queue.close();
        let threads = match &mut self.hands {
            Hands::Threads(threads) => threads,
            Hands::Caller(_) => return,
        };
        let threads = threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Writers may still need a segment; the keeper ends after them.
        let (writers, tasks) = (std::mem::take(&mut threads.writers), threads.tasks.clone());
        if writers.is_empty() {
            let _ = tasks.send(Task::Stop);
            return;
        }
        let ended = thread("chunk-store-end".to_owned(), move || {
            for writer in writers {
                let _ = writer.join();
            }
            let _ = tasks.send(Task::Stop);
        });
        drop(ended);
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl LocalOptions {
    fn check(&self) {
        assert!(
            self.segment_bytes_min >= SEGMENT_BYTES_FLOOR,
            "segments would be too small"
        );
        assert!(
            self.segment_bytes_min.is_power_of_two(),
            "segment sizes are powers of two"
        );
        assert!(
            self.segment_bytes_max >= self.segment_bytes_min,
            "segments would shrink"
        );
        assert!(
            self.segment_bytes_max <= 1 << 31,
            "a gap's length has 32 bits"
        );
        assert!(self.encoders > 0, "nothing would be encoded");
        const { assert!(2 * FRAME_BYTES_MAX as u64 + 8192 <= SEGMENT_BYTES_FLOOR) };
    }
}

/// Starts the writers and the keeper.
fn start_threads(
    keeper: Keeper,
    writer: impl Fn(&Arc<Allocator>) -> Writer,
) -> Result<Threads, Error> {
    let (tasks, keeper_tasks) = channel();
    let seat = KeeperSeat::Thread(Mutex::new(tasks.clone()));
    let allocator = Arc::new(Allocator::new(seat));
    let mut writers = Vec::new();
    for stream in 0..STREAMS {
        let writer = writer(&allocator);
        writers.push(thread(format!("chunk-writer-{stream}"), move || {
            writer.run()
        })?);
    }
    let keeper = KeeperThread { keeper, allocator };
    let keeper = thread("segment-keeper".to_owned(), move || {
        keeper.run(keeper_tasks)
    })?;
    Ok(Threads {
        writers,
        keeper: Some(keeper),
        tasks,
    })
}

fn thread(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let spawned = std::thread::Builder::new().name(name).spawn(run);
    spawned.map_err(|source| Error::Io {
        operation: "starting a thread",
        source,
    })
}
