//! Usage, garbage, damage and space, for whoever watches the server.
//!
//! Figures of the catalog are read now and then by [`StoreHealth::observe`], so that a scraper never waits for it; free space is
//! asked of the file system at each scrape.

use super::store::{counter, gauge};
use catalog::{Db, DbExt, meta};
use engine::{Engine, Error, UsageTotals};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use types::UnixMillis;

/// What was seen last.
#[derive(Debug)]
pub struct StoreHealth {
    /// A directory on the file system of the chunks.
    directory: PathBuf,
    seen: Mutex<Seen>,
    scrub_failures: AtomicU64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    totals: UsageTotals,
    collection_finished_at: Option<UnixMillis>,
    /// When the last scrub ended, and how many chunks were damaged then.
    last_scrub: Option<(UnixMillis, u64)>,
}

impl StoreHealth {
    /// Nothing is seen yet of the store whose chunks are in this directory.
    pub fn new(directory: PathBuf) -> StoreHealth {
        StoreHealth {
            directory,
            seen: Mutex::default(),
            scrub_failures: AtomicU64::new(0),
        }
    }

    /// Reads the figures.
    pub async fn observe(&self, engine: &Engine, db: &dyn Db) -> Result<(), String> {
        let ended = db.view(|txn| {
            Box::pin(async move { meta::number(txn, meta::COLLECTION_FINISHED_AT).await })
        });
        let fresh = Seen {
            totals: engine.usage_totals().await.map_err(told)?,
            collection_finished_at: ended.await.map_err(|error| error.to_string())?,
            last_scrub: engine.last_scrub().await.map_err(told)?,
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// A scrub that the schedule began has failed.
    pub fn scrub_failed(&self) {
        self.scrub_failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// Shows what was seen.
#[derive(Debug)]
pub struct HealthMetrics(pub Arc<StoreHealth>);

impl Collector for HealthMetrics {
    fn encode(&self, mut to: DescriptorEncoder) -> Result<(), fmt::Error> {
        let health = &self.0;
        let seen = *health.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, value) in [
            (
                "usage_snapshots",
                "Completed snapshots, as the last mark found them",
                seen.totals.snapshots,
            ),
            (
                "usage_logical_bytes",
                "Blocks of all completed snapshots together",
                seen.totals.logical_bytes,
            ),
            (
                "usage_unique_bytes",
                "Distinct blocks in use",
                seen.totals.unique_bytes,
            ),
            (
                "usage_stored_bytes",
                "Bytes of the frames in use",
                seen.totals.stored_bytes,
            ),
            (
                "usage_garbage_bytes",
                "Bytes of frames that nothing refers to",
                seen.totals.garbage_bytes,
            ),
            (
                "usage_computed_timestamp_seconds",
                "When these figures were computed; 0 is never",
                seconds(seen.totals.computed_at),
            ),
            (
                "collection_last_timestamp_seconds",
                "When the last collection ended; 0 is never",
                seconds(seen.collection_finished_at),
            ),
            (
                "scrub_last_timestamp_seconds",
                "When the last scrub ended; 0 is never",
                seconds(seen.last_scrub.map(|(ended_at, _)| ended_at)),
            ),
            (
                "scrub_damaged_chunks",
                "Chunks that were damaged when the last scrub ended",
                seen.last_scrub.map_or(0, |(_, damaged)| damaged),
            ),
        ] {
            gauge(&mut to, name, help, value)?;
        }
        counter(
            &mut to,
            "scrub_failures",
            "Scheduled scrubs that did not come to their end",
            health.scrub_failures.load(Ordering::Relaxed),
        )?;
        // One that cannot be asked is left out, so that nobody takes it for full.
        match rustix::fs::statvfs(&health.directory) {
            Ok(found) => {
                let (free, all) = (
                    found.f_bavail * found.f_frsize,
                    found.f_blocks * found.f_frsize,
                );
                gauge(
                    &mut to,
                    "disk_free_bytes",
                    "Bytes free on the file system of the chunks",
                    free,
                )?;
                gauge(&mut to, "disk_bytes", "Size of that file system", all)
            }
            Err(_) => Ok(()),
        }
    }
}

fn told(error: Error) -> String {
    error.to_string()
}

fn seconds(time: Option<UnixMillis>) -> u64 {
    u64::try_from(time.unwrap_or_default() / 1000).unwrap_or_default()
}
