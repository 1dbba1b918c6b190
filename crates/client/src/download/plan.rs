//! What is to be done with each block of a volume, in ascending order: pure bookkeeping over what the listing says, what stands
//! in the target, and what an earlier attempt wrote.
//!
//! Invariants
//! - Every block below the end is in exactly one step, in ascending order: nothing that stood in a target survives by being
//!   forgotten.
//! - A block is kept without being read only where the caller asked to be trusted and there is data, or where it is to be zeros
//!   and the system says that nothing else can stand there.

use crate::Error;
use crate::api::ListedBlock;
use crate::journal::Records;
use crate::runs::{DataRuns, end};
use crate::source::Extent;
use std::collections::VecDeque;
use types::{BlockIndex, Digest};

/// What the listing says, in ascending order; between these, the snapshot has no blocks.
#[derive(Debug)]
pub(crate) enum Walked {
    /// A block that the snapshot has.
    Block {
        /// As it was listed.
        block: ListedBlock,
        /// Whether it differs from the base snapshot, where that was asked.
        changed: Option<bool>,
    },
    /// What stands here cannot be listed.
    Unlisted(Extent),
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The snapshot does not have these: they are made to read as zeros, whatever stands there.
    Zeros(Extent),
    /// The snapshot does not have these, and the base has data: what does not read as zeros becomes zeros.
    Check(Extent),
    /// The snapshot does not have these, and they read as zeros.
    Holes(Extent),
    /// The snapshot may have these, but the server cannot say.
    Unlisted(Extent),
    /// The snapshot has this block.
    Block(BlockStep),
}

/// What is to be done with a block that the snapshot has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BlockStep {
    /// As it was listed.
    pub(crate) block: ListedBlock,
    /// When what stands in the target stays.
    pub(crate) keep: Keep,
}

/// When what stands in the target stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keep {
    /// Never.
    No,
    /// When it has this digest.
    If(Digest),
    /// Always, unread.
    Unread,
}

/// What is known of the content of a target before the first write.
pub(crate) enum Standing {
    /// Nothing.
    Unknown,
    /// It holds another snapshot, more or less.
    Base {
        /// Where it has data.
        data: DataRuns,
        /// The digests of the other snapshot's blocks, from a file.
        digests: Option<Lookup>,
        /// The blocks before this one are believed to be the other snapshot's where it has data.
        trusted: u32,
    },
}

/// Makes steps.
pub(crate) struct Planner {
    next: u32,
    end: u32,
    standing: Standing,
    /// What an earlier attempt wrote.
    written: Option<Lookup>,
    walked: VecDeque<Walked>,
    ended: bool,
}

impl Planner {
    /// For a volume of so many blocks.
    pub(crate) fn new(end: u32, standing: Standing, written: Option<Lookup>) -> Planner {
        Planner {
            next: 0,
            end,
            standing,
            written,
            walked: VecDeque::new(),
            ended: false,
        }
    }

    /// Takes more of the listing, and whether that was its end.
    pub(crate) fn feed(&mut self, walked: Vec<Walked>, ended: bool) {
        self.walked.extend(walked);
        self.ended = ended;
    }

