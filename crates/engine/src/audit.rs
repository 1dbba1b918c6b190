//! Compares catalog and chunk store, without changing either.
//!
//! 1. The containers that are recorded against those that the store has (`audit/containers.rs`).
//! 2. Everything that is referred to, by the mark of garbage collection, against the chunk records, in the order of keys; each record against
//!    its container (`audit/records.rs`).
//! 3. All frames that records name, in the order of their places: against each other, against what is noted to be freed, and against the
//!    headers in the store (`audit/places.rs`).
//! 4. The completed snapshots: their own frames, and their counts against their block maps (`audit/snapshots.rs`, `audit/counts.rs`).
//! 5. What nobody needs any more and nobody has noted (`audit/leftovers.rs`), and the live bytes of containers.
//!
//! Invariants
//! - A1: nothing is written but nameless files in the scratch directory. A page that cannot be read is not marked.
//! - A2: memory is bounded: what is compared is sorted outside memory, what is suspicious is held up to a limit; beyond it, it is counted.
//!
//! Safety
//! - Requests go on meanwhile, so what looks wrong is looked at again before it is a finding: record, container and note in one read
//!   transaction, a frame by a new read, a reference by a new walk of the block maps that lead to it. What is right then was under way before.
//! - The sums of live bytes are compared in one transaction, for the containers where they did not agree before.
//!
//! | Kind | Grave | Means |
//! |---|---|---|
//! | `chunk-missing` | yes | something refers to a chunk that has no record |
//! | `chunk-condemned` | yes | something refers to a chunk that the next collection deletes |
//! | `chunk-damaged` | yes | something refers to a chunk whose bytes failed a check |
//! | `chunk-kind` | yes | a record is of another kind than its references say, or of none |
//! | `page-unreadable` | yes | a page of a block map cannot be read, and is not marked as damaged |
//! | `frame-container` | yes | a record names a frame in a container that does not exist |
//! | `frame-container-kind` | yes | a record names a frame in a container for other chunks |
//! | `frame-beyond-end` | yes | a record names a frame behind the end of its container |
//! | `frames-overlap` | yes | two records name the same bytes |
//! | `frame-freed` | yes | a record names a frame that is noted to be freed |
//! | `frame-missing` | yes | there is no whole header where a record names a frame |
//! | `frame-different` | yes | the header there is that of another frame |
//! | `container-missing` | yes | a recorded container is not in the store |
//! | `container-unknown` | yes | the store has a container with frames that is not recorded |
//! | `container-kind` | yes | the store has a container of another kind than is recorded |
//! | `container-short` | yes | a container is shorter than recorded |
//! | `container-id` | yes | a container has an id that is still to be given out |
//! | `container-leftover` | no | the store has a container without frames that is not recorded; the next start removes it |
//! | `live-bytes-low` | yes | a container counts fewer live bytes than records name: it may be removed with them |
//! | `live-bytes-high` | no | a container counts more live bytes than records name: it will never be removed |
//! | `snapshot-frame` | yes | a snapshot's own frame cannot be read, or says something else than its record |
//! | `snapshot-count` | yes | a snapshot's block count is not that of its block map |
//! | `entries-left`, `pages-left` | no | put entries, or listed pages, that no purge will delete |
//! | `tags-left`, `tokens-left` | no | tags, or old client tokens, of snapshots that are gone |

mod containers;
mod counts;
mod findings;
mod leftovers;
mod places;
mod records;
mod snapshots;

use crate::gc::mark::{Mark, Marked, Unreadable};
use crate::gc::pace::Pace;
use crate::scrub::ScrubReport;
use catalog::{Db, DbExt};
use chunkstore::ChunkStore;
use containers::Containers;
use findings::{Findings, Flaw};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use types::{Clock, UnixMillis};

/// Rows read in one transaction.
const ROWS: u32 = 2_000;

/// References that look wrong and are confirmed by walking to each of them. Of more, all references are found once more, and what is
/// not among them any more is right.
const SUSPECTS_MAX: u64 = ScrubReport::LISTED_MAX as u64;

/// What an audit looks at.
pub struct AuditOptions {
    /// The catalog; only read.
    pub db: Arc<dyn Db>,
    /// The chunk store; only read.
    pub chunks: Arc<dyn ChunkStore>,
    /// A directory for files that sort more than memory holds; they are removed.
    pub scratch: Arc<Path>,
    /// How closely frames are looked at.
    pub depth: AuditDepth,
}

