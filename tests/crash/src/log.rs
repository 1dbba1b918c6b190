//! What was asked of a disk, in order, and what of it a power cut leaves.
//!
//! Time is counted in events: each request is two, its arrival and its end. A cut at `c` happens after the events 0 to c - 1.
//! Disks of one machine share a count, so that one cut ends all of them at the same time.
//!
//! ```text
//! durable    changes that ended before the arrival of a flush that ended before the cut
//! volatile   the other changes that arrived before the cut: none, some or all, whole or torn
//! ```
//!
//! A flush that had not ended, and one under way while a write was, promise nothing about that write. Changes of one place
//! are applied in the order in which they ended: the older may survive the newer, as when a cache has written it and not yet
//! the newer.

use crate::dice::Dice;
use std::ops::AddAssign;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Zeros to write a discard with.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A request that changes a disk.
#[derive(Clone, Debug)]
pub enum Change {
    /// Bytes at a place.
    Write {
        /// From here.
        start: usize,
        /// These.
        bytes: Vec<u8>,
    },
    /// Zeros at a place.
    Discard {
        /// From here.
        start: usize,
        /// To before here.
        end: usize,
    },
    /// Make durable what ended before.
    Flush,
}

impl Change {
    /// Carries it out in memory.
    pub fn apply(&self, image: &mut [u8]) {
        match self {
            Change::Write { start, bytes } => {
                image[*start..*start + bytes.len()].copy_from_slice(bytes);
            }
            Change::Discard { start, end } => image[*start..*end].fill(0),
            Change::Flush => {}
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Change::Write { bytes, .. } => bytes.len(),
            Change::Discard { start, end } => end - start,
            Change::Flush => 0,
        }
    }

    /// Carries out a part of it in a file: the bytes `from` to before `to`, counted from its start.
    fn write_part(&self, image: &impl FileExt, from: usize, to: usize) -> std::io::Result<()> {
        match self {
            Change::Write { start, bytes } => {
                image.write_all_at(&bytes[from..to], (start + from) as u64)
            }
            Change::Discard { start, .. } => {
                let mut at = from;
                while at < to {
                    let length = ZEROS.len().min(to - at);
                    image.write_all_at(&ZEROS[..length], (start + at) as u64)?;
                    at += length;
                }
                Ok(())
            }
            Change::Flush => Ok(()),
        }
    }
}

struct Record {
    change: Change,
    arrived: u64,
    ended: u64,
}

/// Counts the events of all disks of a machine.
pub type Events = Arc<AtomicU64>;

/// The log of a disk; it grows at its end only.
pub struct Log {
    events: Events,
    bytes: AtomicU64,
    records: Mutex<Vec<Record>>,
}

/// Which flushes a disk carries out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Honesty {
    /// All.
    Honest,
    /// It acknowledges all and carries out one in so many: what a server that forgets to sync would look like.
    OneIn(usize),
}

impl Log {
    /// An empty log.
    pub fn new(events: Events) -> Log {
        Log {
            events,
            bytes: AtomicU64::new(0),
            records: Mutex::new(Vec::new()),
        }
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request arrived; answers the number of that event.
    pub fn arrived(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }

    /// A request was carried out, and is about to be answered.
    pub fn ended(&self, change: Change, arrived: u64) {
        self.bytes
            .fetch_add(change.bytes() as u64, Ordering::SeqCst);
        let mut records = self.records();
        let ended = self.events.fetch_add(1, Ordering::SeqCst);
        records.push(Record {
            change,
            arrived,
            ended,
        });
    }

    /// Bytes that were written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// The flushes that ended between two events, each by the event of its end.
    pub fn flushes(&self, from: u64, to: u64) -> Vec<u64> {
        let records = self.records();
        let flushes = records
            .iter()
            .filter(|record| matches!(record.change, Change::Flush));
        flushes
            .map(|record| record.ended)
            .filter(|ended| (from..to).contains(ended))
            .collect()
    }

    /// How many changes are volatile at a cut.
    pub fn volatile(&self, cut: u64) -> usize {
        let records = self.records();
        let covered = covered(&records, cut, Honesty::Honest);
        let arrived = records.partition_point(|record| record.arrived < cut);
        let volatile = records[..arrived]
            .iter()
            .filter(|record| record.ended >= covered && record.change.bytes() > 0);
        volatile.count()
    }
}

/// What a cut did.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Changes that were volatile.
    pub volatile: usize,
    /// How many of them are on the disk, in whole or in part.
    pub kept: usize,
}

impl AddAssign for Left {
    fn add_assign(&mut self, other: Left) {
        self.volatile += other.volatile;
        self.kept += other.kept;
    }
}

/// Which volatile changes a cut leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// None.
    None,
    /// All.
    All,
    /// Each with this chance in percent, whole.
    Whole(u64),
    /// Each of their sectors of so many bytes with this chance in percent.
    Torn(usize, u64),
}

impl How {
    /// Any of them.
    pub fn any(dice: &mut Dice) -> How {
        let percent = *dice.pick(&[10, 50, 90]);
        match dice.below(10) {
            0..=1 => How::None,
            2 => How::All,
            3..=5 => How::Whole(percent),
            6..=7 => How::Torn(4096, percent),
            _ => How::Torn(512, percent),
        }
    }
}

/// The durable part of a disk, in a file, for cuts that come one after the other.
pub struct Replay<'a, F> {
    log: &'a Log,
    image: F,
    applied: Vec<bool>,
    honesty: Honesty,
}

