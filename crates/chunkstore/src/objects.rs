//! The chunk store on an object store: one immutable object per part of a batch.
//!
//! An object holds frames packed as in a page segment, without a segment header. Its name comes from a fresh id of the
//! registry, so it is written once, needs no condition, and is never written again.
//!
//! Appending, in this order: an id from the registry; the object; sealed in the registry; the answer. A crash before the
//! record leaves an object that nobody knows; [`ObjectChunks::remove_unrecorded`] finds it.
//!
//! Freeing gives back nothing at once: an object goes as a whole, once nothing in it is live
//! ([`ChunkStore::remove_container`]). One live block so keeps an object of up to 16 MiB; objects of blocks are not compacted yet.

use crate::blocking::blocking;
use crate::codec::{self, CodecSetting};
use crate::encode::{Encoded, Encoding};
use crate::frame::{self, FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Header, Packing, StoreKey};
use crate::metrics::Metrics;
use crate::{
    ChunkId, ChunkStore, ContainerId, ContainerKind, ContainerRegistry, ContainerState,
    ContainerStatus, Error, FoundFrame, Location, NewChunk, Stored, layout,
};
use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes of frames in one object, so that it is sent in one request everywhere.
const OBJECT_BYTES_MAX: u64 = 16 << 20;

/// Objects sent at a time: with the size of each, this bounds the memory of requests.
const UPLOADS_MAX: usize = 16;

/// Reads at a time.
const READS_MAX: usize = 64;

/// Objects deleted at a time by the janitor.
const DELETIONS_MAX: usize = 16;

/// What an [`ObjectChunks`] is made of.
pub struct ObjectOptions {
    /// The store's random id; it stands in every frame.
    pub store_id: [u8; 16],
    /// Where objects go, with the prefix of this store.
    pub objects: Arc<dyn ObjectStore>,
    /// Where containers are remembered.
    pub registry: Arc<dyn ContainerRegistry>,
    /// How new blocks are encoded.
    pub codec: CodecSetting,
    /// Batches encoded at a time, each on a thread of its own.
    pub encoders: usize,
    /// Where the store counts.
    pub metrics: Arc<Metrics>,
}

/// A chunk store on objects. It has no state of its own: any number of processes may use the same objects.
pub struct ObjectChunks {
    objects: Arc<dyn ObjectStore>,
    registry: Arc<dyn ContainerRegistry>,
    key: StoreKey,
    encoding: Encoding,
    metrics: Arc<Metrics>,
    uploading: Semaphore,
    reading: Arc<Semaphore>,
}

