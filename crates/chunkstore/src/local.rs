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
mod file_io;
mod io;
mod keeper;
mod queue;
mod reader;
mod recovery;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

pub use file_io::{FileIo, WriteMode};
pub use io::{SegmentIo, SegmentReader, SegmentWriter};
pub use recovery::{RecoveredFrame, RecoveredSegment};

use crate::codec::{CodecSetting, Encoder};
use crate::frame::{self, FRAME_BYTES_MAX, Packing, StoreKey};
use crate::metrics::Metrics;
use crate::{
    BATCH_CHUNKS_MAX, CHUNK_BYTES_MAX, ChunkId, ChunkStore, ContainerId, ContainerKind,
    ContainerRegistry, ContainerState, ContainerStatus, Error, Location, NewChunk, Stored, layout,
};
use allocator::Allocator;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use keeper::{Keeper, Task};
use queue::{Encoded, Queue};
use reader::Reader;
use segment::SEGMENT_HEADER_BYTES;
use shared::{Shared, Sizes};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use types::Clock;
use writer::{BATCH_BYTES_MAX, BATCH_FRAMES_MAX, Writer};

/// Batches that are written and synced at a time: one is written while the other is synced.
const STREAMS: usize = 2;

/// Reads at a time: enough to keep a fast disk busy; each holds a blocking thread.
const READS_MAX: usize = 64;

