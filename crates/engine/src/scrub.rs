//! Reads and verifies everything that is stored, before a user needs it.
//!
//! Policy
//! - Every chunk is read in the order of its key and verified by SHA-256 against its name, then the own frame of every completed snapshot
//!   against its record. Records are read in batches, each batch in the order of its places on the disk.
//! - At most so many bytes in a second, and behind requests that wait.
//! - A chunk that fails twice is damaged: never a target of deduplication, replaced by the next put of the same content. One that was damaged and
//!   whose bytes are right again (a cable, a file that was put back) is live again.
//! - A snapshot's own frame that fails is stored anew, from its record.
//! - How far it has come is kept in the catalog with every batch: a scrub goes on there after a restart.
//!
//! Invariants
//! - S1: a chunk is marked only where its record still names the place that failed, in the transaction that marks it.
//! - S2: a scrub that is cancelled or killed anywhere has changed nothing but marks, which are true, and its position, behind which everything
//!   has been read.
//! - S3: one scrub runs at a time. Who asks meanwhile waits for it and gets its report.
//!
//! Safety
//! - Collection may move or delete a chunk between the read of its record and the read of its bytes: what fails is looked up again, and
//!   only the place of now counts (S1). A put may replace a damaged chunk meanwhile: its new place is not the one that failed.
//! - A chunk that becomes live again keeps its old stamp. A collection that has marked treats it as any other: it is in use and marked, or it
//!   is not and is condemned.
//! - A snapshot added behind the position is scrubbed next time.
//!
//! Failure
//! - Damage is logged when it is found, and again at the end with the snapshots and block indexes that it touches. An error of the disk
//!   that is not damage, or of the catalog, ends the scrub; the next one goes on where it stopped.

pub(crate) mod check;
mod pace;
pub(crate) mod position;

use crate::error::chain;
use crate::gc::Progress;
use crate::touched::{self, Touches};
use crate::{Engine, Error};
use catalog::DbExt;
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::snapshots::State;
use check::{Checked, kind_of, own_frame};
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use pace::{Pace, give_way};
use position::{Next, Position};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use types::{BlockIndex, ChunkName, Domain, SnapshotId, UnixMillis};

/// Records in one batch, with one note of the position: some seconds of reading.
const BATCH: u32 = 500;

/// Chunks read and hashed at a time: 2 MiB, and enough to keep a disk busy.
const READS: usize = 4;

/// Records looked at in one read when damaged ones are looked for.
const SEARCH: u32 = 5_000;

/// Damaged chunks that are named in the log at the end of a scrub.
const LOGGED_MAX: usize = 100;

/// What a scrub is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubOptions {
    /// Stored bytes read in a second, at most.
    pub bytes_per_second: u64,
    /// Begins anew instead of where the last one stopped.
    pub restart: bool,
}

/// What a scrub found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ScrubReport {
    /// Chunks and snapshot frames verified.
    pub chunks: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Chunks that are damaged, found by this scrub or before; at most [`ScrubReport::LISTED_MAX`] of them.
    pub damaged: Vec<DamagedChunk>,
    /// How many are damaged.
    pub damaged_count: u64,
    /// Chunks that were damaged and are good again, and snapshot frames that were stored anew.
    pub healed: u64,
    /// How long it took, over all restarts.
    pub took: Duration,
}

/// A damaged chunk, and what it touches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedChunk {
    /// Its domain.
    pub domain: Domain,
    /// Its name.
    pub name: ChunkName,
    /// block, page or snapshot.
    pub kind: &'static str,
    /// What failed.
    pub reason: String,
    /// The blocks that cannot be read because of it, as extents; at most [`ScrubReport::TOUCHES_MAX`]. The frame of a snapshot
    /// touches no block: its extent is empty and names the snapshot.
    pub touches: Vec<Touched>,
    /// How many extents there are.
    pub touches_count: u64,
}

/// Blocks of a snapshot that a damaged chunk touches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Touched {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The first block index.
    pub start: BlockIndex,
    /// How many block indexes.
    pub count: u32,
}

impl ScrubReport {
    /// Damaged chunks in a report.
    pub const LISTED_MAX: usize = 1_000;
    /// Extents listed for a damaged chunk.
    pub const TOUCHES_MAX: usize = 100;
}