impl<'a, F: FileExt> Replay<'a, F> {
    /// Begins with a disk of zeros.
    pub fn new(log: &'a Log, image: F, honesty: Honesty) -> Replay<'a, F> {
        Replay {
            log,
            image,
            applied: Vec::new(),
            honesty,
        }
    }

    /// Brings the image to what is durable at `cut`, which must not be before the last one.
    ///
    /// # Errors
    /// The image cannot be written.
    pub fn advance(&mut self, cut: u64) -> std::io::Result<()> {
        let records = self.log.records();
        self.applied.resize(records.len(), false);
        let covered = covered(&records, cut, self.honesty);
        for (record, applied) in records.iter().zip(&mut self.applied) {
            if record.ended < covered && !*applied {
                *applied = true;
                record
                    .change
                    .write_part(&self.image, 0, record.change.bytes())?;
            }
        }
        Ok(())
    }

    /// Writes what a cut leaves of the volatile changes into `image`, a copy of what [`Replay::advance`] made.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn leave(
        &self,
        cut: u64,
        image: &impl FileExt,
        how: How,
        dice: &mut Dice,
    ) -> std::io::Result<Left> {
        let records = self.log.records();
        let (mut volatile, mut kept) = (0, 0);
        for (record, applied) in records.iter().zip(&self.applied) {
            let length = record.change.bytes();
            if *applied || record.arrived >= cut || length == 0 {
                continue;
            }
            volatile += 1;
            let (sector, percent) = match how {
                How::None => continue,
                How::All => (length, 100),
                How::Whole(percent) => (length, percent),
                How::Torn(sector, percent) => (sector, percent),
            };
            let mut any = false;
            for from in (0..length).step_by(sector) {
                if dice.chance(percent) {
                    any = true;
                    let to = length.min(from + sector);
                    record.change.write_part(image, from, to)?;
                }
            }
            kept += usize::from(any);
        }
        Ok(Left { volatile, kept })
    }
}

/// Changes that ended before this event are durable at `cut`.
fn covered(records: &[Record], cut: u64, honesty: Honesty) -> u64 {
    let flushes = records
        .iter()
        .filter(|record| matches!(record.change, Change::Flush) && record.ended < cut);
    let arrivals = flushes.map(|record| record.arrived);
    match honesty {
        Honesty::Honest => arrivals.max(),
        Honesty::OneIn(count) => arrivals.step_by(count).max(),
    }
    .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::io::Seek;

    const SECTOR: usize = 512;

    fn write(log: &Log, sector: usize, byte: u8) {
        let change = Change::Write {
            start: sector * SECTOR,
            bytes: vec![byte; SECTOR],
        };
        let arrived = log.arrived();
        log.ended(change, arrived);
    }

    fn flush(log: &Log) {
        let arrived = log.arrived();
        log.ended(Change::Flush, arrived);
    }

    fn sectors(mut file: &File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes.into_iter().step_by(SECTOR).collect()
    }

    fn image() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * SECTOR as u64).unwrap();
        file
    }

    /// The first four sectors, as the cut leaves them.
    fn cut(log: &Log, at: u64, how: How, honesty: Honesty) -> Vec<u8> {
        let mut replay = Replay::new(log, image(), honesty);
        replay.advance(at).unwrap();
        let copy = image();
        let mut bytes = Vec::new();
        (&replay.image).rewind().unwrap();
        (&replay.image).read_to_end(&mut bytes).unwrap();
        copy.write_all_at(&bytes, 0).unwrap();
        replay.leave(at, &copy, how, &mut Dice::new(1)).unwrap();
        sectors(&copy)
    }

    #[test]
    fn what_a_flush_covers_stays_and_the_rest_may_go() {
        let log = Log::new(Events::default());
        write(&log, 0, 1); // 0, 1
        flush(&log); // 2, 3
        write(&log, 1, 2); // 4, 5
        write(&log, 0, 3); // 6, 7
        let honest = |at, how| cut(&log, at, how, Honesty::Honest);
        assert_eq!(honest(0, How::All), [0, 0, 0, 0]);
        assert_eq!(
            honest(3, How::None),
            [0, 0, 0, 0],
            "the flush had not ended"
        );
        assert_eq!(honest(3, How::All), [1, 0, 0, 0]);
        assert_eq!(honest(4, How::None), [1, 0, 0, 0]);
        assert_eq!(honest(8, How::None), [1, 0, 0, 0]);
        assert_eq!(honest(6, How::All), [1, 2, 0, 0]);
        assert_eq!(honest(8, How::All), [3, 2, 0, 0]);
    }

    #[test]
    fn a_flush_does_not_cover_what_was_under_way() {
        let log = Log::new(Events::default());
        let under_way = log.arrived(); // 0
        flush(&log); // 1, 2
        let change = Change::Write {
            start: 0,
            bytes: vec![7; SECTOR],
        };
        log.ended(change, under_way); // 3
        assert_eq!(cut(&log, 4, How::None, Honesty::Honest), [0, 0, 0, 0]);
        assert_eq!(cut(&log, 4, How::All, Honesty::Honest), [7, 0, 0, 0]);
    }

    #[test]
    fn a_lying_disk_forgets_what_it_promised() {
        let log = Log::new(Events::default());
        write(&log, 0, 1);
        flush(&log);
        write(&log, 1, 2);
        flush(&log);
        let end = log.events.load(Ordering::SeqCst);
        assert_eq!(cut(&log, end, How::None, Honesty::Honest), [1, 2, 0, 0]);
        assert_eq!(cut(&log, end, How::None, Honesty::OneIn(2)), [1, 0, 0, 0]);
    }
}
