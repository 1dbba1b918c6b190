//! Which blocks have to be looked at, in index order: those where the source may have data, those that the parent lists, and those
//! that an earlier attempt put. All others are zeros before and after, and need nothing.
//!
//! A merge of three streams, each in ascending order, so that memory does not depend on the size of the volume.

use super::decide::Own;
use crate::journal::Entry;
use crate::source::Extent;
use crate::{Counter, Error, Meter};
use buffers::AlignedBuf;
use std::sync::Arc;
use types::{BlockIndex, Digest, VolumeSize};

/// A block to look at.
#[derive(Debug)]
pub(super) struct Item {
    /// Its place among all items, from 0.
    pub(super) sequence: u64,
    /// Which block.
    pub(super) index: BlockIndex,
    /// What the parent lists.
    pub(super) parent: Option<Digest>,
    /// What earlier attempts put.
    pub(super) own: Own,
    /// What the source holds.
    pub(super) content: Content,
}

/// What the source holds for a block.
#[derive(Debug)]
pub(super) enum Content {
    /// Zeros, without looking.
    Zeros,
    /// Whatever a read finds.
    ToRead,
    /// This.
    Read(AlignedBuf),
}

/// What is asked for the next of something, in ascending order.
pub(super) type Pull<T> = Box<dyn FnMut() -> Result<Option<T>, Error> + Send>;

/// Where the source's blocks come from.
pub(super) enum Data {
    /// Asked for the next run of blocks from a block on that may hold data; this many blocks are all.
    Runs(
        Box<dyn FnMut(u32) -> Result<Option<Extent>, Error> + Send>,
        u32,
    ),
    /// Asked for one block after the other.
    Stream(Pull<AlignedBuf>),
}

/// What a plan is made of.
pub(super) struct Inputs {
    pub(super) data: Data,
    /// What the parent lists.
    pub(super) parent: Pull<(BlockIndex, Digest)>,
    /// What earlier attempts put.
    pub(super) own: Pull<Entry>,
    pub(super) volume_size: VolumeSize,
    /// Counts `Total`, and what is passed over.
    pub(super) meter: Arc<Meter>,
}

/// The items, one after the other.
pub(super) struct Plan {
    data: Data,
    /// The rest of the run that was found last.
    run: Extent,
    /// Whether the source has no more data.
    data_ended: bool,
    parent: Ahead<(BlockIndex, Digest)>,
    own: Ahead<Entry>,
    volume_size: VolumeSize,
    meter: Arc<Meter>,
    /// Every block below was an item or passed over.
    position: u32,
    /// Blocks of the source, once known.
    source_blocks: Option<u32>,
    sequence: u64,
    /// Whether an input failed: who was told says so, and all others find the end.
    failed: bool,
}

impl Plan {
    /// Begins.
    pub(super) fn new(inputs: Inputs) -> Plan {
        let source_blocks = match inputs.data {
            Data::Runs(_, count) => Some(count),
            Data::Stream(_) => None,
        };
        let plan = Plan {
            data: inputs.data,
            run: Extent { start: 0, count: 0 },
            data_ended: false,
            parent: Ahead::new(inputs.parent),
            own: Ahead::new(inputs.own),
            volume_size: inputs.volume_size,
            meter: inputs.meter,
            position: 0,
            source_blocks,
            sequence: 0,
            failed: false,
        };
        plan.meter
            .set(Counter::Total, u64::from(source_blocks.unwrap_or(0)));
        plan
    }

    /// Number of items so far.
    pub(super) fn items(&self) -> u64 {
        self.sequence
    }

    /// The next item; nothing at the end. Blocking.
    ///
    /// # Errors
    /// [`Error::Unfit`]: a stream is longer than the volume; whatever the inputs fail with. Only once: then it is at its end.
    pub(super) fn next(&mut self) -> Result<Option<Item>, Error> {
        if self.failed {
            return Ok(None);
        }
        let next = self.find_next();
        self.failed = next.is_err();
        next
    }