/// Content up to this many bytes is checksummed where it is appended: 50 µs, less than going to another thread and back
/// costs under load.
const INLINE_BYTES_MAX: usize = 1 << 20;

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
    encoder: Arc<Encoder>,
    encoding: Semaphore,
    reading: Arc<Semaphore>,
    batch_bytes_max: u64,
    /// Segments that were open at the last end of the process and are not sealed yet.
    recovered: Mutex<BTreeMap<ContainerId, RecoveredSegment>>,
    threads: Mutex<Threads>,
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
        let recovered = blocking(move || recovery::recover(&scanned, highest, &known)).await?;
        let (tasks, keeper_tasks) = channel();
        let allocator = Arc::new(Allocator::new(tasks.clone()));
        let queue = Arc::new(Queue::new(Arc::clone(&shared.metrics)));
        // A batch leaves room for others in the smallest segment.
        let half = (options.segment_bytes_min - SEGMENT_HEADER_BYTES as u64) / 2;
        let batch_bytes_max = BATCH_BYTES_MAX.min(half / 4096 * 4096);
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            allocator: Arc::clone(&allocator),
            runtime: Handle::current(),
        };
        let mut writers = Vec::new();
        for stream in 0..STREAMS {
            let parts = (
                Arc::clone(&shared),
                Arc::clone(&queue),
                Arc::clone(&allocator),
            );
            let writer = Writer::new(parts.0, parts.1, parts.2, batch_bytes_max);
            writers.push(thread(format!("chunk-writer-{stream}"), move || {
                writer.run()
            })?);
        }
        let keeper = thread("segment-keeper".to_owned(), move || {
            keeper.run(keeper_tasks)
        })?;
        let store = LocalStore {
            reader: Arc::new(Reader::new(Arc::clone(&shared))),
            shared,
            queue,
            encoder: Arc::new(Encoder::new(options.codec)),
            encoding: Semaphore::new(options.encoders),
            reading: Arc::new(Semaphore::new(READS_MAX)),
            batch_bytes_max,
            recovered: Mutex::new(
                recovered
                    .iter()
                    .map(|found| (found.container, found.clone()))
                    .collect(),
            ),
            threads: Mutex::new(Threads {
                writers,
                keeper: Some(keeper),
                tasks,
            }),
        };
        Ok((store, recovered))
    }

    /// Seals a segment that [`LocalStore::open`] answered: gives the space of what is dead back, cuts the tail off behind
    /// the last thing that is not dead, and removes the segment when nothing is left. `dead` holds locations of
    /// frames and gaps of that segment that no record names. May be repeated, also after a crash.
    pub async fn finish_recovery(
        &self,
        segment: ContainerId,
        dead: Vec<Location>,
    ) -> Result<(), Error> {
        let Some(found) = self.recovered().get(&segment).cloned() else {
            return Ok(());
        };
        let end = found.live_end(&dead);
        if end == SEGMENT_HEADER_BYTES as u64 {
            self.remove(ContainerStatus {
                id: segment,
                kind: found.kind,
                state: ContainerState::Open,
                bytes: end,
            })
            .await?;
        } else {
            let dead: Vec<Location> = dead
                .into_iter()
                .filter(|location| location.offset < end)
                .collect();
            if found.kind == ContainerKind::Blocks {
                self.free(dead).await?;
            }
            let shared = Arc::clone(&self.shared);
            let name = layout::segment_name(segment, found.kind);
            blocking(move || keeper::truncate(&shared, &name, end)).await?;
            let state = ContainerState::Sealed;
            let status = ContainerStatus {
                id: segment,
                kind: found.kind,
                state,
                bytes: end,
            };
            self.shared.registry.record(status).await?;
            self.shared.remember(status);
        }
        self.recovered().remove(&segment);
        Ok(())
    }

    fn recovered(&self) -> MutexGuard<'_, BTreeMap<ContainerId, RecoveredSegment>> {
        self.recovered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a sealed container in which nothing is live. May be repeated; a container that does not exist is gone.
    ///
    /// In this order: cut the file down to its header, so that what a crash leaves behind is known to hold nothing;
    /// removed in the registry; then the file itself.
    ///
    /// # Errors
    /// [`Error::Closed`] when it is still being appended to or recovered.
    pub async fn remove_container(&self, container: ContainerId) -> Result<(), Error> {
        let Some(status) = self.shared.status(container) else {
            return Ok(());
        };
        if status.state != ContainerState::Sealed {
            let reason = format!(
                "segment {} is not sealed and cannot be removed",
                container.0
            );
            return Err(Error::Closed { reason });
        }
        self.remove(status).await
    }

    async fn remove(&self, status: ContainerStatus) -> Result<(), Error> {
        let name = layout::segment_name(status.id, status.kind);
        let shared = Arc::clone(&self.shared);
        let cut = name.clone();
        blocking(move || keeper::truncate(&shared, &cut, SEGMENT_HEADER_BYTES as u64)).await?;
        self.shared
            .registry
            .record(ContainerStatus {
                state: ContainerState::Removed,
                ..status
            })
            .await?;
        self.shared.forget(status.id);
        self.reader.close(status.id);
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared
                .io
                .remove(&name)
                .map_err(|source| shared.io_error("removing a segment", source))?;
            let synced = shared.io.sync_dir();
            synced.map_err(|source| shared.io_error("syncing the segment directory", source))
        })
        .await?;
        self.shared.metrics.freed_bytes.add(status.bytes);
        Ok(())
    }

    /// What the store counts about itself.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Takes no more appends and waits until everything queued is written and all threads have ended.
    pub async fn close(&self) {
        self.queue.close();
        let (writers, keeper, tasks) = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
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

    async fn append_batch(&self, batch: Vec<NewChunk>) -> Result<Vec<Stored>, Error> {
        assert!(
            batch.len() <= BATCH_CHUNKS_MAX,
            "a batch has at most {BATCH_CHUNKS_MAX} chunks"
        );
        for chunk in &batch {
            let bytes = chunk.data.len();
            assert!(
                bytes <= CHUNK_BYTES_MAX,
                "a chunk has at most {CHUNK_BYTES_MAX} bytes"
            );
        }
        let count = batch.len();
        let encoded = self.encode(batch).await?;
        let mut waiting = Vec::new();
        for part in self.split(encoded) {
            let Part {
                kind,
                numbers,
                frames,
                bytes,
            } = part;
            waiting.push((numbers, self.queue.push(kind, frames, bytes).await?));
        }
        let mut stored: Vec<Option<Stored>> = vec![None; count];
        for (numbers, receiver) in waiting {
            let ended = |_| Error::Closed {
                reason: "its writer has ended".to_owned(),
            };
            for (number, one) in numbers.into_iter().zip(receiver.await.map_err(ended)??) {
                stored[number] = Some(one);
            }
        }
        Ok(stored
            .into_iter()
            .map(|one| one.expect("each chunk is in one part"))
            .collect())
    }

    async fn encode(&self, batch: Vec<NewChunk>) -> Result<Vec<Encoded>, Error> {
        let (encoder, shared) = (Arc::clone(&self.encoder), Arc::clone(&self.shared));
        let bytes: usize = batch.iter().map(|chunk| chunk.data.len()).sum();
        let encode = move || {
            batch
                .iter()
                .map(|chunk| encode(&encoder, &shared, chunk))
                .collect()
        };
        if self.encoder.is_idle() && bytes <= INLINE_BYTES_MAX {
            return Ok(encode());
        }
        let _permit = self
            .encoding
            .acquire()
            .await
            .expect("the semaphore is never closed");
        blocking(move || Ok(encode())).await
    }

    /// Parts that each fit into one write: of one kind, of bounded size, in order.
    fn split(&self, encoded: Vec<Encoded>) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for (number, frame) in encoded.into_iter().enumerate() {
            let kind = frame::container_kind(frame.chunk.kind);
            let bytes = u64::from(Packing::of(kind).frame_bytes(frame.stored.len() as u32));
            let fits = |part: &&mut Part| {
                part.kind == kind
                    && part.bytes + bytes <= self.batch_bytes_max
                    && part.frames.len() < BATCH_FRAMES_MAX
            };
            match parts
                .iter_mut()
                .rev()
                .find(|part| part.kind == kind)
                .filter(fits)
            {
                Some(part) => {
                    part.numbers.push(number);
                    part.frames.push(frame);
                    part.bytes += bytes;
                }
                None => {
                    let (numbers, frames) = (vec![number], vec![frame]);
                    parts.push(Part {
                        kind,
                        numbers,
                        frames,
                        bytes,
                    });
                }
            }
        }
        parts
    }

    /// Checks that a block's frame can be where this location says, so that nothing else is ever punched.
    fn check_punchable(&self, location: Location) -> Result<(), Error> {
        let alignment = u64::from(frame::BLOCK_ALIGNMENT);
        let aligned = location.offset.is_multiple_of(alignment)
            && u64::from(location.length).is_multiple_of(alignment);
        if aligned && location.offset >= SEGMENT_HEADER_BYTES as u64 {
            return Ok(());
        }
        Err(Error::Corrupt {
            location,
            reason: "no frame of a block can lie there".to_owned(),
        })
    }

    async fn free_locations(&self, mut locations: Vec<Location>) -> Result<(), Error> {
        locations.sort_unstable_by_key(|location| (location.container, location.offset));
        let mut runs: BTreeMap<ContainerId, Vec<(u64, u64)>> = BTreeMap::new();
        for location in locations {
            match self.shared.status(location.container) {
                // Pages are given back with their container, all at once.
                None
                | Some(ContainerStatus {
                    kind: ContainerKind::Pages,
                    ..
                }) => continue,
                Some(ContainerStatus {
                    kind: ContainerKind::Blocks,
                    ..
                }) => {}
            }
            self.check_punchable(location)?;
            let runs = runs.entry(location.container).or_default();
            let (offset, bytes) = (location.offset, u64::from(location.length));
            match runs.last_mut() {
                Some((start, length)) if *start + *length == offset => *length += bytes,
                _ => runs.push((offset, bytes)),
            }
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            runs.into_iter()
                .try_for_each(|(id, runs)| punch(&shared, id, &runs))
        })
        .await
    }
}

