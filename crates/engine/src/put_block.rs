//! Puts one block of a pending snapshot.
//!
//! ```text
//! step                                     what makes it safe                    a crash after it leaves
//! admit: snapshot open, index in bounds    a hint only; step 4 decides           nothing
//! hash, on the hashing pool                                                      nothing
//! store the chunk, unless it is known      the frame is durable on return        a frame without a name
//! commit: snapshot still open? chunk       one transaction (put_batch.rs);       all or nothing
//!   record live, entry written             a chunk that vanished meanwhile is
//!                                          stored from the bytes still held
//! ```
//!
//! Repeating a put is harmless: the same entry is written again. A block of zeros is an entry with a constant digest; it has no
//! chunk. Errors: [`Error::SnapshotNotFound`], [`Error::SnapshotSealed`], [`Error::BlockBeyondVolume`], [`Error::NoSpace`],
//! [`Error::Unavailable`], [`Error::Internal`]. After each but the last two, the snapshot is as it was; after these the block may have
//! been put, as after a connection that broke before the answer.

use crate::hashing::HashedBlock;
use crate::limits;
use crate::pages::live_record;
use crate::put_batch::{Content, PutItem, PutOutcome};
use crate::{AlignedBuf, BufferPool, Engine, Error, to_its_end};
use bytes::Bytes;
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::snapshots::State;
use chunkstore::{ChunkId, ChunkKind, NewChunk};
use types::{AccountId, BlockIndex, ChunkName, Domain, SnapshotId};

/// Leave to put one block, given before its data is read.
#[derive(Clone, Copy, Debug)]
pub struct PutPermit {
    pub(crate) id: SnapshotId,
    pub(crate) index: BlockIndex,
    pub(crate) domain: Domain,
}

impl Engine {
    /// Decides, before any data is read, whether the account may put this block.
    pub async fn admit_put(
        &self,
        account: AccountId,
        id: SnapshotId,
        index: BlockIndex,
    ) -> Result<PutPermit, Error> {
        let record = self
            .snapshot(id)
            .await?
            .filter(|record| record.account == account)
            .ok_or(Error::SnapshotNotFound { id })?;
        refuse_unless_open(id, record.state)?;
        if !record.volume_size.contains(index) {
            return Err(Error::BlockBeyondVolume {
                index,
                size: record.volume_size,
            });
        }
        Ok(PutPermit {
            id,
            index,
            domain: record.domain,
        })
    }

    /// Buffers for block data from senders whose signature is verified. Their number bounds the memory of all puts.
    pub fn buffers(&self) -> &BufferPool {
        &self.inner.buffers
    }

    /// The small share of buffers for data whose sender can only be verified with its digest.
    pub fn unverified_buffers(&self) -> &BufferPool {
        &self.inner.unverified_buffers
    }

    /// Computes the digest of a whole block, away from the threads that serve requests.
    ///
    /// # Panics
    /// When the buffer is not one of 512 KiB.
    pub async fn hash_block(&self, data: AlignedBuf) -> Result<HashedBlock, Error> {
        let hashed = self.inner.hashing.hash(data).await;
        hashed.ok_or_else(|| Error::Unavailable {
            reason: "shutting down".to_owned(),
        })
    }

    /// Puts the block; durable when it answers. `progress` is what the client says of itself, in percent.
    ///
    /// Once begun it goes on to its end, also when the caller goes away: so no frame is left without a name.
    pub async fn put_block(
        &self,
        permit: PutPermit,
        block: HashedBlock,
        progress: Option<u8>,
    ) -> Result<(), Error> {
        let engine = self.clone();
        let done = to_its_end(async move { engine.put(permit, block, progress).await }).await;
        if let Err(Error::NoSpace { .. }) = done {
            self.inner.metrics.puts_without_space.inc();
        }
        done
    }

