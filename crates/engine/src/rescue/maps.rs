//! Walks the block maps of rescued snapshots: which blocks can be read, and which cannot.
//!
//! A page below which everything is there is remembered, so that maps that share it are not walked again; that memory is bounded, and
//! what does not fit is walked again. A page that cannot be read makes every block index that it covers unreadable, as far
//! as the volume goes.

use super::records::remove_snapshot;
use super::takeover::Takeover;
use super::{Incomplete, IncompleteSnapshot, RebuildOptions, RebuildReport, RescueError};
use crate::scrub::Touched;
use crate::touched::{find, read_page};
use blockmap::{LEVELS, SLOTS, empty_root};
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::snapshots::{Finished, SnapshotRecord, State};
use catalog::{Db, DbExt};
use chunkstore::ChunkStore;
use std::collections::{HashMap, HashSet};
use types::{BlockIndex, ChunkName, Digest, Domain, SnapshotId};

/// Pages remembered: about 20 MB of them.
const WHOLE_MAX: usize = 1 << 18;

/// Snapshots read at a time.
const SNAPSHOTS: u32 = 100;

/// What a map is read from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) db: &'a dyn Db,
    pub(super) chunks: &'a dyn ChunkStore,
}

/// A part of a block map.
pub(super) enum Step {
    /// The blocks of one leaf, each with its chunk record; zero blocks have none.
    Blocks(Vec<(BlockIndex, Digest, Option<ChunkRecord>)>),
    /// A page that cannot be read: these blocks are not known.
    Unreadable {
        /// The first block index that the page covers.
        start: u32,
        /// How many block indexes of the volume it covers.
        count: u32,
        /// Why.
        reason: String,
    },
    /// Everything below this page has been told.
    Left {
        /// The page.
        page: Digest,
        /// Whether no fault was noted below it.
        whole: bool,
    },
}

enum Todo {
    Visit { page: Digest, level: u8, base: u32 },
    Leave { page: Digest, faults: u64 },
}

/// A walk in index order, one page at a time.
pub(super) struct MapWalk {
    domain: Domain,
    /// The end of the volume, in block indexes.
    end: u32,
    todo: Vec<Todo>,
    faults: u64,
}

impl MapWalk {
    /// A walk of the map of a completed snapshot.
    pub(super) fn new(snapshot: &SnapshotRecord, root: Digest) -> MapWalk {
        let page = Todo::Visit {
            page: root,
            level: LEVELS - 1,
            base: 0,
        };
        MapWalk {
            domain: snapshot.domain,
            end: snapshot.volume_size.block_count(),
            todo: if root == empty_root().digest {
                Vec::new()
            } else {
                vec![page]
            },
            faults: 0,
        }
    }

    /// Notes that something below the page that was told last is not whole.
    pub(super) fn note_fault(&mut self) {
        self.faults += 1;
    }

    /// The next part; nothing at the end. Pages in `skip` are passed by.
    pub(super) async fn next(
        &mut self,
        source: Source<'_>,
        skip: &HashSet<(Domain, Digest)>,
    ) -> Result<Option<Step>, RescueError> {
        while let Some(todo) = self.todo.pop() {
            let (page, level, base) = match todo {
                Todo::Leave { page, faults } => {
                    let whole = self.faults == faults;
                    return Ok(Some(Step::Left { page, whole }));
                }
                Todo::Visit { page, level, base } => (page, level, base),
            };
            if skip.contains(&(self.domain, page)) {
                continue;
            }
            let Source { db, chunks } = source;
            let key = (self.domain, ChunkName::plain(page));
            let record = find(db, vec![key]).await?.remove(&key);
            let read = match read_page(db, chunks, self.domain, page, level, record).await? {
                Ok(read) => read,
                Err(reason) => {
                    self.faults += 1;
                    let count = entries_max(level).min(self.end.saturating_sub(base));
                    return Ok(Some(Step::Unreadable {
                        start: base,
                        count,
                        reason: format!("page {page} cannot be read: {reason}"),
                    }));
                }
            };
            let faults = self.faults;
            self.todo.push(Todo::Leave { page, faults });
            if level == 0 {
                let slots = read
                    .slots()
                    .map(|(slot, digest)| (base + u32::from(slot), digest));
                return Ok(Some(Step::Blocks(self.blocks(db, slots.collect()).await?)));
            }
            let below = entries_max(level - 1);
            let children = read.slots().map(|(slot, page)| Todo::Visit {
                page,
                level: level - 1,
                base: base + u32::from(slot) * below,
            });
            let at = self.todo.len();
            self.todo.extend(children);
            self.todo[at..].reverse();
        }
        Ok(None)
    }

    async fn blocks(
        &self,
        db: &dyn Db,
        slots: Vec<(u32, Digest)>,
    ) -> Result<Vec<(BlockIndex, Digest, Option<ChunkRecord>)>, RescueError> {
        let key = |digest: Digest| (self.domain, ChunkName::plain(digest));
        let keys = slots
            .iter()
            .filter(|(_, digest)| *digest != Digest::ZERO_BLOCK)
            .map(|(_, digest)| key(*digest))
            .collect();
        let records: HashMap<ChunkKey, ChunkRecord> = find(db, keys).await?;
        let blocks = slots.into_iter().filter_map(|(index, digest)| {
            let record = records.get(&key(digest)).copied();
            Some((BlockIndex::new(index)?, digest, record))
        });
        Ok(blocks.collect())
    }
}

