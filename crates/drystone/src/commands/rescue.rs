//! `drystone rescue`: makes something of segments whose catalog is lost.
//!
//! `rebuild` makes a new catalog from them, while no server runs; `list` says which snapshots they hold; `export` writes one
//! of these to a raw file, without a catalog and without changing anything. None of them writes to a segment.

mod credentials;
mod export;
mod list;
mod old_catalog;
mod rebuild;
mod report;

use crate::admin::DataArgs;
use crate::data_dir::Layout;
use crate::settings::{Overrides, Settings};
use anyhow::Context;
use catalog::db::{Sqlite, SqliteOptions};
use chunkstore::{FileIo, SegmentIo};
use clap::{Args, Subcommand};
use engine::rescue::{Survey, Tell, survey};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use types::{Clock, SystemClock};

/// Memory of a catalog that is being built: its rows come in no order.
const CACHE_BYTES: u64 = 512 << 20;

const READERS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Arguments of `drystone rescue`.
#[derive(Debug, Args)]
pub struct RescueArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    place: DataArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new catalog from the segments; the old one is moved aside
    Rebuild(rebuild::RebuildArgs),
    /// Write one snapshot to a raw file, from the segments alone; changes nothing else
    Export(export::ExportArgs),
    /// List the snapshots that the segments hold; changes nothing
    List(list::ListArgs),
}

/// Runs the command.
pub async fn run(args: RescueArgs) -> anyhow::Result<()> {
    let settings = Settings::load(Overrides {
        data: args.place.data,
        config: args.place.config,
        ..Overrides::default()
    })?;
    let layout = Layout::new(&settings.data)?;
    match args.action {
        Action::Rebuild(args) => rebuild::run(args, layout).await,
        Action::Export(args) => export::run(args, &layout).await,
        Action::List(args) => list::run(args, &layout).await,
    }
}

/// A directory of segments, and what is in it.
type Segments = (Arc<dyn SegmentIo>, Survey);

/// The segments of a data directory.
async fn look(layout: &Layout) -> anyhow::Result<Segments> {
    let path = layout.segments();
    let failed = format!("the segments in {} cannot be used", path.display());
    let looked = tokio::task::spawn_blocking(move || {
        let io = FileIo::open_to_read(&path)?;
        let found = survey(&io)?;
        anyhow::Ok((Arc::new(io) as Arc<dyn SegmentIo>, found))
    });
    looked.await?.context(failed)
}

/// A catalog that is being built in this directory.
async fn new_catalog(directory: &Path, survey: &Survey) -> anyhow::Result<Arc<Sqlite>> {
    let db = open_catalog(directory).await?;
    catalog::schema::migrate(&*db, survey.store_id, SystemClock::new().now()).await?;
    Ok(db)
}

async fn open_catalog(directory: &Path) -> anyhow::Result<Arc<Sqlite>> {
    let options = SqliteOptions {
        path: directory.join("catalog.db"),
        readers: READERS,
        cache_bytes: CACHE_BYTES,
    };
    let opened = tokio::task::spawn_blocking(move || Sqlite::open(&options)).await?;
    Ok(Arc::new(opened.context("the new catalog cannot be made")?))
}

/// A directory for a catalog that nobody keeps; removed when dropped.
fn scratch(under: Option<&PathBuf>) -> anyhow::Result<TempDir> {
    let under = under.cloned().unwrap_or_else(std::env::temp_dir);
    let made = tempfile::Builder::new()
        .prefix("drystone-rescue-")
        .tempdir_in(&under);
    made.with_context(|| {
        format!(
            "a directory cannot be made in {}; name another place with --scratch",
            under.display()
        )
    })
}

/// Tells what is being done on standard error, now and then.
fn tell() -> Tell {
    let clock = SystemClock::new();
    let last = Mutex::new(Duration::ZERO);
    Arc::new(move |text: &str| {
        let now = clock.monotonic();
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*last) >= TELL_EVERY {
            *last = now;
            eprintln!("{text}");
        }
    })
}
