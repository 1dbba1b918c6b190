//! A target that is written once, from the beginning to the end: a pipe, a terminal, a character device.

use super::writer::past_end;
use crate::Error;
use crate::source::Extent;
use crate::source::disk::BLOCK;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use types::{BLOCK_BYTES, BlockIndex, is_zero};

/// Time between two looks whether somebody reads from a FIFO.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Opens a FIFO when somebody reads from it, unless it is stopped. (A plain `open` waits for that and cannot be given up.)
pub(super) fn open_fifo(path: &Path, stop: &AtomicBool) -> Result<OwnedFd, Error> {
    let failed = |error: Errno| {
        let what = format!("{} cannot be opened to write", path.display());
        Error::io(what)(error.into())
    };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        match rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty()) {
            Ok(fifo) => {
                rustix::fs::fcntl_setfl(&fifo, OFlags::empty()).map_err(failed)?;
                return Ok(fifo);
            }
            Err(Errno::NXIO) => std::thread::sleep(LOOK_EVERY),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    name: String,
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Bytes written.
    at: u64,
}

impl Stream {
    /// Writes `bytes` bytes from where the file stands. `name` is for messages.
    pub(super) fn new(file: File, name: String, bytes: u64) -> Stream {
        Stream {
            name,
            bytes,
            state: Mutex::new(State { file, at: 0 }),
        }
    }

    /// For messages: where it goes to.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a block, and zeros for those left out before it; what lies past the end must be zeros.
    pub(super) fn write_block(&self, index: BlockIndex, data: &[u8]) -> Result<(), Error> {
        assert_eq!(data.len(), BLOCK_BYTES, "what is written is a block");
        let start = u64::from(index.get()) * BLOCK;
        let inside = self.bytes.saturating_sub(start).min(BLOCK) as usize;
        if !is_zero(&data[inside..]) {
            return Err(past_end(&self.name, index, self.bytes));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.zeros_to(&mut state, start)?;
        assert!(
            state.at == start.min(self.bytes),
            "blocks of a stream are written in ascending order"
        );
        self.write(&mut state, &data[..inside])
    }

    /// Writes zeros up to the end of a run of blocks.
    pub(super) fn zero(&self, extent: Extent) -> Result<(), Error> {
        let end = (u64::from(extent.start) + u64::from(extent.count)) * BLOCK;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.zeros_to(&mut state, end)
    }

    /// Writes zeros to the very end, and makes durable what a file behind the stream holds.
    pub(super) fn finish(&self) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.zeros_to(&mut state, self.bytes)?;
        match rustix::fs::fsync(&state.file) {
            // Pipes, sockets and terminals keep nothing.
            Ok(()) | Err(Errno::INVAL | Errno::ROFS | Errno::NOTSUP) => Ok(()),
            Err(error) => Err(Error::io(format!("{} cannot be made durable", self.name))(
                error.into(),
            )),
        }
    }

    fn zeros_to(&self, state: &mut State, end: u64) -> Result<(), Error> {
        static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        let end = end.min(self.bytes);
        while state.at < end {
            let part = (end - state.at).min(BLOCK) as usize;
            self.write(state, &ZEROS[..part])?;
        }
        Ok(())
    }

    fn write(&self, state: &mut State, data: &[u8]) -> Result<(), Error> {
        state.file.write_all(data).map_err(|source| Error::Io {
            what: format!("{} cannot be written at {}", self.name, state.at),
            source,
        })?;
        state.at += data.len() as u64;
        Ok(())
    }
}