/// Block indexes that a page of this level covers.
fn entries_max(level: u8) -> u32 {
    (SLOTS as u32).pow(u32::from(level) + 1)
}

/// Blocks that cannot be read, gathered in index order.
#[derive(Default)]
pub(super) struct BadBlocks {
    pub(super) extents: Vec<Touched>,
    pub(super) blocks: u64,
    pub(super) reason: String,
}

impl BadBlocks {
    /// Adds blocks behind all that were added before.
    pub(super) fn add(
        &mut self,
        snapshot: SnapshotId,
        start: BlockIndex,
        count: u32,
        reason: &str,
    ) {
        if self.blocks == 0 {
            self.reason = reason.to_owned();
        }
        self.blocks += u64::from(count);
        if let Some(last) = self.extents.last_mut()
            && last.start.get() + last.count == start.get()
        {
            last.count += count;
        } else if self.extents.len() < RebuildReport::EXTENTS_MAX {
            self.extents.push(Touched {
                snapshot,
                start,
                count,
            });
        }
    }
}

/// Walks every rescued snapshot, and leaves incomplete ones out as the options say.
pub(super) async fn check(
    options: &RebuildOptions,
    chunks: &dyn ChunkStore,
    takeover: &Takeover,
    report: &mut RebuildReport,
) -> Result<(), RescueError> {
    let db = &*options.db;
    let source = Source { db, chunks };
    let mut whole = HashSet::new();
    let mut after = None;
    let mut looked_at = 0_u64;
    loop {
        let found = db
            .view(move |txn| {
                Box::pin(async move {
                    catalog::snapshots::in_state(txn, State::Completed, after, SNAPSHOTS).await
                })
            })
            .await?;
        let Some(last) = found.last() else {
            return Ok(());
        };
        after = Some(last.id);
        for snapshot in found {
            let Some(finished) = snapshot.finished else {
                continue;
            };
            looked_at += 1;
            if looked_at.is_multiple_of(u64::from(SNAPSHOTS)) {
                (options.tell)(&format!("{looked_at} block maps walked"));
            }
            let known = takeover.knows(snapshot.id).await;
            let bad = walk(source, &snapshot, &finished, &mut whole).await?;
            let keep =
                bad.blocks == 0 || options.incomplete == Incomplete::Keep || known == Some(true);
            note(report, &snapshot, bad, keep, known);
            if !keep {
                leave_out(db, snapshot.id, finished.frame).await?;
            }
        }
    }
}

async fn walk(
    source: Source<'_>,
    snapshot: &SnapshotRecord,
    finished: &Finished,
    whole: &mut HashSet<(Domain, Digest)>,
) -> Result<BadBlocks, RescueError> {
    let mut bad = BadBlocks::default();
    let mut walk = MapWalk::new(snapshot, finished.root);
    while let Some(step) = walk.next(source, whole).await? {
        match step {
            Step::Blocks(blocks) => {
                for (index, digest, record) in blocks {
                    if let Some(reason) = fault_of(digest, record) {
                        walk.note_fault();
                        bad.add(snapshot.id, index, 1, reason);
                    }
                }
            }
            Step::Unreadable {
                start,
                count,
                reason,
            } => {
                if let Some(start) = BlockIndex::new(start) {
                    bad.add(snapshot.id, start, count, &reason);
                }
            }
            Step::Left { page, whole: true } => {
                if whole.len() >= WHOLE_MAX {
                    whole.clear();
                }
                whole.insert((snapshot.domain, page));
            }
            Step::Left { whole: false, .. } => {}
        }
    }
    Ok(bad)
}

/// What is wrong with a block, as far as its record tells.
pub(super) fn fault_of(digest: Digest, record: Option<ChunkRecord>) -> Option<&'static str> {
    match record {
        _ if digest == Digest::ZERO_BLOCK => None,
        None => Some("no frame of it was found"),
        Some(record) if record.state == ChunkState::Damaged => Some("its frame is damaged"),
        Some(_) => None,
    }
}

fn note(
    report: &mut RebuildReport,
    snapshot: &SnapshotRecord,
    bad: BadBlocks,
    kept: bool,
    known: Option<bool>,
) {
    report.snapshots += u64::from(kept);
    if kept && let Some(known) = known {
        let unknown = report.unknown_before.get_or_insert_default();
        if !known && unknown.len() < RebuildReport::LISTED_MAX {
            unknown.push(snapshot.id);
        }
    }
    if bad.blocks == 0 {
        return;
    }
    report.incomplete_count += 1;
    report.left_out += u64::from(!kept);
    if report.incomplete.len() < RebuildReport::LISTED_MAX {
        report.incomplete.push(IncompleteSnapshot {
            id: snapshot.id,
            account: snapshot.account,
            kept,
            bad: bad.extents,
            bad_blocks: bad.blocks,
            reason: bad.reason,
        });
    }
}

async fn leave_out(
    db: &dyn Db,
    id: SnapshotId,
    frame: catalog::Location,
) -> Result<(), RescueError> {
    let removed =
        db.transact(move |txn| Box::pin(async move { remove_snapshot(txn, id, frame).await }));
    Ok(removed.await?)
}
