//! Verifies one chunk, or one snapshot's own frame, and settles what it finds.
//!
//! What fails is looked at again by its record of now: it may have moved, or been collected, and then it is not damage. Only the place
//! that failed twice, and that the record still names in the transaction that marks it, is damaged.

use super::Fault;
use crate::Engine;
use crate::error::chain;
use crate::pages::{catalog_location, chunk_id, location, store_location};
use crate::snapshot_frame::SnapshotFrame;
use crate::touched::{find, is_damage};
use bytes::Bytes;
use catalog::chunks::{ChunkRecord, ChunkState};
use catalog::snapshots::SnapshotRecord;
use catalog::{DbExt, Location};
use chunkstore::{ChunkId, ChunkKind, NewChunk};
use types::{BLOCK_BYTES, ChunkName, Digest};

/// Looks at one chunk: it may move while we look, but not for ever.
const LOOKS: usize = 4;

/// What became of a look at a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Checked {
    /// Its bytes are what its name says.
    Sound,
    /// So they are, and it had been found damaged before.
    Healed,
    /// It was collected, or moves all the time; then the next scrub will see it.
    Gone,
    /// Its bytes failed, twice. It is marked.
    Damaged {
        /// Where and how.
        reason: String,
    },
}

impl Engine {
    pub(crate) async fn check_chunk(&self, record: ChunkRecord) -> Result<Checked, Fault> {
        let key = record.key();
        let mut record = record;
        let mut failed_at = None;
        for _ in 0..LOOKS {
            let Err(reason) = self.verify(&record).await? else {
                let was_damaged = record.state == ChunkState::Damaged;
                return Ok(if was_damaged && self.mark_sound(&record).await? {
                    Checked::Healed
                } else {
                    Checked::Sound
                });
            };
            if failed_at == Some(record.location) {
                match self.mark(&record).await? {
                    Some(now) if now.location == record.location => {
                        return Ok(Checked::Damaged { reason });
                    }
                    Some(now) => record = now,
                    None => return Ok(Checked::Gone),
                }
                continue;
            }
            failed_at = Some(record.location);
            self.inner.known_chunks.forget(&key);
            match find(&*self.inner.db, vec![key]).await?.remove(&key) {
                Some(now) => record = now,
                None => return Ok(Checked::Gone),
            }
        }
        Ok(Checked::Gone)
    }

    /// Reads and verifies; says what is wrong with the bytes, if anything is.
    async fn verify(&self, record: &ChunkRecord) -> Result<Result<(), String>, Fault> {
        let Some(kind) = kind_of(record.kind) else {
            return Ok(Err(format!(
                "its record says that its kind is {}",
                record.kind
            )));
        };
        let read = self
            .inner
            .chunks
            .read_stored(location(record), chunk_id(record, kind));
        let bytes = match read.await {
            Ok(bytes) => bytes,
            Err(error) if is_damage(&error) => return Ok(Err(chain(&error))),
            Err(error) => return Err(error.into()),
        };
        if kind == ChunkKind::Block && bytes.len() != BLOCK_BYTES {
            return Ok(Err(format!("it holds {} bytes", bytes.len())));
        }
        let digest = self.inner.hashing.digest(bytes).await;
        let digest = digest.ok_or(Fault::ShuttingDown)?;
        if ChunkName::plain(digest) == record.name {
            return Ok(Ok(()));
        }
        let place = at(record.location);
        Ok(Err(format!(
            "{place}: its checksum matches, and the digest of its content is {digest}"
        )))
    }

    /// Marks the chunk as damaged where it is; answers its record afterwards.
    async fn mark(&self, record: &ChunkRecord) -> Result<Option<ChunkRecord>, Fault> {
        let (key, location) = (record.key(), record.location);
        let marked = self.inner.db.transact(move |txn| {
            Box::pin(async move {
                let newly = catalog::chunks::mark_damaged(txn, key, location).await?;
                Ok((
                    newly,
                    catalog::chunks::find(txn, &[key]).await?.remove(&key),
                ))
            })
        });
        let (newly, now) = marked.await?;
        self.inner.known_chunks.forget(&key);
        if newly {
            self.inner.metrics.damaged_chunks.inc();
        }
        Ok(now)
    }

