//! What happened, line by line: the last lines for people, a hash of all for the proof that a seed repeats.

use std::cell::RefCell;
use std::collections::VecDeque;

/// Lines kept for a failure's report.
const KEPT: usize = 60;

/// The story so far.
#[derive(Debug)]
pub struct History(RefCell<State>);

#[derive(Debug)]
struct State {
    hash: u64,
    lines: u64,
    last: VecDeque<String>,
    aloud: bool,
}

impl History {
    /// An empty one; `aloud` prints each line as it comes.
    pub fn new(aloud: bool) -> History {
        History(RefCell::new(State {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            last: VecDeque::new(),
            aloud,
        }))
    }

    /// Adds a line.
    pub fn note(&self, line: String) {
        let mut state = self.0.borrow_mut();
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        state.lines += 1;
        if state.aloud {
            eprintln!("{line}");
        }
        if state.last.len() == KEPT {
            state.last.pop_front();
        }
        state.last.push_back(line);
    }

    /// A hash (FNV-1a) of all lines.
    pub fn hash(&self) -> u64 {
        self.0.borrow().hash
    }

    /// The last lines.
    pub fn last(&self) -> Vec<String> {
        self.0.borrow().last.iter().cloned().collect()
    }
}
