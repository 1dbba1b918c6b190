//! A snapshot's listing from its first block to its last, past pages that the server has lost if that is wanted.
//!
//! Blocks come in ascending order and inside the volume, whatever the server says: the readers of a walk rely on it.
//!
//! Failure
//! - A page that the server cannot give hides blocks that nobody can name. Listing begins again further on, a little at first
//!   and twice as far each time, until it works; what lies between is told as unlisted.

use crate::api::{Api, Extensions, ListedBlock};
use crate::listing::Blocks;
use crate::runs::end;
use crate::source::Extent;
use crate::{Error, SnapshotId};
use types::{BlockIndex, VolumeSize};

/// Blocks left out at first behind a page that cannot be had: as many as one lost page of a block map can hide.
const SKIP_FIRST: u32 = 128;

/// A listing on its way.
pub(crate) struct Walk {
    api: Api,
    id: SnapshotId,
    blocks: Blocks,
    volume_size: VolumeSize,
    /// Everything below was told.
    next: u32,
    /// Where the listing stands, when that is further on.
    unlisted_to: u32,
    lost: Lost,
    ended: bool,
}

/// What to do about pages that the server has lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// The walk fails.
    Fail,
    /// It goes on behind them.
    Skip,
}

/// What comes next in a listing.
#[derive(Debug)]
pub(crate) enum Listed {
    /// A block.
    Block(ListedBlock),
    /// The server cannot say which of these the snapshot has.
    Unlisted(Extent),
}

impl Walk {
    /// Fetches the first page.
    pub(crate) async fn begin(api: &Api, id: &SnapshotId, lost: Lost) -> Result<Walk, Error> {
        let (blocks, from) = match Blocks::begin(api, id, BlockIndex::ZERO).await {
            Ok(blocks) => (blocks, 0),
            // How large the volume is will be known from wherever a page can be had; behind its end they are empty.
            Err(error) if lost == Lost::Skip && is_lost(&error) => {
                let further = skip(api, id, 0, BlockIndex::COUNT_MAX).await?;
                further.ok_or(error)?
            }
            Err(error) => return Err(error),
        };
        let volume_size = blocks.volume_size();
        Ok(Walk {
            api: api.clone(),
            id: id.clone(),
            blocks,
            volume_size,
            next: 0,
            unlisted_to: from.min(volume_size.block_count()),
            lost,
            ended: false,
        })
    }

    /// Size of the volume.
    pub(crate) fn volume_size(&self) -> VolumeSize {
        self.volume_size
    }

    /// What the server can do beyond the API.
    pub(crate) fn extensions(&self) -> Extensions {
        self.blocks.extensions()
    }

    /// What comes next; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Listed>, Error> {
        loop {
            if self.next < self.unlisted_to {
                let extent = Extent {
                    start: self.next,
                    count: self.unlisted_to - self.next,
                };
                self.next = end(extent);
                return Ok(Some(Listed::Unlisted(extent)));
            }
            if self.ended {
                return Ok(None);
            }
            match self.blocks.next().await {
                Ok(Some(block)) => return self.checked(block).map(Some),
                Ok(None) => self.ended = true,
                Err(error) if self.lost == Lost::Skip && is_lost(&error) => self.skip().await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn checked(&mut self, block: ListedBlock) -> Result<Listed, Error> {
        let index = block.index;
        if index.get() < self.next || !self.volume_size.contains(index) {
            return Err(Error::NotTheApi {
                operation: "ListSnapshotBlocks",
                endpoint: self.api.endpoint(),
                reason: format!(
                    "block {index} is listed after {} blocks of a volume of {}",
                    self.next,
                    self.volume_size.block_count()
                ),
            });
        }
        self.next = index.get() + 1;
        Ok(Listed::Block(block))
    }

    /// Goes on behind a page that cannot be had.
    async fn skip(&mut self) -> Result<(), Error> {
        let count = self.volume_size.block_count();
        match skip(&self.api, &self.id, self.next, count).await? {
            Some((blocks, from)) => (self.blocks, self.unlisted_to) = (blocks, from),
            None => (self.ended, self.unlisted_to) = (true, count),
        }
        Ok(())
    }
}

/// Begins a listing as little behind `from` as works, before `to`.
async fn skip(
    api: &Api,
    id: &SnapshotId,
    from: u32,
    to: u32,
) -> Result<Option<(Blocks, u32)>, Error> {
    let mut distance = SKIP_FIRST;
    while let Some(at) = from
        .checked_add(distance)
        .filter(|at| *at < to)
        .and_then(BlockIndex::new)
    {
        match Blocks::begin(api, id, at).await {
            Ok(blocks) => return Ok(Some((blocks, at.get()))),
            Err(error) if is_lost(&error) => distance = distance.saturating_mul(2),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether an error of a listing may mean that the server has lost the page, while it has others.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Refused(refusal) => refusal.status >= 500,
        _ => false,
    }
}
