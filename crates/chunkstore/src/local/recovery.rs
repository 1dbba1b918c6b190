//! What the store finds at start-up, and how it makes sense of it.
//!
//! Start-up is recovery, always. Sealed segments are not read, so it takes as long for a large store as for a small
//! one: only segments that were open when the process ended are scanned, for headers.
//!
//! | Registry says | File | Then |
//! |---|---|---|
//! | open | there | scanned; never appended to again; sealed once the caller has said what is dead |
//! | sealed | there | left alone |
//! | open or sealed | missing | foreign: somebody took files away, or the catalog is another store's |
//! | nothing, id given out | header and zeros only | removed: a crash fell between creating it and recording it, or between recording its removal and removing it |
//! | nothing, id given out | holds anything | foreign: the catalog does not remember it |
//! | nothing, id never given out | there | foreign: the catalog is older than the files, or another store's |
//! | anything | header names another store | foreign |
//!
//! Safety
//! - Batches are written by two threads at once and a crash may keep the later one and lose the earlier: after a place
//!   without a frame the scan goes on to the end of the data.
//! - Only headers are checked here, not payloads. What the catalog names was durable before it was named; the rest is
//!   garbage, whole or torn.
//! - A foreign store is not written to at all: the checks come before the first change.

use super::io::SegmentReader;
use super::scan::{Scan, Scanned, Unreadable, WINDOW_BYTES};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError};
use super::shared::Shared;
use crate::frame::BLOCK_ALIGNMENT;
use crate::{
    ContainerId, ContainerKind, ContainerState, ContainerStatus, Error, FoundFrame, Location,
    layout,
};
use std::collections::BTreeSet;
use std::io;

/// What was found in one such segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveredSegment {
    /// Which segment.
    pub container: ContainerId,
    /// What it may hold.
    pub kind: ContainerKind,
    /// Every frame with a whole header, by offset.
    pub frames: Vec<FoundFrame>,
    /// Runs of bytes between frames and behind the last that are not zeros and not frames: torn writes. Name them dead
    /// unless a record lies in them (which then is damaged).
    pub gaps: Vec<Location>,
}

/// Compares files and registry, and removes files that hold nothing; answers what was open.
pub(crate) fn recover(
    shared: &Shared,
    highest: ContainerId,
    known: &[ContainerStatus],
) -> Result<Vec<RecoveredSegment>, Error> {
    let names = shared.io.list().map_err(failed("listing segments"))?;
    let found: BTreeSet<(ContainerId, ContainerKind)> = names
        .iter()
        .filter_map(|name| layout::parse_segment_name(name))
        .collect();
    check_known(shared, known, &found)?;
    let leftovers = check_unknown(shared, highest, known, &found)?;
    for name in &leftovers {
        tracing::info!(
            name,
            "removing a segment without frames that was never recorded"
        );
        shared
            .io
            .remove(name)
            .map_err(failed("removing a segment"))?;
    }
    if !leftovers.is_empty() {
        shared
            .io
            .sync_dir()
            .map_err(failed("syncing the segment directory"))?;
    }
    let open = known
        .iter()
        .filter(|status| status.state == ContainerState::Open);
    open.map(|status| scan(shared, *status)).collect()
}

fn check_known(
    shared: &Shared,
    known: &[ContainerStatus],
    found: &BTreeSet<(ContainerId, ContainerKind)>,
) -> Result<(), Error> {
    for status in known {
        if !found.contains(&(status.id, status.kind)) {
            let name = layout::segment_name(status.id, status.kind);
            return Err(foreign(format!(
                "segment {name} is recorded and its file is missing"
            )));
        }
    }
    let sealed = || known.iter().filter(|status| status.state.is_complete());
    // Two are enough to tell another store's directory; reading them all would take as long as the store is large.
    let samples = sealed().min_by_key(|status| status.id).into_iter();
    let samples = samples.chain(sealed().max_by_key(|status| status.id));
    let open = known
        .iter()
        .filter(|status| status.state == ContainerState::Open);
    for status in samples.chain(open) {
        let name = layout::segment_name(status.id, status.kind);
        let file = shared
            .io
            .open_reader(&name)
            .map_err(failed("opening a segment"))?;
        match read_header(shared, file.as_ref())? {
            Ok(header) if (header.id, header.kind) == (status.id, status.kind) => {}
            Ok(header) => {
                let id = header.id.0;
                return Err(foreign(format!(
                    "segment {name} says that it is number {id}"
                )));
            }
            Err(SegmentHeaderError::OtherStore(_)) => {
                return Err(foreign(format!("segment {name} belongs to another store")));
            }
            Err(SegmentHeaderError::Version(version)) => {
                let reason =
                    format!("segment {name} has format version {version}, newer than this program");
                return Err(foreign(reason));
            }
            // Damage to this one block; frames carry their own identity.
            Err(SegmentHeaderError::Unreadable) => {
                tracing::error!(name, "the header of a segment is damaged");
            }
        }
    }
    Ok(())
}

