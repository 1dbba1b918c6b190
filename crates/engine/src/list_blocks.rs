//! Lists the blocks of a completed snapshot: a walk of its block map from a position.

use crate::pages::map_error;
use crate::{Engine, Error};
use catalog::snapshots::SnapshotRecord;
use types::{AccountId, BlockIndex, Digest, SnapshotId, VolumeSize};

/// A page of a snapshot's blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockList {
    /// Blocks in ascending order.
    pub blocks: Vec<(BlockIndex, Digest)>,
    /// Where to go on; nothing at the end.
    pub next: Option<BlockIndex>,
    /// Size of the snapshot's volume.
    pub volume_size: VolumeSize,
}

impl Engine {
    /// At most `limit` blocks of the merged view from the block index `from` on.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`] unless the snapshot is completed and the account's own.
    pub async fn list_blocks(
        &self,
        account: AccountId,
        id: SnapshotId,
        from: BlockIndex,
        limit: usize,
    ) -> Result<BlockList, Error> {
        let snapshot = self.readable_snapshot(account, id).await?;
        let root = root_of(&snapshot)?;
        let walk = blockmap::walk(&self.pages(snapshot.domain), root, from, limit).await;
        let walk = match walk {
            Ok(walk) => walk,
            Err(error) => {
                // The snapshot may have been deleted, and its pages collected, while we walked: then nothing is damaged.
                self.readable_snapshot(account, id).await?;
                return Err(map_error(id, error));
            }
        };
        Ok(BlockList {
            blocks: walk.entries,
            next: walk.next,
            volume_size: snapshot.volume_size,
        })
    }
}

/// The root of a completed snapshot.
pub(crate) fn root_of(snapshot: &SnapshotRecord) -> Result<Digest, Error> {
    let root = snapshot.finished.map(|finished| finished.root);
    root.ok_or_else(|| Error::Internal {
        reason: format!("the completed snapshot {} has no root", snapshot.id),
    })
}
