//! What one cell (a block of a pending snapshot, a tag) may hold, given the writes to it and what became known of them.
//!
//! A write that was acknowledged has happened between its call and its answer. One that was not may have happened at any time from
//! its call until its end: the answer that said "unknown", or the end of the life that it was called in. So the possible values
//! are those of all writes, and of the beginning, that no acknowledged write came strictly after.

use std::collections::BTreeSet;

/// A point in the order of calls and answers.
pub type Tick = u64;

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It was acknowledged.
    Done,
    /// It may or may not have happened, and will not happen any more.
    Unknown,
    /// It was refused.
    NotDone,
    /// Its caller went away: it may still happen until the life ends.
    LeftAlone,
}

/// A cell.
#[derive(Clone, Debug)]
pub struct Register<V> {
    writes: Vec<Write<V>>,
    begun: u64,
}

#[derive(Clone, Debug)]
struct Write<V> {
    number: u64,
    /// Nothing for a deletion.
    value: Option<V>,
    from: Tick,
    /// `None` while it may still happen.
    to: Option<Tick>,
    certain: bool,
}

impl<V> Default for Register<V> {
    fn default() -> Self {
        Register {
            writes: Vec::new(),
            begun: 0,
        }
    }
}

impl<V: Ord + Clone> Register<V> {
    /// A write is called; answers its number.
    pub fn begin(&mut self, value: Option<V>, now: Tick) -> u64 {
        self.begun += 1;
        self.writes.push(Write {
            number: self.begun,
            value,
            from: now,
            to: None,
            certain: false,
        });
        self.begun
    }

    /// The write with this number has ended.
    pub fn end(&mut self, number: u64, ending: Ending, now: Tick) {
        if ending == Ending::NotDone {
            self.writes.retain(|write| write.number != number);
        }
        for write in self
            .writes
            .iter_mut()
            .filter(|write| write.number == number)
        {
            match ending {
                Ending::Done => (write.to, write.certain) = (Some(now), true),
                Ending::Unknown => write.to = Some(now),
                Ending::LeftAlone | Ending::NotDone => {}
            }
        }
        self.forget();
    }

    /// The life has ended: nothing called before happens any more.
    pub fn life_ended(&mut self, now: Tick) {
        for write in &mut self.writes {
            write.to.get_or_insert(now);
        }
        self.forget();
    }

    /// Whether a write may still happen.
    pub fn is_moving(&self) -> bool {
        self.writes.iter().any(|write| write.to.is_none())
    }

    /// What it may hold; `None` for nothing.
    pub fn possible(&self) -> BTreeSet<Option<V>> {
        let mut possible: BTreeSet<_> = self
            .writes
            .iter()
            .map(|write| write.value.clone())
            .collect();
        if !self.writes.iter().any(|write| write.certain) {
            possible.insert(None);
        }
        possible
    }

    /// The only possible value, if there is only one.
    pub fn certain(&self) -> Option<Option<V>> {
        let mut possible = self.possible().into_iter();
        possible.next().filter(|_| possible.next().is_none())
    }

    /// It was looked at while nothing was moving: this is what it holds.
    pub fn pin(&mut self, value: Option<V>, now: Tick) {
        let number = self.begin(value, now);
        self.end(number, Ending::Done, now);
        self.writes.retain(|write| write.number == number);
    }

    /// Drops what an acknowledged write came strictly after.
    fn forget(&mut self) {
        let last = self
            .writes
            .iter()
            .filter(|write| write.certain)
            .map(|write| write.from)
            .max();
        let Some(last) = last else { return };
        self.writes
            .retain(|write| write.to.is_none_or(|to| to >= last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn possible(register: &Register<u32>) -> Vec<Option<u32>> {
        register.possible().into_iter().collect()
    }

    #[test]
    fn an_acknowledged_write_is_what_there_is() {
        let mut register = Register::default();
        assert_eq!(possible(&register), [None]);
        let write = register.begin(Some(1), 1);
        assert_eq!(possible(&register), [None, Some(1)]);
        register.end(write, Ending::Done, 2);
        assert_eq!(possible(&register), [Some(1)]);
        let write = register.begin(Some(2), 3);
        register.end(write, Ending::NotDone, 4);
        assert_eq!(possible(&register), [Some(1)]);
    }

    #[test]
    fn writes_side_by_side_leave_both() {
        let mut register = Register::default();
        let (one, two) = (register.begin(Some(1), 1), register.begin(Some(2), 2));
        register.end(one, Ending::Done, 3);
        register.end(two, Ending::Done, 4);
        assert_eq!(possible(&register), [Some(1), Some(2)]);
        let three = register.begin(None, 5);
        register.end(three, Ending::Done, 6);
        assert_eq!(possible(&register), [None]);
    }

    #[test]
    fn a_write_left_alone_may_come_later_but_not_after_the_life() {
        let mut register = Register::default();
        let left = register.begin(Some(1), 1);
        register.end(left, Ending::LeftAlone, 2);
        let next = register.begin(Some(2), 3);
        register.end(next, Ending::Done, 4);
        assert!(register.is_moving());
        assert_eq!(possible(&register), [Some(1), Some(2)]);
        register.life_ended(5);
        let last = register.begin(Some(3), 6);
        register.end(last, Ending::Done, 7);
        assert_eq!(possible(&register), [Some(3)]);
    }

    #[test]
    fn an_unknown_write_stays_until_something_comes_after_it() {
        let mut register = Register::default();
        let unknown = register.begin(Some(1), 1);
        register.end(unknown, Ending::Unknown, 2);
        assert_eq!(possible(&register), [None, Some(1)]);
        register.pin(None, 3);
        assert_eq!(possible(&register), [None]);
    }
}
