//! What each snapshot alone holds: the bytes that deleting it would free.
//!
//! A mark knows of each chunk whether one snapshot refers to it or several, so these figures cost nothing more. They are exact for the
//! moment of the mark, and are kept in the catalog until the next.
//!
//! ```text
//! offset  bytes  field of the totals, little endian
//!      0      8  format version, 1
//!      8      8  when they were computed, Unix milliseconds, signed
//!     16      8  completed snapshots
//!     24      8  logical bytes
//!     32      8  unique bytes
//!     40      8  stored bytes
//!     48      8  garbage bytes
//! ```

use super::Fault;
use super::mark::Marked;
use super::merge::{Merged, Own};
use crate::{Engine, Error};
use catalog::usage::UsageRecord;
use catalog::{DbExt, meta};
use std::sync::Arc;
use types::{AccountId, BLOCK_BYTES, SnapshotId, UnixMillis};

/// Rows written or deleted in one transaction.
const ROWS: usize = 1_000;

const VERSION: u64 = 1;

/// What the store holds, as the last mark found it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct UsageTotals {
    /// When it was computed; nothing before the first time.
    pub computed_at: Option<UnixMillis>,
    /// Completed snapshots.
    pub snapshots: u64,
    /// Blocks of all completed snapshots together, in bytes of volume.
    pub logical_bytes: u64,
    /// Distinct stored blocks that something refers to, in bytes of volume. Blocks of zeros are not stored.
    pub unique_bytes: u64,
    /// Bytes of the frames of everything that something refers to.
    pub stored_bytes: u64,
    /// Bytes of the frames of chunks that nothing refers to: what collection will give back.
    pub garbage_bytes: u64,
}

/// What one snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotUsage {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Its blocks, in bytes of volume; 0 while it is pending.
    pub logical_bytes: u64,
    /// Blocks that only it refers to.
    pub own_blocks: u64,
    /// Bytes of frames (blocks, pages, its own) that only it refers to: what deleting it would free.
    pub own_bytes: u64,
}

impl SnapshotUsage {
    fn of(record: UsageRecord) -> SnapshotUsage {
        SnapshotUsage {
            id: record.snapshot,
            account: record.account,
            logical_bytes: record.logical_bytes,
            own_blocks: record.own_blocks,
            own_bytes: record.own_bytes,
        }
    }
}

impl Engine {
    /// The totals of the last mark.
    pub async fn usage_totals(&self) -> Result<UsageTotals, Error> {
        let bytes = self
            .inner
            .db
            .view(|txn| Box::pin(async move { meta::bytes(txn, meta::USAGE_TOTALS).await }))
            .await
            .map_err(Error::of_catalog)?;
        Ok(bytes.and_then(|bytes| decode(&bytes)).unwrap_or_default())
    }

    /// The usage of at most `limit` snapshots with ids above `after`, by id, as the last mark found it.
    pub async fn usage_of_snapshots(
        &self,
        after: Option<SnapshotId>,
        limit: u32,
    ) -> Result<Vec<SnapshotUsage>, Error> {
        let records = self
            .inner
            .db
            .view(move |txn| Box::pin(async move { catalog::usage::page(txn, after, limit).await }))
            .await
            .map_err(Error::of_catalog)?;
        Ok(records.into_iter().map(SnapshotUsage::of).collect())
    }

    /// The usage of these snapshots, and when the last mark found it; nothing of those that it did not know. For who may see them:
    /// whose they are is not asked.
    pub async fn usage_by_id(
        &self,
        ids: &[SnapshotId],
    ) -> Result<(Option<UnixMillis>, Vec<SnapshotUsage>), Error> {
        let ids: Arc<[SnapshotId]> = ids.into();
        let (totals, records) = self
            .inner
            .db
            .view(move |txn| {
                let ids = Arc::clone(&ids);
                Box::pin(async move {
                    let totals = meta::bytes(txn, meta::USAGE_TOTALS).await?;
                    Ok((totals, catalog::usage::of_snapshots(txn, &ids).await?))
                })
            })
            .await
            .map_err(Error::of_catalog)?;
        let totals = totals.and_then(|bytes| decode(&bytes)).unwrap_or_default();
        let usage = records.into_iter().map(SnapshotUsage::of).collect();
        Ok((totals.computed_at, usage))
    }

