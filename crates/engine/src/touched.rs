//! What damaged chunks touch: which blocks of which snapshots cannot be read because of them.
//!
//! Walks the block maps of the snapshots whose domain has damage, completed ones from their root, pending ones from their base root,
//! and reads the put entries of the pending ones. Nothing is changed, and nothing is marked.
//!
//! - A page whose subtree holds no damage is remembered and not read again, however many maps share it. That memory is bounded; beyond it
//!   pages are read again.
//! - A page that is damaged, or that turns out to be unreadable, touches every block index that it covers, as far as the volume goes. One that
//!   can be read all the same is looked into, for what else there is.
//! - A listed page of a snapshot that is being finished covers nothing yet: its extent is empty and names the snapshot.
//! - What a pending snapshot inherits counts as touched, also where a put has replaced the block.
//! - Requests go on meanwhile: what was found in a snapshot counts only if the snapshot has the same block map afterwards. One
//!   that was deleted is touched by nothing; one that was completed is looked at once more.

use crate::error::chain;
use crate::pages::location;
use crate::scrub::{ScrubReport, Touched};
use blockmap::{LEVELS, Page, empty_root};
use catalog::chunks::{ChunkKey, ChunkRecord};
use catalog::snapshots::{MapHolder, SnapshotRecord, State};
use catalog::{Db, DbExt};
use chunkstore::{ChunkId, ChunkKind, ChunkStore};
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use types::{BlockIndex, ChunkName, Digest, Domain, SnapshotId};

/// Pages without damage below them that are remembered: about 40 MB of them.
const CLEAN_MAX: usize = 500_000;

/// Leaves get half of that memory: an inner page that is remembered spares as many reads as it has leaves.
const CLEAN_LEAVES_MAX: usize = CLEAN_MAX / 2;

/// Snapshots, and put entries, in one read.
const ROWS: u32 = 1_000;

/// Pages read at a time.
const READS: usize = 16;

/// Times that a snapshot is walked when its block map changes meanwhile: pending, completed, and one to spare.
const WALKS: usize = 3;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Chunks(#[from] chunkstore::Error),
}

/// Extents that a chunk touches.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Touches {
    /// The first of them, at most [`ScrubReport::TOUCHES_MAX`], by snapshot and index.
    pub(crate) listed: Vec<Touched>,
    /// How many there are.
    pub(crate) count: u64,
    /// The one that was added last, listed or not.
    last: Option<Touched>,
}

/// What was found.
#[derive(Default, Debug)]
pub(crate) struct Reach {
    /// For each chunk asked for or found that touches anything, what it touches.
    pub(crate) touches: BTreeMap<ChunkKey, Touches>,
    /// Pages that nobody asked for and that cannot be read, with the reason; the first [`ScrubReport::LISTED_MAX`].
    pub(crate) unreadable: BTreeMap<ChunkKey, String>,
}

/// Finds what these chunks touch, and what else cannot be read in their domains and in these. They are held in memory, so the caller
/// bounds them.
pub(crate) async fn reach(
    db: &dyn Db,
    chunks: &dyn ChunkStore,
    damaged: &BTreeSet<ChunkKey>,
    domains: &BTreeSet<Domain>,
) -> Result<Reach, Fault> {
    let mut domains = domains.clone();
    domains.extend(damaged.iter().map(|(domain, _)| *domain));
    let mut walker = Walker {
        db,
        chunks,
        damaged,
        clean: Clean::default(),
        reach: Reach::default(),
    };
    if !domains.is_empty() {
        // In the order in which references move.
        walker.look_at_put_entries().await?;
        walker.look_at_listed_pages().await?;
        walker.look_at_maps(&domains).await?;
    }
    for touches in walker.reach.touches.values_mut() {
        touches.sort();
    }
    Ok(walker.reach)
}

/// Pages with no damage below them.
#[derive(Default)]
struct Clean {
    pages: HashSet<(Domain, Digest)>,
    leaves: usize,
}

impl Clean {
    fn insert(&mut self, domain: Domain, page: Digest, level: u8) {
        let is_leaf = level == 0;
        let full = self.pages.len() >= CLEAN_MAX || (is_leaf && self.leaves >= CLEAN_LEAVES_MAX);
        if !full && self.pages.insert((domain, page)) && is_leaf {
            self.leaves += 1;
        }
    }

