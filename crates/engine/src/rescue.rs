//! Rebuilds a catalog from segment files.
//!
//! Policy
//! - Every frame with a whole header gets a record. Of several frames of one chunk the one whose bytes verify does; the others are
//!   garbage, which a collection frees.
//! - A header may be on disk without its data only where the last writes were under way: in segments that may have been open at the
//!   end. Their blocks are read, so that nothing torn is taken for stored and the next put of its content brings it (`open_end.rs`).
//! - Every snapshot frame makes a completed snapshot; of several frames of one snapshot, the newest. So a deleted snapshot whose frame
//!   is still there comes back: better too many than too few.
//! - The block map of each is walked. One with blocks that are missing or bad is left out, unless the old catalog names it as completed or
//!   the caller wants it: most of these were deleted, and their blocks swept. One that is kept answers reads of its bad blocks with
//!   the error that names them, and all others with their data.
//! - What only a catalog holds (accounts, access keys, token keys, tags) comes from what is left of the old one, table by table.
//!   Pending snapshots, client tokens and put entries are gone.
//!
//! Invariants
//! - R1: segments are only read. The new catalog is built from nothing, so a rebuild that was cut off is begun anew.
//! - R2: `live_bytes` of each container is exact at every commit; container ids go on above every id ever seen.
//! - R3: memory is bounded by a batch of frames, that of the sort and of the page walk, and one small record for each snapshot that a
//!   report lists.
//!
//! Failure: bad sectors, torn frames and flipped bits are counted and passed by. Segments of two stores, a renamed segment or one of
//! a newer format stop the rebuild before anything is written: a person has to look.

mod blocks;
mod error;
mod frames;
mod maps;
mod open_end;
mod records;
mod takeover;

pub use blocks::{Salvaged, SnapshotBlocks};
pub use error::RescueError;
pub use takeover::{OldCatalog, TakenOver};

use crate::SnapshotFrame;
use crate::gc::Amount;
use crate::scrub::Touched;
use catalog::{Db, DbExt, meta};
use chunkstore::salvage::{FoundHeader, Salvage, SegmentFile};
use chunkstore::{ChunkKind, ChunkStore, ContainerKind, ReadOnlyStore, SegmentIo};
use frames::Frames;
use records::{Gathering, Reading};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use takeover::Takeover;
use types::{AccountId, SnapshotId, UnixMillis};

/// Ids of containers left out above the highest one seen: those that were given out and whose files are gone.
const ID_MARGIN: u64 = 1_024;

/// Frames in one batch, and in one transaction: some milliseconds of the writer.
const BATCH: usize = 1_024;

/// Segment files that belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survey {
    /// The store that wrote them.
    pub store_id: [u8; 16],
    /// The files, by container.
    pub files: Vec<SegmentFile>,
}

/// Looks at the segment files in a directory and finds out whose they are. Blocks.
///
/// # Errors
/// [`RescueError::NoStore`], [`RescueError::SeveralStores`], [`RescueError::Misnamed`] or [`RescueError::NewerSegment`] when
/// that cannot be told or a person has to look first.
pub fn survey(io: &dyn SegmentIo) -> Result<Survey, RescueError> {
    let files = chunkstore::salvage::survey(io)?;
    let mut stores: BTreeMap<[u8; 16], Vec<&str>> = BTreeMap::new();
    for file in &files {
        match file.header {
            FoundHeader::Newer { version } => {
                return Err(RescueError::NewerSegment {
                    name: file.name.clone(),
                    version,
                });
            }
            FoundHeader::Misnamed { container, .. } => {
                return Err(RescueError::Misnamed {
                    name: file.name.clone(),
                    container: container.0,
                });
            }
            FoundHeader::Whole { .. } | FoundHeader::Damaged { .. } => {}
        }
        if let Some(store_id) = file.store_id() {
            stores.entry(store_id).or_default().push(&file.name);
        }
    }
    if stores.len() > 1 {
        return Err(RescueError::SeveralStores {
            stores: listing(&stores),
        });
    }
    let store_id = stores.into_keys().next();
    match store_id {
        Some(store_id) => Ok(Survey { store_id, files }),
        None => Err(RescueError::NoStore { files: files.len() }),
    }
}

