//! What the limit is, from how requests end. Knows no waiting and no tasks, only times that it is told.
//!
//! Requests are counted in windows: enough of them, all begun since the limit last changed, over enough time. A window in which callers did not
//! use the limit says nothing of it.
//!
//! ```text
//! Climb     doubles while each doubling brings [`CLIMB_GAIN`] more           -> Hold at the last that did
//! Hold      measures; after a while tries a little more, next time less      -> Probe
//! Probe     keeps more if it brings more, less if it loses nothing           -> Hold, for longer each time nothing was won
//! Recover   after the server, or the way to it, had too much: from half,
//!           a little more each window, up to where that was                  -> Hold
//! ```

use std::time::Duration;
use tokio::time::Instant;

/// Where to begin: what a server on this machine can use.
const START: usize = 8;

/// Requests of a window, for each place and at least.
const WINDOW_PER_PLACE: usize = 4;
const WINDOW_REQUESTS_MIN: usize = 32;

/// The shortest window: on fast lines a few milliseconds would measure noise.
const WINDOW_TIME_MIN: Duration = Duration::from_millis(250);

/// What a doubling must bring.
const CLIMB_GAIN: f64 = 1.2;

/// What a quarter more must bring.
const PROBE_GAIN: f64 = 1.07;

/// What a fifth less may lose.
const PROBE_LOSS: f64 = 0.98;

/// Windows between probes, at first and at most.
const HOLD_MIN: u32 = 4;
const HOLD_MAX: u32 = 64;

/// How a request ended, as far as its load on the server goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// The server, or the way to it, has too much to do.
    Overload,
    /// Something else; it says nothing of the load.
    Other,
}

/// When a request was let go: which change of the limit was the last then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Round(u64);

/// The limit.
#[derive(Debug)]
pub(super) struct Limit {
    max: usize,
    limit: usize,
    round: Round,
    /// Requests of rounds before this one were let go before the limit was halved: that they were too many is known.
    halved: Round,
    phase: Phase,
    /// Windows to hold after the next probe that wins nothing.
    hold: u32,
    /// Whether the next probe goes up.
    up_next: bool,
    window: Window,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Climb {
        before: Option<(usize, f64)>,
    },
    Hold {
        windows_left: u32,
    },
    Probe {
        limit_before: usize,
        rate_before: f64,
    },
    Recover {
        ceiling: usize,
    },
}

#[derive(Debug)]
struct Window {
    /// The end of the first request of the round; from then on requests are counted.
    begun: Option<Instant>,
    done: usize,
    full: usize,
}

impl Window {
    const EMPTY: Window = Window {
        begun: None,
        done: 0,
        full: 0,
    };
}

impl Limit {
    /// Never above `max`.
    pub(super) fn new(max: usize) -> Limit {
        let max = max.max(1);
        Limit {
            max,
            limit: START.min(max),
            round: Round(0),
            halved: Round(0),
            phase: Phase::Climb { before: None },
            hold: HOLD_MIN,
            up_next: true,
            window: Window::EMPTY,
        }
    }

    /// Most requests on the way now.
    pub(super) fn get(&self) -> usize {
        self.limit
    }

    /// What a request that is let go now is told by, when it ends.
    pub(super) fn round(&self) -> Round {
        self.round
    }

    /// A request of a round has ended; `was_full` says whether as many were on the way as may be.
    pub(super) fn ended(&mut self, outcome: Outcome, round: Round, was_full: bool, now: Instant) {
        match outcome {
            Outcome::Overload if round >= self.halved => self.halve(),
            Outcome::Overload | Outcome::Other => {}
            Outcome::Done if round == self.round => self.count(was_full, now),
            Outcome::Done => {}
        }
    }

    fn halve(&mut self) {
        let ceiling = match self.phase {
            Phase::Probe { limit_before, .. } => limit_before,
            Phase::Recover { ceiling } => ceiling.min(self.limit),
            Phase::Climb { .. } | Phase::Hold { .. } => self.limit,
        };
        self.phase = Phase::Recover { ceiling };
        self.set((self.limit / 2).max(1));
        self.halved = self.round;
    }

    fn count(&mut self, was_full: bool, now: Instant) {
        let Some(begun) = self.window.begun else {
            self.window.begun = Some(now);
            return;
        };
        self.window.done += 1;
        self.window.full += usize::from(was_full);
        let took = now.duration_since(begun);
        let enough = WINDOW_REQUESTS_MIN.max(WINDOW_PER_PLACE * self.limit);
        if self.window.done < enough || took < WINDOW_TIME_MIN {
            return;
        }
        let rate = self.window.done as f64 / took.as_secs_f64();
        let was_used = self.window.full * 2 >= self.window.done;
        self.window = Window::EMPTY;
        if was_used {
            self.measured(rate);
        }
    }

    fn measured(&mut self, rate: f64) {
        match self.phase {
            Phase::Climb {
                before: Some((limit, rate_before)),
            } if rate < rate_before * CLIMB_GAIN => {
                self.set(limit);
                self.hold();
            }
            Phase::Climb { .. } if self.limit == self.max => self.hold(),
            Phase::Climb { .. } => {
                let before = Some((self.limit, rate));
                self.phase = Phase::Climb { before };
                self.set((self.limit * 2).min(self.max));
            }
            Phase::Hold { windows_left: 0 } => self.probe(rate),
            Phase::Hold { windows_left } => {
                let windows_left = windows_left - 1;
                self.phase = Phase::Hold { windows_left };
            }
            Phase::Probe {
                limit_before,
                rate_before,
            } => self.probed(rate, limit_before, rate_before),
            Phase::Recover { ceiling } if self.limit >= ceiling => self.hold(),
            Phase::Recover { ceiling } => {
                self.set((self.limit + (self.limit / 8).max(1)).min(ceiling));
            }
        }
    }

    fn probe(&mut self, rate: f64) {
        let up = self.up_next;
        self.up_next = !up;
        let limit = match up {
            true => (self.limit + (self.limit / 4).max(1)).min(self.max),
            false => self.limit - (self.limit / 5).max(1).min(self.limit - 1),
        };
        if limit == self.limit {
            self.hold();
            return;
        }
        self.phase = Phase::Probe {
            limit_before: self.limit,
            rate_before: rate,
        };
        self.set(limit);
    }

    fn probed(&mut self, rate: f64, limit_before: usize, rate_before: f64) {
        let up = self.limit > limit_before;
        let needed = if up { PROBE_GAIN } else { PROBE_LOSS };
        if rate >= rate_before * needed {
            // More of the same, soon.
            self.up_next = up;
            self.hold = HOLD_MIN;
        } else {
            self.set(limit_before);
            self.hold = (self.hold * 2).min(HOLD_MAX);
        }
        self.hold();
    }

    fn hold(&mut self) {
        self.phase = Phase::Hold {
            windows_left: self.hold,
        };
        self.window = Window::EMPTY;
    }

    fn set(&mut self, limit: usize) {
        self.limit = limit;
        self.round = Round(self.round.0 + 1);
        self.window = Window::EMPTY;
    }
}

#[cfg(test)]
mod tests;