    /// At most so many steps; none when more of the listing is needed, or all is planned. Blocking.
    pub(crate) fn take(&mut self, steps_max: usize) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        while steps.len() < steps_max {
            let Some(step) = self.step()? else { break };
            steps.push(step);
        }
        Ok(steps)
    }

    fn step(&mut self) -> Result<Option<Step>, Error> {
        let known = match self.walked.front() {
            Some(Walked::Block { block, .. }) => block.index.get(),
            Some(Walked::Unlisted(extent)) => extent.start,
            None if self.ended => self.end,
            None => return Ok(None),
        };
        if self.next < known {
            return self.gap(known).map(Some);
        }
        match self.walked.pop_front() {
            None => Ok(None),
            Some(Walked::Unlisted(extent)) => {
                self.next = end(extent);
                Ok(Some(Step::Unlisted(extent)))
            }
            Some(Walked::Block { block, changed }) => {
                self.next = known + 1;
                let keep = self.keep(&block, changed)?;
                Ok(Some(Step::Block(BlockStep { block, keep })))
            }
        }
    }

    /// What to do next with blocks that the snapshot does not have.
    fn gap(&mut self, to: u32) -> Result<Step, Error> {
        let gap = Extent {
            start: self.next,
            count: to - self.next,
        };
        let step = match &mut self.standing {
            Standing::Unknown => Step::Zeros(gap),
            Standing::Base { data, .. } => match data.first_in(gap)? {
                None => Step::Holes(gap),
                Some(run) if run.start == gap.start => Step::Check(run),
                Some(run) => Step::Holes(Extent {
                    start: gap.start,
                    count: run.start - gap.start,
                }),
            },
        };
        self.next = match &step {
            Step::Zeros(extent) | Step::Check(extent) | Step::Holes(extent) => end(*extent),
            Step::Unlisted(_) | Step::Block(_) => to,
        };
        Ok(step)
    }

    fn keep(&mut self, block: &ListedBlock, changed: Option<bool>) -> Result<Keep, Error> {
        let written = match &mut self.written {
            Some(written) => written.at(block.index)?,
            None => None,
        };
        let Standing::Base {
            data,
            digests,
            trusted,
        } = &mut self.standing
        else {
            // Where the server lists another digest than was written, it is the listing that counts.
            let wanted = written.filter(|written| block.digest.is_none_or(|d| d == *written));
            return Ok(wanted.map_or(Keep::No, Keep::If));
        };
        let believed = match digests {
            Some(digests) => digests.at(block.index)?.map_or(Keep::No, Keep::If),
            None if block.index.get() < *trusted => Keep::Unread,
            None => Keep::No,
        };
        let one = Extent {
            start: block.index.get(),
            count: 1,
        };
        let has_data = data.first_in(one)?.is_some();
        let unchanged = changed == Some(false);
        let wanted = match (block.digest, written) {
            (Some(digest), _) => Keep::If(digest),
            (None, Some(written)) => Keep::If(written),
            (None, None) if unchanged => believed,
            (None, None) => Keep::No,
        };
        Ok(match wanted {
            Keep::If(Digest::ZERO_BLOCK) if !has_data => Keep::Unread,
            // A disk that was cut off has a hole where the snapshot has a block, whatever is believed of it.
            Keep::If(_) | Keep::Unread if !has_data => Keep::No,
            wanted => wanted,
        })
    }
}

/// Answers the next record, in ascending order of index.
type NextRecord = Box<dyn FnMut() -> Result<Option<(BlockIndex, Digest)>, Error> + Send>;

/// Digests by index, asked in ascending order.
pub(crate) struct Lookup {
    records: NextRecord,
    /// The first record that was not asked for yet.
    ahead: Option<(BlockIndex, Digest)>,
    ended: bool,
}

impl Lookup {
    /// In a file.
    pub(crate) fn new(mut records: Records) -> Lookup {
        Lookup::over(move || records.next())
    }

    /// Over whatever answers the next record, in ascending order.
    fn over(
        records: impl FnMut() -> Result<Option<(BlockIndex, Digest)>, Error> + Send + 'static,
    ) -> Lookup {
        Lookup {
            records: Box::new(records),
            ahead: None,
            ended: false,
        }
    }

    /// The digest of a block; no lower one may be asked for later.
    fn at(&mut self, index: BlockIndex) -> Result<Option<Digest>, Error> {
        while !self.ended && self.ahead.is_none_or(|(ahead, _)| ahead < index) {
            self.ahead = (self.records)()?;
            self.ended = self.ahead.is_none();
        }
        let found = self.ahead.filter(|(ahead, _)| *ahead == index);
        Ok(found.map(|(_, digest)| digest))
    }
}

#[cfg(test)]
mod tests;
