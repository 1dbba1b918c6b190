//! What has to be done about one block.
//!
//! What the new snapshot holds for a block is what was put to it, else what its parent holds, else zeros. Only a block of which
//! that is not what the source holds is put.

use crate::Counter;
use types::Digest;

/// What earlier attempts put to the new snapshot for one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Own {
    /// Nothing.
    Nothing,
    /// This, acknowledged.
    Known(Digest),
    /// Something was sent, and whether it arrived is not known.
    Unknown,
}

/// What has to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Put it.
    Put,
    /// Nothing: an earlier attempt put it, so that it counts among the blocks put.
    Stands,
    /// Nothing: the parent holds the same.
    Inherited,
    /// Nothing: zeros, where nothing or zeros are.
    Zero,
}

impl Verdict {
    /// As what the block is counted when nothing is put.
    pub(super) fn counter(self) -> Counter {
        match self {
            Verdict::Zero => Counter::Zero,
            Verdict::Put | Verdict::Stands | Verdict::Inherited => Counter::Same,
        }
    }
}

/// Decides for a block that the source wants to be `wanted`, and of which the parent lists `parent`.
pub(super) fn decide(wanted: Digest, parent: Option<Digest>, own: Own) -> Verdict {
    match own {
        Own::Known(own) if own == wanted => return Verdict::Stands,
        Own::Known(_) | Own::Unknown => return Verdict::Put,
        Own::Nothing => {}
    }
    if wanted != parent.unwrap_or(Digest::ZERO_BLOCK) {
        Verdict::Put
    } else if wanted == Digest::ZERO_BLOCK {
        Verdict::Zero
    } else {
        Verdict::Inherited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case() {
        let a = Digest::of(b"a");
        let b = Digest::of(b"b");
        let zero = Digest::ZERO_BLOCK;
        let check = |wanted, parent, own, verdict| {
            assert_eq!(
                decide(wanted, parent, own),
                verdict,
                "{wanted} over {parent:?}, {own:?}"
            );
        };
        check(a, None, Own::Nothing, Verdict::Put);
        check(a, Some(a), Own::Nothing, Verdict::Inherited);
        check(a, Some(b), Own::Nothing, Verdict::Put);
        check(a, Some(zero), Own::Nothing, Verdict::Put);
        check(zero, None, Own::Nothing, Verdict::Zero);
        check(zero, Some(zero), Own::Nothing, Verdict::Zero);
        check(zero, Some(a), Own::Nothing, Verdict::Put);
        for parent in [None, Some(a), Some(b), Some(zero)] {
            check(a, parent, Own::Known(a), Verdict::Stands);
            check(a, parent, Own::Known(b), Verdict::Put);
            check(a, parent, Own::Unknown, Verdict::Put);
            check(zero, parent, Own::Known(zero), Verdict::Stands);
            check(zero, parent, Own::Known(a), Verdict::Put);
            check(zero, parent, Own::Unknown, Verdict::Put);
        }
    }
}
