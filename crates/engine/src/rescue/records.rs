//! From the frames of a segment to the records of a catalog.
//!
//! Snapshots are written as they are found, each with the live bytes of the container that its frame is in. Frames of chunks are gathered
//! first, and written in order once all segments are read (`frames.rs`).

use super::frames::Frames;
use super::{BATCH, RebuildDepth, RebuildReport, RescueError, Tell};
use crate::SnapshotFrame;
use crate::error::chain;
use crate::pages::catalog_location;
use crate::touched::is_damage;
use blockmap::empty_root;
use bytes::Bytes;
use catalog::chunks::{ChunkRecord, ChunkState};
use catalog::containers::ContainerRecord;
use catalog::snapshots::{Finished, Promise, SnapshotRecord, State};
use catalog::{Db, DbExt, Txn};
use chunkstore::salvage::{Gap, GapReason, Salvage, SalvagedPart, SegmentFile};
use chunkstore::{ChunkKind, ChunkStore, ContainerId, ContainerState, FoundFrame};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use types::limits::TIMEOUT_MINUTES_DEFAULT;
use types::{Digest, UnixMillis};

/// Frames read at a time.
const READS: usize = 8;

/// Stored bytes up to which a digest is computed where it is wanted: a page takes some microseconds.
const INLINE_BYTES_MAX: u32 = 16 << 10;

/// Segments read at a time: single reads of headers, one after the other, leave a fast disk idle.
const SEGMENTS: usize = 8;

/// Containers registered in one transaction.
const CONTAINERS: usize = 1_024;

/// Gathers records from segments.
pub(super) struct Gathering<'a> {
    pub(super) db: &'a dyn Db,
    pub(super) frames: Frames,
    pub(super) now: UnixMillis,
    pub(super) report: &'a mut RebuildReport,
}

/// How segments are read.
pub(super) struct Reading<'a> {
    pub(super) chunks: &'a dyn ChunkStore,
    pub(super) salvage: Salvage,
    pub(super) depth: RebuildDepth,
    /// Segments whose blocks are read whatever the depth.
    pub(super) may_be_torn: HashSet<ContainerId>,
    pub(super) epoch: i64,
    pub(super) tell: Tell,
}

/// What a part of a segment holds.
struct Found<'a> {
    file: &'a SegmentFile,
    chunks: Vec<ChunkRecord>,
    /// Frames of snapshots, with what they say if they are whole.
    snapshots: Vec<(chunkstore::Location, Option<SnapshotFrame>)>,
    gaps: Vec<Gap>,
}

