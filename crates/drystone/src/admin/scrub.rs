//! Requests for a scrub.

use super::parts::Parts;
use super::{Jobs, Part, Reply};
use engine::{DamagedChunk, Engine, ScrubOptions};
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// A scrub to be run, or to be joined when one runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubRequest {
    /// Begins anew instead of where the last one stopped.
    pub restart: bool,
    /// Stored bytes read in a second, at most; the setting when it is not named.
    pub bytes_per_second: Option<u64>,
    /// Reads nothing, and answers what is known to be damaged.
    pub known: bool,
}

/// What a scrub found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Chunks and snapshot frames verified.
    pub chunks: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// How many chunks are damaged, found by this scrub or before.
    pub damaged: u64,
    /// Chunks that were damaged before and are good again.
    pub healed: u64,
    /// How long it took over all restarts, in milliseconds.
    pub took_ms: u64,
}

/// A damaged chunk, and what it touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Damaged {
    /// The number of its domain.
    pub domain: u64,
    /// Its name in hexadecimal digits.
    pub name: String,
    /// `block`, `page` or `snapshot`.
    pub kind: String,
    /// What failed.
    pub reason: String,
    /// The first extents that cannot be read because of it.
    pub touches: Vec<Touched>,
    /// How many such extents there are.
    pub touches_count: u64,
}

/// Blocks of a snapshot that a damaged chunk touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Touched {
    /// The snapshot's id.
    pub snapshot: String,
    /// The first block index.
    pub start: u32,
    /// How many block indexes.
    pub count: u32,
}

impl From<DamagedChunk> for Damaged {
    fn from(chunk: DamagedChunk) -> Damaged {
        let mut name = String::new();
        for byte in chunk.name.as_bytes() {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        let touches = chunk.touches.iter().map(|touched| Touched {
            snapshot: touched.snapshot.to_string(),
            start: touched.start.get(),
            count: touched.count,
        });
        Damaged {
            domain: chunk.domain.number(),
            name,
            kind: chunk.kind.to_owned(),
            reason: chunk.reason,
            touches: touches.collect(),
            touches_count: chunk.touches_count,
        }
    }
}

/// The slowest scrub: a block in half a second. A typo would else hold up all others for years.
const RATE_MIN: u64 = 1 << 20;

/// Runs a scrub and sends what is damaged, or says why not.
pub async fn perform(
    engine: &Engine,
    jobs: &Jobs,
    rate: u64,
    request: ScrubRequest,
    parts: &Parts,
) -> Result<Reply, String> {
    if request.known {
        return known(engine, jobs, parts).await;
    }
    let bytes_per_second = request.bytes_per_second.unwrap_or(rate);
    if bytes_per_second < RATE_MIN {
        return Err(format!(
            "{bytes_per_second} bytes a second would take for ever, and keep other scrubs waiting: use at least 1 MiB"
        ));
    }
    let options = ScrubOptions {
        bytes_per_second,
        restart: request.restart,
    };
    let job = {
        let engine = engine.clone();
        async move { engine.scrub(options).await }
    };
    let scrubbed = parts.while_working(|| engine.scrub_progress(), jobs.scrub.run(job));
    let report = scrubbed.await?.map_err(|error| error.to_string())?;
    send(report.damaged, parts).await?;
    Ok(Reply::Scrubbed(Scrubbed {
        chunks: report.chunks,
        bytes: report.bytes,
        damaged: report.damaged_count,
        healed: report.healed,
        took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
    }))
}

/// Sends what is known to be damaged.
async fn known(engine: &Engine, jobs: &Jobs, parts: &Parts) -> Result<Reply, String> {
    let job = {
        let engine = engine.clone();
        async move { engine.damage().await }
    };
    let found = parts.while_working(|| None, jobs.scrub.run(job)).await?;
    let damaged = found.map_err(|error| error.to_string())?;
    let count = damaged.len() as u64;
    send(damaged, parts).await?;
    Ok(Reply::KnownDamage(count))
}

async fn send(damaged: Vec<DamagedChunk>, parts: &Parts) -> Result<(), String> {
    for chunk in damaged {
        parts.send(Part::Damaged(chunk.into())).await?;
    }
    Ok(())
}