/// The scrubs of an engine: one at a time.
#[derive(Default)]
pub(crate) struct Scrubs {
    /// Held by the one that runs; holds the report of the last that came to its end.
    turn: tokio::sync::Mutex<Option<ScrubReport>>,
    /// How many came to their end.
    ended: AtomicU64,
    progress: Mutex<Option<Progress>>,
}

impl Scrubs {
    fn progress(&self) -> MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, step: &'static str, done: u64) {
        *self.progress() = Some(Progress { step, done });
    }
}

/// Takes the progress away when a scrub ends, however it does.
struct ProgressEnd<'a>(&'a Scrubs);

impl Drop for ProgressEnd<'_> {
    fn drop(&mut self) {
        *self.0.progress() = None;
    }
}

/// Why a scrub cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Chunks(#[from] chunkstore::Error),
    #[error("shutting down")]
    ShuttingDown,
}

impl From<touched::Fault> for Fault {
    fn from(fault: touched::Fault) -> Fault {
        match fault {
            touched::Fault::Catalog(error) => error.into(),
            touched::Fault::Chunks(error) => error.into(),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        match fault {
            Fault::Catalog(error) => Error::of_catalog(error),
            fault @ (Fault::Chunks(_) | Fault::ShuttingDown) => Error::Unavailable {
                reason: chain(&fault),
            },
        }
    }
}

/// What one run of a scrub keeps in memory.
struct Run {
    position: Position,
    pace: Pace,
    /// Why chunks failed, for the first that did.
    reasons: BTreeMap<ChunkKey, String>,
    /// Own frames of snapshots that are damaged and could not be stored anew.
    frames: Vec<DamagedChunk>,
    frames_count: u64,
}

impl Engine {
    /// Reads and verifies every chunk, page and snapshot frame, from where the last scrub stopped. While one runs, waits for it
    /// and answers its report; its own rate counts then. May be cancelled at any point.
    ///
    /// # Errors
    /// When the disk or the catalog fail otherwise than by damage: the next scrub goes on from there.
    pub async fn scrub(&self, options: ScrubOptions) -> Result<ScrubReport, Error> {
        let scrubs = &self.inner.scrubs;
        let ended = scrubs.ended.load(Ordering::SeqCst);
        let mut last = scrubs.turn.lock().await;
        if let Some(report) = &*last
            && !options.restart
            && scrubs.ended.load(Ordering::SeqCst) != ended
        {
            return Ok(report.clone());
        }
        let _end = ProgressEnd(scrubs);
        let report = self.scrub_all(options).await?;
        *last = Some(report.clone());
        scrubs.ended.fetch_add(1, Ordering::SeqCst);
        Ok(report)
    }

    /// How far the running scrub is; nothing when none runs.
    pub fn scrub_progress(&self) -> Option<Progress> {
        self.inner.scrubs.progress().clone()
    }

    /// When the last scrub came to its end, and how many damaged chunks it found; nothing before the first.
    pub async fn last_scrub(&self) -> Result<Option<(UnixMillis, u64)>, Error> {
        let finished = self.inner.db.view(|txn| Box::pin(position::finished(txn)));
        finished.await.map_err(Error::of_catalog)
    }

    /// The chunks that are known to be damaged, and what they touch; at most [`ScrubReport::LISTED_MAX`], by key. Reads all chunk records,
    /// and the block maps of the domains that have damage.
    pub async fn damage(&self) -> Result<Vec<DamagedChunk>, Error> {
        Ok(self.known_damage(&BTreeMap::new()).await?.0)
    }

    async fn scrub_all(&self, options: ScrubOptions) -> Result<ScrubReport, Fault> {
        let clock = &self.inner.clock;
        let position = match options.restart {
            true => None,
            false => {
                let load = self.inner.db.view(|txn| Box::pin(position::load(txn)));
                load.await?
            }
        };
        let mut run = Run {
            position: position.unwrap_or_else(|| Position::start(clock.now())),
            pace: Pace::new(std::sync::Arc::clone(clock), options.bytes_per_second),
            reasons: BTreeMap::new(),
            frames: Vec::new(),
            frames_count: 0,
        };
        let goes_on = position.is_some();
        tracing::info!(goes_on, options.bytes_per_second, "scrubbing");
        while let Next::Chunks(after) = run.position.next {
            self.scrub_batch(&mut run, after).await?;
        }
        self.scrub_frames(&mut run).await?;
        let scrubs = &self.inner.scrubs;
        scrubs.tell("finding what damage touches", run.position.chunks);
        let (mut damaged, damaged_count) = self.known_damage(&run.reasons).await?;
        damaged.append(&mut run.frames);
        damaged.truncate(ScrubReport::LISTED_MAX);
        let report = ScrubReport {
            chunks: run.position.chunks,
            bytes: run.position.bytes,
            damaged,
            damaged_count: damaged_count + run.frames_count,
            healed: run.position.healed,
            took: run.position.took,
        };
        let (now, done) = (clock.now(), report.clone());
        let finish = self.inner.db.transact(move |txn| {
            let done = done.clone();
            Box::pin(async move { position::finish(txn, now, &done).await })
        });
        finish.await?;
        log(&report);
        Ok(report)
    }

