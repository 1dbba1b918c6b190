//! A directory of segments that is only looked at: for audits of a store that is not running, and for rescue.
//!
//! Invariants
//! - R1: nothing is created, written, punched or removed; there is no recovery, and no trial of direct writes.
//! - R2: what is there is what the directory holds, at the time of each call: no registry is asked, so that it works without a catalog,
//!   and beside a process that serves the same directory.
//!
//! Every segment counts as complete here, also one that was open when its process ended; its frames may end anywhere before its
//! length. Bytes that leave `read` are proved as in the store itself.

use super::io::SegmentIo;
use super::reader::Reader;
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError};
use super::shared::{Shared, Sizes};
use super::{CHORES_MAX, READS_MAX, recovery};
use crate::blocking::blocking;
use crate::frame::StoreKey;
use crate::metrics::Metrics;
use crate::{
    ChunkId, ChunkStore, ContainerId, ContainerKind, ContainerRegistry, ContainerState,
    ContainerStatus, Error, FoundFrame, Location, NewChunk, Stored, layout,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use types::{Clock, UnixMillis};

/// A chunk store that changes nothing.
pub struct ReadOnlyStore {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    reading: Arc<Semaphore>,
    chores: Arc<Semaphore>,
}

impl ReadOnlyStore {
    /// The segments in this directory, with the frames of `store_id` in them. Looks at nothing yet. A [`crate::FileIo`] for this is opened
    /// by [`crate::FileIo::open_to_read`].
    pub fn new(store_id: [u8; 16], io: Arc<dyn SegmentIo>) -> ReadOnlyStore {
        let shared = Arc::new(Shared {
            io,
            registry: Arc::new(NoRegistry),
            key: StoreKey::new(store_id),
            clock: Arc::new(NoTime),
            metrics: Arc::<Metrics>::default(),
            sizes: Sizes {
                segment_bytes_min: 0,
                segment_bytes_max: 0,
                reserve_bytes: 0,
            },
            containers: RwLock::default(),
        });
        ReadOnlyStore {
            reader: Arc::new(Reader::new(Arc::clone(&shared))),
            shared,
            reading: Arc::new(Semaphore::new(READS_MAX)),
            chores: Arc::new(Semaphore::new(CHORES_MAX)),
        }
    }

    /// Finds out about one container; what was known of it is forgotten when its file is gone.
    async fn look_up(&self, id: ContainerId) -> Result<ContainerStatus, Error> {
        if let Some(status) = self.shared.status(id) {
            return Ok(status);
        }
        let shared = Arc::clone(&self.shared);
        blocking(&self.chores, move || {
            for kind in [ContainerKind::Blocks, ContainerKind::Pages] {
                if let Some(status) = inspect(&shared, id, kind)? {
                    shared.remember(status);
                    return Ok(status);
                }
            }
            Err(Error::NotFound { container: id })
        })
        .await
    }

    async fn read_chunk(&self, location: Location, id: ChunkId) -> Result<Bytes, Error> {
        let status = self.look_up(location.container).await?;
        let (reader, shared) = (Arc::clone(&self.reader), Arc::clone(&self.shared));
        blocking(&self.reading, move || {
            reader.read(location, id).or_else(|error| {
                // The file may have been removed since it was found.
                match inspect(&shared, status.id, status.kind)? {
                    Some(_) => Err(error),
                    None => {
                        shared.forget(status.id);
                        reader.close(status.id);
                        let container = status.id;
                        Err(Error::NotFound { container })
                    }
                }
            })
        })
        .await
    }
}

impl ChunkStore for ReadOnlyStore {
    fn append(&self, _batch: Vec<NewChunk>) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(async { Err(refused()) })
    }

    fn read(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(self.read_chunk(location, id))
    }

    fn read_stored(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        // Whoever opens a store to look at it has not read it before.
        self.read(location, id)
    }

    fn free(&self, _locations: Vec<Location>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Err(refused()) })
    }

    /// The segment files in the directory, each as sealed, with the length of its file.
    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, Error>> {
        Box::pin(async move {
            let shared = Arc::clone(&self.shared);
            blocking(&self.chores, move || list(&shared)).await
        })
    }

    fn frames(
        &self,
        container: ContainerId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<FoundFrame>, Error>> {
        Box::pin(async move {
            let status = self.look_up(container).await?;
            let shared = Arc::clone(&self.shared);
            blocking(&self.chores, move || {
                match recovery::frames(&shared, status, from, limit) {
                    Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        shared.forget(container);
                        Err(Error::NotFound { container })
                    }
                    answer => answer,
                }
            })
            .await
        })
    }

    fn remove_container(&self, _container: ContainerId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Err(refused()) })
    }
}

