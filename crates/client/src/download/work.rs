//! What one block, or one run of zeros, takes: look at what stands there, fetch, write.
//!
//! Two halves, since a stream wants them apart: [`fetch`] may run for many blocks at once, in any order; [`apply`] changes the
//! target.
//!
//! Invariants
//! - Whoever holds a buffer waits for no other: a block that stands in the target is let go before it is fetched.
//! - Local reading, hashing and writing happen on blocking threads, each of which holds a place for as long as it shares the work:
//!   who has all places knows that nothing is being done any more.

use super::plan::{BlockStep, Keep};
use super::units::Unit;
use crate::api::{Api, GotBlock};
use crate::listing::get_with_fresh_token;
use crate::source::Extent;
use crate::target::Target;
use crate::tasks::blocking;
use crate::{Counter, Error, SnapshotId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::{BlockIndex, Digest, is_zero};

/// Zeros that are written before somebody looks whether they are still wanted: 256 MiB.
const ZEROS_AT_ONCE: u32 = 512;

/// What all tasks of a download share.
pub(super) struct Work {
    pub(super) api: Api,
    pub(super) snapshot: SnapshotId,
    pub(super) target: Target,
    pub(super) lost: WhenLost,
    /// Places on blocking threads.
    pub(super) local: Arc<Semaphore>,
    /// Whether long work ends early.
    pub(super) stopped: AtomicBool,
}

/// What becomes of blocks that the server has lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WhenLost {
    /// The download ends.
    Fail,
    /// They become zeros.
    Zero,
    /// They stay as they stand.
    Leave,
}

/// What the target needs.
#[derive(Debug)]
pub(super) enum Ready {
    /// Nothing.
    Kept { extent: Extent, why: Zeros },
    /// Zeros.
    Zeros { extent: Extent, why: Zeros },
    /// Data.
    Data { index: BlockIndex, got: GotBlock },
}

/// Why blocks are to be zeros, if they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Zeros {
    /// The snapshot does not have them.
    Gap,
    /// The snapshot has this block.
    Listed,
    /// The server has lost them.
    Lost,
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// Nothing: what stood there stays.
    Kept { extent: Extent, why: Zeros },
    /// Zeros were made; blocks of a gap are counted already.
    Zeros { extent: Extent, why: Zeros },
    /// Data was written.
    Data { index: BlockIndex, digest: Digest },
}

/// A place on a blocking thread.
pub(crate) async fn place(local: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let place = Arc::clone(local).acquire_owned().await;
    place.expect("nobody closes the semaphore")
}

/// Finds out what the target needs.
pub(super) async fn fetch(work: &Arc<Work>, unit: Unit) -> Result<Ready, Error> {
    let BlockStep { block, keep } = match unit {
        Unit::Zeros(extent) => {
            let why = Zeros::Gap;
            return Ok(Ready::Zeros { extent, why });
        }
        Unit::Unlisted(extent) => return Ok(work.lost.ready(extent)),
        Unit::Check(index) => {
            let (extent, why) = (one(index), Zeros::Gap);
            return Ok(match stands(work, index, Digest::ZERO_BLOCK).await? {
                true => Ready::Kept { extent, why },
                false => Ready::Zeros { extent, why },
            });
        }
        Unit::Block(step) => step,
    };
    let index = block.index;
    let kept = match keep {
        Keep::No => false,
        Keep::Unread => true,
        Keep::If(digest) => stands(work, index, digest).await?,
    };
    let (extent, why) = (one(index), Zeros::Listed);
    if kept {
        return Ok(Ready::Kept { extent, why });
    }
    if block.digest == Some(Digest::ZERO_BLOCK) {
        return Ok(Ready::Zeros { extent, why });
    }
    match get_with_fresh_token(&work.api, &work.snapshot, &block).await {
        Ok(got) => Ok(Ready::Data { index, got }),
        Err(Error::Unreadable { .. } | Error::Corrupt { .. }) if work.lost != WhenLost::Fail => {
            Ok(work.lost.ready(extent))
        }
        Err(error) => Err(error),
    }
}

impl WhenLost {
    fn ready(self, extent: Extent) -> Ready {
        let why = Zeros::Lost;
        match self {
            WhenLost::Leave => Ready::Kept { extent, why },
            WhenLost::Zero | WhenLost::Fail => Ready::Zeros { extent, why },
        }
    }
}

/// Changes the target.
pub(super) async fn apply(work: &Arc<Work>, ready: Ready) -> Result<Written, Error> {
    if let Ready::Kept { extent, why } = ready {
        return Ok(Written::Kept { extent, why });
    }
    let place = place(&work.local).await;
    let work = Arc::clone(work);
    blocking(move || {
        let done = work.apply(ready);
        drop(work);
        drop(place);
        done
    })
    .await
}

/// Whether a block of the target has this digest now.
async fn stands(work: &Arc<Work>, index: BlockIndex, digest: Digest) -> Result<bool, Error> {
    let mut buffer = work.api.buffers().take().await;
    let place = place(&work.local).await;
    let work = Arc::clone(work);
    blocking(move || {
        let read = work.target.read_block(index, &mut buffer);
        let stands = read.map(|()| has_digest(&buffer, digest));
        drop(buffer);
        drop(work);
        drop(place);
        stands
    })
    .await
}

/// Whether a block has this digest.
pub(crate) fn has_digest(data: &[u8], digest: Digest) -> bool {
    if digest == Digest::ZERO_BLOCK {
        return is_zero(data);
    }
    Digest::of(data) == digest
}

fn one(index: BlockIndex) -> Extent {
    Extent {
        start: index.get(),
        count: 1,
    }
}

impl Work {
    fn apply(&self, ready: Ready) -> Result<Written, Error> {
        match ready {
            Ready::Kept { extent, why } => Ok(Written::Kept { extent, why }),
            Ready::Zeros { extent, why } => {
                self.zero(extent, why)?;
                Ok(Written::Zeros { extent, why })
            }
            Ready::Data { index, got } => {
                match got.digest == Digest::ZERO_BLOCK {
                    true => self.target.zero(one(index))?,
                    false => self.target.write_block(index, &got.data)?,
                }
                let digest = got.digest;
                Ok(Written::Data { index, digest })
            }
        }
    }

    /// Makes zeros, perhaps of a whole volume: seen in the meter as it goes on, and ended when nobody wants it any more.
    fn zero(&self, mut extent: Extent, why: Zeros) -> Result<(), Error> {
        while extent.count > 0 {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let count = extent.count.min(ZEROS_AT_ONCE);
            let start = extent.start;
            self.target.zero(Extent { start, count })?;
            if why == Zeros::Gap {
                self.api.meter().add(Counter::Zero, u64::from(count));
                self.api.meter().add(Counter::Done, u64::from(count));
            }
            extent.start += count;
            extent.count -= count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_makes_a_block_something_else() {
        let mut block = vec![0; types::BLOCK_BYTES];
        assert!(is_zero(&block) && has_digest(&block, Digest::ZERO_BLOCK));
        for at in [0, 4095, 4096, types::BLOCK_BYTES - 1] {
            block[at] = 128;
            assert!(!is_zero(&block), "{at}");
            assert!(!has_digest(&block, Digest::ZERO_BLOCK));
            assert!(has_digest(&block, Digest::of(&block)));
            block[at] = 0;
        }
    }
}
