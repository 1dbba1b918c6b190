//! A file system in memory that fails as told: for the tests of this crate and of those above it.
//!
//! The fault model
//! - What was not synced when the power is cut is kept or lost by 4 KiB sectors, each for itself; names by the
//!   directory's sync; a file's length by its own.
//! - A failed write has written a part of its bytes.
//! - A failed sync has made nothing durable, and later syncs do not try again; every handle that was open is told of the
//!   failure once. So it is on Linux, where pages are marked clean all the same.
//! - Reading errors and a full device come when they are asked for, or by chance ([`Chaos`]): the same in every run with the same
//!   seed and order of calls.
//!
//! Every call that changes something is a step, and steps are counted: run an operation once to learn their number,
//! then again for each step with the power cut there. What else hangs on the same power (a catalog in memory) counts its own
//! with [`FaultyIo::step_elsewhere`].

mod chaos;
mod disk;
mod files;

pub use chaos::Chaos;

use crate::{ContainerId, ContainerKind, layout};
use disk::{Disk, SECTOR};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use types::Random;

/// A call that can fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "each is the method of that name")]
pub enum Call {
    Create,
    Open,
    Write,
    Sync,
    Punch,
    Truncate,
    Remove,
    SyncDir,
    Read,
}

/// What the power does in a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    /// It is on.
    On,
    /// It is cut in the middle of this step: it happened, or it did not.
    CutNow,
    /// It was cut before.
    Off,
}

/// The faulty file system; clones share it.
#[derive(Clone)]
pub struct FaultyIo {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    disk: Disk,
    capacity_bytes: u64,
    steps: u64,
    cut_at: Option<u64>,
    power_is_off: bool,
    counts: BTreeMap<Call, u64>,
    /// For each call: how many still succeed, and the error of those that follow.
    faults: BTreeMap<Call, Fault>,
    chaos: Option<Chaos>,
    holding_syncs: bool,
    held_syncs: usize,
}

#[derive(Clone, Copy)]
struct Fault {
    after: u64,
    times: u64,
    error: io::ErrorKind,
}

impl FaultyIo {
    /// An empty file system of this size that does not fail yet.
    pub fn new(capacity_bytes: u64) -> FaultyIo {
        FaultyIo::of(Disk::default(), capacity_bytes)
    }

    fn of(disk: Disk, capacity_bytes: u64) -> FaultyIo {
        let state = State {
            disk,
            capacity_bytes,
            steps: 0,
            cut_at: None,
            power_is_off: false,
            counts: BTreeMap::new(),
            faults: BTreeMap::new(),
            chaos: None,
            holding_syncs: false,
            held_syncs: 0,
        };
        FaultyIo {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
        }
    }

    /// Steps so far: calls that change something.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// How often this was called so far.
    pub fn count(&self, call: Call) -> u64 {
        self.state().counts.get(&call).copied().unwrap_or(0)
    }

    /// Takes a step of something else on this machine: what it does now has to be durable when it is done.
    pub fn step_elsewhere(&self) -> Power {
        let mut state = self.state();
        if state.power_is_off {
            return Power::Off;
        }
        state.steps += 1;
        state.power_is_off = state.cut_at.is_some_and(|step| state.steps >= step);
        if state.power_is_off {
            Power::CutNow
        } else {
            Power::On
        }
    }

    /// Whether the power was cut.
    pub fn power_is_off(&self) -> bool {
        self.state().power_is_off
    }

    /// Lets calls fail by chance from now on, or no more.
    pub fn set_chaos(&self, chaos: Option<Chaos>) {
        self.state().chaos = chaos;
    }

    /// Cuts the power in the middle of step number `step` (the first is 1): it and all later calls fail.
    pub fn cut_power_at(&self, step: u64) {
        self.state().cut_at = Some(step);
    }

