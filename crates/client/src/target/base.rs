//! Gives a target the content of the disk that it is based on.
//!
//! A base is as long as the target, or shorter: what it lacks is zeros. It may be longer where that is a device, of which only
//! the beginning counts, or where what is too much of it holds only zeros; else it is not the disk that it is said to be.

use super::writer::{Writer, is_zero};
use crate::Error;
use crate::source::disk::BLOCK;
use crate::source::{Extent, Source};
use buffers::Aligned;
use std::path::Path;
use types::{BLOCK_BYTES, BlockIndex};

/// Refuses a file that has data past `bytes`.
pub(super) fn check_length(base: &Source, name: &Path, bytes: u64) -> Result<(), Error> {
    if base.is_device() || base.bytes().is_none_or(|length| length <= bytes) {
        return Ok(());
    }
    let mut buffer = Aligned::zeroed(BLOCK_BYTES);
    // A volume has no more blocks than 32 bits count.
    let mut from = (bytes / BLOCK) as u32;
    while let Some(run) = base.next_data(from)? {
        from = run.start + run.count;
        for index in blocks(run) {
            base.read_block(index, buffer.as_mut_slice())?;
            let skipped = bytes
                .saturating_sub(u64::from(index.get()) * BLOCK)
                .min(BLOCK) as usize;
            if !is_zero(&buffer.as_slice()[skipped..]) {
                return Err(Error::Unfit(format!(
                    "the base {} has data past the {bytes} bytes that are to be written: block {index}",
                    name.display()
                )));
            }
        }
    }
    Ok(())
}

/// Copies all that a target can hold.
pub(super) fn copy(base: &Source, writer: &Writer) -> Result<(), Error> {
    let end = writer.disk().bytes().div_ceil(BLOCK) as u32;
    let mut buffer = Aligned::zeroed(BLOCK_BYTES);
    // Everything before it is as in the base, but for a run of zeros that ends at the block in hand.
    let mut done = 0;
    let mut from = 0;
    while let Some(run) = base.next_data(from)?
        && run.start < end
    {
        from = run.start + run.count;
        for index in blocks(run).take_while(|index| index.get() < end) {
            base.read_block(index, buffer.as_mut_slice())?;
            let inside = writer.disk().bytes_of(index);
            buffer.as_mut_slice()[inside..].fill(0);
            if is_zero(buffer.as_slice()) {
                continue;
            }
            zero(writer, done, index.get())?;
            writer.write_block(index, buffer.as_slice())?;
            done = index.get() + 1;
        }
    }
    zero(writer, done, end)
}

fn zero(writer: &Writer, start: u32, end: u32) -> Result<(), Error> {
    writer.zero(Extent {
        start,
        count: end - start,
    })
}

fn blocks(run: Extent) -> impl Iterator<Item = BlockIndex> {
    (run.start..run.start + run.count).filter_map(BlockIndex::new)
}
