//! A source that is read once, from the beginning to an end that nobody knows before: a pipe, a terminal, a character device.

use crate::Error;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::sync::{Mutex, PoisonError};
use types::{BLOCK_BYTES, BlockIndex};

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    blocks: u32,
    bytes: u64,
    ended: bool,
}

impl Stream {
    /// Reads from where the file stands. `name` is for messages.
    pub(super) fn new(file: File, name: String) -> Stream {
        Stream {
            name,
            state: Mutex::new(State {
                file,
                blocks: 0,
                bytes: 0,
                ended: false,
            }),
        }
    }

    /// For messages: where it comes from.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that were read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes
    }

    /// Fills a block, the last one up with zeros; false when nothing is left.
    pub(super) fn read_next(&self, buffer: &mut [u8]) -> Result<bool, Error> {
        assert_eq!(buffer.len(), BLOCK_BYTES, "a block is read into a block");
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended {
            return Ok(false);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            match state.file.read(&mut buffer[filled..]) {
                Ok(0) => {
                    state.ended = true;
                    break;
                }
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let at = u64::from(state.blocks) * BLOCK_BYTES as u64 + filled as u64;
                    return Err(Error::Io {
                        what: format!("{} cannot be read at {at}", self.name),
                        source,
                    });
                }
            }
        }
        if filled == 0 {
            return Ok(false);
        }
        if state.blocks == BlockIndex::COUNT_MAX {
            return Err(Error::Unfit(format!(
                "{} is longer than 64 TiB, the largest volume",
                self.name
            )));
        }
        state.blocks += 1;
        state.bytes += filled as u64;
        buffer[filled..].fill(0);
        Ok(true)
    }
}
