//! What `qemu-img map --output=json` says of a raw image: which parts of it are zeros.
//!
//! The map is believed, also where it claims zeros and the file holds data: that is its use, since some file systems and all
//! devices do not know their holes. It must describe the very bytes that are read, so it is refused if it does not cover the
//! source exactly, or is that of an image in another format.
//!
//! ```text
//! [{ "start": 0, "length": 65536, "depth": 0, "zero": false, "data": true, "offset": 0 }, ...]
//! ```
//!
//! Memory: a bit for each block of the source, at most 16 MiB, however long the map is.

#[cfg(test)]
mod tests;

use super::Extent;
use super::blocks::BlockSet;
use super::disk::BLOCK;
use crate::Error;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// What `qemu-img` rounds the length of an image up to.
const SECTOR: u64 = 512;

/// The blocks that hold data.
#[derive(Debug)]
pub(super) struct Map {
    data: BlockSet,
}

impl Map {
    /// Reads the map of a source of `bytes` bytes.
    pub(super) fn read(path: &Path, bytes: u64) -> Result<Map, Error> {
        let name = path.display();
        let file = File::open(path).map_err(Error::io(format!("{name} cannot be opened")))?;
        Map::parse(BufReader::with_capacity(1 << 16, file), bytes).map_err(|error| {
            if error.is_io() {
                Error::io(format!("{name} cannot be read"))(error.into())
            } else {
                Error::Unfit(format!("the map {name} does not fit: {error}"))
            }
        })
    }

    /// Reads the map of a source of `bytes` bytes.
    fn parse(reader: impl Read, bytes: u64) -> Result<Map, serde_json::Error> {
        let mut covered = Covered {
            data: BlockSet::new(bytes.div_ceil(BLOCK)),
            bytes,
            end: 0,
        };
        let mut json = serde_json::Deserializer::from_reader(reader);
        covered.deserialize(&mut json)?;
        json.end()?;
        if covered.end != bytes && covered.end != bytes.next_multiple_of(SECTOR) {
            return Err(serde_json::Error::custom(format_args!(
                "it covers {} bytes and the source has {bytes}",
                covered.end
            )));
        }
        Ok(Map { data: covered.data })
    }

    /// The next run of blocks with data from `from` on.
    pub(super) fn next_data(&self, from: u32) -> Option<Extent> {
        self.data.next(from)
    }
}

/// One entry, as far as it matters.
#[derive(Deserialize)]
struct Entry {
    start: u64,
    length: u64,
    #[serde(default)]
    depth: u64,
    zero: bool,
    data: bool,
    #[serde(default)]
    compressed: bool,
    offset: Option<u64>,
}

/// What has been read so far.
struct Covered {
    data: BlockSet,
    bytes: u64,
    end: u64,
}

impl Covered {
    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let &Entry { start, length, .. } = entry;
        if start != self.end {
            return Err(format!(
                "after {} comes {start}: entries must follow each other without gaps",
                self.end
            ));
        }
        let end = start
            .checked_add(length)
            .filter(|end| *end <= self.bytes.next_multiple_of(SECTOR))
            .ok_or_else(|| {
                format!(
                    "{length} bytes at {start} lie past the source's {} bytes",
                    self.bytes
                )
            })?;
        if entry.depth > 0 {
            return Err(format!(
                "the data at {start} is in a backing file: the image must be raw"
            ));
        }
        let elsewhere = entry.offset.is_some_and(|offset| offset != start);
        if entry.data && !entry.zero && (elsewhere || entry.compressed) {
            return Err(format!(
                "the data at {start} lies elsewhere in the file or is compressed: the image must be raw"
            ));
        }
        // What is neither data nor zero is not known, so it is read.
        if !entry.zero {
            self.data
                .insert(start / BLOCK, end.min(self.bytes).div_ceil(BLOCK));
        }
        self.end = end;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Covered {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Covered {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the output of qemu-img map --output=json")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<Entry>()? {
            self.take(&entry).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
