//! The calls of the EBS direct APIs and of EC2 that the client makes: typed, signed, repeated where that can help, counted.

use crate::config::{ApiOptions, Config};
use crate::{Error, Meter, SnapshotId};
use buffers::{AlignedBuf, BufferPool};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{BlockIndex, Clock, Digest, Random, UnixMillis, VolumeSize};

/// One server (or AWS region), as one caller. Clones share connections and limits.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {}

/// What an [`Api`] is made of.
pub struct ApiParts {
    /// Where, and who.
    pub config: Config,
    /// How.
    pub options: ApiOptions,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For jitter and client tokens.
    pub random: Random,
    /// What counts requests, retries, latencies and what is in flight.
    pub meter: Arc<Meter>,
}

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

impl Api {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`]: certificates cannot be read.
    pub fn new(parts: ApiParts) -> Result<Api, Error> {
        let _ = parts;
        unimplemented!()
    }

    /// The meter of this caller.
    pub fn meter(&self) -> &Arc<Meter> {
        unimplemented!()
    }

    /// Buffers for block data, both ways: their number bounds the memory of a transfer.
    pub fn buffers(&self) -> &BufferPool {
        unimplemented!()
    }

    /// Most block requests that can ever be on the way at once: more concurrent callers only wait.
    pub fn in_flight_max(&self) -> usize {
        unimplemented!()
    }

    /// Scheme, host and port of the EBS direct APIs, for messages and state files.
    pub fn endpoint(&self) -> String {
        unimplemented!()
    }

    /// The region.
    pub fn region(&self) -> &str {
        unimplemented!()
    }

    /// Time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        unimplemented!()
    }

    /// Randomness.
    pub fn random(&self) -> &Random {
        unimplemented!()
    }

    /// Starts a snapshot, asking for every extension.
    pub async fn start_snapshot(&self, request: &StartSnapshot) -> Result<Started, Error> {
        let _ = request;
        unimplemented!()
    }

    /// Puts a block of 512 KiB whose digest is known. Repeats by itself what may be repeated, `Failed to read block data` and a
    /// checksum mismatch reported by the server among it; waits for a place in flight and for bandwidth.
    pub async fn put_block(
        &self,
        id: &SnapshotId,
        index: BlockIndex,
        data: Bytes,
        digest: Digest,
    ) -> Result<(), Error> {
        let _ = (id, index, data, digest);
        unimplemented!()
    }

    /// Puts a block that the server may hold, without its data. Only where [`Extensions::put_by_digest`] was answered.
    pub async fn put_by_digest(
        &self,
        id: &SnapshotId,
        index: BlockIndex,
        digest: Digest,
    ) -> Result<PutByDigest, Error> {
        let _ = (id, index, digest);
        unimplemented!()
    }

    /// Completes a snapshot to which `count` distinct blocks were put, whose digests in index order have this digest (SPEC 3.4).
    pub async fn complete_snapshot(
        &self,
        id: &SnapshotId,
        count: u32,
        aggregate: Digest,
    ) -> Result<(), Error> {
        let _ = (id, count, aggregate);
        unimplemented!()
    }

    /// Gets a block into a buffer of [`Api::buffers`], verified against the checksum that comes with it and, if given, the
    /// one that is expected. An invalid or expired token is [`Error::Refused`] with reason `INVALID_BLOCK_TOKEN`.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unreadable`] (5xx for this block in every attempt), [`Error::Refused`], [`Error::Unreachable`].
    pub async fn get_block(
        &self,
        id: &SnapshotId,
        index: BlockIndex,
        token: &str,
        expected: Option<Digest>,
    ) -> Result<GotBlock, Error> {
        let _ = (id, index, token, expected);
        unimplemented!()
    }

    /// A page of up to 10,000 blocks, with checksums where the server names them.
    pub async fn list_blocks(
        &self,
        id: &SnapshotId,
        start: PageStart,
    ) -> Result<ListPage<ListedBlock>, Error> {
        let _ = (id, start);
        unimplemented!()
    }

    /// A page of up to 10,000 changed blocks, with checksums where the server names them.
    pub async fn list_changed_blocks(
        &self,
        first: &SnapshotId,
        second: &SnapshotId,
        start: PageStart,
    ) -> Result<ListPage<ChangedBlock>, Error> {
        let _ = (first, second, start);
        unimplemented!()
    }

    /// Descriptions of snapshots, all pages of them, with lineage where the server tells it. `each` gets them as they come.
    pub async fn describe_snapshots(
        &self,
        which: &Which,
        each: &mut (dyn FnMut(Description) + Send),
    ) -> Result<(), Error> {
        let _ = (which, each);
        unimplemented!()
    }

    /// Deletes a snapshot in whatever state.
    pub async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), Error> {
        let _ = id;
        unimplemented!()
    }

    /// Sets tags.
    pub async fn create_tags(
        &self,
        ids: &[SnapshotId],
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let _ = (ids, tags);
        unimplemented!()
    }

    /// Removes tags by key.
    pub async fn delete_tags(&self, ids: &[SnapshotId], keys: &[String]) -> Result<(), Error> {
        let _ = (ids, keys);
        unimplemented!()
    }

    /// The caller's account.
    pub async fn caller_account(&self) -> Result<String, Error> {
        unimplemented!()
    }
}
