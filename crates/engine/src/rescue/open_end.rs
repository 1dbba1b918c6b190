//! Which segments may end in torn writes.
//!
//! A power cut may keep the header of a frame and lose its data, wherever the last batches were being written. Without a registry two
//! things tell such a segment:
//!
//! - it ends in zeros: sealing cuts the unused tail off, so it was not sealed;
//! - it is one of the newest: one that was filled to its last byte has no tail, sealed or not. Frames are only written to the newest
//!   segment and, by batches under way, to the one before, beside one that is prepared ahead.

use chunkstore::salvage::SegmentFile;
use chunkstore::{ContainerId, ContainerKind, Error, SegmentIo, SegmentReader};
use std::collections::HashSet;
use std::io;

/// Segments of blocks that are written to, or were when the last batches began, or are prepared.
const NEWEST: usize = 3;

/// Bytes at the end of a file that tell whether it was cut: no frame ends in fewer.
const TAIL_BYTES: u64 = 4_096;

/// The segments of blocks whose last frames may be torn. Blocks. `files` are in the order of their containers.
///
/// # Errors
/// [`Error::Io`] when a file cannot be opened.
pub(super) fn may_be_torn(
    io: &dyn SegmentIo,
    files: &[SegmentFile],
) -> Result<HashSet<ContainerId>, Error> {
    let mut found = HashSet::new();
    let blocks = files
        .iter()
        .rev()
        .filter(|file| file.kind == ContainerKind::Blocks);
    for (age, file) in blocks.enumerate() {
        let look = || Ok(age < NEWEST || ends_in_zeros(io.open_reader(&file.name)?.as_ref()));
        let torn = look().map_err(|source| Error::Io {
            operation: "looking at the end of a segment",
            source,
        })?;
        if torn {
            found.insert(file.container);
        }
    }
    Ok(found)
}

/// An end that cannot be read tells nothing, so it counts as one.
fn ends_in_zeros(file: &dyn SegmentReader) -> bool {
    let look = || -> io::Result<bool> {
        let tail = file.bytes()?.saturating_sub(TAIL_BYTES);
        if file.data_from(tail)?.is_none() {
            return Ok(true);
        }
        let mut bytes = Vec::with_capacity(TAIL_BYTES as usize);
        file.read_at(&mut bytes, TAIL_BYTES as usize, tail)?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    };
    look().unwrap_or(true)
}
