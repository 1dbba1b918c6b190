//! Tells a block that is lost on the server from a server that fails for a while: both answer 500.
//!
//! What is taken for lost may be written as zeros, so it takes proof:
//!
//! - Our server says in its message which block is damaged; [`NAMED_MIN`] such answers are enough.
//! - Otherwise the block has failed for [`LOST_AFTER`] and [`LOST_ATTEMPTS`] attempts, with nothing but such faults, and the server
//!   serves the rest: others came between the last two attempts. Where no other is on its way, the server must be able to list, and
//!   fail once more after it did.
//!
//! As long as that may still turn out, the block is asked for however few attempts a request has.

use super::{Inner, PageStart};
use crate::transport::Sink;
use crate::{Refusal, SnapshotId, ebs, instant};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use types::BlockIndex;

/// A server that restarts, or whose disk was full, is back by then, as a rule.
const LOST_AFTER: Duration = Duration::from_secs(15);

/// Attempts of which each must have failed.
const LOST_ATTEMPTS: u32 = 5;

/// Answers of our server that name the block, one of which may be of a disk that can be read the next time.
const NAMED_MIN: u32 = 2;

/// Blocks of the page that shows whether a server lists: the smallest that the API knows.
const PAGE_MIN: u32 = 100;

/// What faults of one block come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is lost.
    Lost,
    /// It may be: it is asked for again.
    Again,
    /// Nothing can be said of it alone.
    Unknown,
}

/// What one block that is being got met with so far.
pub(super) struct Faults<'a> {
    inner: &'a Inner,
    id: &'a SnapshotId,
    index: BlockIndex,
    /// Whether there was nothing else.
    only: bool,
    /// When the first came, and how many blocks had come by then.
    first: Option<(Instant, u64)>,
    /// How many blocks had come when the last one did.
    others_at_last: u64,
    /// Whether others came between the last one and the attempt on its way.
    others_came: bool,
    /// How many named the block.
    named: u32,
    /// Whether the server listed since the last one.
    has_listed: bool,
}

impl Faults<'_> {
    /// None so far; the block counts as on its way until this is dropped.
    pub(super) fn new<'a>(inner: &'a Inner, id: &'a SnapshotId, index: BlockIndex) -> Faults<'a> {
        inner.gets.fetch_add(1, Ordering::Relaxed);
        Faults {
            inner,
            id,
            index,
            only: true,
            first: None,
            others_at_last: 0,
            others_came: false,
            named: 0,
            has_listed: false,
        }
    }

    /// An attempt begins.
    pub(super) fn attempt(&mut self) {
        self.others_came = self.first.is_some() && self.others() > self.others_at_last;
    }

    /// An attempt failed, as the `failed`th.
    pub(super) async fn add(&mut self, fault: Option<&Refusal>, failed: u32) -> Verdict {
        let Some(fault) = fault else {
            self.only = false;
            return Verdict::Unknown;
        };
        if !self.only {
            return Verdict::Unknown;
        }
        self.named += u32::from(self.is_named_in(fault));
        if self.named >= NAMED_MIN {
            return Verdict::Lost;
        }
        let (now, others) = (instant::now(), self.others());
        let (since, others_at_first) = *self.first.get_or_insert((now, others));
        self.others_at_last = others;
        let is_late = failed >= LOST_ATTEMPTS && now.duration_since(since) >= LOST_AFTER;
        let is_alone = self.inner.gets.load(Ordering::Relaxed) == 1;
        if !is_late {
            return match is_alone || others > others_at_first {
                true => Verdict::Again,
                false => Verdict::Unknown,
            };
        }
        if self.others_came || self.has_listed {
            return Verdict::Lost;
        }
        self.has_listed = is_alone && self.lists().await;
        match self.has_listed {
            true => Verdict::Again,
            false => Verdict::Unknown,
        }
    }

    fn others(&self) -> u64 {
        self.inner.blocks_got.load(Ordering::Relaxed)
    }

    /// Whether our server says that this block is damaged, or the map that names it.
    fn is_named_in(&self, fault: &Refusal) -> bool {
        let (id, index) = (self.id, self.index);
        fault.message == format!("Block {index} of the snapshot '{id}' is damaged.")
            || fault.message == format!("The block map of the snapshot '{id}' is damaged.")
    }

    /// Whether the server lists what needs nothing of what it stores: the end of the largest volume.
    async fn lists(&self) -> bool {
        let last = BlockIndex::new(BlockIndex::COUNT_MAX - 1).unwrap_or(BlockIndex::ZERO);
        let call = ebs::list_snapshot_blocks::call(self.id, &PageStart::Index(last), PAGE_MIN);
        self.inner.caller.attempt(&call, Sink::Text).await.is_ok()
    }
}

impl Drop for Faults<'_> {
    fn drop(&mut self) {
        self.inner.gets.fetch_sub(1, Ordering::Relaxed);
    }
}
