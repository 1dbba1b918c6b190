//! Finds every chunk that something refers to.
//!
//! 1. Put entries and listed pages, in short reads.
//! 2. The roots of completed snapshots and the base roots of pending ones, in one read.
//! 3. The block maps level by level: the distinct pages of a level, in the order of their keys, give the references of the next.
//!
//! Safety
//! - References move only from put entries to listed pages to roots, each step in one transaction, and what was read first is read
//!   from where they move away: none slips between. A reference that is made while this runs bears the stamp of the new epoch.
//! - A child copies the root of a parent that exists in the same transaction. Whether the parent's references are read here as its entries, as
//!   its base root or as its root, all of them are read, or stamped.
//! - A page that cannot be read hides references. Who collects stops there; who audits goes on and says so.
//!
//! - All this rests on views being serializable, as [`catalog::Db`] promises: one that could see the delete of a parent and not the start of
//!   its child would lose data.
//!
//! Each distinct page is read once, whatever the number of snapshots that share it; memory is three sorters and a list of snapshots.

use super::pace::Pace;
use super::reference::{Owner, Reference, Sorted, Sorter, combine};
use crate::pages::{PageFault, StoredPages};
use crate::sorter::MEMORY_BYTES;
use blockmap::{LEVELS, Page, PageCache, PageSource};
use catalog::put_entries::{self, Reference as Row};
use catalog::snapshots::{MapHolder, State};
use catalog::{Db, DbExt};
use chunkstore::{ChunkKind, ChunkStore};
use prometheus_client::metrics::counter::Counter;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use types::{Digest, Domain, SnapshotId};

/// Rows read in one transaction.
const ROWS: u32 = 5_000;

/// Pages read at a time: what a page loader takes in one call.
const PAGES: usize = 128;

/// What a mark works on.
pub(crate) struct Mark {
    pub(crate) db: Arc<dyn Db>,
    pub(crate) chunks: Arc<dyn ChunkStore>,
    /// For sorters.
    pub(crate) scratch: Arc<Path>,
    pub(crate) pace: Pace,
    pub(crate) unreadable: Unreadable,
}

/// What to do about pages that cannot be read.
#[derive(Clone)]
pub(crate) enum Unreadable {
    /// Mark them as damaged, count them, and end.
    Stop(Counter),
    /// Go on without what they refer to.
    Skip,
}

