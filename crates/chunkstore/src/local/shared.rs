//! What the threads and callers of one local store have in common.

use super::io::SegmentIo;
use crate::frame::StoreKey;
use crate::metrics::Metrics;
use crate::{ContainerId, ContainerKind, ContainerRegistry, ContainerStatus, Error};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use types::Clock;

pub(crate) struct Shared {
    pub(crate) io: Arc<dyn SegmentIo>,
    pub(crate) registry: Arc<dyn ContainerRegistry>,
    pub(crate) key: StoreKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sizes: Sizes,
    /// Every container that exists, as last recorded.
    pub(crate) containers: RwLock<BTreeMap<ContainerId, ContainerStatus>>,
}

/// How large segments are made and how much space is left alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) segment_bytes_min: u64,
    pub(crate) segment_bytes_max: u64,
    pub(crate) reserve_bytes: u64,
}

impl Shared {
    pub(crate) fn status(&self, id: ContainerId) -> Option<ContainerStatus> {
        self.containers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .copied()
    }

    pub(crate) fn remember(&self, status: ContainerStatus) {
        let mut containers = self
            .containers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        containers.insert(status.id, status);
    }

    pub(crate) fn forget(&self, id: ContainerId) {
        self.containers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }

    pub(crate) fn all(&self) -> Vec<ContainerStatus> {
        let containers = self
            .containers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        containers.values().copied().collect()
    }

    /// Refuses blocks once free space is below the reserve; pages and snapshot records may use it up.
    pub(crate) fn check_space(&self, kind: ContainerKind) -> Result<(), Error> {
        let Some(reserve_bytes) = self.reserve_of(kind) else {
            return Ok(());
        };
        let free_bytes = self.free_bytes()?;
        if free_bytes < reserve_bytes {
            return Err(Error::NoSpace {
                free_bytes,
                reserve_bytes,
            });
        }
        Ok(())
    }

    /// The size of the next segment: it follows the bytes that there are already of its kind, and is halved as long as
    /// there is no room for it.
    pub(crate) fn next_segment_bytes(&self, kind: ContainerKind) -> Result<u64, Error> {
        let Sizes {
            segment_bytes_min,
            segment_bytes_max,
            ..
        } = self.sizes;
        let used: u64 = self
            .all()
            .iter()
            .filter(|held| held.kind == kind)
            .map(|held| held.bytes)
            .sum();
        let mut wanted = segment_bytes_min;
        while wanted * 2 <= used.min(segment_bytes_max) {
            wanted *= 2;
        }
        let reserve_bytes = self.reserve_of(kind).unwrap_or(0);
        let free_bytes = self.free_bytes()?;
        while wanted.saturating_add(reserve_bytes) > free_bytes {
            if wanted / 2 < segment_bytes_min {
                return Err(Error::NoSpace {
                    free_bytes,
                    reserve_bytes,
                });
            }
            wanted /= 2;
        }
        Ok(wanted)
    }

    /// An I/O error, told apart: a full device is no fault of the device.
    pub(crate) fn io_error(&self, operation: &'static str, source: std::io::Error) -> Error {
        match Error::io(operation, source) {
            Error::NoSpace { .. } => Error::NoSpace {
                free_bytes: self.io.free_bytes().unwrap_or(0),
                reserve_bytes: self.sizes.reserve_bytes,
            },
            other => other,
        }
    }

    fn free_bytes(&self) -> Result<u64, Error> {
        let free = self.io.free_bytes();
        free.map_err(|source| Error::Io {
            operation: "asking for free space",
            source,
        })
    }

    fn reserve_of(&self, kind: ContainerKind) -> Option<u64> {
        match kind {
            ContainerKind::Blocks => Some(self.sizes.reserve_bytes),
            ContainerKind::Pages => None,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}