    async fn put(
        &self,
        permit: PutPermit,
        block: HashedBlock,
        progress: Option<u8>,
    ) -> Result<(), Error> {
        let PutPermit { id, index, domain } = permit;
        let chunk = ChunkId {
            domain,
            name: ChunkName::plain(block.digest),
            kind: ChunkKind::Block,
        };
        let key = (domain, chunk.name);
        let mut content = match &block.data {
            None => Content::Zeros,
            Some(_) if self.is_stored(key).await? => Content::Known(key),
            Some(data) => Content::Stored(self.store_block(chunk, &block, data).await?),
        };
        // Whether an attempt may have been recorded: then nothing that refuses a later one is the truth about this put.
        let mut unknown = false;
        for _ in 0..limits::PUT_ATTEMPTS {
            let item = PutItem {
                id,
                index,
                digest: block.digest,
                content: content.clone(),
                progress,
            };
            match self.record_put(item).await {
                Some(PutOutcome::Done) => {
                    self.count_put(&content);
                    return Ok(());
                }
                Some(PutOutcome::NotOpen(_) | PutOutcome::Failed(_)) if unknown => break,
                Some(PutOutcome::NotOpen(state)) => {
                    return match state {
                        Some(state) => refuse_unless_open(id, state),
                        None => Err(Error::SnapshotNotFound { id }),
                    };
                }
                // The chunk that we relied on is gone or damaged: its content is still at hand.
                Some(PutOutcome::NeedsData) => {
                    self.inner.known_chunks.forget(&key);
                    if let Some(data) = &block.data {
                        let stored = self.store_block(chunk, &block, data).await;
                        content = match stored {
                            Ok(stored) => Content::Stored(stored),
                            Err(_) if unknown => break,
                            Err(error) => return Err(error),
                        };
                    }
                }
                // Committed or not, the same entry may be written again. Not so the frame: it may have been noted in
                // `frees`. If its record is there it will be found, else the content is stored anew.
                Some(PutOutcome::Unknown) => {
                    unknown = true;
                    if let Content::Stored(_) = content {
                        content = Content::Known(key);
                    }
                }
                Some(PutOutcome::Failed(error)) => return Err(error),
                None => break,
            }
        }
        Err(Error::Unavailable {
            reason: "the put could not be committed".to_owned(),
        })
    }

    /// Puts an item into the next transaction; nothing when that died.
    pub(crate) async fn record_put(&self, item: PutItem) -> Option<PutOutcome> {
        self.inner.metrics.puts_waiting.inc();
        let outcome = self.inner.puts.call(item).await;
        self.inner.metrics.puts_waiting.dec();
        outcome
    }

    /// Whether the chunk seems to be stored; the put's transaction has the last word.
    pub(crate) async fn is_stored(&self, key: ChunkKey) -> Result<bool, Error> {
        if self.inner.filter.excludes(&key) {
            return Ok(false);
        }
        let record = self.chunk_record(key).await?;
        Ok(record.is_some_and(|record| {
            record.state != ChunkState::Damaged && record.kind == ChunkKind::Block as u8
        }))
    }

    async fn store_block(
        &self,
        chunk: ChunkId,
        block: &HashedBlock,
        data: &Bytes,
    ) -> Result<ChunkRecord, Error> {
        let new = NewChunk {
            id: chunk,
            digest: block.digest,
            data: data.clone(),
        };
        let stored = self
            .inner
            .chunks
            .append(vec![new])
            .await
            .map_err(Error::of_append)?;
        let stored = stored.first().ok_or_else(|| Error::Internal {
            reason: "the chunk store did not answer for a chunk".to_owned(),
        })?;
        Ok(live_record(chunk, *stored, 0))
    }

    /// Counts a put that was recorded.
    pub(crate) fn count_put(&self, content: &Content) {
        let metrics = &self.inner.metrics;
        metrics.blocks_put.inc();
        match content {
            Content::Zeros => metrics.zero_blocks.inc(),
            Content::Known(_) => metrics.dedup_hits.inc(),
            Content::Stored(_) => 0,
        };
    }
}

/// A failed snapshot is, for a put, one that does not exist (SPEC 1.2).
pub(crate) fn refuse_unless_open(id: SnapshotId, state: State) -> Result<(), Error> {
    match state {
        State::Open => Ok(()),
        State::Sealed | State::Completed => Err(Error::SnapshotSealed { id }),
        State::Failed => Err(Error::SnapshotNotFound { id }),
    }
}
