//! Requests for an audit.

use super::parts::Parts;
use super::{Jobs, Reply};
use catalog::Db;
use chunkstore::ChunkStore;
use clap::ValueEnum;
use engine::{AuditDepth, AuditOptions, AuditReport};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// An audit to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// How closely frames are looked at.
    pub depth: Depth,
}

/// How closely an audit looks at frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// Catalog and containers alone.
    Catalog,
    /// Also the header of each frame that a record names.
    Headers,
}

/// What an audit found.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Audited {
    /// What was looked at, and how many of it.
    pub looked_at: Vec<LookedAt>,
    /// One for each kind of finding that there is.
    pub findings: Vec<Kind>,
}

/// Something that an audit looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LookedAt {
    /// A word, in the plural.
    pub what: String,
    /// How many.
    pub count: u64,
}

/// A kind of finding.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kind {
    /// Its name, which stays the same.
    pub kind: String,
    /// Whether data is lost or in danger; else it only wastes space.
    pub grave: bool,
    /// How often it was found.
    pub count: u64,
    /// The first few.
    pub examples: Vec<String>,
}

impl From<AuditReport> for Audited {
    fn from(report: AuditReport) -> Audited {
        let looked_at = report.looked_at.iter().map(|&(what, count)| LookedAt {
            what: what.to_owned(),
            count,
        });
        let findings = report.findings.into_iter().map(|finding| Kind {
            kind: finding.kind.to_owned(),
            grave: finding.grave,
            count: finding.count,
            examples: finding.examples,
        });
        Audited {
            looked_at: looked_at.collect(),
            findings: findings.collect(),
        }
    }
}

/// What is audited.
pub struct Subject {
    /// The catalog.
    pub db: Arc<dyn Db>,
    /// The chunk store.
    pub chunks: Arc<dyn ChunkStore>,
    /// A directory for what the audit sorts; made when it does not exist, and used by one audit at a time.
    pub scratch: PathBuf,
}

/// Runs an audit, or says why not.
pub async fn perform(
    subject: Subject,
    jobs: &Jobs,
    request: AuditRequest,
    parts: &Parts,
) -> Result<Reply, String> {
    let depth = match request.depth {
        Depth::Catalog => AuditDepth::Catalog,
        Depth::Headers => AuditDepth::Headers,
    };
    let job = async move {
        let Subject {
            db,
            chunks,
            scratch,
        } = subject;
        fs::create_dir_all(&scratch)
            .map_err(|error| format!("{} cannot be made: {error}", scratch.display()))?;
        let options = AuditOptions {
            db,
            chunks,
            scratch: Arc::from(scratch),
            depth,
        };
        let audited = engine::audit(options).await;
        audited.map_err(|error| format!("the audit failed: {error}"))
    };
    let audited = parts.while_working(|| None, jobs.audit.run_alone(job));
    Ok(Reply::Audited(audited.await??.into()))
}
