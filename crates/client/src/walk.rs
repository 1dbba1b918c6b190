//! A snapshot's listing from its first block to its last, past pages that the server has lost if that is wanted.
//!
//! Blocks come in ascending order and inside the volume, whatever the server says: the readers of a walk rely on it.
//!
//! Failure
//! - A page that the server cannot give hides blocks that nobody can name. The walk then takes the smallest pages there are, as
//!   far as they can be had, and looks for the next place where a listing works: further on in steps that double, and back from
//!   there. What lies between is told as unlisted, once it is known that it is not the server, or the way to it, that is away.

use crate::api::{Api, Extensions, ListedBlock, PageStart};
use crate::listing::Blocks;
use crate::runs::end;
use crate::source::Extent;
use crate::{Error, SnapshotId};
use std::vec::IntoIter;
use types::{BlockIndex, VolumeSize};

/// Blocks of which a listing is lost together: what a leaf of our block maps holds.
const LEAF: u32 = 128;

/// The smallest page that the API knows (SPEC 2.5).
const PAGE_MIN: u32 = 100;

/// A listing on its way.
pub(crate) struct Walk {
    api: Api,
    id: SnapshotId,
    blocks: Blocks,
    volume_size: VolumeSize,
    /// Everything below was told.
    next: u32,
    lost: Lost,
    mode: Mode,
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

/// Where blocks come from.
enum Mode {
    /// Pages as large as they can be.
    Pages,
    /// The smallest pages; this one, and whether it is the last.
    Small(IntoIter<ListedBlock>, bool),
    /// Nowhere any more.
    Ended,
}

impl Walk {
    /// Fetches the first page.
    pub(crate) async fn begin(api: &Api, id: &SnapshotId, lost: Lost) -> Result<Walk, Error> {
        let (blocks, mode) = match Blocks::begin(api, id, BlockIndex::ZERO).await {
            Ok(blocks) => (blocks, Mode::Pages),
            Err(error) if lost == Lost::Skip && is_lost(&error) => {
                // How large the volume is can be known where nothing is listed: at the end of the largest one.
                let last = BlockIndex::new(BlockIndex::COUNT_MAX - 1).unwrap_or(BlockIndex::ZERO);
                let blocks = Blocks::begin(api, id, last).await.map_err(|_| error)?;
                (blocks, Mode::Small(Vec::new().into_iter(), false))
            }
            Err(error) => return Err(error),
        };
        Ok(Walk {
            api: api.clone(),
            id: id.clone(),
            volume_size: blocks.volume_size(),
            blocks,
            next: 0,
            lost,
            mode,
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
            match &mut self.mode {
                Mode::Ended => return Ok(None),
                Mode::Pages => match self.blocks.next().await {
                    Ok(Some(block)) => return self.checked(block).map(Some),
                    Ok(None) => self.mode = Mode::Ended,
                    Err(error) if self.lost == Lost::Skip && is_lost(&error) => {
                        self.mode = Mode::Small(Vec::new().into_iter(), false);
                    }
                    Err(error) => return Err(error),
                },
                Mode::Small(page, last) => match (page.next(), *last) {
                    (Some(block), _) => return self.checked(block).map(Some),
                    (None, true) => self.mode = Mode::Ended,
                    (None, false) => {
                        if let Some(unlisted) = self.small_page().await? {
                            return Ok(Some(Listed::Unlisted(unlisted)));
                        }
                    }
                },
            }
        }
    }

    fn checked(&mut self, block: ListedBlock) -> Result<Listed, Error> {
        let (index, count) = (block.index, self.volume_size.block_count());
        if index.get() < self.next || index.get() >= count {
            return Err(Error::NotTheApi {
                operation: "ListSnapshotBlocks",
                endpoint: self.api.endpoint(),
                reason: format!(
                    "block {index} is listed behind {} blocks of a volume of {count}",
                    self.next
                ),
            });
        }
        self.next = index.get() + 1;
        Ok(Listed::Block(block))
    }

    /// Fetches the smallest page there is; where that cannot be had, goes on behind it, and answers what is left out.
    async fn small_page(&mut self) -> Result<Option<Extent>, Error> {
        let count = self.volume_size.block_count();
        let Some(from) = BlockIndex::new(self.next).filter(|from| from.get() < count) else {
            self.mode = Mode::Ended;
            return Ok(None);
        };
        let start = PageStart::Index(from);
        match self.api.list_blocks_up_to(&self.id, start, PAGE_MIN).await {
            // An empty page that is not the last one would be asked for for ever.
            Ok(page) if page.next.is_none() || !page.blocks.is_empty() => {
                let last = page.next.is_none();
                self.mode = Mode::Small(page.blocks.into_iter(), last);
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) if is_lost(&error) => {
                // Nothing is lost while the server, or the way to it, is: then a listing fails that needs no page either.
                if !self.is_listed(BlockIndex::COUNT_MAX - 1).await? {
                    return Err(error);
                }
                // Nor if that was so until now.
                if self.is_listed(self.next).await? {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
        let found = self.next_listed(count).await?;
        self.leave_out(found).await.map(Some)
    }

    /// Goes on at a place, or nowhere; answers what is left out.
    async fn leave_out(&mut self, found: Option<BlockIndex>) -> Result<Extent, Error> {
        let to = match found {
            Some(at) => {
                self.blocks = Blocks::begin(&self.api, &self.id, at).await?;
                self.mode = Mode::Pages;
                at.get()
            }
            None => {
                self.mode = Mode::Ended;
                self.volume_size.block_count()
            }
        };
        let unlisted = Extent {
            start: self.next,
            count: to - self.next,
        };
        self.next = end(unlisted);
        Ok(unlisted)
    }

    /// The first place behind which a listing works, as far as a search can tell that takes few requests: each of those that fail
    /// is repeated for a while.
    async fn next_listed(&self, count: u32) -> Result<Option<BlockIndex>, Error> {
        let first = (self.next / LEAF + 1) * LEAF;
        let last = (count - 1) / LEAF * LEAF;
        let (mut lost, mut distance) = (self.next / LEAF * LEAF, 0);
        let mut found = loop {
            let at = first.saturating_add(distance).min(last);
            if at <= lost {
                return Ok(None);
            }
            if self.is_listed(at).await? {
                break at;
            }
            (lost, distance) = (at, distance * 2 + LEAF);
        };
        while found - lost > LEAF {
            let middle = lost + (found - lost) / LEAF / 2 * LEAF;
            match self.is_listed(middle).await? {
                true => found = middle,
                false => lost = middle,
            }
        }
        Ok(BlockIndex::new(found))
    }

    async fn is_listed(&self, from: u32) -> Result<bool, Error> {
        let Some(from) = BlockIndex::new(from) else {
            return Ok(false);
        };
        let start = PageStart::Index(from);
        match self.api.list_blocks_up_to(&self.id, start, PAGE_MIN).await {
            Ok(_) => Ok(true),
            Err(error) if is_lost(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error of a listing may mean that the server has lost the page, while it has others.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Refused(refusal) => refusal.status >= 500,
        _ => false,
    }
}