    fn find_next(&mut self) -> Result<Option<Item>, Error> {
        let data = self.next_data()?;
        let parent = self.parent.peek()?.map(|(index, _)| *index);
        let own = self.own.peek()?.map(|entry| entry.index);
        let at = data.as_ref().map(|(index, _)| *index);
        let Some(index) = [at, parent, own].into_iter().flatten().min() else {
            self.pass_to(self.source_blocks.unwrap_or(0));
            return Ok(None);
        };
        self.pass_to(index.get());
        let content = match data {
            Some((at, content)) if at == index => {
                self.run.start += 1;
                self.run.count = self.run.count.saturating_sub(1);
                content
            }
            _ => Content::Zeros,
        };
        let item = Item {
            sequence: self.sequence,
            index,
            parent: self
                .parent
                .take_if(|(at, _)| *at == index)
                .map(|(_, digest)| digest),
            own: match self.own.take_if(|entry| entry.index == index) {
                None => Own::Nothing,
                Some(Entry { digest: None, .. }) => Own::Unknown,
                Some(Entry {
                    digest: Some(digest),
                    ..
                }) => Own::Known(digest),
            },
            content,
        };
        if self
            .source_blocks
            .is_some_and(|blocks| index.get() >= blocks)
        {
            self.meter.add(Counter::Total, 1);
        }
        self.sequence += 1;
        self.position = index.get() + 1;
        Ok(Some(item))
    }

    /// The next block of which the source says anything. That of a stream is read, and must become an item.
    fn next_data(&mut self) -> Result<Option<(BlockIndex, Content)>, Error> {
        if self.data_ended {
            return Ok(None);
        }
        let found = match &mut self.data {
            Data::Runs(next, _) => {
                if self.run.count == 0 {
                    self.run = match next(self.position)? {
                        Some(run) => clipped(run, self.position),
                        None => Extent { start: 0, count: 0 },
                    };
                }
                (self.run.count > 0).then_some((self.run.start, Content::ToRead))
            }
            Data::Stream(next) => next()?.map(|data| (self.position, Content::Read(data))),
        };
        let Some((at, content)) = found else {
            self.data_ended = true;
            if self.source_blocks.is_none() {
                self.source_blocks = Some(self.position);
                self.meter.set(Counter::Total, u64::from(self.position));
            }
            return Ok(None);
        };
        match BlockIndex::new(at).filter(|index| self.volume_size.contains(*index)) {
            Some(index) => Ok(Some((index, content))),
            None => Err(Error::Unfit(format!(
                "the source is longer than the volume of {} GiB: say a larger volume size",
                self.volume_size.gib()
            ))),
        }
    }

    /// Counts the blocks of the source before `to` that are no items.
    fn pass_to(&mut self, to: u32) {
        let end = to.min(self.source_blocks.unwrap_or(to));
        let holes = u64::from(end.saturating_sub(self.position));
        self.meter.add(Counter::Zero, holes);
        self.meter.add(Counter::Done, holes);
        self.position = self.position.max(to);
    }
}

/// What of a run lies at or behind a block.
fn clipped(run: Extent, from: u32) -> Extent {
    let start = run.start.max(from);
    Extent {
        start,
        count: run.start.saturating_add(run.count).saturating_sub(start),
    }
}

/// Something of which the next can be looked at before it is taken.
struct Ahead<T> {
    pull: Pull<T>,
    next: Option<T>,
    ended: bool,
}

impl<T> Ahead<T> {
    fn new(pull: Pull<T>) -> Ahead<T> {
        Ahead {
            pull,
            next: None,
            ended: false,
        }
    }

    fn peek(&mut self) -> Result<Option<&T>, Error> {
        if self.next.is_none() && !self.ended {
            self.next = (self.pull)()?;
            self.ended = self.next.is_none();
        }
        Ok(self.next.as_ref())
    }

    fn take_if(&mut self, test: impl FnOnce(&T) -> bool) -> Option<T> {
        self.next.take_if(|next| test(next))
    }
}

#[cfg(test)]
mod tests;
