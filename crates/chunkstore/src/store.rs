//! The seam: what every chunk store promises.

use crate::Error;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use types::{ChunkName, Digest, Domain};

/// What a chunk holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ChunkKind {
    /// 512 KiB of a volume.
    Block = 1,
    /// A page of a block map.
    Page = 2,
    /// The record of a completed snapshot, from which a catalog can be rebuilt.
    Snapshot = 3,
}

/// The identity of a chunk; a read must name it and gets nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ChunkId {
    /// The scope of deduplication.
    pub domain: Domain,
    /// The name within the domain.
    pub name: ChunkName,
    /// What it holds.
    pub kind: ChunkKind,
}

/// How the stored bytes were made from the content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Codec {
    /// The content itself.
    None = 0,
    /// A zstd frame.
    Zstd = 1,
}

/// A container of chunks: a segment file or an object. Ids are never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ContainerId(pub u64);

/// What a container may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum ContainerKind {
    /// Frames of blocks, each aligned to 4 KiB, so that it can be punched.
    Blocks = 1,
    /// Packs of pages and snapshot records; freed whole.
    Pages = 2,
}

/// Where in its life a container is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ContainerState {
    /// Frames may still be appended.
    Open = 1,
    /// Complete; its tail is truncated.
    Sealed = 2,
    /// Gone; the record stays, so that the id is never given out again.
    Removed = 3,
    /// Complete, and no record may name a frame of it anew: what has no name is garbage for good.
    Closed = 4,
    /// Closed, and every frame in it without a name has been freed.
    Settled = 5,
}

impl ContainerState {
    /// Whether all its frames are there, so that no more will be appended.
    pub fn is_complete(self) -> bool {
        match self {
            ContainerState::Sealed | ContainerState::Closed | ContainerState::Settled => true,
            ContainerState::Open | ContainerState::Removed => false,
        }
    }
}

/// A container as the registry remembers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// What it may hold.
    pub kind: ContainerKind,
    /// Where in its life it is.
    pub state: ContainerState,
    /// Allocated length while open, used length afterwards.
    pub bytes: u64,
}

/// Where a chunk's frame is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The container.
    pub container: ContainerId,
    /// Offset of the frame in bytes.
    pub offset: u64,
    /// Length of the whole frame (header, stored bytes, padding) in bytes.
    pub length: u32,
}

/// A frame found by its header, without a look at its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundFrame {
    /// Which chunk it holds, as its header says.
    pub id: ChunkId,
    /// Where it is.
    pub location: Location,
    /// The digest of the content, as its header says.
    pub digest: Digest,
    /// How it is encoded.
    pub codec: Codec,
    /// Bytes after encoding, without header and padding.
    pub stored_bytes: u32,
}

/// A chunk to be stored.
#[derive(Clone, Debug)]
pub struct NewChunk {
    /// Its identity.
    pub id: ChunkId,
    /// SHA-256 of the content, kept in the frame.
    pub digest: Digest,
    /// The content. A block that lies in an [`crate::AlignedBuf`] is written without a copy.
    pub data: Bytes,
}

/// What became of a stored chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Where it is.
    pub location: Location,
    /// How it is encoded.
    pub codec: Codec,
    /// Bytes after encoding, without header and padding.
    pub stored_bytes: u32,
}

/// A place for chunks.
///
/// A trait because there are real backends (segment files, objects) and faulty ones for tests.
///
/// Contract, tested line by line by the contract suite:
/// - `append` answers after every chunk of the batch is durable, with one [`Stored`] per chunk in order;
///   on an error none of them may be taken as stored, and what was written is garbage without a name.
/// - Batches of concurrent callers may be written together; they may then fail together, but one that was answered
///   before stays stored. Dropping the future does not take a batch back.
/// - `read` returns the content exactly as given to `append`, after checking the frame's checksums and its
///   identity (store, container, offset, domain, name, kind) on this read. Bytes that fail are
///   [`Error::Corrupt`]; a location in a container that does not exist is [`Error::NotFound`].
/// - `free` gives the space of these frames back, at once (blocks in local segments) or with their container (pages,
///   objects). A later read of them gives an error or, where the space is not back yet, still their content; never other
///   content. It may be repeated, and locations in removed containers are ignored. Frames not named are untouched.
/// - `frames` finds every frame whose header is whole, and nothing else: no bytes inside a payload are taken for a frame.
/// - `remove_container` refuses one that may still be appended to with [`Error::Closed`]; afterwards reads of it answer [`Error::NotFound`].
/// - A location is given out once, ever.
/// - Not promised: order between concurrent appends, or that freed space returns at once.
///
/// # Panics
/// `append` panics on more than [`crate::BATCH_CHUNKS_MAX`] chunks, or one of more than [`crate::CHUNK_BYTES_MAX`] bytes.
pub trait ChunkStore: Send + Sync + 'static {
    /// Stores a batch of at most [`crate::BATCH_CHUNKS_MAX`] chunks, durably.
    fn append(&self, batch: Vec<NewChunk>) -> BoxFuture<'_, Result<Vec<Stored>, Error>>;

    /// Reads one chunk and proves that it is the one asked for.
    fn read(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>>;

    /// The same from where it is stored, not from what memory holds of it: a scrub would never see the disk otherwise.
    fn read_stored(&self, location: Location, id: ChunkId) -> BoxFuture<'_, Result<Bytes, Error>>;

    /// Gives the space of these frames back.
    fn free(&self, locations: Vec<Location>) -> BoxFuture<'_, Result<(), Error>>;

    /// The containers that exist, by id.
    fn containers(&self) -> BoxFuture<'_, Result<Vec<ContainerStatus>, Error>>;

    /// Frames of a complete container whose headers are whole, by offset, from the offset `from` on, at most `limit`. Fewer
    /// only at its end. What was freed is not among them, or still is where its space is not back yet.
    fn frames(
        &self,
        container: ContainerId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<FoundFrame>, Error>>;

    /// Removes a complete container with everything in it, durably. The caller has made sure that nothing in it is named,
    /// nor ever will be. May be repeated, also after a crash; one that does not exist is gone.
    fn remove_container(&self, container: ContainerId) -> BoxFuture<'_, Result<(), Error>>;
}

/// Where a store writes down its containers before it uses them.
///
/// A trait because the store must not know the catalog: an id that was given out once is never given out again, not
/// even after the store lost its files, so the memory of ids has to live elsewhere. Each call is durable on return.
pub trait ContainerRegistry: Send + Sync + 'static {
    /// A fresh id, never given out before.
    fn reserve(&self) -> BoxFuture<'_, Result<ContainerId, Error>>;

    /// Remembers a container, or its new state and length.
    fn record(&self, status: ContainerStatus) -> BoxFuture<'_, Result<(), Error>>;

    /// The highest id ever reserved, and every container that is not [`ContainerState::Removed`].
    fn known(&self) -> BoxFuture<'_, Result<(ContainerId, Vec<ContainerStatus>), Error>>;
}