    /// Verifies the next chunks and notes that they are done.
    async fn scrub_batch(&self, run: &mut Run, after: Option<ChunkKey>) -> Result<(), Fault> {
        let began = self.inner.clock.monotonic();
        let read = self.inner.db.view(move |txn| {
            Box::pin(async move { catalog::chunks::records_after(txn, after, BATCH).await })
        });
        let mut records = read.await?;
        let next = match records.last() {
            Some(last) => Next::Chunks(Some(last.key())),
            None => Next::Frames,
        };
        records.sort_by_key(|record| (record.location.container, record.location.offset));
        // The position is that of whole batches: one that ends early is read again.
        let mut position = run.position;
        let pace = &mut run.pace;
        // Both are boxed: of what they are made, the compiler cannot tell that it may change threads.
        let paced = stream::unfold((records.into_iter(), pace), |(mut rest, pace)| async move {
            let record = rest.next()?;
            pace.take(u64::from(record.location.length)).await;
            give_way(|| self.requests_wait()).await;
            Some((record, (rest, pace)))
        });
        let checks = paced
            .boxed()
            .map(|record| async move { (record, self.check_chunk(record).await) }.boxed())
            .boxed();
        let checks = checks.buffer_unordered(READS);
        tokio::pin!(checks);
        while let Some((record, checked)) = checks.next().await {
            let length = u64::from(record.location.length);
            match checked? {
                Checked::Gone => continue,
                Checked::Sound => {}
                Checked::Healed => position.healed += 1,
                Checked::Damaged { reason } => {
                    log_damage(&record, &reason);
                    if run.reasons.len() < ScrubReport::LISTED_MAX {
                        run.reasons.insert(record.key(), reason);
                    }
                }
            }
            position.chunks += 1;
            position.bytes += length;
            self.inner.scrubs.tell("reading chunks", position.chunks);
        }
        position.next = next;
        position.took += self.inner.clock.monotonic().saturating_sub(began);
        let save = self
            .inner
            .db
            .transact(move |txn| Box::pin(async move { position::save(txn, &position).await }));
        save.await?;
        run.position = position;
        Ok(())
    }

    /// Verifies the own frames of all completed snapshots.
    async fn scrub_frames(&self, run: &mut Run) -> Result<(), Fault> {
        let began = self.inner.clock.monotonic();
        let mut after = None;
        loop {
            let read = self.inner.db.view(move |txn| {
                Box::pin(async move {
                    catalog::snapshots::in_state(txn, State::Completed, after, BATCH).await
                })
            });
            let snapshots = read.await?;
            let Some(last) = snapshots.last() else { break };
            after = Some(last.id);
            for snapshot in snapshots {
                let Some((frame, place)) = own_frame(&snapshot) else {
                    continue;
                };
                let id = snapshot.id;
                run.pace.take(u64::from(place.length)).await;
                give_way(|| self.requests_wait()).await;
                match self.check_frame(snapshot).await? {
                    Checked::Gone => continue,
                    Checked::Sound => {}
                    Checked::Healed => run.position.healed += 1,
                    Checked::Damaged { reason } => {
                        tracing::error!(snapshot = %id, reason, "a snapshot's own frame is damaged");
                        run.frames_count += 1;
                        if run.frames.len() < ScrubReport::LISTED_MAX {
                            run.frames.push(damaged_frame(id, frame.id, reason));
                        }
                    }
                }
                run.position.chunks += 1;
                run.position.bytes += u64::from(place.length);
                let scrubs = &self.inner.scrubs;
                scrubs.tell("reading snapshot frames", run.position.chunks);
            }
        }
        run.position.took += self.inner.clock.monotonic().saturating_sub(began);
        Ok(())
    }

