//! Where chunks live: the [`ChunkStore`] seam and its implementations.
//!
//! A chunk is the stored content of a block, a page of a block map, or a snapshot's own record. The
//! store knows nothing of snapshots, catalogs or protocols: it is given bytes and answers a
//! [`Location`]; the caller keeps that. A location is never written twice.

mod blocking;
mod codec;
#[cfg(any(test, feature = "test-support"))]
pub mod contract;
mod encode;
mod error;
#[cfg(any(test, feature = "test-support"))]
pub mod faulty;
mod frame;
#[cfg(test)]
mod golden;
mod layout;
mod local;
mod metrics;
#[cfg(feature = "objects")]
mod objects;
#[cfg(any(test, feature = "test-support"))]
mod registry;
pub mod salvage;
mod store;

pub use buffers::{ALIGNMENT, AlignedBuf, BufferPool};
pub use codec::CodecSetting;
pub use error::Error;
pub use local::{
    FileIo, LocalOptions, LocalStore, ReadOnlyStore, RecoveredSegment, SEGMENT_BYTES_FLOOR,
    SegmentIo, SegmentReader, SegmentWriter, WriteMode, segment_store_ids,
};
pub use metrics::{Count, Histogram, Metrics};
#[cfg(feature = "objects")]
pub use objects::{ObjectChunks, ObjectOptions};
#[cfg(any(test, feature = "test-support"))]
pub use registry::MemoryRegistry;
pub use store::{
    ChunkId, ChunkKind, ChunkStore, Codec, ContainerId, ContainerKind, ContainerRegistry,
    ContainerState, ContainerStatus, FoundFrame, Location, NewChunk, Stored,
};

/// Most chunks in one [`ChunkStore::append`]: a batch takes a bounded part of the write queue.
pub const BATCH_CHUNKS_MAX: usize = 1024;

/// Most bytes of content in one chunk: a block. Pages and snapshot records are far smaller.
pub const CHUNK_BYTES_MAX: usize = types::BLOCK_BYTES;
