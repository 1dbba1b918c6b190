//! Finds frames in a segment by their headers, and says what is none.
//!
//! Safety
//! - After a place without a frame the scan goes on to the end of the data: a crash may keep a later batch and lose an earlier one.
//! - Only headers are looked at, under the store's key and at their own offset, so no bytes inside a payload are taken for a frame.
//! - Memory is one window of [`WINDOW_BYTES`] and what was found; who scans a large segment does it in parts.

use super::io::{SegmentReader, is_bad_sector};
use super::segment::SEGMENT_HEADER_BYTES;
use crate::frame::{BLOCK_ALIGNMENT, FrameError, HEADER_BYTES, Header, PACKED_ALIGNMENT, StoreKey};
use crate::{ContainerId, ContainerKind, FoundFrame, Location};
use std::io;

/// Bytes read at a time where frames lie close together or are missing.
pub(crate) const WINDOW_BYTES: usize = 1 << 20;

/// Why bytes of a segment are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GapReason {
    /// Neither zeros nor a frame: a torn write, or what follows a damaged header.
    NoFrame,
    /// A frame of this store began here, and its header does not match its checksum.
    DamagedHeader,
    /// A frame of another store, or one that was written for another place.
    Misplaced,
    /// A frame in a format that this program does not know.
    Unknown,
    /// The disk cannot read it.
    Unreadable,
}

/// A run of bytes that is neither a frame nor zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Where.
    pub location: Location,
    /// What is wrong at its beginning.
    pub reason: GapReason,
}

/// What a part of a segment holds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Scanned {
    /// Frames with a whole header, by offset.
    pub(crate) frames: Vec<FoundFrame>,
    /// What is between them and behind the last, without zeros.
    pub(crate) gaps: Vec<Gap>,
    /// Where to go on; nothing at the end.
    pub(crate) next: Option<u64>,
}

/// What happens where the disk cannot read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    /// The scan fails.
    Fails,
    /// It is a gap.
    IsSkipped,
}

/// A segment to be scanned.
pub(crate) struct Scan<'a> {
    pub(crate) key: &'a StoreKey,
    pub(crate) file: &'a dyn SegmentReader,
    pub(crate) container: ContainerId,
    pub(crate) kind: ContainerKind,
    pub(crate) unreadable: Unreadable,
}