    /// The records that are damaged, with what they touch, and how many there are. `reasons` says of some why.
    async fn known_damage(
        &self,
        reasons: &BTreeMap<ChunkKey, String>,
    ) -> Result<(Vec<DamagedChunk>, u64), Fault> {
        let (mut records, mut count, mut after) = (Vec::new(), 0, None);
        loop {
            let read = self.inner.db.view(move |txn| {
                Box::pin(async move { catalog::chunks::records_after(txn, after, SEARCH).await })
            });
            let found = read.await?;
            let Some(last) = found.last() else { break };
            after = Some(last.key());
            for record in found {
                if record.state == ChunkState::Damaged {
                    count += 1;
                    if records.len() < ScrubReport::LISTED_MAX {
                        records.push(record);
                    }
                }
            }
        }
        let keys: BTreeSet<ChunkKey> = records.iter().map(ChunkRecord::key).collect();
        let (db, chunks) = (&*self.inner.db, &*self.inner.chunks);
        let reach = touched::reach(db, chunks, &keys, &BTreeSet::new()).await?;
        let mut touches = reach.touches;
        let mut damaged: Vec<_> = records
            .iter()
            .map(|record| {
                let reason = reasons.get(&record.key()).cloned();
                let reason = reason.unwrap_or_else(|| known_before(record));
                let touches = touches.remove(&record.key()).unwrap_or_default();
                damaged_chunk(record.key(), kind_word(record.kind), reason, touches)
            })
            .collect();
        // Pages that the search itself could not read.
        for (key, reason) in reach.unreadable {
            count += 1;
            if damaged.len() < ScrubReport::LISTED_MAX {
                let touches = touches.remove(&key).unwrap_or_default();
                damaged.push(damaged_chunk(key, "page", reason, touches));
            }
        }
        Ok((damaged, count))
    }

    fn requests_wait(&self) -> bool {
        self.inner.metrics.puts_waiting.get() > 0 || self.inner.lookups.waiting() > 0
    }
}

fn damaged_chunk(
    (domain, name): ChunkKey,
    kind: &'static str,
    reason: String,
    touches: Touches,
) -> DamagedChunk {
    DamagedChunk {
        domain,
        name,
        kind,
        reason,
        touches: touches.listed,
        touches_count: touches.count,
    }
}

fn damaged_frame(snapshot: SnapshotId, id: chunkstore::ChunkId, reason: String) -> DamagedChunk {
    DamagedChunk {
        domain: id.domain,
        name: id.name,
        kind: "snapshot",
        reason,
        touches: vec![Touched {
            snapshot,
            start: BlockIndex::ZERO,
            count: 0,
        }],
        touches_count: 1,
    }
}

fn kind_word(kind: u8) -> &'static str {
    match kind_of(kind) {
        Some(chunkstore::ChunkKind::Page) => "page",
        Some(chunkstore::ChunkKind::Block | chunkstore::ChunkKind::Snapshot) | None => "block",
    }
}

fn known_before(record: &ChunkRecord) -> String {
    let place = record.location;
    format!(
        "its frame at offset {} of container {} failed a check",
        place.offset, place.container
    )
}

fn log_damage(record: &ChunkRecord, reason: &str) {
    tracing::error!(
        domain = %record.domain,
        name = %record.name,
        kind = kind_word(record.kind),
        container = record.location.container,
        offset = record.location.offset,
        reason,
        "a chunk is damaged"
    );
}

fn log(report: &ScrubReport) {
    for chunk in report.damaged.iter().take(LOGGED_MAX) {
        let extents = chunk.touches.iter().map(|touched| {
            let Touched {
                snapshot,
                start,
                count,
            } = touched;
            format!("{snapshot} {start}+{count}")
        });
        let touches = extents.collect::<Vec<_>>().join(", ");
        tracing::error!(
            domain = %chunk.domain,
            name = %chunk.name,
            kind = chunk.kind,
            touches,
            extents = chunk.touches_count,
            "damage touches these blocks"
        );
    }
    tracing::info!(
        chunks = report.chunks,
        bytes = report.bytes,
        damaged = report.damaged_count,
        healed = report.healed,
        "scrubbed"
    );
}
