//! Pieces of JSON answers that several commands of the client share; docs/client.md documents them. Sizes are in bytes, times
//! in ISO 8601.

use client::api::{Description, SnapshotState};
use client::source::Extent;
use client::{Reading, SnapshotId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use types::{BLOCK_BYTES, UnixMillis, VolumeSize};

/// A run of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Range {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

impl From<Extent> for Range {
    fn from(extent: Extent) -> Range {
        Range {
            offset: bytes_of(extent.start.into()),
            length: bytes_of(extent.count.into()),
        }
    }
}

/// What a transfer did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Transfer {
    total_bytes: u64,
    moved_bytes: u64,
    by_digest_bytes: u64,
    zeroed_bytes: u64,
    skipped_zero_bytes: u64,
    skipped_same_bytes: u64,
    lost_bytes: u64,
    network_bytes: u64,
    requests: u64,
    retries: u64,
    throttled: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    took_ms: u64,
}

impl Transfer {
    /// From what the meter shows at the end.
    pub fn of(reading: &Reading, took: Duration) -> Transfer {
        let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
        Transfer {
            total_bytes: bytes_of(reading.total),
            moved_bytes: bytes_of(reading.moved),
            by_digest_bytes: bytes_of(reading.by_digest),
            zeroed_bytes: bytes_of(reading.zeroed),
            skipped_zero_bytes: bytes_of(reading.zero),
            skipped_same_bytes: bytes_of(reading.same),
            lost_bytes: bytes_of(reading.bad),
            network_bytes: reading.bytes,
            requests: reading.requests,
            retries: reading.retries,
            throttled: reading.throttled,
            p50_ms: reading.p50.map(ms),
            p99_ms: reading.p99.map(ms),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A snapshot. Members that the server does not tell are null.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Snapshot {
    pub snapshot_id: String,
    pub state: String,
    pub state_message: Option<String>,
    pub progress: Option<String>,
    pub start_time: Option<String>,
    pub completion_time: Option<String>,
    pub owner_id: String,
    pub description: String,
    pub volume_size: Option<u64>,
    pub full_bytes: Option<u64>,
    pub unique_bytes: Option<u64>,
    pub shared_bytes: Option<u64>,
    pub usage_time: Option<String>,
    pub parent_snapshot_id: Option<String>,
    pub root_digest: Option<String>,
    pub encrypted: bool,
    pub kms_key_arn: Option<String>,
    pub tags: BTreeMap<String, String>,
}

impl From<Description> for Snapshot {
    fn from(told: Description) -> Snapshot {
        let lineage = told.lineage.unwrap_or_default();
        let unique = lineage.unique_bytes;
        Snapshot {
            snapshot_id: told.id.to_string(),
            state: state_name(&told.state).to_owned(),
            state_message: told.state_message,
            progress: told.progress,
            start_time: told.start_time.and_then(iso_8601),
            completion_time: told.completion_time.and_then(iso_8601),
            owner_id: told.owner,
            description: told.description,
            volume_size: told.volume_size.map(volume_bytes),
            full_bytes: told.full_bytes,
            unique_bytes: unique,
            shared_bytes: shared(told.full_bytes, unique),
            usage_time: lineage.usage_time.and_then(iso_8601),
            parent_snapshot_id: lineage.parent.as_ref().map(SnapshotId::to_string),
            root_digest: lineage.root.map(|root| hex(root.as_bytes())),
            encrypted: told.encrypted,
            kms_key_arn: told.kms_key,
            tags: told.tags,
        }
    }
}

/// A state as EC2 names it.
pub fn state_name(state: &SnapshotState) -> &str {
    match state {
        SnapshotState::Pending => "pending",
        SnapshotState::Completed => "completed",
        SnapshotState::Error => "error",
        SnapshotState::Other(name) => name,
    }
}

/// What others use as well: what is not the snapshot's alone, as of the last collection.
fn shared(full: Option<u64>, unique: Option<u64>) -> Option<u64> {
    Some(full?.saturating_sub(unique?))
}

/// Bytes of so many blocks.
pub fn bytes_of(blocks: u64) -> u64 {
    blocks * BLOCK_BYTES as u64
}

/// Bytes of a volume.
pub fn volume_bytes(size: VolumeSize) -> u64 {
    u64::from(size.gib()) << 30
}

/// A time, in UTC; nothing for one beyond the calendar.
pub fn iso_8601(time: UnixMillis) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(time).ok()?;
    Some(format!("{time:.3}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::api::Lineage;
    use types::Digest;

    #[test]
    fn a_snapshot_has_this_shape() {
        let told = Description {
            id: "snap-0123456789abcdef0".parse().expect("an id"),
            state: SnapshotState::Completed,
            state_message: None,
            start_time: Some(1_795_000_000_000),
            completion_time: Some(1_795_000_001_500),
            progress: Some("100%".to_owned()),
            owner: "123456789012".to_owned(),
            volume_size: VolumeSize::from_gib(8),
            full_bytes: Some(3 << 20),
            description: "a disk".to_owned(),
            encrypted: false,
            kms_key: None,
            tags: [("Name".to_owned(), "disk".to_owned())].into(),
            lineage: Some(Lineage {
                parent: Some("snap-0123456789abcdef1".parse().expect("an id")),
                root: Some(Digest::from_bytes([0xA5; 32])),
                unique_bytes: Some(1 << 20),
                usage_time: Some(1_795_000_002_000),
            }),
        };
        let shape = serde_json::json!({
            "snapshot_id": "snap-0123456789abcdef0",
            "state": "completed",
            "state_message": null,
            "progress": "100%",
            "start_time": "2026-11-18T11:06:40.000Z",
            "completion_time": "2026-11-18T11:06:41.500Z",
            "owner_id": "123456789012",
            "description": "a disk",
            "volume_size": 8_589_934_592_u64,
            "full_bytes": 3_145_728,
            "unique_bytes": 1_048_576,
            "shared_bytes": 2_097_152,
            "usage_time": "2026-11-18T11:06:42.000Z",
            "parent_snapshot_id": "snap-0123456789abcdef1",
            "root_digest": "a5".repeat(32),
            "encrypted": false,
            "kms_key_arn": null,
            "tags": { "Name": "disk" },
        });
        let found = serde_json::to_value(Snapshot::from(told)).expect("JSON");
        assert_eq!(found, shape);
    }

    #[test]
    fn a_transfer_has_this_shape() {
        let reading = Reading {
            total: 8,
            done: 8,
            zero: 1,
            same: 2,
            moved: 3,
            by_digest: 1,
            zeroed: 1,
            bad: 0,
            bytes: 2_000_000,
            requests: 12,
            retries: 2,
            throttled: 1,
            p50: Some(Duration::from_micros(4_240)),
            p99: None,
            ..Reading::default()
        };
        let shape = serde_json::json!({
            "total_bytes": 4_194_304,
            "moved_bytes": 1_572_864,
            "by_digest_bytes": 524_288,
            "zeroed_bytes": 524_288,
            "skipped_zero_bytes": 524_288,
            "skipped_same_bytes": 1_048_576,
            "lost_bytes": 0,
            "network_bytes": 2_000_000,
            "requests": 12,
            "retries": 2,
            "throttled": 1,
            "p50_ms": 4.2,
            "p99_ms": null,
            "took_ms": 1500,
        });
        let found = Transfer::of(&reading, Duration::from_millis(1500));
        assert_eq!(serde_json::to_value(found).expect("JSON"), shape);
    }
}