impl Scan<'_> {
    /// Scans from `from` on, which is where a frame or a gap begins, until `limit` frames or as many gaps are found.
    pub(crate) fn run(&self, from: u64, limit: usize) -> io::Result<Scanned> {
        self.file.read_nothing_ahead();
        let mut window = Window {
            scan: self,
            bytes: Vec::with_capacity(WINDOW_BYTES),
            at: 0,
        };
        let mut found = Scanned::default();
        let mut offset = from.max(SEGMENT_HEADER_BYTES as u64);
        // After a frame of a block only the next header is wanted, half a megabyte on.
        let mut ahead = self.ahead_of_frame();
        while found.frames.len() < limit && found.gaps.len() < limit {
            let unit = match window.unit(offset, ahead) {
                Ok(Some(unit)) => unit,
                Ok(None) => match self.data_behind_hole(offset)? {
                    Some(data) => {
                        offset = data;
                        continue;
                    }
                    None => return Ok(found),
                },
                Err(error) if self.skips(&error) => {
                    // What a disk cannot read is whole sectors; what is before the next one may be readable.
                    let end = (offset + 1).next_multiple_of(u64::from(BLOCK_ALIGNMENT));
                    let rest = (end - offset) as usize;
                    // A header may reach beyond it.
                    let less = rest.max(self.step().max(HEADER_BYTES));
                    if ahead > less {
                        ahead = less;
                        continue;
                    }
                    self.add_gap(&mut found, offset, rest as u32, GapReason::Unreadable);
                    offset = end;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.judge(unit, offset) {
                Judged::Frame(frame) => {
                    offset += u64::from(frame.location.length);
                    found.frames.push(frame);
                    ahead = self.ahead_of_frame();
                }
                other => {
                    if let Judged::Gap(reason) = other {
                        self.add_gap(&mut found, offset, self.step() as u32, reason);
                    }
                    offset += self.step() as u64;
                    ahead = WINDOW_BYTES;
                }
            }
        }
        found.next = Some(offset);
        Ok(found)
    }

    fn judge(&self, unit: &[u8], offset: u64) -> Judged {
        let reason = match Header::decode(self.key, unit) {
            Ok(header) if (header.container, header.offset) == (self.container, offset) => {
                return Judged::Frame(header.found());
            }
            Ok(_) | Err(FrameError::OtherStore) => GapReason::Misplaced,
            Err(FrameError::HeaderChecksum | FrameError::Field(_)) => GapReason::DamagedHeader,
            Err(FrameError::Version(_) | FrameError::Encrypted(_)) => GapReason::Unknown,
            Err(_) => GapReason::NoFrame,
        };
        if types::is_zero(&unit[..unit.len().min(self.step())]) {
            return Judged::Zeros;
        }
        Judged::Gap(reason)
    }

    /// What frames begin at a multiple of.
    fn step(&self) -> usize {
        match self.kind {
            ContainerKind::Blocks => BLOCK_ALIGNMENT as usize,
            ContainerKind::Pages => PACKED_ALIGNMENT as usize,
        }
    }

    fn ahead_of_frame(&self) -> usize {
        match self.kind {
            ContainerKind::Blocks => BLOCK_ALIGNMENT as usize,
            ContainerKind::Pages => WINDOW_BYTES,
        }
    }

    /// Where the scan goes on after a hole; aligned, since holes are in units of the file system's blocks.
    fn data_behind_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        let data = self.file.data_from(offset)?;
        let alignment = u64::from(BLOCK_ALIGNMENT);
        Ok(data
            .map(|data| (data / alignment * alignment).max(offset))
            .filter(|data| *data > offset))
    }

    fn skips(&self, error: &io::Error) -> bool {
        self.unreadable == Unreadable::IsSkipped && is_bad_sector(error)
    }

    /// What follows a gap belongs to it: the payload of a frame whose header is damaged may look like anything.
    fn add_gap(&self, found: &mut Scanned, offset: u64, bytes: u32, reason: GapReason) {
        if let Some(Gap { location, .. }) = found.gaps.last_mut()
            && location.offset + u64::from(location.length) == offset
        {
            location.length += bytes;
            return;
        }
        let location = Location {
            container: self.container,
            offset,
            length: bytes,
        };
        found.gaps.push(Gap { location, reason });
    }
}

enum Judged {
    Frame(FoundFrame),
    Gap(GapReason),
    Zeros,
}

/// The bytes that were read last.
struct Window<'a> {
    scan: &'a Scan<'a>,
    bytes: Vec<u8>,
    at: u64,
}

impl Window<'_> {
    /// The bytes at `offset`, one step of them, and what a header needs; `None` where a new window would begin in a hole
    /// or behind the end.
    fn unit(&mut self, offset: u64, ahead: usize) -> io::Result<Option<&[u8]>> {
        let wanted = self.scan.step().max(HEADER_BYTES);
        let end = self.at + self.bytes.len() as u64;
        if offset < self.at || offset + wanted as u64 > end {
            if self.scan.file.data_from(offset)? != Some(offset) {
                return Ok(None);
            }
            self.bytes.clear();
            self.at = offset;
            let read = self
                .scan
                .file
                .read_at(&mut self.bytes, ahead.max(wanted), offset);
            if let Err(error) = read {
                self.bytes.clear();
                return Err(error);
            }
        }
        let start = (offset - self.at) as usize;
        let end = self.bytes.len().min(start + wanted);
        Ok((start < end).then(|| &self.bytes[start..end]))
    }
}
