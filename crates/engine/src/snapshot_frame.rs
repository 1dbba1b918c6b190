//! The frame that a completed snapshot leaves in the chunk store, from which its record can be rebuilt.
//!
//! ```text
//! offset  bytes  field
//!      0      8  magic "DRYSNAPS"
//!      8      2  format version, 1
//!     10      6  zero
//!     16      8  snapshot id
//!     24      8  account
//!     32      8  domain
//!     40      8  parent's id, 2^64 - 1 for none
//!     48      8  lineage: id of its first snapshot
//!     56      4  volume size in GiB
//!     60      4  length of the description in bytes, 2^32 - 1 for none
//!     64      8  start time, Unix milliseconds, signed
//!     72      8  completion time, likewise
//!     80      8  blocks put to it
//!     88      8  blocks in its merged view
//!     96     32  root digest
//!    128         description, UTF-8
//! ```
//!
//! Little endian. The frame's own header guards the bytes; tags are not part of it, because they change.
//! Version history: 1, the first. Golden file: `testdata/snapshot_frame_v1.hex`.

use types::{AccountId, Digest, Domain, SnapshotId, UnixMillis, VolumeSize};

const MAGIC: [u8; 8] = *b"DRYSNAPS";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 128;
const NO_PARENT: u64 = u64::MAX;
const NO_DESCRIPTION: u32 = u32::MAX;

/// What is needed to rebuild the record of a completed snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotFrame {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Where its chunks are.
    pub domain: Domain,
    /// The snapshot that it was based on.
    pub parent: Option<SnapshotId>,
    /// The first snapshot of its lineage.
    pub lineage: SnapshotId,
    /// Size of the volume.
    pub volume_size: VolumeSize,
    /// Free text.
    pub description: Option<String>,
    /// When it was started.
    pub start_time: UnixMillis,
    /// When it was completed.
    pub completion_time: UnixMillis,
    /// Blocks put to it.
    pub own_count: u64,
    /// Blocks in its merged view.
    pub full_count: u64,
    /// Root of its block map.
    pub root: Digest,
}

/// Bytes that are no snapshot frame of a version known here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a snapshot frame: {reason}")]
pub struct Malformed {
    reason: &'static str,
}

impl SnapshotFrame {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let description = self.description.as_deref();
        // The wire allows 255 characters, 1,020 bytes.
        let length = description.map_or(NO_DESCRIPTION, |text| {
            u32::try_from(text.len()).unwrap_or(NO_DESCRIPTION)
        });
        let mut bytes = Vec::with_capacity(FIXED_BYTES + description.map_or(0, str::len));
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(self.id.number().to_le_bytes());
        bytes.extend(self.account.number().to_le_bytes());
        bytes.extend(self.domain.number().to_le_bytes());
        bytes.extend(
            self.parent
                .map_or(NO_PARENT, SnapshotId::number)
                .to_le_bytes(),
        );
        bytes.extend(self.lineage.number().to_le_bytes());
        bytes.extend(self.volume_size.gib().to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.start_time.to_le_bytes());
        bytes.extend(self.completion_time.to_le_bytes());
        bytes.extend(self.own_count.to_le_bytes());
        bytes.extend(self.full_count.to_le_bytes());
        bytes.extend(self.root.as_bytes());
        bytes.extend(description.unwrap_or_default().as_bytes());
        bytes
    }

    /// Reads what [`SnapshotFrame::encode`] wrote; any other bytes are an error.
    pub fn decode(bytes: &[u8]) -> Result<SnapshotFrame, Malformed> {
        let malformed = |reason| Malformed { reason };
        if bytes.len() < FIXED_BYTES {
            return Err(malformed("too short"));
        }
        if bytes[..8] != MAGIC {
            return Err(malformed("wrong magic"));
        }
        if bytes[8..10] != VERSION.to_le_bytes() {
            return Err(malformed("unknown version"));
        }
        if bytes[10..16] != [0; 6] {
            return Err(malformed("reserved bytes are set"));
        }
        let id = |number| SnapshotId::from_number(number).ok_or(malformed("not a snapshot id"));
        let parent = u64_at(bytes, 40);
        let rest = &bytes[FIXED_BYTES..];
        let description = match u32_at(bytes, 60) {
            NO_DESCRIPTION if rest.is_empty() => None,
            length if length as usize == rest.len() => {
                Some(String::from_utf8(rest.to_vec()).map_err(|_| malformed("text is not UTF-8"))?)
            }
            _ => return Err(malformed("wrong length")),
        };
        let mut root = [0; Digest::BYTES];
        root.copy_from_slice(&bytes[96..FIXED_BYTES]);
        Ok(SnapshotFrame {
            id: id(u64_at(bytes, 16))?,
            account: AccountId::from_number(u64_at(bytes, 24))
                .ok_or(malformed("not an account"))?,
            domain: Domain::from_number(u64_at(bytes, 32)),
            parent: if parent == NO_PARENT {
                None
            } else {
                Some(id(parent)?)
            },
            lineage: id(u64_at(bytes, 48))?,
            volume_size: VolumeSize::from_gib(u32_at(bytes, 56).into())
                .ok_or(malformed("not a volume size"))?,
            description,
            start_time: u64_at(bytes, 64).cast_signed(),
            completion_time: u64_at(bytes, 72).cast_signed(),
            own_count: u64_at(bytes, 80),
            full_count: u64_at(bytes, 88),
            root: Digest::from_bytes(root),
        })
    }
}

/// The number at `offset`; the caller has checked that it is there.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    fn sample(description: Option<&str>, parent: Option<u64>) -> SnapshotFrame {
        SnapshotFrame {
            id: SnapshotId::from_random(0x0e2c_4771_86c5_c34b),
            account: AccountId::parse("123456789012").unwrap(),
            domain: Domain::from_number(123_456_789_012),
            parent: parent.map(SnapshotId::from_random),
            lineage: SnapshotId::from_random(7),
            volume_size: VolumeSize::from_gib(16).unwrap(),
            description: description.map(str::to_owned),
            start_time: 1_790_337_440_328,
            completion_time: 1_790_337_442_000,
            own_count: 3,
            full_count: 2_051,
            root: Digest::of(b"root"),
        }
    }

    #[test]
    fn the_golden_bytes_are_what_is_written_and_read() {
        let golden: Vec<u8> = include_str!("../testdata/snapshot_frame_v1.hex")
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(str::split_whitespace)
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let frame = sample(Some("a disk"), Some(7));
        assert_eq!(frame.encode(), golden);
        assert_eq!(SnapshotFrame::decode(&golden), Ok(frame));
    }

    #[test]
    fn absent_members_stay_absent() {
        for frame in [sample(None, None), sample(Some(""), Some(0))] {
            assert_eq!(SnapshotFrame::decode(&frame.encode()), Ok(frame));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(frame) = SnapshotFrame::decode(&bytes) {
                assert_eq!(frame.encode(), bytes);
            }
        }

        #[test]
        fn a_changed_frame_reads_as_what_it_says(at in 0_usize..134, bits in any::<u8>()) {
            let mut bytes = sample(Some("a disk"), None).encode();
            bytes[at] ^= bits;
            if let Ok(frame) = SnapshotFrame::decode(&bytes) {
                assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
