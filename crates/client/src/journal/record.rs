//! Bytes of files of block digests: see the diagram in `journal.rs`. Decoding is total.

use crate::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use twox_hash::XxHash3_128;
use types::{BlockIndex, Digest};

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 40;

/// What files begin with, up to the version.
const MAGIC: &str = "drystone-blocks ";

/// The version that is written.
const VERSION: &str = "1";

/// Most bytes of a header.
const HEADER_BYTES_MAX: usize = 64 * 1024;

const INDEX_BITS: u32 = 27;
const KIND_HOLDS: u32 = 0;
const KIND_BEGUN: u32 = 1;
const KIND_MARK: u32 = 2;

/// One record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// The block holds this.
    Holds(BlockIndex, Digest),
    /// The block is about to change.
    Begun(BlockIndex),
    /// A new run begins.
    Mark,
}

/// What stands before the records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The writer's JSON object.
    pub(super) text: String,
    /// Bytes up to the first record.
    pub(super) bytes: u64,
    seed: u64,
}

impl Header {
    /// The header of a new file, and its bytes.
    ///
    /// # Panics
    /// When the text holds a line feed or is too long: it is JSON that this crate writes.
    pub(super) fn encode(text: &str) -> (Header, Vec<u8>) {
        assert!(
            !text.contains('\n') && text.len() < HEADER_BYTES_MAX / 2,
            "a header is one line of bounded length"
        );
        let line = format!("{MAGIC}{VERSION} {text}\n").into_bytes();
        let header = Header {
            text: text.to_owned(),
            bytes: line.len() as u64,
            seed: XxHash3_128::oneshot(&line) as u64,
        };
        (header, line)
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`Error::Config`]: another kind of file, or of a version that is not known here.
    pub(super) fn read(file: &File, path: &Path) -> Result<Header, Error> {
        let mut bytes = vec![0; HEADER_BYTES_MAX];
        let length = read_up_to(file, &mut bytes, 0)
            .map_err(Error::io(format!("{} cannot be read", path.display())))?;
        let foreign = || {
            Error::Config(format!(
                "{} is not a file of block digests: name another, or move it away",
                path.display()
            ))
        };
        let line = bytes[..length]
            .split_inclusive(|byte| *byte == b'\n')
            .next()
            .filter(|line| line.ends_with(b"\n"))
            .ok_or_else(foreign)?;
        let after = str::from_utf8(line)
            .ok()
            .and_then(|line| line.trim_end_matches('\n').strip_prefix(MAGIC))
            .ok_or_else(foreign)?;
        let (version, text) = after.split_once(' ').ok_or_else(foreign)?;
        if version != VERSION {
            return Err(Error::Config(format!(
                "{} was written by another version of this program",
                path.display()
            )));
        }
        Ok(Header {
            text: text.to_owned(),
            bytes: line.len() as u64,
            seed: XxHash3_128::oneshot(line) as u64,
        })
    }

    /// Whether a file, perhaps cut off anywhere, begins as those with a header do.
    pub(super) fn begins(file: &File) -> io::Result<bool> {
        let mut bytes = [0; MAGIC.len()];
        let length = read_up_to(file, &mut bytes, 0)?;
        Ok(MAGIC.as_bytes().starts_with(&bytes[..length]))
    }

    /// Where a record stands.
    pub(super) fn offset_of(&self, number: u64) -> u64 {
        self.bytes + number * RECORD_BYTES as u64
    }

    /// The bytes of the record that stands at this place.
    pub(super) fn encode_record(&self, number: u64, record: Record) -> [u8; RECORD_BYTES] {
        let (word, digest) = match record {
            Record::Holds(index, digest) => (word(KIND_HOLDS, index), *digest.as_bytes()),
            Record::Begun(index) => (word(KIND_BEGUN, index), [0; Digest::BYTES]),
            Record::Mark => (word(KIND_MARK, BlockIndex::ZERO), [0; Digest::BYTES]),
        };
        let mut bytes = [0; RECORD_BYTES];
        bytes[..4].copy_from_slice(&word.to_le_bytes());
        bytes[4..36].copy_from_slice(&digest);
        let checksum = self.checksum(number, &bytes[..36]);
        bytes[36..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The record in these bytes, if they are what was written at this place.
    pub(super) fn decode_record(&self, number: u64, bytes: &[u8]) -> Option<Record> {
        let (content, checksum) = bytes.split_at_checked(36)?;
        if checksum != self.checksum(number, content).to_le_bytes() {
            return None;
        }
        let (word, digest) = content.split_first_chunk()?;
        let word = u32::from_le_bytes(*word);
        let index = BlockIndex::new(word & ((1 << INDEX_BITS) - 1))?;
        let digest = Digest::from_slice(digest)?;
        let record = match word >> INDEX_BITS {
            KIND_HOLDS => Record::Holds(index, digest),
            KIND_BEGUN => Record::Begun(index),
            KIND_MARK => Record::Mark,
            _ => return None,
        };
        // Whatever decodes is what encoding gives, so that no second meaning can hide in unused bits.
        (self.encode_record(number, record) == bytes).then_some(record)
    }

    fn checksum(&self, number: u64, content: &[u8]) -> u32 {
        XxHash3_128::oneshot_with_seed(self.seed.wrapping_add(number), content) as u32
    }
}

fn word(kind: u32, index: BlockIndex) -> u32 {
    kind << INDEX_BITS | index.get()
}

/// Fills as much of the buffer as the file has.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