/// Why there is no mark.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkFault {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error("the scratch directory failed")]
    Scratch(#[from] std::io::Error),
    #[error("a block map cannot be read")]
    Page(#[source] blockmap::Error<PageFault>),
}

/// Everything that is referred to.
pub(crate) struct Marked {
    /// Each chunk once, by key.
    pub(crate) references: Sorted,
    /// The snapshots, as they were when the roots were read.
    pub(crate) holders: Vec<MapHolder>,
    /// The numbers of snapshots in [`Owner::One`].
    pub(crate) numbers: HashMap<SnapshotId, u32>,
    /// Pages read.
    pub(crate) pages_read: u64,
    /// Domains with pages that were skipped.
    pub(crate) unreadable: BTreeSet<Domain>,
}

impl Mark {
    /// Marks.
    pub(crate) async fn run(mut self) -> Result<Marked, MarkFault> {
        let mut run = Run {
            all: self.sorter(),
            numbers: HashMap::new(),
            pages_read: 0,
            unreadable: BTreeSet::new(),
        };
        self.pace.step("reading put entries");
        self.read_entries(&mut run).await?;
        self.read_listed_pages(&mut run).await?;
        self.pace.step("reading roots");
        let holders = self.read_roots().await?;
        let mut pages = self.sorter();
        for holder in &holders {
            let Some(root) = holder.root else { continue };
            if root == blockmap::empty_root().digest {
                continue;
            }
            let root = Reference {
                domain: holder.domain,
                digest: root,
                kind: ChunkKind::Page,
                owner: run.owner(holder.id),
            };
            pages.push(root.encode()).await?;
        }
        self.pace.step("reading pages");
        for level in (0..LEVELS).rev() {
            let mut children = self.sorter();
            let mut sorted = pages.sorted().await?;
            loop {
                let batch = sorted.next(PAGES).await?;
                if batch.is_empty() {
                    break;
                }
                let batch: Vec<_> = batch.iter().map(Reference::decode).collect();
                for page in &batch {
                    run.all.push(page.encode()).await?;
                }
                for of_domain in batch.chunk_by(|one, next| one.domain == next.domain) {
                    let to = match level {
                        0 => None,
                        _ => Some(&mut children),
                    };
                    self.read_pages(&mut run, of_domain, level, to).await?;
                }
                self.pace.done(batch.len() as u64).await;
            }
            pages = children;
        }
        self.pace.step("sorting references");
        Ok(Marked {
            references: run.all.sorted().await?,
            holders,
            numbers: run.numbers,
            pages_read: run.pages_read,
            unreadable: run.unreadable,
        })
    }

    fn sorter(&self) -> Sorter {
        Sorter::new(Arc::clone(&self.scratch), MEMORY_BYTES, combine)
    }

    async fn read_entries(&mut self, run: &mut Run) -> Result<(), MarkFault> {
        let mut after = None;
        loop {
            let rows = self
                .db
                .view(move |txn| {
                    Box::pin(async move { put_entries::entries_after(txn, after, ROWS).await })
                })
                .await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some((last.snapshot, last.index));
            run.refer(&rows, ChunkKind::Block).await?;
            self.pace.done(rows.len() as u64).await;
        }
    }

    async fn read_listed_pages(&mut self, run: &mut Run) -> Result<(), MarkFault> {
        let mut after = None;
        loop {
            let rows = self
                .db
                .view(move |txn| {
                    Box::pin(async move { put_entries::pages_after(txn, after, ROWS).await })
                })
                .await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some((last.snapshot, last.digest));
            run.refer(&rows, ChunkKind::Page).await?;
            self.pace.done(rows.len() as u64).await;
        }
    }

    /// One transaction: between two of them a child could take over the root of a parent that is then deleted.
    async fn read_roots(&self) -> Result<Vec<MapHolder>, MarkFault> {
        let holders = self.db.view(|txn| {
            Box::pin(async move {
                let mut holders: Vec<MapHolder> = Vec::new();
                loop {
                    let after = holders.last().map(|holder| holder.id);
                    let page = catalog::snapshots::map_holders(txn, after, ROWS).await?;
                    if page.is_empty() {
                        return Ok(holders);
                    }
                    holders.extend(page);
                }
            })
        });
        Ok(holders.await?)
    }

    /// Reads pages of one domain; their slots are references to `children` or, without that, to blocks.
    async fn read_pages(
        &self,
        run: &mut Run,
        pages: &[Reference],
        level: u8,
        mut children: Option<&mut Sorter>,
    ) -> Result<(), MarkFault> {
        let (damaged_chunks, skip) = match &self.unreadable {
            Unreadable::Stop(counter) => (Some(counter.clone()), false),
            Unreadable::Skip => (None, true),
        };
        let domain = pages[0].domain;
        let (db, chunks) = (Arc::clone(&self.db), Arc::clone(&self.chunks));
        let loader = StoredPages::new(db, chunks, domain, damaged_chunks);
        // Not the engine's cache: what requests use would be driven out by what is read once.
        let source = PageSource::new(loader, Arc::new(PageCache::new(0)));
        let digests: Vec<_> = pages.iter().map(|page| page.digest).collect();
        let found: Vec<Option<Arc<Page>>> = match source.pages(&digests, level).await {
            Ok(found) => found.into_iter().map(Some).collect(),
            Err(_) if skip => {
                let mut found = Vec::with_capacity(pages.len());
                for page in pages {
                    match source.page(page.digest, level).await {
                        Ok(read) => found.push(Some(read)),
                        Err(blockmap::Error::Load(PageFault::Catalog(error))) => {
                            return Err(error.into());
                        }
                        Err(_) => {
                            run.unreadable.insert(domain);
                            found.push(None);
                        }
                    }
                }
                found
            }
            Err(error) => return Err(MarkFault::Page(error)),
        };
        for (parent, page) in pages.iter().zip(found) {
            let Some(page) = page else { continue };
            run.pages_read += 1;
            for (_, digest) in page.slots() {
                let kind = match children {
                    Some(_) => ChunkKind::Page,
                    None => ChunkKind::Block,
                };
                let child = Reference {
                    digest,
                    kind,
                    ..*parent
                };
                match &mut children {
                    Some(children) => children.push(child.encode()).await?,
                    // A block of zeros has no chunk.
                    None if digest == Digest::ZERO_BLOCK => {}
                    None => run.all.push(child.encode()).await?,
                }
            }
        }
        Ok(())
    }
}

/// What a mark has gathered.
struct Run {
    all: Sorter,
    numbers: HashMap<SnapshotId, u32>,
    pages_read: u64,
    unreadable: BTreeSet<Domain>,
}

impl Run {
    fn owner(&mut self, id: SnapshotId) -> Owner {
        let next = self.numbers.len() as u32;
        Owner::One(*self.numbers.entry(id).or_insert(next))
    }

    /// Takes rows over; those of snapshots that failed or are gone only wait for their purge.
    async fn refer(&mut self, rows: &[Row], kind: ChunkKind) -> std::io::Result<()> {
        for row in rows {
            let Some((domain, State::Open | State::Sealed | State::Completed)) = row.held_by else {
                continue;
            };
            if row.digest == Digest::ZERO_BLOCK {
                continue;
            }
            let reference = Reference {
                domain,
                digest: row.digest,
                kind,
                owner: self.owner(row.snapshot),
            };
            self.all.push(reference.encode()).await?;
        }
        Ok(())
    }
}