fn listing(stores: &BTreeMap<[u8; 16], Vec<&str>>) -> String {
    let mut text = String::new();
    for (store_id, names) in stores {
        let separator = if text.is_empty() { "" } else { "; " };
        let id = u128::from_be_bytes(*store_id);
        let first = names.first().copied().unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{separator}store {id:032x} has {} (the first is {first})",
            names.len()
        );
    }
    text
}

/// What is read of each frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RebuildDepth {
    /// The headers of blocks, and pages whole; blocks, too, where the last writes may have been torn.
    Headers,
    /// Everything: each damaged block is found and named now, at the price of reading the whole store.
    Contents,
}

/// What becomes of snapshots with blocks that are missing or bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incomplete {
    /// They are left out, except those that the old catalog names.
    LeaveOut,
    /// They are kept.
    Keep,
    /// Nobody asks: block maps are not walked, and [`RebuildReport::snapshots`] stays 0. For who reads one snapshot alone.
    NotLookedFor,
}

/// Is told what is being done, in a few words.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What a rebuild is made of.
pub struct RebuildOptions {
    /// The new catalog: migrated under the store's id, and otherwise empty.
    pub db: Arc<dyn Db>,
    /// The directory of segments; only read.
    pub io: Arc<dyn SegmentIo>,
    /// What is in it.
    pub survey: Survey,
    /// What is read of each frame.
    pub depth: RebuildDepth,
    /// What becomes of incomplete snapshots.
    pub incomplete: Incomplete,
    /// A directory for what is sorted and does not fit into memory: 70 bytes for each frame.
    pub scratch: Arc<Path>,
    /// What is left of the old catalog.
    pub old: Option<OldCatalog>,
    /// The time, for what has lost its own.
    pub now: UnixMillis,
    /// Is told of every segment and every hundred snapshots.
    pub tell: Tell,
}

/// What a rebuild found and made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RebuildReport {
    /// Segment files, and their length in bytes.
    pub segments: Amount,
    /// Chunk records made, and the bytes of their frames.
    pub chunks: Amount,
    /// Frames of chunks that another frame holds, too.
    pub duplicates: u64,
    /// Chunk records whose bytes failed their check, or which the old catalog knows as damaged.
    pub damaged: u64,
    /// Runs of bytes that are neither frames nor zeros.
    pub gaps: Amount,
    /// The first of them, told.
    pub gap_examples: Vec<String>,
    /// Snapshots in the new catalog.
    pub snapshots: u64,
    /// Incomplete snapshots, kept or left out; the first [`RebuildReport::LISTED_MAX`].
    pub incomplete: Vec<IncompleteSnapshot>,
    /// How many there are.
    pub incomplete_count: u64,
    /// How many of them were left out.
    pub left_out: u64,
    /// Snapshots kept that the old catalog does not know: deleted before, or newer than it. The first [`RebuildReport::LISTED_MAX`];
    /// nothing when there is no old catalog to ask.
    pub unknown_before: Option<Vec<SnapshotId>>,
    /// What was taken over from the old catalog.
    pub taken_over: Vec<TakenOver>,
    /// Why nothing was.
    pub old_refused: Option<String>,
}

impl RebuildReport {
    /// Snapshots listed of each kind.
    pub const LISTED_MAX: usize = 1_000;
    /// Gaps told.
    pub const EXAMPLES_MAX: usize = 20;
    /// Extents listed of an incomplete snapshot.
    pub const EXTENTS_MAX: usize = 100;
}

/// A snapshot with blocks that are missing or bad.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IncompleteSnapshot {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Whether it is in the new catalog.
    pub kept: bool,
    /// Blocks that cannot be read, as extents; at most [`RebuildReport::EXTENTS_MAX`].
    pub bad: Vec<Touched>,
    /// How many blocks are in all such extents.
    pub bad_blocks: u64,
    /// What is wrong with the first.
    pub reason: String,
}

