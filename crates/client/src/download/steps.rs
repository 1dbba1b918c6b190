//! Feeds a transfer with steps, a batch at a time: the listing, and what differs from the base snapshot where that is asked,
//! through the [`Planner`].

use super::plan::{Planner, Step, Walked};
use super::work::place;
use crate::api::Api;
use crate::listing::ChangedBlocks;
use crate::tasks::blocking;
use crate::walk::{Listed, Walk};
use crate::{Error, SnapshotId};
use std::cmp::Ordering;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use types::BlockIndex;

/// Steps that are planned at once, and blocks that are read from the listing for that.
const BATCH: usize = 256;

/// Batches that wait for the transfer.
pub(crate) const BATCHES_WAITING: usize = 2;

/// Which blocks differ between two snapshots, asked block by block, from low to high.
pub(crate) struct Changes {
    blocks: ChangedBlocks,
    ahead: Option<BlockIndex>,
    ended: bool,
}

impl Changes {
    /// Fetches the first page.
    pub(crate) async fn begin(
        api: &Api,
        base: &SnapshotId,
        snapshot: &SnapshotId,
    ) -> Result<Changes, Error> {
        let blocks = ChangedBlocks::begin(api, base, snapshot, BlockIndex::ZERO).await?;
        Ok(Changes {
            blocks,
            ahead: None,
            ended: false,
        })
    }

    async fn has(&mut self, index: BlockIndex) -> Result<bool, Error> {
        while !self.ended && self.ahead.is_none_or(|ahead| ahead < index) {
            self.ahead = self.blocks.next().await?.map(|block| block.index);
            self.ended = self.ahead.is_none();
        }
        Ok(self.ahead.map(|ahead| ahead.cmp(&index)) == Some(Ordering::Equal))
    }
}

/// Plans a whole volume; ends early when nobody takes the steps any more. Planning reads local files, so it takes a place of
/// `local`.
pub(crate) async fn plan_all(
    mut walk: Walk,
    mut changes: Option<Changes>,
    mut planner: Planner,
    local: Arc<Semaphore>,
    sender: mpsc::Sender<Vec<Step>>,
) -> Result<(), Error> {
    let mut ended = false;
    while !ended {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH && !ended {
            match walk.next().await? {
                None => ended = true,
                Some(Listed::Unlisted(extent)) => batch.push(Walked::Unlisted(extent)),
                Some(Listed::Block(block)) => {
                    let changed = match &mut changes {
                        Some(changes) => Some(changes.has(block.index).await?),
                        None => None,
                    };
                    batch.push(Walked::Block { block, changed });
                }
            }
        }
        planner.feed(batch, ended);
        loop {
            let place = place(&local).await;
            let steps;
            (planner, steps) = blocking(move || {
                let _place = place;
                let steps = planner.take(BATCH)?;
                Ok((planner, steps))
            })
            .await?;
            if steps.is_empty() {
                break;
            }
            if sender.send(steps).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
