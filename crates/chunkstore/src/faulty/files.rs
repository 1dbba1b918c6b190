//! The faulty file system as the store sees it: files and their handles.

use super::disk::SECTOR;
use super::{Call, FaultyIo};
use crate::local::{SegmentIo, SegmentReader, SegmentWriter};
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

impl SegmentIo for FaultyIo {
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentWriter>> {
        let number = self.step(Call::Create, |state, fault| {
            if let Some(error) = fault {
                if state.power_is_off {
                    state.disk.create(name, bytes);
                }
                return Err(error);
            }
            if state.free_bytes() < bytes {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state
                .disk
                .create(name, bytes)
                .ok_or_else(|| io::ErrorKind::AlreadyExists.into())
        })?;
        let errors_told = AtomicU64::new(0);
        Ok(Arc::new(FaultyFile {
            io: self.clone(),
            number,
            errors_told,
        }))
    }

    fn open_writer(&self, name: &str) -> io::Result<Arc<dyn SegmentWriter>> {
        Ok(Arc::new(self.open(name)?))
    }

    fn open_reader(&self, name: &str) -> io::Result<Arc<dyn SegmentReader>> {
        Ok(Arc::new(self.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step(Call::Remove, |state, fault| {
            if fault.is_none() || state.power_is_off {
                state.number(name)?;
                state.disk.remove(name);
            }
            fault.map_or(Ok(()), Err)
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.step(Call::SyncDir, |state, fault| {
            if fault.is_none() {
                state.disk.sync_names();
            }
            fault.map_or(Ok(()), Err)
        })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_power()?;
        Ok(state.disk.names())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        Ok(state.free_bytes())
    }
}

impl FaultyIo {
    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.state();
        state.check_power()?;
        if let Some(error) = state.fault(Call::Open) {
            return Err(error);
        }
        let number = state.number(name)?;
        let errors_told = AtomicU64::new(state.disk.file(number).errors());
        Ok(FaultyFile {
            io: self.clone(),
            number,
            errors_told,
        })
    }
}

struct FaultyFile {
    io: FaultyIo,
    number: u64,
    errors_told: AtomicU64,
}

impl SegmentWriter for FaultyFile {
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        for part in parts.iter() {
            let aligned = part.as_ptr().addr().is_multiple_of(SECTOR);
            assert!(
                aligned && part.len().is_multiple_of(SECTOR),
                "a direct write would fail"
            );
        }
        assert!(
            offset.is_multiple_of(SECTOR as u64),
            "a direct write would fail"
        );
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts.iter() {
            bytes.extend_from_slice(part);
        }
        self.io.step(Call::Write, |state, fault| {
            let torn_at = bytes.len() / SECTOR / 2 * SECTOR;
            let written = match &fault {
                None => &bytes[..],
                Some(_) => &bytes[..torn_at],
            };
            state.disk.file(self.number).write(offset, written);
            fault.map_or(Ok(()), Err)
        })
    }

    fn sync(&self) -> io::Result<()> {
        let shared = &self.io.shared;
        let mut state = self.io.state();
        state.held_syncs += 1;
        shared.changed.notify_all();
        while state.holding_syncs {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.held_syncs -= 1;
        drop(state);
        self.io.step(Call::Sync, |state, fault| {
            let file = state.disk.file(self.number);
            match fault {
                None => file.sync(),
                Some(_) if state.power_is_off => {}
                Some(_) => file.fail_sync(),
            }
            let errors = file.errors();
            if self.errors_told.swap(errors, Ordering::Relaxed) < errors && fault.is_none() {
                return Err(io::Error::other("an earlier write was lost"));
            }
            fault.map_or(Ok(()), Err)
        })
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.io.step(Call::Punch, |state, fault| {
            if fault.is_none() || state.power_is_off {
                state.disk.file(self.number).punch(offset, bytes);
            }
            fault.map_or(Ok(()), Err)
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.io.step(Call::Truncate, |state, fault| {
            if fault.is_none() || state.power_is_off {
                state.disk.file(self.number).truncate(bytes);
            }
            fault.map_or(Ok(()), Err)
        })
    }
}

impl SegmentReader for FaultyFile {
    fn read_at(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        let mut state = self.io.state();
        state.check_power()?;
        if let Some(error) = state.fault(Call::Read) {
            return Err(error);
        }
        state.disk.file(self.number).read(into, bytes, offset);
        Ok(())
    }

    /// This disk has no memory: every read waits.
    fn read_cached(&self, _into: &mut [u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn read_stored(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        self.read_at(into, bytes, offset)
    }

    fn read_nothing_ahead(&self) {}

    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        let mut state = self.io.state();
        state.check_power()?;
        Ok(state.disk.file(self.number).data_from(offset))
    }

    fn bytes(&self) -> io::Result<u64> {
        let mut state = self.io.state();
        state.check_power()?;
        Ok(state.disk.file(self.number).bytes())
    }
}
