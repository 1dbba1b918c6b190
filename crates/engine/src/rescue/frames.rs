//! The frames that were found, sorted by chunk, so that those of one chunk lie together and records are written in the order of their table.
//!
//! A table filled in any other order would be read and written once more for nearly every row as soon as it is larger than memory.
//!
//! ```text
//! offset  bytes  field
//!      0      8  domain, big endian
//!      8     32  name
//!     40      8  container, big endian
//!     48      8  offset, big endian
//!     56      4  length, little endian
//!     60      4  stored bytes, little endian
//!     64      1  kind
//!     65      1  codec
//!     66      1  1 when its bytes are known to be damaged
//! ```
//!
//! These files last no longer than the rebuild.

use super::records::{count_live, examine};
use super::{BATCH, RebuildReport, RescueError};
use crate::pages::store_location;
use crate::sorter::{MEMORY_BYTES, Sorter};
use catalog::chunks::{ChunkRecord, ChunkState};
use catalog::{Db, DbExt, Location};
use chunkstore::{ChunkId, ChunkKind, ChunkStore, Codec, FoundFrame};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use types::{ChunkName, Digest, Domain};

/// Rows written in one transaction: nobody waits for the writer.
const ROWS: usize = 16_384;

const RECORD_BYTES: usize = 67;
const KEY_BYTES: usize = 56;

/// Gathers frames in any order.
pub(super) struct Frames(Sorter<RECORD_BYTES, KEY_BYTES>);

impl Frames {
    /// None yet. What memory does not hold goes to `scratch`.
    pub(super) fn new(scratch: Arc<Path>) -> Frames {
        // A frame is met once, so no two are equal.
        Frames(Sorter::new(scratch, 2 * MEMORY_BYTES, |_, _| {}))
    }

    /// Takes the record that a frame would have.
    pub(super) async fn push(&mut self, record: &ChunkRecord) -> Result<(), RescueError> {
        Ok(self.0.push(encode(record)).await?)
    }

    /// Writes the record of every chunk, with the best of its frames.
    pub(super) async fn write(
        self,
        db: &dyn Db,
        chunks: &dyn ChunkStore,
        epoch: i64,
        report: &mut RebuildReport,
    ) -> Result<(), RescueError> {
        let mut sorted = self.0.sorted().await?;
        let mut batch: Vec<ChunkRecord> = Vec::new();
        let mut best: Option<ChunkRecord> = None;
        loop {
            let found = sorted.next(BATCH).await?;
            if found.is_empty() {
                break;
            }
            for bytes in &found {
                let frame = decode(bytes, epoch);
                best = match best {
                    Some(rival) if rival.key() == frame.key() => {
                        report.duplicates += 1;
                        Some(better(chunks, rival, frame).await?)
                    }
                    other => {
                        batch.extend(other);
                        Some(frame)
                    }
                };
            }
            if batch.len() >= ROWS {
                write(db, std::mem::take(&mut batch), report).await?;
            }
        }
        batch.extend(best);
        write(db, batch, report).await
    }
}

/// The one of two frames of a chunk whose bytes verify; the first when both do, or neither.
async fn better(
    chunks: &dyn ChunkStore,
    rival: ChunkRecord,
    frame: ChunkRecord,
) -> Result<ChunkRecord, RescueError> {
    let rival = proved(chunks, rival).await?;
    if rival.state == ChunkState::Live {
        return Ok(rival);
    }
    let frame = proved(chunks, frame).await?;
    Ok(match frame.state {
        ChunkState::Live => frame,
        ChunkState::Damaged | ChunkState::Condemned => rival,
    })
}

/// The record, with what reading its frame says of it.
async fn proved(chunks: &dyn ChunkStore, record: ChunkRecord) -> Result<ChunkRecord, RescueError> {
    if record.state == ChunkState::Damaged {
        return Ok(record);
    }
    let Some(frame) = frame_of(&record) else {
        return Ok(record);
    };
    Ok(match examine(chunks, &frame).await? {
        Ok(_) => record,
        Err(_) => ChunkRecord {
            state: ChunkState::Damaged,
            ..record
        },
    })
}

async fn write(
    db: &dyn Db,
    records: Vec<ChunkRecord>,
    report: &mut RebuildReport,
) -> Result<(), RescueError> {
    let mut live: BTreeMap<u64, u64> = BTreeMap::new();
    for record in &records {
        let bytes = u64::from(record.location.length);
        *live.entry(record.location.container).or_default() += bytes;
        report.chunks.count += 1;
        report.chunks.bytes += bytes;
        report.damaged += u64::from(record.state == ChunkState::Damaged);
    }
    let work = Arc::new((records, live));
    db.transact(move |txn| {
        let work = Arc::clone(&work);
        Box::pin(async move {
            catalog::chunks::put(txn, &work.0).await?;
            count_live(txn, &work.1).await
        })
    })
    .await?;
    Ok(())
}

fn encode(record: &ChunkRecord) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &record.domain.number().to_be_bytes());
    put(8, record.name.as_bytes());
    put(40, &record.location.container.to_be_bytes());
    put(48, &record.location.offset.to_be_bytes());
    put(56, &record.location.length.to_le_bytes());
    put(60, &record.stored_bytes.to_le_bytes());
    let damaged = record.state == ChunkState::Damaged;
    put(64, &[record.kind, record.codec, u8::from(damaged)]);
    bytes
}

fn decode(bytes: &[u8; RECORD_BYTES], epoch: i64) -> ChunkRecord {
    let name = Digest::from_bytes(field(bytes, 8));
    ChunkRecord {
        domain: Domain::from_number(u64::from_be_bytes(field(bytes, 0))),
        name: ChunkName::plain(name),
        kind: bytes[64],
        state: match bytes[66] {
            0 => ChunkState::Live,
            _ => ChunkState::Damaged,
        },
        location: Location {
            container: u64::from_be_bytes(field(bytes, 40)),
            offset: u64::from_be_bytes(field(bytes, 48)),
            length: u32::from_le_bytes(field(bytes, 56)),
        },
        stored_bytes: u32::from_le_bytes(field(bytes, 60)),
        codec: bytes[65],
        data_key: 0,
        epoch,
    }
}

fn field<const N: usize>(bytes: &[u8; RECORD_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// The frame that a record names, in a plain domain, where the name is the digest.
fn frame_of(record: &ChunkRecord) -> Option<FoundFrame> {
    let kind = match record.kind {
        1 => ChunkKind::Block,
        2 => ChunkKind::Page,
        _ => return None,
    };
    Some(FoundFrame {
        id: ChunkId {
            domain: record.domain,
            name: record.name,
            kind,
        },
        location: store_location(record.location),
        digest: Digest::from_bytes(*record.name.as_bytes()),
        // Neither matters to a read.
        codec: Codec::None,
        stored_bytes: record.stored_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_sorts_by_its_chunk() {
        let record = |domain, offset, state| ChunkRecord {
            domain: Domain::from_number(domain),
            name: ChunkName::plain(Digest::of(b"x")),
            kind: 2,
            state,
            location: Location {
                container: 7,
                offset,
                length: 4_160,
            },
            stored_bytes: 4_001,
            codec: 1,
            data_key: 0,
            epoch: 3,
        };
        let one = record(255, 1 << 40, ChunkState::Live);
        let two = record(256, 0, ChunkState::Damaged);
        for record in [one, two] {
            assert_eq!(decode(&encode(&record), 3), record);
        }
        assert!(encode(&one) < encode(&two));
        assert_eq!(encode(&one)[66], 0);
    }
}
