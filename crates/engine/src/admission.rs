//! Admits callers to a bounded resource: memory for data on its way in, or on its way out.
//!
//! Policy
//! - The resource has units; a caller takes some, waits for them, or is refused. A refused caller is to come again later.
//! - No key holds more than its share of the units, nor more than its share of the line.
//! - While somebody has waited for longer than `pressure`, transfers are judged once in that time, however many wait. Of those that
//!   were too slow `judgements` times in a row all that stood still are cut, else the slowest alone. Who waits for its own key's
//!   share has only that key's transfers judged.
//!
//! Invariants
//! - Units that are out never exceed the total, those of one key never its share.
//! - At most `waiting` callers wait, each for at most `wait`; who waits is served in order.
//! - Only a transfer in motion is cut, never work that has all of its data.
//!
//! Safety
//! - A process that stood still finds every transfer slow. That is why it takes several judgements in a row, `pressure` apart:
//!   what moves again in between is not cut.
//!
//! The resource knows no protocol: whoever moves the bytes reports them to the [`Transfer`], and gives it up when told.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use types::Clock;

/// Bytes per second below which a transfer counts as slow while others wait. A block then takes 8 s; whoever is slower over a
/// thin line is only cut while somebody else has no place at all, and then one at a time.
const SLOW_RATE: u64 = 64 * 1024;

/// The part of units and line that one key may have: three quarters, so that others always find some.
const SHARE: (usize, usize) = (3, 4);

/// The bounds of a resource.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// All units.
    pub units: u32,
    /// Units that one key may hold; at least 1, at most `units`.
    pub share: u32,
    /// Callers in line.
    pub waiting: usize,
    /// Callers of one key in line.
    pub waiting_share: usize,
    /// Longest time in line.
    pub wait: Duration,
    /// Time in line after which slow transfers are judged, and between two judgements.
    pub pressure: Duration,
    /// Judgements in a row after which a slow transfer may be cut; more than one.
    pub judgements: u32,
}

impl AdmissionLimits {
    /// Longest time in line. SDKs give a request 60 s; one that found no place in 10 does better to come again, when others, which
    /// wait as long, may have gone.
    pub const WAIT: Duration = Duration::from_secs(10);

    /// Time in line after which slow clients are looked for. Honest transfers take milliseconds.
    pub const PRESSURE: Duration = Duration::from_secs(1);

    /// Enough where a client that is cut hears that it is to come again, as SDKs then do.
    pub const JUDGEMENTS: u32 = 2;

    /// The usual bounds of `units` units with a line of `waiting` callers.
    pub fn fair(units: usize, waiting: usize) -> AdmissionLimits {
        let share = |of: usize| (of * SHARE.0 / SHARE.1).max(1);
        let whole = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        AdmissionLimits {
            units: whole(units),
            share: whole(share(units)),
            waiting,
            waiting_share: share(waiting),
            wait: AdmissionLimits::WAIT,
            pressure: AdmissionLimits::PRESSURE,
            judgements: AdmissionLimits::JUDGEMENTS,
        }
    }
}

/// Why a caller was not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The line was full.
    LineFull,
    /// Nothing came free in time.
    TooLate,
}

/// What an [`Admission`] has done, and what it holds now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AdmissionCounts {
    /// Callers admitted, at once or from the line.
    pub admitted: u64,
    /// Of these, callers that had to wait.
    pub waited: u64,
    /// Callers refused because the line was full.
    pub refused_line_full: u64,
    /// Callers refused because nothing came free in time.
    pub refused_too_late: u64,
    /// Transfers cut because they stood still.
    pub cut_silent: u64,
    /// Transfers cut because they were the slowest.
    pub cut_slowest: u64,
    /// Callers in line now.
    pub waiting: u64,
    /// Units that are out now.
    pub in_use: u64,
}

/// A bounded resource; clones share it.
#[derive(Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

struct Shared {
    limits: AdmissionLimits,
    clock: Arc<dyn Clock>,
    free: Arc<Semaphore>,
    state: Mutex<State>,
    admitted: AtomicU64,
    waited: AtomicU64,
    line_full: AtomicU64,
    too_late: AtomicU64,
    cut_silent: AtomicU64,
    cut_slowest: AtomicU64,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Box<str>, Lane>,
    next_lane: u64,
    transfers: HashMap<u64, Arc<Transfer>>,
    next_transfer: u64,
    waiting: usize,
    /// When the transfers of all keys were last judged.
    relieved: Option<Duration>,
}

/// The units of one key, for as long as it has callers.
struct Lane {
    number: u64,
    callers: usize,
    waiting: usize,
    /// When its transfers were last judged for its own callers.
    relieved: Option<Duration>,
    free: Arc<Semaphore>,
}