    fn contains(&self, domain: Domain, page: Digest) -> bool {
        page == empty_root().digest || self.pages.contains(&(domain, page))
    }
}

struct Walker<'a> {
    db: &'a dyn Db,
    chunks: &'a dyn ChunkStore,
    damaged: &'a BTreeSet<ChunkKey>,
    clean: Clean,
    reach: Reach,
}

/// What was found in one snapshot, until it is known to count.
struct Found {
    snapshot: SnapshotId,
    touches: BTreeMap<ChunkKey, Touches>,
    unreadable: BTreeMap<ChunkKey, String>,
}

/// A page whose children are being looked at.
struct Open {
    page: Digest,
    level: u8,
    first: u32,
    children: std::vec::IntoIter<(u8, Digest)>,
    loaded: HashMap<Digest, Result<Page, String>>,
    dirty: bool,
}

impl Walker<'_> {
    async fn look_at_maps(&mut self, domains: &BTreeSet<Domain>) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let holders = self.db.view(move |txn| {
                Box::pin(async move { catalog::snapshots::map_holders(txn, after, ROWS).await })
            });
            let holders = holders.await?;
            let Some(last) = holders.last() else {
                return Ok(());
            };
            after = Some(last.id);
            for holder in holders {
                if domains.contains(&holder.domain) {
                    self.look_at(holder).await?;
                }
            }
        }
    }

    async fn look_at(&mut self, holder: MapHolder) -> Result<(), Fault> {
        let mut root = holder.root;
        for _ in 0..WALKS {
            let Some(walked) = root else { return Ok(()) };
            let found = self.walk(holder.id, holder.domain, walked).await?;
            if found.touches.is_empty() {
                return Ok(());
            }
            let id = holder.id;
            let now = self
                .db
                .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }));
            let Some(now) = now.await? else { return Ok(()) };
            root = root_of(&now);
            if root == Some(walked) {
                self.keep(found, now.volume_size.block_count());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Depth first, in the order of block indexes, with one page of each level and its children in memory.
    async fn walk(
        &mut self,
        snapshot: SnapshotId,
        domain: Domain,
        root: Digest,
    ) -> Result<Found, Fault> {
        let mut found = Found {
            snapshot,
            touches: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        if self.clean.contains(domain, root) {
            return Ok(found);
        }
        let loaded = self.load(domain, LEVELS - 1, &[root]).await?;
        let mut stack = vec![Open {
            page: root,
            level: LEVELS,
            first: 0,
            children: vec![(0, root)].into_iter(),
            loaded,
            dirty: false,
        }];
        while let Some(open) = stack.last_mut() {
            let Some((slot, digest)) = open.children.next() else {
                let done = stack.pop().expect("it is the last");
                match stack.last_mut() {
                    Some(parent) => parent.dirty |= done.dirty,
                    None => return Ok(found),
                }
                if !done.dirty {
                    self.clean.insert(domain, done.page, done.level);
                }
                continue;
            };
            let level = open.level - 1;
            let first = open.first + u32::from(slot) * entries_max(level);
            let key = (domain, ChunkName::plain(digest));
            if self.clean.contains(domain, digest) {
                continue;
            }
            let damaged = self.damaged.contains(&key);
            // A page may be there twice, so what was loaded stays.
            let loaded = open.loaded.get(&digest);
            if damaged || matches!(loaded, Some(Err(_))) {
                open.dirty = true;
                found.touch(key, first, entries_max(level));
            }
            let page = match loaded {
                Some(Ok(page)) => page.clone(),
                Some(Err(reason)) if !damaged => {
                    found.unreadable(key, reason);
                    continue;
                }
                Some(Err(_)) | None => continue,
            };
            if level == 0 {
                let dirty = self.look_at_leaf(&mut found, domain, &page, first);
                open.dirty |= dirty;
                if !dirty {
                    self.clean.insert(domain, digest, level);
                }
                continue;
            }
            let children: Vec<_> = page.slots().collect();
            let digests: Vec<_> = children.iter().map(|(_, child)| *child).collect();
            let loaded = self.load(domain, level - 1, &digests).await?;
            stack.push(Open {
                page: digest,
                level,
                first,
                children: children.into_iter(),
                loaded,
                dirty: false,
            });
        }
        Ok(found)
    }

    fn look_at_leaf(&self, found: &mut Found, domain: Domain, leaf: &Page, first: u32) -> bool {
        let mut dirty = false;
        for (slot, block) in leaf.slots() {
            let key = (domain, ChunkName::plain(block));
            if self.damaged.contains(&key) {
                dirty = true;
                found.touch(key, first + u32::from(slot), 1);
            }
        }
        dirty
    }

    /// The pages of these that are not clean, or why they cannot be read.
    async fn load(
        &self,
        domain: Domain,
        level: u8,
        pages: &[Digest],
    ) -> Result<HashMap<Digest, Result<Page, String>>, Fault> {
        let wanted = pages
            .iter()
            .filter(|page| !self.clean.contains(domain, **page));
        load_pages(
            self.db,
            self.chunks,
            domain,
            level,
            wanted.copied().collect(),
        )
        .await
    }

    async fn look_at_put_entries(&mut self) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let entries = self.db.view(move |txn| {
                Box::pin(async move { catalog::put_entries::entries_after(txn, after, ROWS).await })
            });
            let entries = entries.await?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            after = Some((last.snapshot, last.index));
            for entry in &entries {
                let Some((domain, State::Open | State::Sealed)) = entry.held_by else {
                    continue;
                };
                let key = (domain, ChunkName::plain(entry.digest));
                if self.damaged.contains(&key) {
                    let touches = self.reach.touches.entry(key).or_default();
                    touches.add(entry.snapshot, entry.index, 1);
                }
            }
        }
    }

    async fn look_at_listed_pages(&mut self) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let pages = self.db.view(move |txn| {
                Box::pin(async move { catalog::put_entries::pages_after(txn, after, ROWS).await })
            });
            let pages = pages.await?;
            let Some(last) = pages.last() else {
                return Ok(());
            };
            after = Some((last.snapshot, last.digest));
            for page in &pages {
                let Some((domain, State::Open | State::Sealed)) = page.held_by else {
                    continue;
                };
                let key = (domain, ChunkName::plain(page.digest));
                if self.damaged.contains(&key) {
                    let touches = self.reach.touches.entry(key).or_default();
                    touches.add(page.snapshot, 0, 0);
                }
            }
        }
    }

    /// Takes over what was found in a snapshot of this many blocks.
    fn keep(&mut self, found: Found, block_count: u32) {
        for (key, reason) in found.unreadable {
            if self.reach.unreadable.len() < ScrubReport::LISTED_MAX {
                self.reach.unreadable.insert(key, reason);
            }
        }
        for (key, touches) in found.touches {
            let listed = self.damaged.contains(&key) || self.reach.unreadable.contains_key(&key);
            if !listed {
                continue;
            }
            let kept = self.reach.touches.entry(key).or_default();
            kept.merge(touches, block_count);
        }
    }
}