/// Chunks of one batch that are written together.
struct Part {
    kind: ContainerKind,
    /// Their places in the caller's batch.
    numbers: Vec<usize>,
    frames: Vec<Encoded>,
    bytes: u64,
}

impl ChunkStore for LocalStore {
    /// See [`ChunkStore::append`]. A batch beyond one write is written in parts; it is stored when all of them are.
    ///
    /// # Panics
    /// When the batch has more than [`BATCH_CHUNKS_MAX`] chunks or one of more than [`CHUNK_BYTES_MAX`] bytes.
    fn append(&self, batch: Vec<NewChunk>) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(self.append_batch(batch))
    }

    fn read(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(async move {
            let permit = Arc::clone(&self.reading).acquire_owned().await;
            let permit = permit.expect("the semaphore is never closed");
            let reader = Arc::clone(&self.reader);
            blocking(move || {
                // Held to the end of the read, also when the caller has gone away.
                let _permit = permit;
                reader.read(location, id)
            })
            .await
        })
    }

    fn free(&self, locations: Vec<Location>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.free_locations(locations))
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, Error>> {
        Box::pin(async move { Ok(self.shared.all()) })
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.queue.close();
        let threads = self
            .threads
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
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

fn encode(encoder: &Encoder, shared: &Shared, chunk: &NewChunk) -> Encoded {
    let (codec, stored) = match chunk.id.kind {
        crate::ChunkKind::Block => encoder.encode(&chunk.data),
        // Digests do not compress, and a snapshot's record is small.
        crate::ChunkKind::Page | crate::ChunkKind::Snapshot => {
            (crate::Codec::None, chunk.data.clone())
        }
    };
    shared
        .metrics
        .codec_saved_bytes
        .add((chunk.data.len() - stored.len()) as u64);
    Encoded::new(chunk, codec, stored, &shared.key)
}

/// Gives runs of bytes back, durably, so that the caller may forget them.
fn punch(shared: &Shared, container: ContainerId, runs: &[(u64, u64)]) -> Result<(), Error> {
    let Some(status) = shared.status(container) else {
        return Ok(());
    };
    let failed = |operation| move |source| shared.io_error(operation, source);
    let name = layout::segment_name(container, status.kind);
    let file = match shared.io.open_writer(&name) {
        // Removed since we looked.
        Err(_) if shared.status(container).is_none() => return Ok(()),
        opened => opened.map_err(failed("opening a segment"))?,
    };
    for (offset, bytes) in runs {
        file.punch(*offset, *bytes)
            .map_err(failed("punching a hole"))?;
        shared.metrics.freed_bytes.add(*bytes);
    }
    file.sync().map_err(failed("syncing holes"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Error::Closed {
        reason: format!("a blocking thread ended: {error}"),
    })?
}

fn thread(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let spawned = std::thread::Builder::new().name(name).spawn(run);
    spawned.map_err(|source| Error::Io {
        operation: "starting a thread",
        source,
    })
}
