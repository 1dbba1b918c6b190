//! Audit (sketch of its interface).

use catalog::Db;
use chunkstore::ChunkStore;
use std::path::Path;
use std::sync::Arc;

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
    /// Catalog and containers alone.
    Catalog,
    /// Also the header of each frame that a record names.
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
/// When either cannot be read at all.
pub async fn audit(
    _options: AuditOptions,
) -> Result<AuditReport, Box<dyn std::error::Error + Send + Sync>> {
    Err("not there yet".into())
}
