//! How far a scrub has come, as the catalog remembers it over a restart.
//!
//! ```text
//! offset  bytes  field
//!      0      1  format version, 1
//!      1      1  where it goes on: 0 at the first chunk, 1 after a chunk, 2 at the snapshot frames
//!      2      6  zero
//!      8      8  when it was started, Unix milliseconds, signed
//!     16      8  milliseconds that it has taken
//!     24      8  chunks and frames verified
//!     32      8  their bytes
//!     40      8  of them, healed
//!     48      8  domain of the last chunk, or zero
//!     56     32  name of the last chunk, or zeros
//! ```
//!
//! Little endian. It lies in `meta` under the name `scrub_position`; no bytes are no scrub. What cannot be read is forgotten: the
//! scrub begins anew. Version history: 1, the first.

use super::ScrubReport;
use catalog::chunks::ChunkKey;
use catalog::{Error, Txn, meta};
use std::time::Duration;
use types::{ChunkName, Domain, UnixMillis};

const VERSION: u8 = 1;
const BYTES: usize = 88;

/// Where a scrub goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// With the first chunk after this one.
    Chunks(Option<ChunkKey>),
    /// With the frames of snapshots, from the first on: they are few and small.
    Frames,
}

/// How far a scrub has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    pub(crate) next: Next,
    pub(crate) started_at: UnixMillis,
    pub(crate) took: Duration,
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) healed: u64,
}

impl Position {
    /// Before the first chunk.
    pub(crate) fn start(now: UnixMillis) -> Position {
        Position {
            next: Next::Chunks(None),
            started_at: now,
            took: Duration::ZERO,
            chunks: 0,
            bytes: 0,
            healed: 0,
        }
    }

    fn encode(&self) -> [u8; BYTES] {
        let (place, domain, name) = match self.next {
            Next::Chunks(None) => (0, 0, [0; 32]),
            Next::Chunks(Some((domain, name))) => (1, domain.number(), *name.as_bytes()),
            Next::Frames => (2, 0, [0; 32]),
        };
        let took = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &[VERSION, place]);
        put(8, &self.started_at.to_le_bytes());
        put(16, &took.to_le_bytes());
        put(24, &self.chunks.to_le_bytes());
        put(32, &self.bytes.to_le_bytes());
        put(40, &self.healed.to_le_bytes());
        put(48, &domain.to_le_bytes());
        put(56, &name);
        bytes
    }

    /// Total: any bytes are a position or nothing.
    fn decode(bytes: &[u8]) -> Option<Position> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        if bytes[0] != VERSION || bytes[2..8] != [0; 6] {
            return None;
        }
        let name = ChunkName::from_slice(&bytes[56..])?;
        let last = (Domain::from_number(number(48)), name);
        let nothing = bytes[48..] == [0; 40];
        let next = match bytes[1] {
            0 if nothing => Next::Chunks(None),
            // A BIGINT holds no larger number.
            1 if i64::try_from(number(48)).is_ok() => Next::Chunks(Some(last)),
            2 if nothing => Next::Frames,
            _ => return None,
        };
        Some(Position {
            next,
            started_at: number(8).cast_signed(),
            took: Duration::from_millis(number(16)),
            chunks: number(24),
            bytes: number(32),
            healed: number(40),
        })
    }
}

/// Where the last scrub stopped before its end; nothing when it came to its end.
pub(crate) async fn load(txn: &mut dyn Txn) -> Result<Option<Position>, Error> {
    let bytes = meta::bytes(txn, meta::SCRUB_POSITION).await?;
    let bytes = bytes.filter(|bytes| !bytes.is_empty());
    Ok(bytes.and_then(|bytes| {
        let position = Position::decode(&bytes);
        if position.is_none() {
            tracing::warn!("the position of the scrub cannot be read: it begins anew");
        }
        position
    }))
}

/// Notes how far the scrub has come.
pub(crate) async fn save(txn: &mut dyn Txn, position: &Position) -> Result<(), Error> {
    meta::set_bytes(txn, meta::SCRUB_POSITION, &position.encode()).await
}

/// Notes that the scrub has come to its end.
pub(crate) async fn finish(
    txn: &mut dyn Txn,
    now: UnixMillis,
    report: &ScrubReport,
) -> Result<(), Error> {
    let damaged = i64::try_from(report.damaged_count).unwrap_or(i64::MAX);
    meta::set_bytes(txn, meta::SCRUB_POSITION, &[]).await?;
    meta::set_number(txn, meta::SCRUB_FINISHED_AT, now).await?;
    meta::set_number(txn, meta::SCRUB_FINISHED_DAMAGED, damaged).await
}

/// When the last scrub came to its end, and how many damaged chunks it found.
pub(crate) async fn finished(txn: &mut dyn Txn) -> Result<Option<(UnixMillis, u64)>, Error> {
    let Some(at) = meta::number(txn, meta::SCRUB_FINISHED_AT).await? else {
        return Ok(None);
    };
    let damaged = meta::number(txn, meta::SCRUB_FINISHED_DAMAGED)
        .await?
        .unwrap_or(0);
    Ok(Some((at, u64::try_from(damaged).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};
    use types::Digest;

    fn position(next: Next) -> Position {
        Position {
            next,
            started_at: 1_790_337_440_328,
            took: Duration::from_millis(61_500),
            chunks: 3,
            bytes: 1_585_152,
            healed: 1,
        }
    }

    #[test]
    fn the_golden_bytes_are_what_is_written_and_read() {
        let key = (
            Domain::from_number(123_456_789_012),
            ChunkName::plain(Digest::of(b"x")),
        );
        let golden = [
            "01 01 000000000000",
            "48 5a 6d d8 a0 01 00 00",
            "3c f0 00 00 00 00 00 00",
            "03 00 00 00 00 00 00 00",
            "00 30 18 00 00 00 00 00",
            "01 00 00 00 00 00 00 00",
            "14 1a 99 be 1c 00 00 00",
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        ];
        let golden: String = golden.concat().split(' ').collect();
        let encoded = position(Next::Chunks(Some(key))).encode();
        let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
        for next in [Next::Chunks(None), Next::Chunks(Some(key)), Next::Frames] {
            let position = position(next);
            assert_eq!(Position::decode(&position.encode()), Some(position));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_position_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Position::decode(&bytes);
        }

        #[test]
        fn a_changed_position_reads_as_what_it_says(at in 0_usize..BYTES, bits in any::<u8>()) {
            let mut bytes = position(Next::Frames).encode();
            bytes[at] ^= bits;
            if let Some(position) = Position::decode(&bytes) {
                assert_eq!(position.encode(), bytes);
            }
        }
    }
}
