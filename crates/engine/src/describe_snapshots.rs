//! What a snapshot looks like from outside, in any state.

use crate::{Engine, Error, Tag};
use catalog::snapshots::{SnapshotRecord, State};
use catalog::{DbExt, Txn};
use std::collections::HashMap;
use std::sync::Arc;
use types::{AccountId, Digest, SnapshotId, UnixMillis, VolumeSize};

/// The state that clients see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotState {
    /// Open or sealed.
    Pending,
    /// Can be read.
    Completed,
    /// Failed; `status_message` says why.
    Error,
}

/// A snapshot as its owner sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotView {
    /// Its id.
    pub id: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Its state.
    pub state: SnapshotState,
    /// Why it failed.
    pub status_message: Option<String>,
    /// When it was started.
    pub start_time: UnixMillis,
    /// When it was completed.
    pub completion_time: Option<UnixMillis>,
    /// Size of its volume.
    pub volume_size: VolumeSize,
    /// Free text.
    pub description: Option<String>,
    /// The snapshot that it was based on, which may be gone.
    pub parent: Option<SnapshotId>,
    /// Blocks in its merged view, once it is completed.
    pub full_block_count: Option<u64>,
    /// The digest of its block map's root page, once it is completed: the identity of its content.
    pub root: Option<Digest>,
    /// Tags, by key.
    pub tags: Vec<Tag>,
}

impl Engine {
    /// These snapshots, in the order asked.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`] for the first one that the account does not have.
    pub async fn snapshots_by_id(
        &self,
        account: AccountId,
        ids: &[SnapshotId],
    ) -> Result<Vec<SnapshotView>, Error> {
        let wanted = ids.to_vec();
        let views = self
            .inner
            .db
            .view(move |txn| {
                let wanted = wanted.clone();
                Box::pin(async move {
                    let mut records = Vec::with_capacity(wanted.len());
                    for id in wanted {
                        let record = catalog::snapshots::get(txn, id).await?;
                        match record.filter(|record| record.account == account) {
                            Some(record) => records.push(record),
                            None => return Ok(Err(id)),
                        }
                    }
                    Ok(Ok(with_tags(txn, account, records).await?))
                })
            })
            .await
            .map_err(Error::of_catalog)?;
        views.map_err(|id| Error::SnapshotNotFound { id })
    }

    /// Those of these snapshots that the account has, in the order asked.
    pub async fn snapshots_among(
        &self,
        account: AccountId,
        ids: &[SnapshotId],
    ) -> Result<Vec<SnapshotView>, Error> {
        let wanted: Arc<[SnapshotId]> = ids.into();
        self.inner
            .db
            .view(move |txn| {
                let wanted = Arc::clone(&wanted);
                Box::pin(async move {
                    let mut records = Vec::with_capacity(wanted.len());
                    for id in wanted.iter() {
                        let record = catalog::snapshots::get(txn, *id).await?;
                        records.extend(record.filter(|record| record.account == account));
                    }
                    with_tags(txn, account, records).await
                })
            })
            .await
            .map_err(Error::of_catalog)
    }

    /// At most `limit` of the account's snapshots with ids above `after`, by id.
    pub async fn snapshots_after(
        &self,
        account: AccountId,
        after: Option<SnapshotId>,
        limit: usize,
    ) -> Result<Vec<SnapshotView>, Error> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        self.inner
            .db
            .view(move |txn| {
                Box::pin(async move {
                    let records =
                        catalog::snapshots::of_account(txn, account, after, limit).await?;
                    with_tags(txn, account, records).await
                })
            })
            .await
            .map_err(Error::of_catalog)
    }
}

async fn with_tags(
    txn: &mut dyn Txn,
    account: AccountId,
    records: Vec<SnapshotRecord>,
) -> Result<Vec<SnapshotView>, catalog::Error> {
    let ids: Vec<_> = records.iter().map(|record| record.id).collect();
    let mut tags: HashMap<_, Vec<_>> = HashMap::new();
    for (id, tag) in catalog::tags::of_snapshots(txn, account, &ids).await? {
        tags.entry(id).or_default().push(Tag {
            key: tag.key,
            value: tag.value,
        });
    }
    Ok(records
        .into_iter()
        .map(|record| SnapshotView {
            id: record.id,
            account: record.account,
            state: match record.state {
                State::Open | State::Sealed => SnapshotState::Pending,
                State::Completed => SnapshotState::Completed,
                State::Failed => SnapshotState::Error,
            },
            status_message: record.status_message,
            start_time: record.start_time,
            completion_time: record.finished.map(|finished| finished.completion_time),
            volume_size: record.volume_size,
            description: record.description,
            parent: record.parent,
            full_block_count: record.finished.map(|finished| finished.full_count),
            root: record.finished.map(|finished| finished.root),
            tags: tags.get(&record.id).cloned().unwrap_or_default(),
        })
        .collect())
}
