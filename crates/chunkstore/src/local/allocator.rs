//! Gives batches their places, and has segments ready before they are needed.
//!
//! There is one open segment for blocks and one for pages. When three quarters of it are used, the keeper prepares the
//! next one in the background, so that no batch waits for a file to be created; the first segment of each kind
//! is created when the first batch wants it.
//!
//! Invariants
//! - A place is given out once; a segment that failed gives out no more.
//! - A segment is recorded as open in the registry before its first place is given out.

use super::keeper::{Keeper, Task};
use super::segment::{Next, Segment};
use crate::{ContainerKind, Error};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The place of one batch. Whoever holds it owes [`Segment::finish`].
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
}

/// The open segments.
pub(crate) struct Allocator {
    blocks: Lane,
    pages: Lane,
    keeper: KeeperSeat,
}

/// Where the keeper works.
pub(crate) enum KeeperSeat {
    /// On a thread of its own, which takes its tasks from here.
    Thread(Mutex<Sender<Task>>),
    /// On the thread of whoever asks, while it waits.
    Caller(Keeper),
}

#[derive(Debug, Default)]
struct Lane {
    state: Mutex<LaneState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LaneState {
    current: Option<Arc<Segment>>,
    spare: Spare,
}

/// The segment after the current one.
#[derive(Debug, Default)]
enum Spare {
    #[default]
    None,
    Preparing,
    Ready(Arc<Segment>),
    Failed(Error),
}

impl Allocator {
    pub(crate) fn new(keeper: KeeperSeat) -> Allocator {
        Allocator {
            blocks: Lane::default(),
            pages: Lane::default(),
            keeper,
        }
    }

    /// A place for a batch of this many bytes, which must fit into the smallest segment. Blocks while a segment is
    /// being prepared.
    ///
    /// # Errors
    /// Why no segment could be created just now; the next call tries again.
    pub(crate) fn place(&self, kind: ContainerKind, bytes: u64) -> Result<Placement, Error> {
        let lane = self.lane(kind);
        let mut state = lane.state();
        let mut asked = false;
        loop {
            if let Some(segment) = state.current.take() {
                if let Some(offset) = segment.place(bytes) {
                    let left = segment.allocated_bytes - (offset + bytes);
                    if left < segment.allocated_bytes / 4 && matches!(state.spare, Spare::None) {
                        self.prepare(&mut state, kind)?;
                    }
                    state.current = Some(Arc::clone(&segment));
                    return Ok(Placement { segment, offset });
                }
                let next = segment.retire();
                self.after(&segment, next);
            }
            match std::mem::take(&mut state.spare) {
                Spare::Ready(segment) => state.current = Some(segment),
                Spare::None => {
                    self.prepare(&mut state, kind)?;
                    asked = true;
                }
                Spare::Failed(error) if asked => return Err(error),
                // It failed in the background, perhaps long ago.
                Spare::Failed(_) => {}
                Spare::Preparing => {
                    state.spare = Spare::Preparing;
                    state = lane
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Takes note of what the keeper has prepared.
    pub(crate) fn prepared(&self, kind: ContainerKind, outcome: Result<Arc<Segment>, Error>) {
        let lane = self.lane(kind);
        lane.state().spare = Spare::of(outcome);
        lane.changed.notify_all();
    }

    /// Does what follows from a batch or a segment that is done.
    pub(crate) fn after(&self, segment: &Arc<Segment>, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Seal => match &self.keeper {
                // Without a keeper the store is closing, and the segment is recovered at the next start.
                KeeperSeat::Thread(tasks) => drop(send(tasks, Task::Seal(Arc::clone(segment)))),
                KeeperSeat::Caller(keeper) => keeper.seal(segment),
            },
        }
    }

    fn prepare(&self, state: &mut LaneState, kind: ContainerKind) -> Result<(), Error> {
        state.spare = match &self.keeper {
            KeeperSeat::Thread(tasks) => {
                send(tasks, Task::Prepare(kind))?;
                Spare::Preparing
            }
            KeeperSeat::Caller(keeper) => Spare::of(keeper.prepare(kind)),
        };
        Ok(())
    }

    fn lane(&self, kind: ContainerKind) -> &Lane {
        match kind {
            ContainerKind::Blocks => &self.blocks,
            ContainerKind::Pages => &self.pages,
        }
    }
}

impl Spare {
    fn of(outcome: Result<Arc<Segment>, Error>) -> Spare {
        match outcome {
            Ok(segment) => Spare::Ready(segment),
            Err(error) => Spare::Failed(error),
        }
    }
}

fn send(tasks: &Mutex<Sender<Task>>, task: Task) -> Result<(), Error> {
    let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    tasks.send(task).map_err(|_| Error::Closed {
        reason: "its keeper has ended".to_owned(),
    })
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
