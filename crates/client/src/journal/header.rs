//! The header of a digest file: of which snapshot it tells what every block holds.

use crate::SnapshotId;
use serde::{Deserialize, Serialize};
use types::VolumeSize;

/// What a digest file is about. Its records are exactly the blocks that the snapshot lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DigestHeader {
    /// The snapshot.
    pub(crate) snapshot: SnapshotId,
    /// Size of its volume.
    pub(crate) volume_size: VolumeSize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    digests_of: String,
    volume_gib: u32,
}

impl DigestHeader {
    /// The header as it stands in the file.
    pub(crate) fn encode(&self) -> String {
        let line = Line {
            digests_of: self.snapshot.to_string(),
            volume_gib: self.volume_size.gib(),
        };
        serde_json::to_string(&line).expect("strings and numbers are JSON")
    }

    /// Reads a header; nothing when it is that of another kind of file.
    pub(crate) fn decode(text: &str) -> Option<DigestHeader> {
        let line: Line = serde_json::from_str(text).ok()?;
        Some(DigestHeader {
            snapshot: line.digests_of.parse().ok()?,
            volume_size: VolumeSize::from_gib(u64::from(line.volume_gib))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_written_and_others_are_not_taken_for_them() {
        let header = DigestHeader {
            snapshot: "snap-0123456789abcdef0".parse().unwrap(),
            volume_size: VolumeSize::from_gib(7).unwrap(),
        };
        let text = header.encode();
        assert_eq!(
            text,
            r#"{"digests_of":"snap-0123456789abcdef0","volume_gib":7}"#
        );
        assert_eq!(DigestHeader::decode(&text), Some(header));
        for other in [
            "{}",
            "",
            r#"{"digests_of":"vol-1","volume_gib":7}"#,
            r#"{"digests_of":"snap-01","volume_gib":0}"#,
        ] {
            assert_eq!(DigestHeader::decode(other), None, "{other}");
        }
    }
}
