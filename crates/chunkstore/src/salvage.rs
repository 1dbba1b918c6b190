//! Reads segment files without a registry: what is left when the catalog is lost.
//!
//! Invariants
//! - Nothing is written. A segment that cannot be made sense of is said, never guessed.
//! - A store id is believed only where a checksum under its key matches: of a segment's header, or of a frame's when the segment's
//!   header is damaged.
//! - Work and memory of a call are bounded: one directory of names, one window, one batch of frames.
//!
//! [`crate::ReadOnlyStore`] reads the payloads of the frames that are found here. All calls block.

pub use crate::local::scan::{Gap, GapReason};

use crate::frame::{BLOCK_ALIGNMENT, HEADER_BYTES, Header, PACKED_ALIGNMENT, StoreKey};
use crate::local::io::is_bad_sector;
use crate::local::scan::{Scan, Unreadable};
use crate::local::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError};
use crate::{ContainerId, ContainerKind, Error, FoundFrame, SegmentIo, SegmentReader, layout};
use std::io;
use std::sync::Arc;

/// Bytes behind a damaged segment header that are searched for a frame that tells the store: room for the two longest frames.
const SEARCH_BYTES: u64 = 2 << 20;

/// A segment file, and what its beginning says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentFile {
    /// Its name in the directory.
    pub name: String,
    /// The container that its name says it is.
    pub container: ContainerId,
    /// What its name says it holds.
    pub kind: ContainerKind,
    /// Length of the file.
    pub bytes: u64,
    /// What its header says.
    pub header: FoundHeader,
}

/// The header of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FoundHeader {
    /// Whole, and of this container.
    Whole {
        /// The store that wrote it.
        store_id: [u8; 16],
    },
    /// Whole, and of another container: the file was renamed, or copied over another one.
    Misnamed {
        /// The store that wrote it.
        store_id: [u8; 16],
        /// The container that it was written for.
        container: ContainerId,
    },
    /// Damaged, or never written.
    Damaged {
        /// The store whose frames follow; nothing when no frame was found.
        store_id: Option<[u8; 16]>,
    },
    /// Of a format that this program does not know.
    Newer {
        /// The version.
        version: u16,
    },
}

impl SegmentFile {
    /// The store that the segment belongs to, as far as that can be told.
    pub fn store_id(&self) -> Option<[u8; 16]> {
        match self.header {
            FoundHeader::Whole { store_id } | FoundHeader::Misnamed { store_id, .. } => {
                Some(store_id)
            }
            FoundHeader::Damaged { store_id } => store_id,
            FoundHeader::Newer { .. } => None,
        }
    }
}

/// A part of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SalvagedPart {
    /// Frames with whole headers, by offset.
    pub frames: Vec<FoundFrame>,
    /// What is neither a frame nor zeros.
    pub gaps: Vec<Gap>,
    /// Where to go on; nothing at the end of the segment.
    pub next: Option<u64>,
}

/// Looks at the beginning of every segment file in a directory; answers them by container. Files of other names are left out.
///
/// # Errors
/// [`Error::Io`] when the directory or one of the files cannot be read. A bad sector under a header is damage and no error.
pub fn survey(io: &dyn SegmentIo) -> Result<Vec<SegmentFile>, Error> {
    let names = io.list().map_err(failed("listing segments"))?;
    let mut files = Vec::new();
    for name in names {
        let Some((container, kind)) = layout::parse_segment_name(&name) else {
            continue;
        };
        let look = || {
            let file = io.open_reader(&name)?;
            let header = look_at_header(file.as_ref(), container, kind)?;
            Ok((file.bytes()?, header))
        };
        let (bytes, header) = look().map_err(failed("looking at a segment"))?;
        files.push(SegmentFile {
            name,
            container,
            kind,
            bytes,
            header,
        });
    }
    files.sort_by_key(|file| file.container);
    Ok(files)
}

/// Finds the frames of one store.
#[derive(Clone)]
pub struct Salvage {
    io: Arc<dyn SegmentIo>,
    key: StoreKey,
}

impl Salvage {
    /// For the frames of the store with this id.
    pub fn new(store_id: [u8; 16], io: Arc<dyn SegmentIo>) -> Salvage {
        Salvage {
            io,
            key: StoreKey::new(store_id),
        }
    }

    /// A part of a segment from `from` on: 0, or where an earlier part said to go on. Ends after `limit` frames or gaps.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened or read. A bad sector is a gap and no error.
    pub fn part(
        &self,
        segment: &SegmentFile,
        from: u64,
        limit: usize,
    ) -> Result<SalvagedPart, Error> {
        let opened = self.io.open_reader(&segment.name);
        let file = opened.map_err(failed("opening a segment"))?;
        let scan = Scan {
            key: &self.key,
            file: file.as_ref(),
            container: segment.container,
            kind: segment.kind,
            unreadable: Unreadable::IsSkipped,
        };
        let found = scan.run(from, limit);
        let found = found.map_err(failed("scanning a segment"))?;
        Ok(SalvagedPart {
            frames: found.frames,
            gaps: found.gaps,
            next: found.next,
        })
    }
}

impl std::fmt::Debug for Salvage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage").finish_non_exhaustive()
    }
}

fn look_at_header(
    file: &dyn SegmentReader,
    container: ContainerId,
    kind: ContainerKind,
) -> io::Result<FoundHeader> {
    let mut block = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    read(file, &mut block, SEGMENT_HEADER_BYTES, 0)?;
    // The id that the header names is believed if the header matches its checksum under that id's key.
    let claimed = block.get(16..32).and_then(|id| id.try_into().ok());
    let store_id: [u8; 16] = claimed.unwrap_or_default();
    match SegmentHeader::decode(&StoreKey::new(store_id), &block) {
        Ok(header) if (header.id, header.kind) == (container, kind) => {
            Ok(FoundHeader::Whole { store_id })
        }
        Ok(header) => Ok(FoundHeader::Misnamed {
            store_id,
            container: header.id,
        }),
        Err(SegmentHeaderError::Version(version)) => Ok(FoundHeader::Newer { version }),
        Err(SegmentHeaderError::Unreadable | SegmentHeaderError::OtherStore(_)) => {
            let store_id = store_of_frames(file, container, kind)?;
            Ok(FoundHeader::Damaged { store_id })
        }
    }
}

/// The store id of the first frame that proves its own.
fn store_of_frames(
    file: &dyn SegmentReader,
    container: ContainerId,
    kind: ContainerKind,
) -> io::Result<Option<[u8; 16]>> {
    let step = match kind {
        ContainerKind::Blocks => BLOCK_ALIGNMENT,
        ContainerKind::Pages => PACKED_ALIGNMENT,
    };
    let end = file.bytes()?.min(SEARCH_BYTES);
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    while offset + HEADER_BYTES as u64 <= end {
        header.clear();
        read(file, &mut header, HEADER_BYTES, offset)?;
        if let Some(store_id) = Header::store_id_claimed(&header) {
            let decoded = Header::decode(&StoreKey::new(store_id), &header);
            if decoded.is_ok_and(|found| (found.container, found.offset) == (container, offset)) {
                return Ok(Some(store_id));
            }
        }
        offset += u64::from(step);
    }
    Ok(None)
}

/// Reads what can be read: a bad sector leaves `into` short.
fn read(file: &dyn SegmentReader, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
    match file.read_at(into, bytes, offset) {
        Err(error) if is_bad_sector(&error) => {
            into.clear();
            Ok(())
        }
        other => other,
    }
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { operation, source }
}