impl fmt::Debug for ReadOnlyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlyStore").finish_non_exhaustive()
    }
}

/// The store ids in the headers of the segments here, each with the number of segments that carry it; headers that cannot be read
/// are left out. For who has no catalog to ask. Blocks.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be listed.
pub fn segment_store_ids(io: &dyn SegmentIo) -> Result<BTreeMap<[u8; 16], u64>, Error> {
    // No store has this id; each header is then one of another store.
    let nobody = StoreKey::new([0; 16]);
    let mut ids = BTreeMap::new();
    for name in names(io)?.keys() {
        let mut block = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        let read = io
            .open_reader(name)
            .and_then(|file| file.read_at(&mut block, SEGMENT_HEADER_BYTES, 0));
        if let Err(error) = read {
            tracing::warn!(name, %error, "the header of a segment cannot be read");
            continue;
        }
        if let Err(SegmentHeaderError::OtherStore(id)) = SegmentHeader::decode(&nobody, &block) {
            *ids.entry(id).or_default() += 1;
        }
    }
    Ok(ids)
}

fn names(io: &dyn SegmentIo) -> Result<BTreeMap<String, (ContainerId, ContainerKind)>, Error> {
    let names = io.list().map_err(|source| Error::Io {
        operation: "listing segments",
        source,
    })?;
    Ok(names
        .into_iter()
        .filter_map(|name| layout::parse_segment_name(&name).map(|segment| (name, segment)))
        .collect())
}

fn list(shared: &Shared) -> Result<Vec<ContainerStatus>, Error> {
    let mut found = Vec::new();
    for (id, kind) in names(&*shared.io)?.into_values() {
        // One that is removed while we look is not there.
        found.extend(inspect(shared, id, kind)?);
    }
    found.sort_by_key(|status| status.id);
    let there: BTreeSet<ContainerId> = found.iter().map(|status| status.id).collect();
    for known in shared.all() {
        if !there.contains(&known.id) {
            shared.forget(known.id);
        }
    }
    for status in &found {
        shared.remember(*status);
    }
    Ok(found)
}

/// A segment of this name, if there is one.
fn inspect(
    shared: &Shared,
    id: ContainerId,
    kind: ContainerKind,
) -> Result<Option<ContainerStatus>, Error> {
    let opened = shared
        .io
        .open_reader(&layout::segment_name(id, kind))
        .and_then(|file| file.bytes());
    match opened {
        Ok(bytes) => Ok(Some(ContainerStatus {
            id,
            kind,
            state: ContainerState::Sealed,
            bytes,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            operation: "looking at a segment",
            source,
        }),
    }
}

fn refused() -> Error {
    Error::Closed {
        reason: "it was opened to read".to_owned(),
    }
}

/// What a store that changes nothing is never asked.
struct NoRegistry;

impl ContainerRegistry for NoRegistry {
    fn reserve(&self) -> BoxFuture<'_, Result<ContainerId, Error>> {
        Box::pin(async { Err(refused()) })
    }

    fn record(&self, _status: ContainerStatus) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Err(refused()) })
    }

    fn known(&self) -> BoxFuture<'_, Result<(ContainerId, Vec<ContainerStatus>), Error>> {
        Box::pin(async { Err(refused()) })
    }
}

/// Only writing takes the time.
struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> UnixMillis {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