impl ObjectChunks {
    /// The store of these objects. Nothing is asked of them yet.
    pub fn new(options: ObjectOptions) -> ObjectChunks {
        let key = StoreKey::new(options.store_id);
        let metrics = options.metrics;
        let threads = options.encoders;
        ObjectChunks {
            objects: options.objects,
            registry: options.registry,
            encoding: Encoding::new(options.codec, key.clone(), threads, Arc::clone(&metrics)),
            key,
            metrics,
            uploading: Semaphore::new(UPLOADS_MAX),
            reading: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    async fn remove(&self, status: ContainerStatus) -> Result<(), Error> {
        let removed = ContainerStatus {
            state: ContainerState::Removed,
            ..status
        };
        self.registry.record(removed).await?;
        self.delete(status.id).await?;
        self.metrics.freed_bytes.add(status.bytes);
        Ok(())
    }

    /// Removes objects that no registry entry names, with ids below `below`; answers how many. The caller makes sure
    /// that every append which was given a lower id has ended, in whatever process.
    pub async fn remove_unrecorded(&self, below: ContainerId) -> Result<u64, Error> {
        let listed = self.objects.list(Some(&Path::from(layout::OBJECT_PREFIX)));
        let names = listed.map_ok(|object| layout::parse_object_name(object.location.as_ref()));
        let ids: Vec<ContainerId> = names
            .try_filter_map(|id| async move { Ok(id.filter(|id| *id < below)) })
            .try_collect()
            .await
            .map_err(failed("listing objects"))?;
        // After the listing: what was recorded since is known too.
        let (_, known) = self.registry.known().await?;
        let known: HashSet<ContainerId> = known.into_iter().map(|status| status.id).collect();
        let unrecorded: Vec<ContainerId> =
            ids.into_iter().filter(|id| !known.contains(id)).collect();
        let count = unrecorded.len() as u64;
        futures_util::stream::iter(unrecorded.into_iter().map(|id| self.delete(id)))
            .buffer_unordered(DELETIONS_MAX)
            .try_collect::<()>()
            .await?;
        Ok(count)
    }

    async fn delete(&self, id: ContainerId) -> Result<(), Error> {
        match self.objects.delete(&path(id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("deleting an object")(error)),
        }
    }

    async fn append_batch(&self, batch: Vec<NewChunk>) -> Result<Vec<Stored>, Error> {
        let count = batch.len();
        let parts = split(self.encoding.encode(batch).await?);
        let uploads = parts.into_iter().map(|part| self.upload(part));
        let mut stored: Vec<Option<Stored>> = vec![None; count];
        for (number, one) in try_join_all(uploads).await?.into_iter().flatten() {
            stored[number] = Some(one);
        }
        Ok(stored
            .into_iter()
            .map(|one| one.expect("each chunk is in one part"))
            .collect())
    }

    /// Stores one object; answers what became of each chunk, with its number in the batch.
    async fn upload(&self, part: Part) -> Result<Vec<(usize, Stored)>, Error> {
        let _permit = self
            .uploading
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let id = self.registry.reserve().await?;
        let (mut pieces, mut stored, mut offset) = (Vec::new(), Vec::new(), 0);
        for (number, frame) in &part.frames {
            let header = frame.header(id, offset, Packing::Packed);
            let location = header.location();
            let used = HEADER_BYTES + frame.stored.len();
            pieces.push(Bytes::copy_from_slice(&header.encode(&self.key)));
            pieces.push(frame.stored.clone());
            pieces.push(Bytes::from_static(
                &PADDING[..location.length as usize - used],
            ));
            stored.push((*number, frame.stored_at(location)));
            offset += u64::from(location.length);
        }
        let payload: PutPayload = pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect();
        self.objects
            .put(&path(id), payload)
            .await
            .map_err(failed("storing an object"))?;
        let (kind, state) = (part.kind, ContainerState::Sealed);
        self.registry
            .record(ContainerStatus {
                id,
                kind,
                state,
                bytes: offset,
            })
            .await?;
        self.metrics.frames.add(stored.len() as u64);
        self.metrics.batch_frames.see(stored.len() as u64);
        self.metrics.written_bytes.add(offset);
        Ok(stored)
    }

    async fn find_frames(
        &self,
        container: ContainerId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<FoundFrame>, Error> {
        let object = match self.objects.get(&path(container)).await {
            Err(object_store::Error::NotFound { .. }) => return Err(Error::NotFound { container }),
            answer => answer.map_err(failed("reading an object"))?,
        };
        let bytes = object.bytes().await.map_err(failed("reading an object"))?;
        let (mut frames, mut offset) = (Vec::new(), from);
        while frames.len() < limit {
            let Some(unit) = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)) else {
                break;
            };
            match Header::decode(&self.key, unit) {
                Ok(header) if (header.container, header.offset) == (container, offset) => {
                    frames.push(header.found());
                    offset += u64::from(header.location().length);
                }
                _ if unit.is_empty() => break,
                _ => offset += u64::from(frame::PACKED_ALIGNMENT),
            }
        }
        Ok(frames)
    }

    async fn read_chunk(&self, location: Location, chunk: ChunkId) -> Result<Bytes, Error> {
        let bytes = location.length as usize;
        let end = location.offset.checked_add(u64::from(location.length));
        let Some(end) = end.filter(|_| (HEADER_BYTES..=FRAME_BYTES_MAX).contains(&bytes)) else {
            return Err(self.corrupt(location, &FrameError::OtherLength(location.length)));
        };
        let object = path(location.container);
        let frame = match self.objects.get_range(&object, location.offset..end).await {
            Ok(frame) => frame,
            Err(error) => return Err(self.why(location, end, error).await),
        };
        let key = self.key.clone();
        let verified = blocking(&self.reading, move || {
            Ok(verify(&key, &frame, location, &chunk))
        });
        let content = verified
            .await?
            .map_err(|error| self.corrupt(location, &error))?;
        self.metrics.reads.add(1);
        self.metrics.read_bytes.add(u64::from(location.length));
        Ok(content)
    }

    /// Tells a range behind the object's end, for which stores have many errors, from a store that fails.
    async fn why(&self, location: Location, end: u64, error: object_store::Error) -> Error {
        match error {
            object_store::Error::NotFound { .. } => Error::NotFound {
                container: location.container,
            },
            error => match self.objects.head(&path(location.container)).await {
                Ok(object) if object.size < end => self.corrupt(location, &FrameError::Short(0)),
                _ => failed("reading an object")(error),
            },
        }
    }

    fn corrupt(&self, location: Location, error: &FrameError) -> Error {
        self.metrics.reads_corrupt.add(1);
        Error::Corrupt {
            location,
            reason: error.to_string(),
        }
    }
}

impl ChunkStore for ObjectChunks {
    /// See [`ChunkStore::append`]. A large batch is stored as several objects.
    ///
    /// # Panics
    /// When the batch has more than [`crate::BATCH_CHUNKS_MAX`] chunks or one of more than
    /// [`crate::CHUNK_BYTES_MAX`] bytes.
    fn append(&self, batch: Vec<NewChunk>) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(self.append_batch(batch))
    }