impl Gathering<'_> {
    /// Makes records of all that is in these segments. Those of chunks are gathered, to be written in order.
    pub(super) async fn segments(
        &mut self,
        files: &[SegmentFile],
        reading: &Reading<'_>,
    ) -> Result<(), RescueError> {
        for files in files.chunks(CONTAINERS) {
            self.containers(files).await?;
        }
        let count = files.len();
        let parts = stream::iter(files.iter().enumerate()).map(|(number, file)| {
            let (name, number) = (&file.name, number + 1);
            (reading.tell)(&format!("reading segment {number} of {count}: {name}"));
            reading.parts(file).boxed()
        });
        let mut parts = parts.flatten_unordered(SEGMENTS);
        while let Some(found) = parts.try_next().await? {
            for gap in &found.gaps {
                self.note_gap(found.file, gap);
            }
            for record in &found.chunks {
                self.frames.push(record).await?;
            }
            for (frame, snapshot) in found.snapshots {
                self.snapshot(frame, snapshot).await?;
            }
        }
        Ok(())
    }

    async fn containers(&mut self, files: &[SegmentFile]) -> Result<(), RescueError> {
        let records = files.iter().map(|file| ContainerRecord {
            id: file.container.0,
            kind: file.kind as u8,
            state: ContainerState::Sealed as u8,
            bytes: file.bytes,
        });
        let records: Arc<Vec<_>> = Arc::new(records.collect());
        self.report.segments.count += files.len() as u64;
        self.report.segments.bytes += files.iter().map(|file| file.bytes).sum::<u64>();
        self.db
            .transact(move |txn| {
                let records = Arc::clone(&records);
                Box::pin(async move {
                    for record in records.iter() {
                        catalog::containers::record(txn, *record).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        Ok(())
    }

    fn note_gap(&mut self, file: &SegmentFile, gap: &Gap) {
        let report = &mut *self.report;
        report.gaps.count += 1;
        report.gaps.bytes += u64::from(gap.location.length);
        if report.gap_examples.len() < RebuildReport::EXAMPLES_MAX {
            let what = match gap.reason {
                GapReason::NoFrame => "no frame: a torn write, or what follows a damaged header",
                GapReason::DamagedHeader => "a frame whose header is damaged",
                GapReason::Misplaced => "a frame of another store or place",
                GapReason::Unknown => "a frame in a format that this program does not know",
                GapReason::Unreadable => "the disk cannot read it",
            };
            let (offset, bytes) = (gap.location.offset, gap.location.length);
            let name = &file.name;
            report
                .gap_examples
                .push(format!("{name} at {offset}, {bytes} bytes: {what}"));
        }
    }

    async fn snapshot(
        &mut self,
        frame: chunkstore::Location,
        found: Option<SnapshotFrame>,
    ) -> Result<(), RescueError> {
        let Some(found) = found else {
            self.note_snapshot_damage(frame);
            return Ok(());
        };
        let now = self.now;
        let work = Arc::new((found, catalog_location(frame)));
        self.db
            .transact(move |txn| {
                let work = Arc::clone(&work);
                Box::pin(async move { put_snapshot(txn, &work.0, work.1, now).await })
            })
            .await?;
        Ok(())
    }

    fn note_snapshot_damage(&mut self, frame: chunkstore::Location) {
        self.report.gaps.count += 1;
        self.report.gaps.bytes += u64::from(frame.length);
        if self.report.gap_examples.len() < RebuildReport::EXAMPLES_MAX {
            self.report.gap_examples.push(format!(
                "container {} at {}, {} bytes: the frame of a snapshot that is damaged",
                frame.container.0, frame.offset, frame.length
            ));
        }
    }
}

impl Reading<'_> {
    /// The parts of a segment, one after the other.
    fn parts<'a>(
        &'a self,
        file: &'a SegmentFile,
    ) -> impl Stream<Item = Result<Found<'a>, RescueError>> {
        stream::try_unfold(Some(0), move |from| async move {
            let Some(at) = from else { return Ok(None) };
            let part = part(&self.salvage, file, at).await?;
            let (snapshots, chunks) = part
                .frames
                .into_iter()
                .partition(|frame| frame.id.kind == ChunkKind::Snapshot);
            let found = Found {
                file,
                chunks: self.judged(chunks).await?,
                snapshots: self.snapshots(snapshots).await?,
                gaps: part.gaps,
            };
            Ok(Some((found, part.next)))
        })
    }

    /// The records of frames, those that are to be read with what that says of them.
    async fn judged(&self, frames: Vec<FoundFrame>) -> Result<Vec<ChunkRecord>, RescueError> {
        let reads = frames.into_iter().map(|frame| async move {
            let record = record(&frame, self.epoch);
            let read = frame.id.kind == ChunkKind::Page
                || self.depth == RebuildDepth::Contents
                || self.may_be_torn.contains(&frame.location.container);
            if !read {
                return Ok(record);
            }
            let state = match examine(self.chunks, &frame).await? {
                Ok(_) => ChunkState::Live,
                Err(_) => ChunkState::Damaged,
            };
            Ok(ChunkRecord { state, ..record })
        });
        stream::iter(reads).buffered(READS).try_collect().await
    }

    async fn snapshots(
        &self,
        frames: Vec<FoundFrame>,
    ) -> Result<Vec<(chunkstore::Location, Option<SnapshotFrame>)>, RescueError> {
        let mut found = Vec::with_capacity(frames.len());
        for frame in frames {
            found.push((frame.location, snapshot_frame(self.chunks, &frame).await?));
        }
        Ok(found)
    }
}

/// A part of a segment, found on a blocking thread.
pub(super) async fn part(
    salvage: &Salvage,
    file: &SegmentFile,
    from: u64,
) -> Result<SalvagedPart, RescueError> {
    let (salvage, file) = (salvage.clone(), file.clone());
    blocking(move || Ok(salvage.part(&file, from, BATCH)?)).await
}

/// The snapshot in a frame; nothing when it is damaged.
pub(super) async fn snapshot_frame(
    chunks: &dyn ChunkStore,
    frame: &FoundFrame,
) -> Result<Option<SnapshotFrame>, RescueError> {
    let read = examine(chunks, frame).await?;
    let decoded = read
        .ok()
        .and_then(|bytes| SnapshotFrame::decode(&bytes).ok());
    Ok(decoded.filter(|found| found.domain == frame.id.domain))
}

/// Runs work that computes or blocks off the async workers.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RescueError> + Send + 'static,
) -> Result<T, RescueError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| RescueError::Thread {
        reason: error.to_string(),
    })?
}

