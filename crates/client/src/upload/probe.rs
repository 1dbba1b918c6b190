//! When to put a block by its digest alone.
//!
//! That saves sending 512 KiB when the server holds the block, and costs one small exchange when it does not. Zeros and what was
//! just put are always tried. For anything else nobody knows, so trying goes by what came of it lately: every block at first,
//! somewhat fewer after each miss, many more after each hit. That settles on trying everything where more than a sixth of it is there, which
//! is about what trying costs, and on one block in [`INTERVAL_MAX`] where nothing is.

use std::collections::{HashSet, VecDeque};
use types::Digest;

/// Distinct digests remembered, about 6 MiB: as many blocks as 32 GiB hold.
const RECENT_MAX: usize = 65_536;

/// Blocks to one attempt when all fail: what is lost stays below 2 %, since an attempt never takes longer than a block.
const INTERVAL_MAX: f32 = 64.0;

/// How much more rarely is tried after a miss.
const MISS_LOSS: f32 = 1.25;

/// How much more often is tried after a hit: with x hits among the attempts the interval shrinks when x * ln 3 > (1 - x) * ln 1.25.
const HIT_GAIN: f32 = 3.0;

/// Whether blocks are put by digest.
#[derive(Debug)]
pub(crate) struct Probing {
    offered: bool,
    recent: HashSet<Digest>,
    order: VecDeque<Digest>,
    /// One of so many blocks is tried.
    interval: f32,
    /// Blocks since the last one that was tried.
    passed: f32,
}

/// What came of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    /// There was none.
    None,
    /// The server had the block.
    Hit,
    /// It had not.
    Miss,
    /// It does not let this caller put by digest.
    Refused,
}

impl Probing {
    /// Begins optimistically where the server offers it, never tries where it does not.
    pub(crate) fn new(offered: bool) -> Probing {
        Probing {
            offered,
            recent: HashSet::new(),
            order: VecDeque::new(),
            interval: 1.0,
            passed: 0.0,
        }
    }

    /// Whether blocks can be put by digest at all.
    pub(crate) fn offered(&self) -> bool {
        self.offered
    }

    /// Whether the server is known to hold the block.
    pub(crate) fn knows(&self, digest: Digest) -> bool {
        digest == Digest::ZERO_BLOCK || self.recent.contains(&digest)
    }

    /// Whether to try to put this block by its digest.
    pub(crate) fn tries(&mut self, digest: Digest) -> bool {
        if !self.offered || self.knows(digest) {
            return self.offered;
        }
        self.passed += 1.0;
        let now = self.passed >= self.interval;
        if now {
            // What is left over counts for the next: attempts do not fall into step with the data.
            self.passed -= self.interval;
        }
        now
    }

    /// Notes that a block was put, and what came of trying by digest.
    pub(crate) fn note(&mut self, digest: Digest, probe: Probe) {
        let foretold = self.knows(digest);
        match probe {
            Probe::None => {}
            Probe::Refused => self.offered = false,
            Probe::Hit | Probe::Miss if foretold => {}
            Probe::Hit => self.interval = (self.interval / HIT_GAIN).max(1.0),
            Probe::Miss => self.interval = (self.interval * MISS_LOSS).min(INTERVAL_MAX),
        }
        if self.offered && !foretold && self.recent.insert(digest) {
            self.order.push_back(digest);
            if self.order.len() > RECENT_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.recent.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(value: u32) -> Digest {
        Digest::of(&value.to_le_bytes())
    }

    /// Puts distinct blocks of which one in `period` is there; answers how many were tried.
    fn tried(blocks: u32, period: u32) -> u32 {
        let mut probing = Probing::new(true);
        let mut count = 0;
        for block in 0..blocks {
            let there = period > 0 && block % period == 0;
            let probe = match (probing.tries(digest(block)), there) {
                (false, _) => Probe::None,
                (true, true) => Probe::Hit,
                (true, false) => Probe::Miss,
            };
            count += u32::from(probe != Probe::None);
            probing.note(digest(block), probe);
        }
        count
    }

    #[test]
    fn what_is_never_offered_or_refused_is_not_tried() {
        let mut probing = Probing::new(false);
        assert!(!probing.tries(Digest::ZERO_BLOCK) && !probing.tries(digest(1)));
        let mut probing = Probing::new(true);
        assert!(probing.tries(digest(1)));
        probing.note(digest(1), Probe::Refused);
        assert!(!probing.tries(digest(1)) && !probing.tries(Digest::ZERO_BLOCK));
    }

    #[test]
    fn a_hopeless_case_costs_little_and_a_good_one_is_taken() {
        assert_eq!(tried(2_000, 1), 2_000);
        assert!(tried(20_000, 0) < 20_000 / 50);
        assert!(tried(20_000, 2) > 15_000);
        assert!(tried(20_000, 4) > 8_000);
    }

    #[test]
    fn zeros_and_what_was_put_lately_are_always_tried() {
        let mut probing = Probing::new(true);
        let count = RECENT_MAX as u32 + 100;
        for block in 0..count {
            let probe = match probing.tries(digest(block)) {
                true => Probe::Miss,
                false => Probe::None,
            };
            probing.note(digest(block), probe);
        }
        assert!(probing.tries(Digest::ZERO_BLOCK));
        assert!((100..count).all(|block| probing.tries(digest(block))));
        assert!(!probing.knows(digest(99)));
        assert_eq!(probing.order.len(), RECENT_MAX);
    }
}