impl Admission {
    /// A resource with all units free.
    ///
    /// # Panics
    /// When a share is nothing or more than everything.
    pub fn new(limits: AdmissionLimits, clock: Arc<dyn Clock>) -> Admission {
        assert!(
            (1..=limits.units).contains(&limits.share),
            "a share is a part of the units"
        );
        let shared = Shared {
            limits,
            clock,
            free: Arc::new(Semaphore::new(limits.units as usize)),
            state: Mutex::default(),
            admitted: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            line_full: AtomicU64::new(0),
            too_late: AtomicU64::new(0),
            cut_silent: AtomicU64::new(0),
            cut_slowest: AtomicU64::new(0),
        };
        Admission {
            shared: Arc::new(shared),
        }
    }

    /// Units for a caller of this key, at once or when its turn comes; never more than a share, whatever is asked for.
    ///
    /// Dropping the future leaves the line.
    ///
    /// # Errors
    /// [`Refused`], when the caller is to come again later.
    pub async fn admit(&self, key: &str, units: u32) -> Result<Admitted, Refused> {
        let shared = &self.shared;
        let units = units.clamp(1, shared.limits.share);
        let place = Place::enter(shared, key);
        let permits = match place.try_take(units) {
            Some(permits) => permits,
            None => {
                let turn = place.wait(units).await;
                count(match turn {
                    Ok(_) => &shared.waited,
                    Err(Refused::LineFull) => &shared.line_full,
                    Err(Refused::TooLate) => &shared.too_late,
                });
                turn?
            }
        };
        count(&shared.admitted);
        let transfer = Arc::new(Transfer {
            lane: place.lane,
            clock: Arc::clone(&shared.clock),
            motion: Mutex::new(Motion::Still),
            told: Arc::default(),
        });
        let mut state = lock(&shared.state);
        let number = state.next_transfer;
        state.next_transfer += 1;
        state.transfers.insert(number, Arc::clone(&transfer));
        drop(state);
        Ok(Admitted {
            number,
            transfer,
            permits,
            place,
        })
    }

    /// What happened so far.
    pub fn counts(&self) -> AdmissionCounts {
        let shared = &self.shared;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        AdmissionCounts {
            admitted: read(&shared.admitted),
            waited: read(&shared.waited),
            refused_line_full: read(&shared.line_full),
            refused_too_late: read(&shared.too_late),
            cut_silent: read(&shared.cut_silent),
            cut_slowest: read(&shared.cut_slowest),
            waiting: lock(&shared.state).waiting as u64,
            in_use: u64::from(shared.limits.units) - shared.free.available_permits() as u64,
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("limits", &self.shared.limits)
            .field("counts", &self.counts())
            .finish()
    }
}

/// Units of a resource, given back when dropped.
pub struct Admitted {
    number: u64,
    transfer: Arc<Transfer>,
    permits: Permits,
    place: Place,
}

impl Admitted {
    /// Gives back what is over `units`.
    pub fn shrink(&mut self, units: u32) {
        let units = units.max(1) as usize;
        for permit in [&mut self.permits.of_key, &mut self.permits.of_all] {
            drop(permit.split(permit.num_permits().saturating_sub(units)));
        }
    }

    /// What the units are for, to be told of its motion.
    pub fn transfer(&self) -> &Arc<Transfer> {
        &self.transfer
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        lock(&self.place.shared.state)
            .transfers
            .remove(&self.number);
    }
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admitted({} units)", self.permits.of_all.num_permits())
    }
}

struct Permits {
    of_key: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
}

/// Bytes moving between a client and the memory that was admitted for them.
pub struct Transfer {
    lane: u64,
    clock: Arc<dyn Clock>,
    motion: Mutex<Motion>,
    told: Arc<Notify>,
}

enum Motion {
    /// Nothing is to be moved: before the first byte is wanted, or after the last one has come.
    Still,
    Moving {
        moved: u64,
        /// When it was last judged, and what had been moved then.
        judged: (Duration, u64),
        /// Judgements in a row that found it slow.
        slow: u32,
    },
}

impl Transfer {
    /// From now on it is the client's turn.
    pub fn start(&self) {
        *lock(&self.motion) = Motion::Moving {
            moved: 0,
            judged: (self.clock.monotonic(), 0),
            slow: 0,
        };
    }

    /// So many bytes more have moved.
    pub fn moved(&self, bytes: usize) {
        if let Motion::Moving { moved, .. } = &mut *lock(&self.motion) {
            *moved += bytes as u64;
        }
    }

    /// The client has done its part: the transfer is not cut any more.
    pub fn stop(&self) {
        *lock(&self.motion) = Motion::Still;
    }

    /// Comes when the transfer is to be given up, also when that was said before. For one listener.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.told).notified_owned()
    }

    /// Bytes per second since the last judgement, if it is slow and has been so often enough to be cut.
    fn judge(&self, now: Duration, limits: &AdmissionLimits) -> Option<u64> {
        let mut motion = lock(&self.motion);
        let Motion::Moving {
            moved,
            judged: (at, before),
            slow,
        } = &mut *motion
        else {
            return None;
        };
        let elapsed = now.saturating_sub(*at);
        if elapsed < limits.pressure {
            return None;
        }
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let rate = (*moved - *before).saturating_mul(1_000_000) / micros.max(1);
        (*at, *before) = (now, *moved);
        *slow = if rate < SLOW_RATE { *slow + 1 } else { 0 };
        (*slow >= limits.judgements).then_some(rate)
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").finish_non_exhaustive()
    }
}

