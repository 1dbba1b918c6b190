//! From chunks to what is stored of them: encoded, and with the checksum of the result.

use crate::blocking::blocking;
use crate::codec::{CodecSetting, Encoder};
use crate::frame::{Header, Packing, StoreKey};
use crate::metrics::Metrics;
use crate::{
    BATCH_CHUNKS_MAX, CHUNK_BYTES_MAX, ChunkId, ChunkKind, Codec, ContainerId, Error, Location,
    NewChunk, Stored,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Semaphore;
use types::Digest;

/// Content up to this many bytes is checksummed where it is appended: that takes 50 µs, less than going to another
/// thread and back costs under load.
const INLINE_BYTES_MAX: usize = 1 << 20;

/// A chunk as it will be stored.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) chunk: ChunkId,
    digest: Digest,
    codec: Codec,
    content_bytes: u32,
    pub(crate) stored: Bytes,
    checksum: [u8; 16],
}

impl Encoded {
    /// Length of the frame in bytes.
    pub(crate) fn frame_bytes(&self, packing: Packing) -> u64 {
        u64::from(packing.frame_bytes(self.stored.len() as u32))
    }

    /// The header of the frame at this place.
    pub(crate) fn header(&self, container: ContainerId, offset: u64, packing: Packing) -> Header {
        Header {
            container,
            offset,
            packing,
            chunk: self.chunk,
            digest: self.digest,
            codec: self.codec,
            content_bytes: self.content_bytes,
            stored_bytes: self.stored.len() as u32,
            payload_checksum: self.checksum,
        }
    }

    /// What the caller learns once the frame is durable at this place.
    pub(crate) fn stored_at(&self, location: Location) -> Stored {
        Stored {
            location,
            codec: self.codec,
            stored_bytes: self.stored.len() as u32,
        }
    }
}

/// Encodes a bounded number of batches at a time, slow ones on blocking threads.
#[derive(Debug)]
pub(crate) struct Encoding {
    work: Arc<Work>,
    threads: Arc<Semaphore>,
}

#[derive(Debug)]
struct Work {
    encoder: Encoder,
    key: StoreKey,
    metrics: Arc<Metrics>,
}

impl Encoding {
    pub(crate) fn new(
        setting: CodecSetting,
        key: StoreKey,
        threads: usize,
        metrics: Arc<Metrics>,
    ) -> Encoding {
        let work = Work {
            encoder: Encoder::new(setting),
            key,
            metrics,
        };
        Encoding {
            work: Arc::new(work),
            threads: Arc::new(Semaphore::new(threads)),
        }
    }

    /// The chunks of a batch, encoded, in order.
    ///
    /// # Panics
    /// When the batch has more than [`BATCH_CHUNKS_MAX`] chunks or one of more than [`CHUNK_BYTES_MAX`] bytes.
    pub(crate) async fn encode(&self, batch: Vec<NewChunk>) -> Result<Vec<Encoded>, Error> {
        check(&batch);
        let bytes: usize = batch.iter().map(|chunk| chunk.data.len()).sum();
        let work = Arc::clone(&self.work);
        let encode = move || batch.iter().map(|chunk| work.encode(chunk)).collect();
        if self.work.encoder.is_idle() && bytes <= INLINE_BYTES_MAX {
            return Ok(encode());
        }
        blocking(&self.threads, move || Ok(encode())).await
    }

    /// The same on this thread, however long it takes.
    pub(crate) fn encode_here(&self, batch: &[NewChunk]) -> Vec<Encoded> {
        check(batch);
        batch.iter().map(|chunk| self.work.encode(chunk)).collect()
    }
}

fn check(batch: &[NewChunk]) {
    assert!(
        batch.len() <= BATCH_CHUNKS_MAX,
        "a batch has at most {BATCH_CHUNKS_MAX} chunks"
    );
    for chunk in batch {
        let bytes = chunk.data.len();
        assert!(
            bytes <= CHUNK_BYTES_MAX,
            "a chunk has at most {CHUNK_BYTES_MAX} bytes"
        );
    }
}

impl Work {
    fn encode(&self, chunk: &NewChunk) -> Encoded {
        let (codec, stored) = match chunk.id.kind {
            ChunkKind::Block => self.encoder.encode(&chunk.data),
            // Digests do not compress, and a snapshot's record is small.
            ChunkKind::Page | ChunkKind::Snapshot => (Codec::None, chunk.data.clone()),
        };
        self.metrics
            .codec_saved_bytes
            .add((chunk.data.len() - stored.len()) as u64);
        Encoded {
            chunk: chunk.id,
            digest: chunk.digest,
            codec,
            content_bytes: chunk.data.len() as u32,
            checksum: self.key.checksum(&stored),
            stored,
        }
    }
}
