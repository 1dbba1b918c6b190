//! Tags of snapshots: a call changes all of its snapshots or none.

use crate::{Engine, Error};
use catalog::tags::TagRecord;
use catalog::{DbExt, Txn};
use std::collections::{BTreeMap, BTreeSet};
use types::limits::TAGS_MAX;
use types::{AccountId, SnapshotId};

/// A tag of a snapshot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tag {
    /// The key; case sensitive, once per snapshot.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
}

/// Which tags to delete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagSelector {
    /// The tag of this key,
    pub key: String,
    /// and, if given, only when it has this value.
    pub value: Option<String>,
}

enum Refusal {
    NotFound(SnapshotId),
    TooMany(SnapshotId),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::NotFound(id) => Error::SnapshotNotFound { id },
            Refusal::TooMany(id) => Error::TooManyTags { id },
        }
    }
}

impl Engine {
    /// Adds tags, or overwrites those with the same keys, on all of these snapshots.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], [`Error::TooManyTags`]; then nothing has changed.
    pub async fn create_tags(
        &self,
        account: AccountId,
        ids: &[SnapshotId],
        tags: &[Tag],
    ) -> Result<(), Error> {
        // A key given twice: the last one counts.
        let tags: BTreeMap<_, _> = tags
            .iter()
            .map(|tag| (tag.key.clone(), tag.value.clone()))
            .collect();
        let tags: Vec<_> = tags
            .into_iter()
            .map(|(key, value)| TagRecord { key, value })
            .collect();
        let ids = ids.to_vec();
        let done = self
            .inner
            .db
            .transact(move |txn| {
                let (ids, tags) = (ids.clone(), tags.clone());
                Box::pin(async move {
                    if let Some(refusal) = refusal(txn, account, &ids, &tags).await? {
                        return Ok(Err(refusal));
                    }
                    for id in ids {
                        catalog::tags::put(txn, account, id, &tags).await?;
                    }
                    Ok(Ok(()))
                })
            })
            .await
            .map_err(Error::of_catalog)?;
        Ok(done?)
    }

    /// Deletes the selected tags, or all of them, from all of these snapshots. Tags that are not there are no error.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`]; then nothing has changed.
    pub async fn delete_tags(
        &self,
        account: AccountId,
        ids: &[SnapshotId],
        tags: Option<&[TagSelector]>,
    ) -> Result<(), Error> {
        let ids = ids.to_vec();
        let tags = tags.map(<[TagSelector]>::to_vec);
        let done = self
            .inner
            .db
            .transact(move |txn| {
                let (ids, tags) = (ids.clone(), tags.clone());
                Box::pin(async move {
                    if let Some(refusal) = refusal(txn, account, &ids, &[]).await? {
                        return Ok(Err(refusal));
                    }
                    for id in ids {
                        let Some(tags) = &tags else {
                            catalog::tags::delete_all(txn, account, id).await?;
                            continue;
                        };
                        for tag in tags {
                            let value = tag.value.as_deref();
                            catalog::tags::delete(txn, account, id, &tag.key, value).await?;
                        }
                    }
                    Ok(Ok(()))
                })
            })
            .await
            .map_err(Error::of_catalog)?;
        Ok(done?)
    }
}

/// Why these tags cannot be added to these snapshots.
async fn refusal(
    txn: &mut dyn Txn,
    account: AccountId,
    ids: &[SnapshotId],
    added: &[TagRecord],
) -> Result<Option<Refusal>, catalog::Error> {
    for id in ids {
        let record = catalog::snapshots::get(txn, *id).await?;
        if record.is_none_or(|record| record.account != account) {
            return Ok(Some(Refusal::NotFound(*id)));
        }
        if added.is_empty() {
            continue;
        }
        let present = catalog::tags::of_snapshots(txn, account, &[*id]).await?;
        let keys: BTreeSet<_> = present
            .iter()
            .map(|(_, tag)| &tag.key)
            .chain(added.iter().map(|tag| &tag.key))
            .collect();
        if keys.len() > TAGS_MAX {
            return Ok(Some(Refusal::TooMany(*id)));
        }
    }
    Ok(None)
}

/// Tags as the catalog keeps them.
pub(crate) fn tag_records(tags: &[Tag]) -> Vec<TagRecord> {
    tags.iter()
        .map(|tag| TagRecord {
            key: tag.key.clone(),
            value: tag.value.clone(),
        })
        .collect()
}
