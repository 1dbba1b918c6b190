//! A segment: its first 4 KiB, and what is known of it while it is written.
//!
//! ```text
//! offset size  field
//! ------ ----  ------------------------------------------------------------
//!      0    8  magic "DRYSEGMT"
//!      8    2  format version, 1
//!     10    1  container kind: 1 blocks, 2 pages
//!     11    1  zero
//!     12    4  bytes of this header, 4096: the first frame follows
//!     16   16  store id
//!     32    8  container id
//!     40    8  bytes set aside when the segment was created
//!     48    4  number of wrapped data keys that follow, 0
//!     52 4028  room for wrapped data keys
//!   4080   16  checksum of bytes 0 to 4079, under the store's key
//! ```
//!
//! All numbers are little endian. The header is durable before the registry knows the segment, so an open or sealed
//! segment without one is damaged or foreign.
//!
//! Versions: 1, the first. Golden file: `testdata/segment_v1.hex`.

use crate::frame::StoreKey;
use crate::{ContainerId, ContainerKind, layout};
use std::sync::{Mutex, PoisonError};

/// Bytes of a segment's header; the offset of its first frame.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"DRYSEGMT";
const VERSION: u16 = 1;
const CHECKSUM_AT: usize = 4080;

/// What stands at the start of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) id: ContainerId,
    pub(crate) kind: ContainerKind,
    pub(crate) allocated_bytes: u64,
}

/// Why bytes are not the header of a segment of this store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentHeaderError {
    /// Not a segment header, or a damaged one.
    Unreadable,
    /// A whole header, of the store with this id.
    OtherStore([u8; 16]),
    /// A format that this program does not know.
    Version(u16),
}

impl SegmentHeader {
    /// Writes the header into the first bytes of `block`; the rest of it must be zeros.
    pub(crate) fn encode(&self, key: &StoreKey, block: &mut [u8]) {
        let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(10, &[self.kind as u8]);
        put(12, &(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        put(16, key.store_id());
        put(32, &self.id.0.to_le_bytes());
        put(40, &self.allocated_bytes.to_le_bytes());
        let checksum = key.checksum(&block[..CHECKSUM_AT]);
        block[CHECKSUM_AT..SEGMENT_HEADER_BYTES].copy_from_slice(&checksum);
    }

    /// Reads the first 4 KiB of a segment. Total: any bytes give a header or an error.
    pub(crate) fn decode(
        key: &StoreKey,
        bytes: &[u8],
    ) -> Result<SegmentHeader, SegmentHeaderError> {
        let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(SegmentHeaderError::Unreadable);
        };
        if field::<8>(header, 0) != MAGIC {
            return Err(SegmentHeaderError::Unreadable);
        }
        let store_id = field::<16>(header, 16);
        let checked_by = StoreKey::new(store_id);
        if field::<16>(header, CHECKSUM_AT) != checked_by.checksum(&header[..CHECKSUM_AT]) {
            return Err(SegmentHeaderError::Unreadable);
        }
        if store_id != *key.store_id() {
            return Err(SegmentHeaderError::OtherStore(store_id));
        }
        let version = u16::from_le_bytes(field(header, 8));
        if version != VERSION {
            return Err(SegmentHeaderError::Version(version));
        }
        let kind = match header[10] {
            1 => ContainerKind::Blocks,
            2 => ContainerKind::Pages,
            _ => return Err(SegmentHeaderError::Unreadable),
        };
        Ok(SegmentHeader {
            id: ContainerId(u64::from_le_bytes(field(header, 32))),
            kind,
            allocated_bytes: u64::from_le_bytes(field(header, 40)),
        })
    }
}

fn field<const N: usize>(header: &[u8; SEGMENT_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[at..at + N]);
    field
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: ContainerId,
    pub(crate) kind: ContainerKind,
    pub(crate) allocated_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Where the next batch goes. Only grows: a location is given out once.
    end: u64,
    /// Batches that have a place and are not done.
    in_flight: u32,
    /// No batch will be placed here any more.
    retired: bool,
    /// A write or a sync failed: nothing in flight here counts as durable, and nothing is placed here any more.
    failed: bool,
}

/// What there is to do once a batch or the whole segment is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Nothing,
    /// The last batch of a full segment is done.
    Seal,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader) -> Segment {
        let state = State {
            end: SEGMENT_HEADER_BYTES as u64,
            in_flight: 0,
            retired: false,
            failed: false,
        };
        Segment {
            id: header.id,
            kind: header.kind,
            allocated_bytes: header.allocated_bytes,
            state: Mutex::new(state),
        }
    }

    pub(crate) fn name(&self) -> String {
        layout::segment_name(self.id, self.kind)
    }

    /// Gives out the next `bytes` bytes, to be followed by [`Segment::finish`]; `None` when they do not fit or the
    /// segment takes no more.
    pub(crate) fn place(&self, bytes: u64) -> Option<u64> {
        let mut state = self.state();
        if state.failed || state.retired || bytes > self.allocated_bytes - state.end {
            return None;
        }
        let offset = state.end;
        state.end += bytes;
        state.in_flight += 1;
        Some(offset)
    }

    /// Ends a batch that was placed here. Answers whether it may count as durable: its own write and sync went well and
    /// no other on this segment failed meanwhile.
    pub(crate) fn finish(&self, went_well: bool) -> (bool, Next) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.failed |= !went_well;
        (!state.failed, state.next())
    }

    /// Takes no more batches.
    pub(crate) fn retire(&self) -> Next {
        let mut state = self.state();
        if state.retired {
            return Next::Nothing;
        }
        state.retired = true;
        state.next()
    }

    /// Bytes used so far, header included.
    pub(crate) fn end(&self) -> u64 {
        self.state().end
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A failed segment is left as it is: what of it is durable is found out at the next start.
    fn next(&self) -> Next {
        if self.retired && self.in_flight == 0 && !self.failed {
            Next::Seal
        } else {
            Next::Nothing
        }
    }
}