    /// The machine after the power is back. The old handle stays dead; what was not synced is kept or lost by `seed`.
    pub fn reboot(&self, seed: u64) -> FaultyIo {
        let random = Random::seeded(seed);
        let (mut bits, mut left) = (0, 0);
        self.reboot_keeping(|| {
            if left == 0 {
                (bits, left) = (random.bits(), u64::BITS);
            }
            left -= 1;
            bits >> left & 1 == 1
        })
    }

    /// The same, with `keeps` asked for each sector, length and name that was not synced.
    pub fn reboot_keeping(&self, keeps: impl FnMut() -> bool) -> FaultyIo {
        let mut state = self.state();
        state.power_is_off = true;
        state.holding_syncs = false;
        self.shared.changed.notify_all();
        FaultyIo::of(state.disk.after_power_cut(keeps), state.capacity_bytes)
    }

    /// Lets `after` more of these calls succeed and then fails `times` of them.
    pub fn fail(&self, call: Call, after: u64, times: u64, error: io::ErrorKind) {
        self.state().faults.insert(
            call,
            Fault {
                after,
                times,
                error,
            },
        );
    }

    /// Sets the size of the file system.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Lets every sync wait from now on.
    pub fn hold_syncs(&self) {
        self.state().holding_syncs = true;
    }

    /// Blocks until this many syncs wait.
    pub fn wait_for_held_syncs(&self, count: usize) {
        let mut state = self.state();
        while state.held_syncs < count {
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets syncs go on.
    pub fn release_syncs(&self) {
        self.state().holding_syncs = false;
        self.shared.changed.notify_all();
    }

    /// Bytes that a segment takes on the medium; 0 when there is none.
    pub fn used_bytes_of(&self, segment: ContainerId, kind: ContainerKind) -> u64 {
        let mut state = self.state();
        match state.disk.number(&layout::segment_name(segment, kind)) {
            Some(number) => state.disk.file(number).used_bytes(),
            None => 0,
        }
    }

    /// Bytes of a file, as many as there are.
    pub fn bytes_of(&self, name: &str, offset: u64, bytes: usize) -> Vec<u8> {
        let mut state = self.state();
        let mut content = Vec::new();
        if let Some(number) = state.disk.number(name) {
            state.disk.file(number).read(&mut content, bytes, offset);
        }
        content
    }

    /// Changes a file behind the store's back, durably; `offset` is a multiple of 4 KiB. Makes the file if need be.
    pub fn overwrite(&self, name: &str, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        let number = state
            .disk
            .number(name)
            .or_else(|| state.disk.create(name, 0));
        if let Some(number) = number {
            state.disk.file(number).write(offset, bytes);
            state.disk.file(number).sync();
            state.disk.sync_names();
        }
    }

    /// Flips one bit of a file, durably.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        let sector = offset / SECTOR as u64 * SECTOR as u64;
        let mut content = self.bytes_of(name, sector, SECTOR);
        content[(offset - sector) as usize] ^= 1 << bit;
        self.overwrite(name, sector, &content);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call that changes something. `act` is told whether it is to go wrong half-way; it may then do what such a
    /// call does.
    fn step<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut State, Option<io::Error>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        state.check_power()?;
        state.steps += 1;
        if state.cut_at.is_some_and(|step| state.steps >= step) {
            state.power_is_off = true;
            let _ = act(&mut state, Some(power_is_off()));
            return Err(power_is_off());
        }
        let fault = state.fault(call);
        act(&mut state, fault)
    }
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        if self.power_is_off {
            Err(power_is_off())
        } else {
            Ok(())
        }
    }

    /// Counts the call; the error that it is to end with.
    fn fault(&mut self, call: Call) -> Option<io::Error> {
        *self.counts.entry(call).or_default() += 1;
        self.told_fault(call)
            .or_else(|| self.chaos.as_ref()?.fault(call))
    }

    fn told_fault(&mut self, call: Call) -> Option<io::Error> {
        let fault = self.faults.get_mut(&call)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times = fault.times.checked_sub(1)?;
        Some(fault.error.into())
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.disk.used_bytes())
    }

    fn number(&self, name: &str) -> io::Result<u64> {
        self.disk
            .number(name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