impl Found {
    fn touch(&mut self, key: ChunkKey, start: u32, count: u32) {
        let touches = self.touches.entry(key).or_default();
        touches.add(self.snapshot, start, count);
    }

    fn unreadable(&mut self, key: ChunkKey, reason: &str) {
        if self.unreadable.len() < ScrubReport::LISTED_MAX {
            self.unreadable.insert(key, reason.to_owned());
        }
    }
}

impl Touches {
    /// Adds an extent; those of one snapshot come in order, and adjacent ones become one.
    fn add(&mut self, snapshot: SnapshotId, start: u32, count: u32) {
        let Some(start) = BlockIndex::new(start) else {
            return;
        };
        if let Some(last) = &mut self.last
            && last.snapshot == snapshot
            && last.start.get() + last.count == start.get()
        {
            last.count += count;
            if let Some(listed) = self.listed.last_mut()
                && listed.start == last.start
                && listed.snapshot == snapshot
            {
                listed.count = last.count;
            }
            return;
        }
        let added = Touched {
            snapshot,
            start,
            count,
        };
        self.count += 1;
        self.last = Some(added);
        if self.listed.len() < ScrubReport::TOUCHES_MAX {
            self.listed.push(added);
        }
    }

    /// Takes over what was found in a snapshot of this many blocks.
    fn merge(&mut self, found: Touches, block_count: u32) {
        let room = ScrubReport::TOUCHES_MAX.saturating_sub(self.listed.len());
        self.count += found.count;
        self.listed
            .extend(found.listed.into_iter().take(room).map(|touched| {
                Touched {
                    // The pages of a map go on beyond the end of its volume.
                    count: touched
                        .count
                        .min(block_count.saturating_sub(touched.start.get())),
                    ..touched
                }
            }));
    }

