//! Lists the blocks that differ between two completed snapshots of one lineage.
//!
//! A block rewritten with the same bytes is not a difference here (DESIGN 2.1). The work of a call is bounded by
//! [`limits::DIFF_PAGES`], so an answer may be short, or empty, and still say where to go on (SPEC 3.9).

use crate::list_blocks::root_of;
use crate::pages::map_error;
use crate::{Engine, Error, limits};
use blockmap::DiffLimit;
use catalog::snapshots::SnapshotRecord;
use std::sync::Arc;
use types::{AccountId, BlockIndex, Digest, SnapshotId, VolumeSize};

/// A block that differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangedBlock {
    /// Where.
    pub index: BlockIndex,
    /// What the first snapshot has there.
    pub first: Option<Digest>,
    /// What the second snapshot has there.
    pub second: Option<Digest>,
}

/// A page of changed blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedBlockList {
    /// Changed blocks in ascending order.
    pub changed: Vec<ChangedBlock>,
    /// Where to go on; nothing at the end.
    pub next: Option<BlockIndex>,
    /// Size of the second snapshot's volume (SPEC 8.6).
    pub volume_size: VolumeSize,
}

impl Engine {
    /// Whether the account may compare the two; answers the size of the second.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`], for the first one first; [`Error::Unrelated`].
    pub async fn comparable(
        &self,
        account: AccountId,
        first: SnapshotId,
        second: SnapshotId,
    ) -> Result<VolumeSize, Error> {
        let (_, second) = self.related(account, first, second).await?;
        Ok(second.volume_size)
    }

    /// At most `limit` blocks, from the block index `from` on, that differ between the snapshots.
    ///
    /// # Errors
    /// As [`Engine::comparable`].
    pub async fn list_changed_blocks(
        &self,
        account: AccountId,
        first: SnapshotId,
        second: SnapshotId,
        from: BlockIndex,
        limit: usize,
    ) -> Result<ChangedBlockList, Error> {
        let (first, second) = self.related(account, first, second).await?;
        let bound = DiffLimit {
            changes: limit,
            pages: limits::DIFF_PAGES,
        };
        let pages = self.pages(second.domain);
        let diff = blockmap::diff(&pages, root_of(&first)?, root_of(&second)?, from, bound).await;
        let diff = match diff {
            Ok(diff) => diff,
            Err(error) => {
                // One of them may have been deleted, and its pages collected, while we walked: then nothing is damaged.
                self.related(account, first.id, second.id).await?;
                return Err(map_error(second.id, error));
            }
        };
        let changed = diff
            .changes
            .into_iter()
            .map(|change| ChangedBlock {
                index: change.index,
                first: change.first,
                second: change.second,
            })
            .collect();
        Ok(ChangedBlockList {
            changed,
            next: diff.next,
            volume_size: second.volume_size,
        })
    }

    async fn related(
        &self,
        account: AccountId,
        first: SnapshotId,
        second: SnapshotId,
    ) -> Result<(Arc<SnapshotRecord>, Arc<SnapshotRecord>), Error> {
        let first = self.readable_snapshot(account, first).await?;
        let second = self.readable_snapshot(account, second).await?;
        if first.lineage != second.lineage {
            return Err(Error::Unrelated {
                first: first.id,
                second: second.id,
            });
        }
        Ok((first, second))
    }
}