    fn read(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(self.read_chunk(location, id))
    }

    fn read_stored(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        self.read(location, id)
    }

    fn free(&self, _locations: Vec<Location>) -> BoxFuture<'_, Result<(), Error>> {
        // Space returns with the whole object.
        Box::pin(async { Ok(()) })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, Error>> {
        Box::pin(async move {
            let (_, mut known) = self.registry.known().await?;
            known.sort_by_key(|status| status.id);
            Ok(known)
        })
    }

    fn frames(
        &self,
        container: ContainerId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<FoundFrame>, Error>> {
        Box::pin(self.find_frames(container, from, limit))
    }

    fn remove_container(&self, container: ContainerId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let (_, known) = self.registry.known().await?;
            match known.into_iter().find(|status| status.id == container) {
                Some(status) => self.remove(status).await,
                None => self.delete(container).await,
            }
        })
    }
}

impl fmt::Debug for ObjectChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectChunks")
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

/// What follows stored bytes up to the next frame.
static PADDING: [u8; frame::PACKED_ALIGNMENT as usize] = [0; frame::PACKED_ALIGNMENT as usize];

/// Chunks that go into one object, with their numbers in the batch.
struct Part {
    kind: ContainerKind,
    frames: Vec<(usize, Encoded)>,
    bytes: u64,
}

fn split(encoded: Vec<Encoded>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (number, frame) in encoded.into_iter().enumerate() {
        let kind = frame::container_kind(frame.chunk.kind);
        let bytes = frame.frame_bytes(Packing::Packed);
        let last = parts.iter_mut().rev().find(|part| part.kind == kind);
        match last.filter(|part| part.bytes + bytes <= OBJECT_BYTES_MAX) {
            Some(part) => {
                part.frames.push((number, frame));
                part.bytes += bytes;
            }
            None => parts.push(Part {
                kind,
                frames: vec![(number, frame)],
                bytes,
            }),
        }
    }
    parts
}

fn verify(
    key: &StoreKey,
    frame: &Bytes,
    location: Location,
    chunk: &ChunkId,
) -> Result<Bytes, FrameError> {
    let header = Header::verify(key, frame, location, chunk)?;
    let stored = frame.slice(header.payload_range());
    codec::decode(header.codec, stored, header.content_bytes as usize)
}

