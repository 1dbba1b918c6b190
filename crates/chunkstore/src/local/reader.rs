//! Reads frames and proves them, on blocking threads, within bounds.
//!
//! A read from the page cache costs one copy into a buffer of our own and one checksum over it; the content is a slice of
//! that buffer. Buffers of whole blocks are used again, since fresh memory of that size costs as much as the copy.

use super::io::{SegmentReader, is_bad_sector};
use super::shared::Shared;
use crate::codec;
use crate::frame::{FRAME_BYTES_MAX, FrameError, HEADER_BYTES, Header};
use crate::{ChunkId, Codec, ContainerId, Error, Location, layout};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Files kept open for reading: enough for what is read at a time, few beside the usual limit of 1,024 per process.
const OPEN_FILES_MAX: usize = 256;

/// Buffers of one block frame each that are kept for the next reads.
const IDLE_BUFFERS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    files: Mutex<OpenFiles>,
    idle: Arc<IdleBuffers>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Reader {
        Reader {
            shared,
            files: Mutex::default(),
            idle: Arc::default(),
        }
    }

    /// The content of the chunk at this location, if its frame is in memory and is the content itself; nothing when the
    /// answer needs the disk or a decoder. Takes 70 µs for a block, less than handing it to another thread and back.
    pub(crate) fn read_cached(
        &self,
        location: Location,
        chunk: ChunkId,
    ) -> Result<Option<Bytes>, Error> {
        let (file, bytes) = self.find(location)?;
        let mut buffer = self.idle.buffer(bytes);
        // Whatever this attempt meets, the one that may wait meets it again and says it.
        if !matches!(
            file.read_cached(&mut buffer.memory, location.offset),
            Ok(true)
        ) {
            return Ok(None);
        }
        let header = self.verify(&buffer, location, chunk)?;
        if header.codec != Codec::None {
            return Ok(None);
        }
        self.count(bytes);
        Ok(Some(
            Bytes::from_owner(buffer).slice(header.payload_range()),
        ))
    }

    /// The content of the chunk at this location, as the disk has it. Blocks.
    pub(crate) fn read_stored(&self, location: Location, chunk: ChunkId) -> Result<Bytes, Error> {
        self.read_with(location, chunk, |file, into, bytes, offset| {
            file.read_stored(into, bytes, offset)
        })
    }

    /// The content of the chunk at this location. Blocks.
    pub(crate) fn read(&self, location: Location, chunk: ChunkId) -> Result<Bytes, Error> {
        self.read_with(location, chunk, |file, into, bytes, offset| {
            file.read_at(into, bytes, offset)
        })
    }

    fn read_with(
        &self,
        location: Location,
        chunk: ChunkId,
        read: impl Fn(&dyn SegmentReader, &mut Vec<u8>, usize, u64) -> io::Result<()>,
    ) -> Result<Bytes, Error> {
        let (file, bytes) = self.find(location)?;
        let mut buffer = self.idle.buffer(bytes);
        buffer.memory.clear();
        let read = read(&*file, &mut buffer.memory, bytes, location.offset);
        // A bad sector is damage like any other: what it held has to be stored anew.
        read.map_err(|source| match source {
            source if is_bad_sector(&source) => Error::Corrupt {
                location,
                reason: source.to_string(),
            },
            source => Error::Io {
                operation: "reading a frame",
                source,
            },
        })?;
        let header = self.verify(&buffer, location, chunk)?;
        let stored = Bytes::from_owner(buffer).slice(header.payload_range());
        let content = codec::decode(header.codec, stored, header.content_bytes as usize);
        let content = content.map_err(|error| self.corrupt(location, &error))?;
        self.count(bytes);
        Ok(content)
    }

    /// The file that the location is in, and the frame's length.
    fn find(&self, location: Location) -> Result<(Arc<dyn SegmentReader>, usize), Error> {
        let bytes = location.length as usize;
        if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&bytes) {
            return Err(self.corrupt(location, &FrameError::OtherLength(location.length)));
        }
        let (file, container_bytes) = self.file(location.container)?;
        let end = location.offset.checked_add(u64::from(location.length));
        if end.is_none_or(|end| end > container_bytes) {
            return Err(self.corrupt(location, &FrameError::Short(0)));
        }
        Ok((file, bytes))
    }

    fn verify(
        &self,
        buffer: &ReadBuffer,
        location: Location,
        chunk: ChunkId,
    ) -> Result<Header, Error> {
        Header::verify(&self.shared.key, &buffer.memory, location, &chunk)
            .map_err(|error| self.corrupt(location, &error))
    }

    fn count(&self, bytes: usize) {
        self.shared.metrics.reads.add(1);
        self.shared.metrics.read_bytes.add(bytes as u64);
    }

    /// Closes the file of a container that is gone.
    pub(crate) fn close(&self, container: ContainerId) {
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .remove(&container);
    }

    /// The container's file and length.
    fn file(&self, container: ContainerId) -> Result<(Arc<dyn SegmentReader>, u64), Error> {
        let not_found = || Error::NotFound { container };
        let status = self.shared.status(container).ok_or_else(not_found)?;
        if let Some(file) = self
            .files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(container)
        {
            return Ok((file, status.bytes));
        }
        let opened = self
            .shared
            .io
            .open_reader(&layout::segment_name(container, status.kind));
        let file = opened.map_err(|source| match source.kind() {
            // Removed since we looked, or a file that should be there is not.
            io::ErrorKind::NotFound if self.shared.status(container).is_none() => not_found(),
            _ => Error::Io {
                operation: "opening a segment to read",
                source,
            },
        })?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(container, Arc::clone(&file));
        Ok((file, status.bytes))
    }

    fn corrupt(&self, location: Location, error: &FrameError) -> Error {
        self.shared.metrics.reads_corrupt.add(1);
        Error::Corrupt {
            location,
            reason: error.to_string(),
        }
    }
}

/// The files used last.
#[derive(Default)]
struct OpenFiles {
    by_id: HashMap<ContainerId, (Arc<dyn SegmentReader>, u64)>,
    uses: u64,
}

impl OpenFiles {
    fn get(&mut self, container: ContainerId) -> Option<Arc<dyn SegmentReader>> {
        self.uses += 1;
        let (file, used) = self.by_id.get_mut(&container)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }

    fn insert(&mut self, container: ContainerId, file: Arc<dyn SegmentReader>) {
        if self.by_id.len() >= OPEN_FILES_MAX {
            let oldest = self
                .by_id
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(id, _)| *id);
            oldest.and_then(|id| self.by_id.remove(&id));
        }
        self.by_id.insert(container, (file, self.uses));
    }
}

impl std::fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenFiles({})", self.by_id.len())
    }
}

/// Memory of earlier reads, each of exactly [`FRAME_BYTES_MAX`].
#[derive(Default, Debug)]
struct IdleBuffers(Mutex<Vec<Vec<u8>>>);

impl IdleBuffers {
    fn buffer(self: &Arc<Self>, bytes: usize) -> ReadBuffer {
        let idle = match bytes {
            FRAME_BYTES_MAX => self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(),
            _ => None,
        };
        let memory = idle.unwrap_or_else(|| vec![0; bytes]);
        ReadBuffer {
            memory,
            home: Arc::clone(self),
        }
    }
}

/// Memory that goes back when the last slice of it is dropped.
struct ReadBuffer {
    memory: Vec<u8>,
    home: Arc<IdleBuffers>,
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if self.memory.len() != FRAME_BYTES_MAX {
            return;
        }
        let mut idle = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_BUFFERS_MAX {
            idle.push(std::mem::take(&mut self.memory));
        }
    }
}