/// A caller in the lane of its key; the lane goes with its last caller.
struct Place {
    shared: Arc<Shared>,
    key: Box<str>,
    lane: u64,
    free: Arc<Semaphore>,
}

impl Place {
    fn enter(shared: &Arc<Shared>, key: &str) -> Place {
        let mut state = lock(&shared.state);
        let State {
            lanes, next_lane, ..
        } = &mut *state;
        if !lanes.contains_key(key) {
            let lane = Lane {
                number: *next_lane,
                callers: 0,
                waiting: 0,
                relieved: None,
                free: Arc::new(Semaphore::new(shared.limits.share as usize)),
            };
            *next_lane += 1;
            lanes.insert(key.into(), lane);
        }
        let lane = lanes.get_mut(key).expect("it is there by now");
        lane.callers += 1;
        Place {
            shared: Arc::clone(shared),
            key: key.into(),
            lane: lane.number,
            free: Arc::clone(&lane.free),
        }
    }

    fn try_take(&self, units: u32) -> Option<Permits> {
        let of_key = Arc::clone(&self.free).try_acquire_many_owned(units).ok()?;
        let all = Arc::clone(&self.shared.free);
        let of_all = all.try_acquire_many_owned(units).ok()?;
        Some(Permits { of_key, of_all })
    }

    async fn wait(&self, units: u32) -> Result<Permits, Refused> {
        let _waiting = Waiting::join(self)?;
        let never = "a resource never closes its semaphores";
        let turn = async {
            let of_key = Arc::clone(&self.free).acquire_many_owned(units);
            let of_key = self.pressing(Some(&self.key), of_key).await.expect(never);
            let of_all = Arc::clone(&self.shared.free).acquire_many_owned(units);
            let of_all = self.pressing(None, of_all).await.expect(never);
            Permits { of_key, of_all }
        };
        let turn = timeout(self.shared.limits.wait, turn).await;
        turn.map_err(|_| Refused::TooLate)
    }

    /// Waits for a turn, and has slow transfers cut meanwhile: those of one key, or all.
    async fn pressing<T>(&self, key: Option<&str>, turn: impl Future<Output = T>) -> T {
        let mut turn = pin!(turn);
        loop {
            match timeout(self.shared.limits.pressure, &mut turn).await {
                Ok(turn) => return turn,
                Err(_) => self.shared.relieve(key),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        if let Some(lane) = state.lanes.get_mut(&self.key) {
            lane.callers -= 1;
            if lane.callers == 0 {
                state.lanes.remove(&self.key);
            }
        }
    }
}

/// A caller in line, until dropped.
struct Waiting<'a>(&'a Place);

impl Waiting<'_> {
    fn join(place: &Place) -> Result<Waiting<'_>, Refused> {
        let limits = &place.shared.limits;
        let mut state = lock(&place.shared.state);
        let State { lanes, waiting, .. } = &mut *state;
        let lane = lanes
            .get_mut(&place.key)
            .expect("a lane stays while it has callers");
        if *waiting >= limits.waiting || lane.waiting >= limits.waiting_share {
            return Err(Refused::LineFull);
        }
        *waiting += 1;
        lane.waiting += 1;
        Ok(Waiting(place))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.shared.state);
        state.waiting -= 1;
        if let Some(lane) = state.lanes.get_mut(&self.0.key) {
            lane.waiting -= 1;
        }
    }
}

impl Shared {
    /// Judges the transfers of a key, or all, and cuts those that stand still, else the slowest; unless that was done just now
    /// for somebody else in line.
    fn relieve(&self, key: Option<&str>) {
        let mut state = lock(&self.state);
        let now = self.clock.monotonic();
        let State {
            lanes,
            transfers,
            relieved,
            ..
        } = &mut *state;
        let (lane, relieved) = match key {
            None => (None, relieved),
            Some(key) => {
                let lane = lanes
                    .get_mut(key)
                    .expect("a lane stays while it has callers");
                (Some(lane.number), &mut lane.relieved)
            }
        };
        // Each in line would see only the few transfers whose time has just come, and cut one of them.
        if relieved.is_some_and(|at| now.saturating_sub(at) < self.limits.pressure) {
            return;
        }
        *relieved = Some(now);
        let mut slowest: Option<(u64, &Arc<Transfer>)> = None;
        let mut silent = false;
        let judged = transfers
            .values()
            .filter(|transfer| lane.is_none_or(|lane| transfer.lane == lane));
        for transfer in judged {
            match transfer.judge(now, &self.limits) {
                None => {}
                Some(0) => {
                    silent = true;
                    transfer.told.notify_one();
                    count(&self.cut_silent);
                }
                Some(rate) if slowest.is_none_or(|(least, _)| rate < least) => {
                    slowest = Some((rate, transfer));
                }
                Some(_) => {}
            }
        }
        if let (false, Some((_, transfer))) = (silent, slowest) {
            transfer.told.notify_one();
            count(&self.cut_slowest);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