    /// Keeps what a mark has found, in place of what the one before did.
    pub(super) async fn keep_usage(&self, marked: &Marked, merged: &Merged) -> Result<(), Fault> {
        let db = &self.inner.db;
        let last = db
            .view(|txn| Box::pin(async move { meta::number(txn, meta::USAGE_MARK).await }))
            .await?;
        let mark = last.unwrap_or(0) + 1;
        let mut totals = UsageTotals {
            computed_at: Some(self.inner.clock.now()),
            unique_bytes: merged.live_blocks.count * BLOCK_BYTES as u64,
            stored_bytes: merged.live_blocks.bytes + merged.live_pages.bytes,
            garbage_bytes: merged.garbage.bytes,
            ..UsageTotals::default()
        };
        let mut records = Vec::with_capacity(marked.holders.len());
        for holder in &marked.holders {
            let number = marked
                .numbers
                .get(&holder.id)
                .map(|number| *number as usize);
            let own = number
                .and_then(|number| merged.own.get(number))
                .copied()
                .unwrap_or_else(Own::default);
            let frame_bytes = holder.frame.map_or(0, |frame| u64::from(frame.length));
            let logical_bytes = holder.full_count.unwrap_or(0) * BLOCK_BYTES as u64;
            totals.snapshots += u64::from(holder.full_count.is_some());
            totals.logical_bytes += logical_bytes;
            totals.stored_bytes += frame_bytes;
            records.push(UsageRecord {
                snapshot: holder.id,
                account: holder.account,
                logical_bytes,
                own_blocks: own.blocks,
                own_bytes: own.bytes + frame_bytes,
            });
        }
        for page in records.chunks(ROWS) {
            let page: Arc<[UsageRecord]> = page.into();
            db.transact(move |txn| {
                let page = Arc::clone(&page);
                Box::pin(async move { catalog::usage::put(txn, mark, &page).await })
            })
            .await?;
        }
        db.transact(move |txn| {
            Box::pin(async move {
                meta::set_bytes(txn, meta::USAGE_TOTALS, &encode(&totals)).await?;
                meta::set_number(txn, meta::USAGE_MARK, mark).await
            })
        })
        .await?;
        while db
            .transact(move |txn| {
                Box::pin(async move { catalog::usage::delete_older(txn, mark, ROWS as u32).await })
            })
            .await?
        {}
        Ok(())
    }

    /// Takes what a cycle has swept out of the garbage that its mark found.
    pub(super) async fn forget_garbage(&self, bytes: u64) -> Result<(), Fault> {
        let changed = self.inner.db.transact(move |txn| {
            Box::pin(async move {
                let kept = meta::bytes(txn, meta::USAGE_TOTALS).await?;
                let Some(mut totals) = kept.and_then(|kept| decode(&kept)) else {
                    return Ok(());
                };
                totals.garbage_bytes = totals.garbage_bytes.saturating_sub(bytes);
                meta::set_bytes(txn, meta::USAGE_TOTALS, &encode(&totals)).await
            })
        });
        Ok(changed.await?)
    }
}

fn encode(totals: &UsageTotals) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    bytes.extend(totals.computed_at.unwrap_or_default().to_le_bytes());
    for number in [
        totals.snapshots,
        totals.logical_bytes,
        totals.unique_bytes,
        totals.stored_bytes,
        totals.garbage_bytes,
    ] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

/// Nothing for bytes of another version: the figures are computed anew in time.
fn decode(bytes: &[u8]) -> Option<UsageTotals> {
    let (words, rest) = bytes.as_chunks::<8>();
    let [version, computed_at, numbers @ ..] = words else {
        return None;
    };
    let numbers: Vec<_> = numbers
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    let [
        snapshots,
        logical_bytes,
        unique_bytes,
        stored_bytes,
        garbage_bytes,
    ] = numbers[..]
    else {
        return None;
    };
    if u64::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    Some(UsageTotals {
        computed_at: Some(i64::from_le_bytes(*computed_at)),
        snapshots,
        logical_bytes,
        unique_bytes,
        stored_bytes,
        garbage_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_as_written_and_other_bytes_are_none() {
        let totals = UsageTotals {
            computed_at: Some(1_790_337_440_328),
            snapshots: 2,
            logical_bytes: 3,
            unique_bytes: 4,
            stored_bytes: 5,
            garbage_bytes: u64::MAX,
        };
        let bytes = encode(&totals);
        assert_eq!(decode(&bytes), Some(totals));
        assert_eq!(decode(&bytes[..48]), None);
        assert_eq!(decode(&[]), None);
        let mut newer = bytes;
        newer[0] = 2;
        assert_eq!(decode(&newer), None);
    }
}
