//! Steps, taken apart into what is done at once.

use super::plan::{BlockStep, Step};
use crate::source::Extent;
use std::collections::VecDeque;
use types::BlockIndex;

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    /// These become zeros.
    Zeros(Extent),
    /// Nobody knows what these are.
    Unlisted(Extent),
    /// The snapshot does not have this, and here there is data.
    Check(BlockIndex),
    /// The snapshot has this.
    Block(BlockStep),
}

/// What comes next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// This is to be done.
    Unit(Unit),
    /// Nothing is to be done for so many blocks.
    Holes(u32),
}

/// Steps that wait.
#[derive(Debug, Default)]
pub(crate) struct Units(VecDeque<Step>);

impl Units {
    /// Adds steps.
    pub(crate) fn extend(&mut self, steps: Vec<Step>) {
        self.0.extend(steps);
    }

    /// Takes what comes next.
    pub(crate) fn next(&mut self) -> Option<Next> {
        let unit = match self.0.pop_front()? {
            Step::Holes(extent) => return Some(Next::Holes(extent.count)),
            Step::Zeros(extent) => Unit::Zeros(extent),
            Step::Unlisted(extent) => Unit::Unlisted(extent),
            Step::Block(BlockStep { block, keep }) => Unit::Block(BlockStep { block, keep }),
            Step::Check(extent) => {
                let rest = Extent {
                    start: extent.start + 1,
                    count: extent.count - 1,
                };
                if rest.count > 0 {
                    self.0.push_front(Step::Check(rest));
                }
                Unit::Check(BlockIndex::new(extent.start)?)
            }
        };
        Some(Next::Unit(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_to_check_come_block_by_block() {
        let mut units = Units::default();
        let run = |start, count| Extent { start, count };
        units.extend(vec![Step::Check(run(3, 2)), Step::Holes(run(5, 9))]);
        let check = |index| Some(Next::Unit(Unit::Check(BlockIndex::new(index)?)));
        assert_eq!(units.next(), check(3));
        assert_eq!(units.next(), check(4));
        assert_eq!(units.next(), Some(Next::Holes(9)));
        assert_eq!(units.next(), None);
    }
}
