//! What the calls take and answer.

use crate::SnapshotId;
use buffers::AlignedBuf;
use std::collections::BTreeMap;
use types::{BlockIndex, Digest, UnixMillis, VolumeSize};

/// Extensions of the wire that a server answered it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    /// Listings can name each block's checksum.
    pub block_checksums: bool,
    /// Blocks that the server holds can be put without their data.
    pub put_by_digest: bool,
    /// Descriptions name parent, root digest and unique bytes.
    pub lineage: bool,
}

/// Parameters of StartSnapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartSnapshot {
    /// Size of the volume.
    pub volume_size: VolumeSize,
    /// The snapshot that the new one is based on.
    pub parent: Option<SnapshotId>,
    /// 1 to 255 characters.
    pub description: Option<String>,
    /// Keys and values.
    pub tags: BTreeMap<String, String>,
    /// Whether to encrypt; not said unless the user says it (SPEC 3.7).
    pub encrypted: Option<bool>,
    /// The key's ARN.
    pub kms_key_arn: Option<String>,
    /// Makes repeats harmless; repeats after a restart must bring the same.
    pub client_token: String,
    /// Minutes without activity after which the server gives up, 10 to 4320.
    pub timeout_minutes: u32,
}

/// The answer to StartSnapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// The new snapshot.
    pub id: SnapshotId,
    /// What the server can do beyond the API.
    pub extensions: Extensions,
}

/// The answer to a put by digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutByDigest {
    /// The block is put.
    Done,
    /// The server needs the data.
    DataRequired,
}

/// A block received, its checksum verified.
#[derive(Debug)]
pub struct GotBlock {
    /// 512 KiB.
    pub data: AlignedBuf,
    /// Their digest.
    pub digest: Digest,
}

/// Where a page of a listing begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PageStart {
    /// At this block or the next one listed.
    Index(BlockIndex),
    /// Where the last page ended.
    Token(String),
}

/// A block of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedBlock {
    /// Its index.
    pub index: BlockIndex,
    /// What reads it.
    pub token: String,
    /// Its digest, from servers that name it.
    pub digest: Option<Digest>,
}

/// A block that differs between two snapshots; a side without the block has no token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedBlock {
    /// Its index.
    pub index: BlockIndex,
    /// The first snapshot's side: token, and digest from servers that name it.
    pub first: Option<(String, Option<Digest>)>,
    /// The second snapshot's side.
    pub second: Option<(String, Option<Digest>)>,
}

/// A page of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListPage<T> {
    /// In ascending order of index.
    pub blocks: Vec<T>,
    /// Where the next page begins; nothing at the end.
    pub next: Option<String>,
    /// Size of the (second) snapshot's volume; AWS leaves it out of some empty pages.
    pub volume_size: Option<VolumeSize>,
    /// What the server can do beyond the API.
    pub extensions: Extensions,
}

/// A snapshot's state, as EC2 names them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotState {
    /// Blocks are being put, or it is being completed.
    Pending,
    /// It can be read.
    Completed,
    /// It failed.
    Error,
    /// Something of AWS's, such as `recoverable`.
    Other(String),
}

/// A snapshot, as EC2 describes it.
#[derive(Clone, PartialEq, Debug)]
pub struct Description {
    /// Its id.
    pub id: SnapshotId,
    /// Its state.
    pub state: SnapshotState,
    /// Why it failed.
    pub state_message: Option<String>,
    /// When it was started.
    pub start_time: Option<UnixMillis>,
    /// When it was completed.
    pub completion_time: Option<UnixMillis>,
    /// As EC2 writes it, such as `100%`.
    pub progress: Option<String>,
    /// The account.
    pub owner: String,
    /// Size of the volume.
    pub volume_size: Option<VolumeSize>,
    /// Bytes of all blocks that it has.
    pub full_bytes: Option<u64>,
    /// For people.
    pub description: String,
    /// Whether it is encrypted at rest.
    pub encrypted: bool,
    /// With which key.
    pub kms_key: Option<String>,
    /// Keys and values.
    pub tags: BTreeMap<String, String>,
    /// What only Drystone says.
    pub lineage: Option<Lineage>,
}

/// What only Drystone says of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// The snapshot that it is based on.
    pub parent: Option<SnapshotId>,
    /// Identity of its content.
    pub root: Option<Digest>,
    /// Bytes that deleting it would free, as of `usage_time`.
    pub unique_bytes: Option<u64>,
    /// When the last collection counted.
    pub usage_time: Option<UnixMillis>,
}

/// Which snapshots to describe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// All of the caller's own.
    Own,
    /// These; one that does not exist fails the call.
    Ids(Vec<SnapshotId>),
    /// The caller's own with this tag.
    Tagged {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}
