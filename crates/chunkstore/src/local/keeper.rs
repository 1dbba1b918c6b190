//! Creates and seals segments, on a thread of its own, so that writers never do.
//!
//! Creating, in this order: an id from the registry; the file, its space set aside; its header; sync of the file and of
//! the directory; open in the registry; only then the first frame. A crash before the record leaves a file without
//! frames, which the next start removes.
//!
//! Sealing: truncate the tail, sync, then sealed in the registry. A crash before the record leaves an open segment,
//! which the next start scans.
//!
//! Failure: whatever goes wrong while creating is told to the batch that waits for the segment. A segment that cannot be
//! sealed stays open until the next start, which is only slower.

use super::allocator::Allocator;
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::shared::Shared;
use crate::{ContainerKind, ContainerState, ContainerStatus, Error, layout};
use buffers::Aligned;
use futures_util::FutureExt;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tokio::runtime::Handle;

/// What the keeper is asked to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Create a segment and hand it to the allocator.
    Prepare(ContainerKind),
    /// Seal a segment that is full.
    Seal(Arc<Segment>),
    /// End.
    Stop,
}

/// The keeper's thread.
pub(crate) struct KeeperThread {
    pub(crate) keeper: Keeper,
    pub(crate) allocator: Arc<Allocator>,
}

impl KeeperThread {
    /// Works until told to stop.
    pub(crate) fn run(self, tasks: Receiver<Task>) {
        for task in tasks {
            match task {
                Task::Prepare(kind) => self.allocator.prepared(kind, self.keeper.prepare(kind)),
                Task::Seal(segment) => self.keeper.seal(&segment),
                Task::Stop => break,
            }
        }
    }
}

impl Drop for KeeperThread {
    /// Nobody waits for a keeper that is gone, not even one that panicked.
    fn drop(&mut self) {
        for kind in [ContainerKind::Blocks, ContainerKind::Pages] {
            let reason = "its keeper has ended".to_owned();
            self.allocator.prepared(kind, Err(Error::Closed { reason }));
        }
    }
}

pub(crate) struct Keeper {
    pub(crate) shared: Arc<Shared>,
    /// The registry is asynchronous: this waits for it. Without, its answers have to be ready at once.
    pub(crate) runtime: Option<Handle>,
}

impl Keeper {
    /// A new segment, ready for its first frame.
    pub(crate) fn prepare(&self, kind: ContainerKind) -> Result<Arc<Segment>, Error> {
        self.create(kind).inspect_err(|error| {
            tracing::warn!(
                ?kind,
                error = error as &dyn std::error::Error,
                "no new segment"
            );
        })
    }

    /// Seals a segment that is full.
    pub(crate) fn seal(&self, segment: &Segment) {
        if let Err(error) = self.truncate_and_record(segment) {
            tracing::warn!(
                segment = segment.id.0,
                error = &error as &dyn std::error::Error,
                "a full segment stays open until the next start"
            );
        }
    }

    fn wait<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(call),
            None => call
                .now_or_never()
                .unwrap_or_else(|| Err(Error::Registry("it does not answer at once".into()))),
        }
    }

    fn create(&self, kind: ContainerKind) -> Result<Arc<Segment>, Error> {
        let shared = &self.shared;
        let allocated_bytes = shared.next_segment_bytes(kind)?;
        let id = self.wait(shared.registry.reserve())?;
        let name = layout::segment_name(id, kind);
        let header = SegmentHeader {
            id,
            kind,
            allocated_bytes,
        };
        if let Err(error) = self.create_file(&name, header) {
            // Not needed for safety: a file that no record names is removed at the next start.
            let _ = shared.io.remove(&name);
            return Err(error);
        }
        // After a failure it is not known whether the record was written, so the file stays.
        let status = ContainerStatus {
            id,
            kind,
            state: ContainerState::Open,
            bytes: allocated_bytes,
        };
        self.wait(shared.registry.record(status))?;
        shared.remember(status);
        tracing::debug!(segment = id.0, ?kind, allocated_bytes, "segment opened");
        Ok(Arc::new(Segment::new(header)))
    }

    fn create_file(&self, name: &str, header: SegmentHeader) -> Result<(), Error> {
        let shared = &self.shared;
        let failed = |operation| move |source| shared.io_error(operation, source);
        let file = shared
            .io
            .create(name, header.allocated_bytes)
            .map_err(failed("creating a segment"))?;
        let mut block = Aligned::zeroed(SEGMENT_HEADER_BYTES);
        header.encode(&shared.key, block.as_mut_slice());
        let written = file.write_at(&mut [IoSlice::new(block.as_slice())], 0);
        written.map_err(failed("writing a segment's header"))?;
        file.sync().map_err(failed("syncing a new segment"))?;
        shared
            .io
            .sync_dir()
            .map_err(failed("syncing the segment directory"))
    }

    fn truncate_and_record(&self, segment: &Segment) -> Result<(), Error> {
        let (shared, bytes) = (&self.shared, segment.end());
        truncate(shared, &segment.name(), bytes)?;
        let status = ContainerStatus {
            id: segment.id,
            kind: segment.kind,
            state: ContainerState::Sealed,
            bytes,
        };
        self.wait(shared.registry.record(status))?;
        shared.remember(status);
        Ok(())
    }
}

/// Cuts a segment to its used length, durably.
pub(crate) fn truncate(shared: &Shared, name: &str, bytes: u64) -> Result<(), Error> {
    let failed = |operation| move |source| shared.io_error(operation, source);
    let file = shared
        .io
        .open_writer(name)
        .map_err(failed("opening a segment"))?;
    file.truncate(bytes)
        .map_err(failed("truncating a segment"))?;
    file.sync().map_err(failed("syncing a truncated segment"))
}
