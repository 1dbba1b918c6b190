//! Makes ranges read as zeros, by the cheapest way that really does.
//!
//! Linux promises zeros after `FALLOC_FL_PUNCH_HOLE` and `FALLOC_FL_ZERO_RANGE`, on devices too; but below it are devices of
//! many makes, and what they leave behind would be restored as part of a disk. So the first range is a trial: its ends are
//! filled with a pattern, and a way is used from then on only if they read as zeros afterwards. What no way does is written.
//! (The pattern harms nothing: the range is to be overwritten, and a target that was given up is not whole anyway.)

use super::writer::Writer;
use crate::Error;
use buffers::{ALIGNMENT, Aligned};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::sync::{Mutex, PoisonError};
use types::is_zero;

/// Bytes that one call to the system zeroes at most: a device may need seconds for as much, in which nothing can stop it.
pub(super) const STEP: u64 = 1 << 30;

/// Zeros that are written at once.
const ZEROS: usize = 1 << 20;

/// The ways, the cheapest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Space is given back.
    Punch,
    /// Space is kept.
    ZeroRange,
    /// Zeros are written.
    Write,
    /// What a bad device does: nothing, and says that all is well.
    #[cfg(test)]
    Lie,
}

/// The ways, and which of them is known to work.
#[derive(Debug)]
pub(super) struct Zeroing {
    ways: &'static [Way],
    proven: Mutex<Option<Way>>,
}

impl Default for Zeroing {
    fn default() -> Self {
        Zeroing::with_ways(&[Way::Punch, Way::ZeroRange, Way::Write])
    }
}

impl Zeroing {
    /// Only these ways.
    pub(super) fn with_ways(ways: &'static [Way]) -> Zeroing {
        Zeroing {
            ways,
            proven: Mutex::new(None),
        }
    }

    /// Zeroes a range that begins at a multiple of 4 KiB.
    pub(super) fn zero(&self, writer: &Writer, offset: u64, bytes: u64) -> Result<(), Error> {
        let whole = bytes / ALIGNMENT as u64 * ALIGNMENT as u64;
        if whole > 0 {
            self.zero_whole(writer, offset, whole)?;
        }
        write_zeros(writer, offset + whole, bytes - whole)
    }

    fn zero_whole(&self, writer: &Writer, offset: u64, bytes: u64) -> Result<(), Error> {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = *proven {
            drop(proven);
            // A device may be put together from several, not all of which can do the same.
            return match zero_by(way, writer, offset, bytes)? {
                Done::Yes => Ok(()),
                Done::Unsupported => write_zeros(writer, offset, bytes),
            };
        }
        for way in self.ways {
            if *way != Way::Write {
                fill_ends(writer, offset, bytes)?;
            }
            if zero_by(*way, writer, offset, bytes)? == Done::Yes
                && ends_are_zero(writer, offset, bytes)?
            {
                tracing::debug!(target = writer.disk().name(), ?way, "zeros are made");
                *proven = Some(*way);
                return Ok(());
            }
        }
        Err(Error::Unfit(format!(
            "{} does not read as zeros at {offset} after zeros were written",
            writer.disk().name()
        )))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Yes,
    Unsupported,
}

fn zero_by(way: Way, writer: &Writer, offset: u64, bytes: u64) -> Result<Done, Error> {
    let mode = match way {
        Way::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        Way::ZeroRange => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
        Way::Write => return write_zeros(writer, offset, bytes).map(|()| Done::Yes),
        #[cfg(test)]
        Way::Lie => return Ok(Done::Yes),
    };
    loop {
        return match rustix::fs::fallocate(writer.disk().file(), mode, offset, bytes) {
            Ok(()) => Ok(Done::Yes),
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV) => {
                Ok(Done::Unsupported)
            }
            Err(error) => Err(Error::Io {
                what: format!("{} cannot be zeroed at {offset}", writer.disk().name()),
                source: error.into(),
            }),
        };
    }
}

fn write_zeros(writer: &Writer, offset: u64, bytes: u64) -> Result<(), Error> {
    if bytes == 0 {
        return Ok(());
    }
    let zeros = Aligned::zeroed(ZEROS.min(bytes.next_multiple_of(ALIGNMENT as u64) as usize));
    let mut done = 0;
    while done < bytes {
        // No more than the zeros, so it fits.
        let part = (bytes - done).min(ZEROS as u64) as usize;
        writer.write_at(&zeros.as_slice()[..part], offset + done)?;
        done += part as u64;
    }
    Ok(())
}

/// The first and the last 4 KiB of a range.
fn ends(offset: u64, bytes: u64) -> [u64; 2] {
    [offset, offset + bytes - ALIGNMENT as u64]
}

fn fill_ends(writer: &Writer, offset: u64, bytes: u64) -> Result<(), Error> {
    let mut pattern = Aligned::zeroed(ALIGNMENT);
    pattern.as_mut_slice().fill(0xA5);
    for end in ends(offset, bytes) {
        writer.write_at(pattern.as_slice(), end)?;
    }
    Ok(())
}

fn ends_are_zero(writer: &Writer, offset: u64, bytes: u64) -> Result<bool, Error> {
    let mut found = Aligned::zeroed(ALIGNMENT);
    for end in ends(offset, bytes) {
        writer.disk().read_exactly(found.as_mut_slice(), end)?;
        if !is_zero(found.as_slice()) {
            return Ok(false);
        }
    }
    Ok(true)
}