    async fn mark_sound(&self, record: &ChunkRecord) -> Result<bool, Fault> {
        let (key, location) = (record.key(), record.location);
        let sound = self.inner.db.transact(move |txn| {
            Box::pin(async move { catalog::chunks::mark_sound(txn, key, location).await })
        });
        Ok(sound.await?)
    }

    /// Verifies a completed snapshot's own frame. The record has all that is in it, so one that fails is stored anew.
    pub(crate) async fn check_frame(&self, record: SnapshotRecord) -> Result<Checked, Fault> {
        let Some((chunk, mut place)) = own_frame(&record) else {
            return Ok(Checked::Gone);
        };
        let mut failed_at = None;
        for _ in 0..LOOKS {
            let read = self
                .inner
                .chunks
                .read_stored(store_location(place), chunk.id);
            let reason = match read.await {
                Ok(bytes) if bytes == chunk.data => return Ok(Checked::Sound),
                Ok(_) => format!("{}: it says something else than the record", at(place)),
                Err(error) if is_damage(&error) => chain(&error),
                Err(error) => return Err(error.into()),
            };
            if failed_at == Some(place) {
                self.inner.metrics.damaged_chunks.inc();
                return self.store_anew(&record, chunk, place, reason).await;
            }
            failed_at = Some(place);
            let id = record.id;
            let now = self
                .inner
                .db
                .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }));
            match now.await?.and_then(|now| now.finished) {
                Some(finished) => place = finished.frame,
                None => return Ok(Checked::Gone),
            }
        }
        Ok(Checked::Gone)
    }

    async fn store_anew(
        &self,
        record: &SnapshotRecord,
        chunk: NewChunk,
        from: Location,
        reason: String,
    ) -> Result<Checked, Fault> {
        let stored = match self.inner.chunks.append(vec![chunk]).await {
            Ok(stored) => stored,
            Err(error) => {
                let reason = format!("{reason}; it could not be stored anew: {}", chain(&error));
                return Ok(Checked::Damaged { reason });
            }
        };
        let (id, to) = (record.id, catalog_location(stored[0].location));
        let moved = self.inner.db.transact(move |txn| {
            Box::pin(async move {
                txn.hold_epoch_shared().await?;
                let nameable = catalog::containers::nameable(txn, &[to.container]).await?;
                let moved = !nameable.is_empty()
                    && catalog::snapshots::move_frame(txn, id, from, to).await?;
                if moved {
                    let (added, lost) = (u64::from(to.length), u64::from(from.length));
                    catalog::containers::add_live(txn, to.container, added).await?;
                    catalog::containers::sub_live(txn, from.container, lost).await?;
                }
                let unnamed = if moved { from } else { to };
                catalog::containers::insert_frees(txn, &[unnamed]).await?;
                Ok(moved)
            })
        });
        let moved = moved.await?;
        self.inner.snapshots.forget(id);
        self.inner.frees.notify_one();
        if moved {
            tracing::warn!(snapshot = %id, reason, "a snapshot's own frame was damaged and is stored anew");
            Ok(Checked::Healed)
        } else {
            Ok(Checked::Gone)
        }
    }
}

/// The frame that a completed snapshot must have, and where it is.
pub(crate) fn own_frame(record: &SnapshotRecord) -> Option<(NewChunk, Location)> {
    let finished = record.finished?;
    let frame = SnapshotFrame {
        id: record.id,
        account: record.account,
        domain: record.domain,
        parent: record.parent,
        lineage: record.lineage,
        volume_size: record.volume_size,
        description: record.description.clone(),
        start_time: record.start_time,
        completion_time: finished.completion_time,
        own_count: finished.own_count,
        full_count: finished.full_count,
        root: finished.root,
    };
    let data = Bytes::from(frame.encode());
    let digest = Digest::of(&data);
    let id = ChunkId {
        domain: record.domain,
        name: ChunkName::plain(digest),
        kind: ChunkKind::Snapshot,
    };
    Some((NewChunk { id, digest, data }, finished.frame))
}

/// The kind that a record's number means; records name no frames of snapshots.
pub(crate) fn kind_of(number: u8) -> Option<ChunkKind> {
    [ChunkKind::Block, ChunkKind::Page]
        .into_iter()
        .find(|kind| *kind as u8 == number)
}

fn at(place: Location) -> String {
    let Location {
        container, offset, ..
    } = place;
    format!("the frame at offset {offset} of container {container}")
}