fn path(id: ContainerId) -> Path {
    Path::from(layout::object_name(id))
}

fn failed(operation: &'static str) -> impl Fn(object_store::Error) -> Error {
    move |error| Error::Io {
        operation,
        source: io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{append_one, check_read, chunk};
    use crate::{ChunkKind, MemoryRegistry};
    use object_store::memory::InMemory;

    fn store(objects: &Arc<InMemory>, registry: &Arc<MemoryRegistry>) -> ObjectChunks {
        ObjectChunks::new(ObjectOptions {
            store_id: *b"a store of tests",
            objects: Arc::clone(objects) as Arc<dyn ObjectStore>,
            registry: Arc::clone(registry) as Arc<dyn ContainerRegistry>,
            codec: CodecSetting::Zstd { level: 1 },
            encoders: 2,
            metrics: Arc::default(),
        })
    }

    async fn names(objects: &InMemory) -> Vec<String> {
        let listed = objects
            .list(None)
            .map_ok(|object| object.location.to_string());
        listed.try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        crate::contract::run(&|| {
            Box::pin(async {
                Arc::new(store(&Arc::default(), &Arc::default())) as Arc<dyn ChunkStore>
            })
        })
        .await;
    }

    #[tokio::test]
    async fn any_process_reads_what_one_has_stored() {
        let (objects, registry) = (Arc::default(), Arc::default());
        let page = chunk(ChunkKind::Page, 1, 4000);
        let stored = append_one(&store(&objects, &registry), &page).await;
        check_read(&store(&objects, &registry), &stored, &page).await;
        assert_eq!(names(&objects).await, ["chunks/0000000000000001"]);
    }

    #[tokio::test]
    async fn an_unrecorded_object_is_found_and_removed() {
        let (objects, registry) = (Arc::default(), Arc::new(MemoryRegistry::new()));
        let store = store(&objects, &registry);
        let block = chunk(ChunkKind::Block, 1, 4000);
        let stored = append_one(&store, &block).await;
        registry.fail_after(1);
        let refused = store.append(vec![block.clone()]).await;
        assert!(matches!(refused, Err(Error::Registry(_))), "{refused:?}");
        registry.fail_after(u64::MAX);
        assert_eq!(names(&objects).await.len(), 2);
        assert_eq!(
            store.remove_unrecorded(ContainerId(2)).await.unwrap(),
            0,
            "it may be in flight"
        );
        assert_eq!(store.remove_unrecorded(ContainerId(3)).await.unwrap(), 1);
        check_read(&store, &stored, &block).await;
    }

    #[tokio::test]
    async fn a_container_is_removed_whole() {
        let (objects, registry) = (Arc::default(), Arc::default());
        let store = store(&objects, &registry);
        let block = chunk(ChunkKind::Block, 1, 4000);
        let stored = append_one(&store, &block).await;
        let status = store.containers().await.unwrap()[0];
        store.remove_container(status.id).await.unwrap();
        store.remove_container(status.id).await.unwrap();
        assert_eq!(names(&objects).await, [""; 0]);
        assert_eq!(store.containers().await.unwrap(), []);
        let read = store.read(stored.location, block.id).await;
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
    }

    #[tokio::test]
    async fn damage_is_seen() {
        let (objects, registry) = (Arc::default(), Arc::default());
        let store = store(&objects, &registry);
        let block = chunk(ChunkKind::Block, 1, 4000);
        let stored = append_one(&store, &block).await;
        let object = path(stored.location.container);
        let whole = objects.get(&object).await.unwrap().bytes().await.unwrap();
        for at in [0, 50, 250, 260] {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 4;
            objects.put(&object, damaged.into()).await.unwrap();
            let read = store.read(stored.location, block.id).await;
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{at}: {read:?}");
        }
        objects
            .put(&object, whole.slice(..100).into())
            .await
            .unwrap();
        let read = store.read(stored.location, block.id).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    }
}