    /// A snapshot that was completed meanwhile was found by its entries and by its map.
    fn sort(&mut self) {
        let listed = self.listed.len();
        self.listed.sort();
        self.listed.dedup();
        self.count -= (listed - self.listed.len()) as u64;
    }
}

/// The block map that a snapshot holds now: its own, or its base's while it is pending.
fn root_of(snapshot: &SnapshotRecord) -> Option<Digest> {
    match snapshot.state {
        State::Open | State::Sealed => Some(snapshot.base_root),
        State::Completed => snapshot.finished.map(|finished| finished.root),
        State::Failed => None,
    }
}

/// Block indexes that a page of this level covers.
fn entries_max(level: u8) -> u32 {
    (blockmap::SLOTS as u32).pow(u32::from(level) + 1)
}

/// The records of these chunks.
pub(crate) async fn find(
    db: &dyn Db,
    keys: Vec<ChunkKey>,
) -> Result<HashMap<ChunkKey, ChunkRecord>, catalog::Error> {
    let keys = Arc::new(keys);
    db.view(move |txn| {
        let keys = Arc::clone(&keys);
        Box::pin(async move { catalog::chunks::find(txn, &keys).await })
    })
    .await
}

/// Pages of block maps by their digests, or why they cannot be read.
pub(crate) async fn load_pages(
    db: &dyn Db,
    chunks: &dyn ChunkStore,
    domain: Domain,
    level: u8,
    pages: BTreeSet<Digest>,
) -> Result<HashMap<Digest, Result<Page, String>>, Fault> {
    let keys = pages.iter().map(|page| (domain, ChunkName::plain(*page)));
    let records = find(db, keys.collect()).await?;
    let reads = pages.into_iter().map(|page| {
        let record = records.get(&(domain, ChunkName::plain(page))).copied();
        async move {
            let read = read_page(db, chunks, domain, page, level, record).await?;
            Ok::<_, Fault>((page, read))
        }
        .boxed()
    });
    // Collected and boxed: of what they are made, the compiler cannot tell that it may change threads.
    let reads: Vec<_> = reads.collect();
    stream::iter(reads)
        .buffer_unordered(READS)
        .try_collect()
        .await
}

/// Reads a page of a block map, without marking anything; on a mismatch once more by its record of now, since the chunk may have
/// moved. Answers why it cannot be read, when it cannot.
pub(crate) async fn read_page(
    db: &dyn Db,
    chunks: &dyn ChunkStore,
    domain: Domain,
    page: Digest,
    level: u8,
    mut record: Option<ChunkRecord>,
) -> Result<Result<Page, String>, Fault> {
    let key = (domain, ChunkName::plain(page));
    let id = ChunkId {
        domain,
        name: key.1,
        kind: ChunkKind::Page,
    };
    let mut failure = String::new();
    for attempt in 0..2 {
        if attempt > 0 {
            record = find(db, vec![key]).await?.remove(&key);
        }
        let Some(record) = record else {
            failure = "it has no chunk record".to_owned();
            continue;
        };
        match chunks.read(location(&record), id).await {
            Ok(bytes) => match check_page(&bytes, page, level) {
                Ok(page) => return Ok(Ok(page)),
                Err(reason) => failure = reason,
            },
            Err(error) if is_damage(&error) => failure = chain(&error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Err(failure))
}

fn check_page(bytes: &[u8], page: Digest, level: u8) -> Result<Page, String> {
    let found = Digest::of(bytes);
    if found != page {
        return Err(format!("the digest of its bytes is {found}"));
    }
    let decoded = Page::decode(bytes).map_err(|error| error.to_string())?;
    if decoded.level() == level {
        Ok(decoded)
    } else {
        Err(format!(
            "it is a page of level {}, not {level}",
            decoded.level()
        ))
    }
}

/// Whether the store says that the bytes are not there or not right, and not that it could not look.
pub(crate) fn is_damage(error: &chunkstore::Error) -> bool {
    match error {
        chunkstore::Error::Corrupt { .. } | chunkstore::Error::NotFound { .. } => true,
        // The file of a segment was taken away.
        chunkstore::Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        chunkstore::Error::NoSpace { .. }
        | chunkstore::Error::Foreign { .. }
        | chunkstore::Error::Registry(_)
        | chunkstore::Error::Closed { .. } => false,
    }
}