/// The names of unknown files that may be removed.
fn check_unknown(
    shared: &Shared,
    highest: ContainerId,
    known: &[ContainerStatus],
    found: &BTreeSet<(ContainerId, ContainerKind)>,
) -> Result<Vec<String>, Error> {
    let known: BTreeSet<(ContainerId, ContainerKind)> = known
        .iter()
        .map(|status| (status.id, status.kind))
        .collect();
    let mut leftovers = Vec::new();
    for &(id, kind) in found.difference(&known) {
        let name = layout::segment_name(id, kind);
        if id > highest {
            let reason = format!("segment {name} is newer than anything in the catalog");
            return Err(foreign(reason));
        }
        let file = shared
            .io
            .open_reader(&name)
            .map_err(failed("opening a segment"))?;
        match read_header(shared, file.as_ref())? {
            Err(SegmentHeaderError::OtherStore(_)) => {
                return Err(foreign(format!("segment {name} belongs to another store")));
            }
            Ok(_) | Err(SegmentHeaderError::Unreadable | SegmentHeaderError::Version(_)) => {}
        }
        if !holds_only_zeros(file.as_ref()).map_err(failed("reading a segment"))? {
            return Err(foreign(format!(
                "segment {name} holds data and the catalog does not know it"
            )));
        }
        leftovers.push(name);
    }
    Ok(leftovers)
}

fn read_header(
    shared: &Shared,
    file: &dyn SegmentReader,
) -> Result<Result<SegmentHeader, SegmentHeaderError>, Error> {
    let mut block = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    let read = file.read_at(&mut block, SEGMENT_HEADER_BYTES, 0);
    read.map_err(failed("reading a segment's header"))?;
    Ok(SegmentHeader::decode(&shared.key, &block))
}

/// Whether nothing but zeros follows the header.
fn holds_only_zeros(file: &dyn SegmentReader) -> io::Result<bool> {
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    while let Some(data) = file.data_from(offset)? {
        let mut window = Vec::with_capacity(WINDOW_BYTES);
        file.read_at(&mut window, WINDOW_BYTES, data)?;
        if !types::is_zero(&window) {
            return Ok(false);
        }
        if window.is_empty() {
            break;
        }
        offset = data + window.len() as u64;
    }
    Ok(true)
}

fn scan(shared: &Shared, status: ContainerStatus) -> Result<RecoveredSegment, Error> {
    let found = scan_from(
        shared,
        status,
        SEGMENT_HEADER_BYTES as u64,
        usize::MAX,
        Unreadable::Fails,
    )?;
    tracing::info!(
        name = layout::segment_name(status.id, status.kind),
        frames = found.frames.len(),
        gaps = found.gaps.len(),
        "scanned an open segment"
    );
    Ok(RecoveredSegment {
        container: status.id,
        kind: status.kind,
        frames: found.frames,
        gaps: found.gaps.into_iter().map(|gap| gap.location).collect(),
    })
}

/// At most `limit` frames of a segment from the offset `from` on, which is where a frame or a gap begins.
pub(crate) fn frames(
    shared: &Shared,
    status: ContainerStatus,
    from: u64,
    limit: usize,
) -> Result<Vec<FoundFrame>, Error> {
    let mut next = Some(from.max(SEGMENT_HEADER_BYTES as u64));
    let mut frames = Vec::new();
    while let Some(from) = next.filter(|_| frames.len() < limit) {
        let found = scan_from(
            shared,
            status,
            from,
            limit - frames.len(),
            Unreadable::IsSkipped,
        )?;
        frames.extend(found.frames);
        next = found.next;
    }
    Ok(frames)
}

fn scan_from(
    shared: &Shared,
    status: ContainerStatus,
    from: u64,
    limit: usize,
    unreadable: Unreadable,
) -> Result<Scanned, Error> {
    let name = layout::segment_name(status.id, status.kind);
    let file = shared
        .io
        .open_reader(&name)
        .map_err(failed("opening a segment"))?;
    let scan = Scan {
        key: &shared.key,
        file: file.as_ref(),
        container: status.id,
        kind: status.kind,
        unreadable,
    };
    scan.run(from, limit).map_err(failed("scanning a segment"))
}

impl RecoveredSegment {
    /// Where what is not dead ends, at a multiple of 4 KiB.
    pub(crate) fn live_end(&self, dead: &[Location]) -> u64 {
        let dead: BTreeSet<u64> = dead.iter().map(|location| location.offset).collect();
        let found = self
            .frames
            .iter()
            .map(|frame| frame.location)
            .chain(self.gaps.iter().copied());
        let live = found.filter(|location| !dead.contains(&location.offset));
        let end = live
            .map(|location| location.offset + u64::from(location.length))
            .max();
        end.unwrap_or(SEGMENT_HEADER_BYTES as u64)
            .next_multiple_of(u64::from(BLOCK_ALIGNMENT))
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { operation, source }
}

fn foreign(what: String) -> Error {
    let advice = "nothing was changed; put the catalog and the segments of one store together, \
                  or rebuild the catalog from the segments with `drystone rescue rebuild --data DIR`";
    Error::Foreign {
        reason: format!("{what}; {advice}"),
    }
}