/// The content of a frame if it verifies, by its checksum and by its digest; else what is wrong with it.
pub(super) async fn examine(
    chunks: &dyn ChunkStore,
    frame: &FoundFrame,
) -> Result<Result<Bytes, String>, RescueError> {
    let bytes = match chunks.read(frame.location, frame.id).await {
        Ok(bytes) => bytes,
        Err(error) if is_damage(&error) => return Ok(Err(chain(&error))),
        Err(error) => return Err(error.into()),
    };
    let expected = frame.digest;
    let judge = move || {
        let found = Digest::of(&bytes);
        if found == expected {
            Ok(bytes)
        } else {
            Err(format!("the digest of its bytes is {found}"))
        }
    };
    if frame.stored_bytes <= INLINE_BYTES_MAX {
        return Ok(judge());
    }
    blocking(move || Ok(judge())).await
}

/// Writes the record of a snapshot, unless a newer frame of it has been found.
async fn put_snapshot(
    txn: &mut dyn Txn,
    found: &SnapshotFrame,
    frame: catalog::Location,
    now: UnixMillis,
) -> Result<(), catalog::Error> {
    let known = catalog::snapshots::get(txn, found.id).await?;
    if let Some(before) = known.as_ref().and_then(|known| known.finished) {
        if before.completion_time > found.completion_time {
            return Ok(());
        }
        remove_snapshot(txn, found.id, before.frame).await?;
    }
    catalog::accounts::insert_account(txn, found.account, now).await?;
    let record = SnapshotRecord {
        id: found.id,
        account: found.account,
        domain: found.domain,
        state: State::Open,
        volume_size: found.volume_size,
        parent: found.parent,
        lineage: found.lineage,
        // What it started from only matters while it is pending.
        base_root: empty_root().digest,
        base_count: 0,
        description: found.description.clone(),
        start_time: found.start_time,
        timeout_minutes: TIMEOUT_MINUTES_DEFAULT,
        idle_ms: 0,
        touched: false,
        progress: None,
        promise: None,
        status_message: None,
        finished: None,
    };
    catalog::snapshots::insert(txn, &record).await?;
    let promise = Promise {
        count: found.own_count,
        checksum: None,
    };
    catalog::snapshots::seal(txn, found.id, &promise).await?;
    let finished = Finished {
        root: found.root,
        own_count: found.own_count,
        full_count: found.full_count,
        completion_time: found.completion_time,
        frame,
    };
    catalog::snapshots::finish(txn, found.id, &finished).await?;
    catalog::containers::add_live(txn, frame.container, u64::from(frame.length)).await
}

/// Takes a snapshot's record away again.
pub(super) async fn remove_snapshot(
    txn: &mut dyn Txn,
    id: types::SnapshotId,
    frame: catalog::Location,
) -> Result<(), catalog::Error> {
    catalog::snapshots::delete(txn, id).await?;
    catalog::containers::sub_live(txn, frame.container, u64::from(frame.length)).await
}

/// Adds the bytes of frames that have got a name to their containers.
pub(super) async fn count_live(
    txn: &mut dyn Txn,
    live: &BTreeMap<u64, u64>,
) -> Result<(), catalog::Error> {
    for (container, bytes) in live {
        catalog::containers::add_live(txn, *container, *bytes).await?;
    }
    Ok(())
}

fn record(frame: &FoundFrame, epoch: i64) -> ChunkRecord {
    ChunkRecord {
        domain: frame.id.domain,
        name: frame.id.name,
        kind: frame.id.kind as u8,
        state: ChunkState::Live,
        location: catalog_location(frame.location),
        stored_bytes: frame.stored_bytes,
        codec: frame.codec as u8,
        data_key: 0,
        epoch,
    }
}