/// Builds the catalog.
///
/// # Errors
/// When the catalog cannot be written or the disk fails in another way than by bad sectors.
pub async fn rebuild(options: RebuildOptions) -> Result<RebuildReport, RescueError> {
    let RebuildOptions { db, io, survey, .. } = &options;
    let chunks: Arc<dyn ChunkStore> = Arc::new(ReadOnlyStore::new(survey.store_id, Arc::clone(io)));
    let mut report = RebuildReport::default();
    let takeover = Takeover::begin(options.old.clone(), survey.store_id, &mut report).await;
    let highest = survey.files.iter().map(|file| file.container.0).max();
    let epoch = takeover.facts.epoch.max(1);
    let last = highest.unwrap_or(0).max(takeover.facts.last_container) + ID_MARGIN;
    let last = i64::try_from(last).map_err(|_| RescueError::NoIdsLeft)?;
    let created_at = takeover.facts.created_at.unwrap_or(options.now);
    db.transact(move |txn| {
        Box::pin(async move {
            meta::set_number(txn, meta::EPOCH, epoch).await?;
            meta::set_number(txn, meta::CREATED_AT, created_at).await?;
            meta::set_number(txn, meta::LAST_CONTAINER, last).await
        })
    })
    .await?;

    let may_be_torn = match options.incomplete {
        // Nobody puts to this catalog.
        Incomplete::NotLookedFor => HashSet::new(),
        Incomplete::LeaveOut | Incomplete::Keep => {
            let (io, files) = (Arc::clone(io), survey.files.clone());
            records::blocking(move || Ok(open_end::may_be_torn(&*io, &files)?)).await?
        }
    };
    let reading = Reading {
        chunks: &*chunks,
        salvage: Salvage::new(survey.store_id, Arc::clone(io)),
        depth: options.depth,
        may_be_torn,
        epoch,
        tell: Arc::clone(&options.tell),
    };
    let mut gathering = Gathering {
        db: &**db,
        frames: Frames::new(Arc::clone(&options.scratch)),
        now: options.now,
        report: &mut report,
    };
    gathering.segments(&survey.files, &reading).await?;
    let frames = gathering.frames;
    (options.tell)("all segments are read; writing the records of their chunks");
    frames.write(&**db, &*chunks, epoch, &mut report).await?;
    if options.incomplete != Incomplete::NotLookedFor {
        if options.depth == RebuildDepth::Headers {
            (options.tell)("looking for damage that the old catalog knows of");
            takeover.mark_damaged(&**db, &mut report).await?;
        }
        maps::check(&options, &*chunks, &takeover, &mut report).await?;
    }
    takeover
        .copy_accounts_and_tags(&**db, options.now, &mut report)
        .await?;
    Ok(report)
}

/// The newest frame of each snapshot that the segments hold, by snapshot. Reads the segments of pages alone, and keeps a record of
/// some hundred bytes for each snapshot.
///
/// # Errors
/// When the disk fails in another way than by bad sectors.
pub async fn snapshot_frames(
    io: &Arc<dyn SegmentIo>,
    survey: &Survey,
) -> Result<Vec<SnapshotFrame>, RescueError> {
    let chunks = ReadOnlyStore::new(survey.store_id, Arc::clone(io));
    let salvage = Salvage::new(survey.store_id, Arc::clone(io));
    let mut newest: BTreeMap<SnapshotId, SnapshotFrame> = BTreeMap::new();
    let pages = survey
        .files
        .iter()
        .filter(|file| file.kind == ContainerKind::Pages);
    for file in pages {
        let mut from = Some(0);
        while let Some(at) = from {
            let part = records::part(&salvage, file, at).await?;
            for frame in part.frames {
                if frame.id.kind != ChunkKind::Snapshot {
                    continue;
                }
                let Some(found) = records::snapshot_frame(&chunks, &frame).await? else {
                    continue;
                };
                let known = newest.get(&found.id);
                if known.is_none_or(|known| known.completion_time <= found.completion_time) {
                    newest.insert(found.id, found);
                }
            }
            from = part.next;
        }
    }
    Ok(newest.into_values().collect())
}
