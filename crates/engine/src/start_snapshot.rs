//! Starts a snapshot.
//!
//! One transaction looks up the client token, checks the parent and writes the record, its tags and the token. The parent's
//! root is copied into the record: from here on the child needs nothing of its parent. A crash leaves all or nothing; a
//! client that repeats its request with the same token gets the same answer.
//!
//! Errors: [`Error::ClientTokenConflict`]; for the parent [`Error::SnapshotNotFound`], [`Error::ParentNotComplete`],
//! [`Error::ChildSmallerThanParent`].

use crate::tags::{Tag, tag_records};
use crate::{Engine, Error};
use catalog::client_tokens::ClientTokenRecord;
use catalog::snapshots::{SnapshotRecord, State};
use catalog::{DbExt, Txn};
use std::sync::Arc;
use types::limits::TIMEOUT_MINUTES_DEFAULT;
use types::{AccountId, Digest, DigestContext, SnapshotId, UnixMillis, VolumeSize};

/// A request to start a snapshot. Absent members stay absent: they count when a client token is compared.
#[derive(Clone, Debug)]
pub struct StartSnapshot {
    /// The owner.
    pub account: AccountId,
    /// Size of the volume.
    pub volume_size: VolumeSize,
    /// The snapshot that this one is based on.
    pub parent: Option<SnapshotId>,
    /// Tags, in the order given, no key twice.
    pub tags: Option<Vec<Tag>>,
    /// Free text.
    pub description: Option<String>,
    /// Makes the request idempotent (SPEC 3.5).
    pub client_token: Option<String>,
    /// Minutes of inactivity after which the snapshot fails.
    pub timeout_minutes: Option<u32>,
    /// What the request said of encryption: nothing, or false. It only counts when a client token is compared.
    pub encrypted: Option<bool>,
}

/// A started snapshot; everything else of the answer equals the request, in a replay too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Started {
    /// Its id.
    pub id: SnapshotId,
    /// When it was started.
    pub start_time: UnixMillis,
}

enum Outcome {
    Started(Started),
    Refused(Refusal),
}

#[derive(Clone, Copy)]
enum Refusal {
    TokenConflict,
    ParentNotFound(SnapshotId),
    ParentNotComplete(SnapshotId),
    ChildSmaller(VolumeSize),
}

impl Engine {
    /// Starts a snapshot, or repeats the answer to an earlier request with the same client token.
    pub async fn start_snapshot(&self, request: StartSnapshot) -> Result<Started, Error> {
        let id = SnapshotId::from_random(self.inner.random.bits());
        let record = Arc::new(SnapshotRecord {
            id,
            account: request.account,
            domain: self.plain_domain(request.account),
            state: State::Open,
            volume_size: request.volume_size,
            parent: request.parent,
            lineage: id,
            base_root: blockmap::empty_root().digest,
            base_count: 0,
            description: request.description.clone(),
            start_time: self.inner.clock.now(),
            timeout_minutes: request.timeout_minutes.unwrap_or(TIMEOUT_MINUTES_DEFAULT),
            idle_ms: 0,
            touched: false,
            progress: None,
            promise: None,
            status_message: None,
            finished: None,
        });
        let request = Arc::new(request);
        let asked = Arc::clone(&request);
        let outcome = self
            .inner
            .db
            .transact(move |txn| {
                let (record, asked) = (Arc::clone(&record), Arc::clone(&asked));
                Box::pin(async move { start(txn, &record, &asked).await })
            })
            .await;
        match outcome.map_err(Error::of_catalog)? {
            Outcome::Started(started) => Ok(started),
            Outcome::Refused(Refusal::TokenConflict) => Err(Error::ClientTokenConflict),
            Outcome::Refused(Refusal::ParentNotFound(id)) => Err(Error::SnapshotNotFound { id }),
            Outcome::Refused(Refusal::ParentNotComplete(id)) => {
                Err(Error::ParentNotComplete { id })
            }
            Outcome::Refused(Refusal::ChildSmaller(parent)) => Err(Error::ChildSmallerThanParent {
                size: request.volume_size,
                parent,
            }),
        }
    }
}

async fn start(
    txn: &mut dyn Txn,
    record: &SnapshotRecord,
    request: &StartSnapshot,
) -> Result<Outcome, catalog::Error> {
    // The base root is a new reference to its pages.
    txn.hold_epoch_shared().await?;
    let fingerprint = fingerprint(request);
    if let Some(token) = &request.client_token {
        let known = catalog::client_tokens::get(txn, request.account, token).await?;
        if let Some(known) = known {
            return Ok(if known.fingerprint == fingerprint {
                Outcome::Started(Started {
                    id: known.snapshot,
                    start_time: known.start_time,
                })
            } else {
                Outcome::Refused(Refusal::TokenConflict)
            });
        }
    }
    let mut record = record.clone();
    if let Some(id) = request.parent {
        let parent = catalog::snapshots::get(txn, id).await?;
        let parent = parent.filter(|parent| parent.account == request.account);
        let Some(parent) = parent else {
            return Ok(Outcome::Refused(Refusal::ParentNotFound(id)));
        };
        match (parent.state, parent.finished) {
            (State::Completed, Some(finished)) => {
                record.lineage = parent.lineage;
                record.domain = parent.domain;
                record.base_root = finished.root;
                record.base_count = finished.full_count;
            }
            (State::Open | State::Sealed, _) => {
                return Ok(Outcome::Refused(Refusal::ParentNotComplete(id)));
            }
            (State::Failed | State::Completed, _) => {
                return Ok(Outcome::Refused(Refusal::ParentNotFound(id)));
            }
        }
        if request.volume_size < parent.volume_size {
            return Ok(Outcome::Refused(Refusal::ChildSmaller(parent.volume_size)));
        }
    }
    catalog::snapshots::insert(txn, &record).await?;
    if let Some(tags) = &request.tags {
        catalog::tags::put(txn, record.account, record.id, &tag_records(tags)).await?;
    }
    if let Some(token) = &request.client_token {
        let token = ClientTokenRecord {
            account: record.account,
            token: token.clone(),
            fingerprint,
            snapshot: record.id,
            start_time: record.start_time,
        };
        catalog::client_tokens::insert(txn, &token).await?;
    }
    Ok(Outcome::Started(Started {
        id: record.id,
        start_time: record.start_time,
    }))
}

/// A digest of every parameter of the request, absent ones included; only the token itself is left out.
fn fingerprint(request: &StartSnapshot) -> Digest {
    let mut fields = DigestContext::new();
    let mut field = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        fields.update(&length.to_le_bytes());
        fields.update(bytes.unwrap_or_default());
    };
    field(Some(&request.volume_size.gib().to_le_bytes()));
    field(
        request
            .parent
            .map(|parent| parent.number().to_le_bytes())
            .as_ref()
            .map(|id| &id[..]),
    );
    field(request.description.as_ref().map(|text| text.as_bytes()));
    field(
        request
            .timeout_minutes
            .map(u32::to_le_bytes)
            .as_ref()
            .map(|minutes| &minutes[..]),
    );
    field(
        request
            .encrypted
            .map(u8::from)
            .as_ref()
            .map(std::slice::from_ref),
    );
    let tags = request.tags.as_deref().unwrap_or_default();
    field(request.tags.as_ref().map(|_| &[][..]));
    for tag in tags {
        field(Some(tag.key.as_bytes()));
        field(Some(tag.value.as_bytes()));
    }
    fields.finish()
}