/// How closely an audit looks at frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditDepth {
    /// Catalog and containers alone, and the pages of block maps, which lead to everything.
    Catalog,
    /// Also the header of each frame that a record names, and the own frames of snapshots.
    Headers,
}

/// What an audit found: nothing, when all is well.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AuditReport {
    /// Snapshots, chunk records, containers, references and frames looked at: a word and a number each.
    pub looked_at: Vec<(&'static str, u64)>,
    /// One for each kind of finding that there is.
    pub findings: Vec<Finding>,
}

/// A kind of finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its stable name, as in `chunk-missing`.
    pub kind: &'static str,
    /// Whether data is lost or in danger; else it only wastes space.
    pub grave: bool,
    /// How often it was found.
    pub count: u64,
    /// The first few.
    pub examples: Vec<String>,
}

/// Compares catalog and chunk store, without changing either; also while requests are served.
///
/// # Errors
/// When either cannot be read at all, a row of the catalog is not one that this program writes, or the catalog has another format version.
pub async fn audit(options: AuditOptions) -> Result<AuditReport, Box<dyn Error + Send + Sync>> {
    audit_with(options, SUSPECTS_MAX).await
}

/// The same with another bound on the references that are confirmed by a walk.
pub(crate) async fn audit_with(
    options: AuditOptions,
    suspects_max: u64,
) -> Result<AuditReport, Fault> {
    let mut audit = Audit {
        db: options.db,
        chunks: options.chunks,
        scratch: options.scratch,
        depth: options.depth,
        suspects_max,
        findings: Findings::default(),
        looked_at: Vec::new(),
    };
    audit.check_format().await?;
    let mut containers = Containers::read(&audit).await?;
    containers.compare_with_store(&mut audit).await?;
    let marked = audit.mark().await?;
    audit.saw("pages", marked.pages_read);
    let mut places = places::Places::new(Arc::clone(&audit.scratch));
    records::compare(&mut audit, marked, &mut containers, &mut places).await?;
    snapshots::look(&mut audit, &mut containers, &mut places).await?;
    places::compare(&mut audit, places, &containers).await?;
    containers.compare_live_bytes(&mut audit).await?;
    leftovers::look(&mut audit).await?;
    Ok(AuditReport {
        looked_at: audit.looked_at,
        findings: audit.findings.into_list(),
    })
}

/// An audit under way.
struct Audit {
    db: Arc<dyn Db>,
    chunks: Arc<dyn ChunkStore>,
    scratch: Arc<Path>,
    depth: AuditDepth,
    suspects_max: u64,
    findings: Findings,
    looked_at: Vec<(&'static str, u64)>,
}

/// Why an audit ended early.
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

impl Audit {
    async fn check_format(&self) -> Result<(), Fault> {
        let found = self.db.view(|txn| {
            Box::pin(async move { catalog::meta::number(txn, catalog::meta::FORMAT_VERSION).await })
        });
        let (found, known) = (found.await?, catalog::schema::FORMAT_VERSION);
        match found {
            Some(found) if found == known => Ok(()),
            Some(found) => Err(format!(
                "the catalog has format version {found}, this program audits version {known}: \
                 run the program that wrote it, or start this one on it first"
            )
            .into()),
            None => Err("this is no catalog of Drystone: it has no format version".into()),
        }
    }

    /// Finds everything that is referred to.
    async fn mark(&self) -> Result<Marked, Fault> {
        let mark = Mark {
            db: Arc::clone(&self.db),
            chunks: Arc::clone(&self.chunks),
            scratch: Arc::clone(&self.scratch),
            pace: Pace::new(Arc::new(NoTime), None, Arc::default()),
            unreadable: Unreadable::Skip,
        };
        Ok(mark.run().await?)
    }

    fn saw(&mut self, what: &'static str, count: u64) {
        self.looked_at.push((what, count));
    }

    fn find(&mut self, flaw: Flaw, example: impl FnOnce() -> String) {
        self.findings.add(flaw, example);
    }
}

/// An audit takes the time it takes.
struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> UnixMillis {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
