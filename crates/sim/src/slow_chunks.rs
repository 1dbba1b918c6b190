//! The chunk store of the simulated machine: a local store without threads, whose calls take time.

use crate::pauses::Pauses;
use bytes::Bytes;
use chunkstore::{
    ChunkId, ChunkStore, ContainerId, ContainerStatus, Error, FoundFrame, LocalStore, Location,
    NewChunk, Stored,
};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A local store, with a pause before and after each call.
pub struct SlowChunks {
    /// The store itself.
    pub store: Arc<LocalStore>,
    /// What its calls take.
    pub pauses: Arc<Pauses>,
}

impl SlowChunks {
    async fn paused<T>(&self, call: impl Future<Output = T>) -> T {
        self.pauses.pause().await;
        let answer = call.await;
        self.pauses.pause().await;
        answer
    }
}

impl ChunkStore for SlowChunks {
    fn append(&self, batch: Vec<NewChunk>) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        Box::pin(self.paused(self.store.append(batch)))
    }

    fn read(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(self.paused(self.store.read(location, id)))
    }

    fn read_stored(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(self.paused(self.store.read_stored(location, id)))
    }

    fn free(&self, locations: Vec<Location>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.paused(self.store.free(locations)))
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, Error>> {
        Box::pin(self.paused(self.store.containers()))
    }

    fn frames(
        &self,
        container: ContainerId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<FoundFrame>, Error>> {
        Box::pin(self.paused(self.store.frames(container, from, limit)))
    }

    fn remove_container(&self, container: ContainerId) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.paused(self.store.remove_container(container)))
    }
}
