//! `drystone rescue rebuild`: makes a new catalog from the segments and puts it in place of the old one.
//!
//! 1. Takes the lock of the data directory: no server runs.
//! 2. Looks at the segments, and refuses what a person has to look at first.
//! 3. Builds the catalog in DIR/rescue, with what is left of the old one (`engine::rescue`).
//! 4. Sees to it that there is a root key, and for every account a key that works.
//! 5. Writes the catalog back into one file, without a WAL, and puts it in place (`data_dir/replacement.rs`).
//!
//! A crash before step 5 leaves the old state and a directory that the next rebuild removes; a crash in step 5 leaves the new one, which
//! the next start finishes. A dry run does steps 1 to 3 in a scratch directory.

use super::credentials::{self, Keys};
use super::report::{Answer, Outcome};
use super::{Segments, look, new_catalog, old_catalog, open_catalog, scratch, tell};
use crate::data_dir::{DataDir, Layout, replacement};
use anyhow::{Context, bail};
use auth::{KeyStore, KeyStoreOptions, RootKey};
use catalog::db::Sqlite;
use catalog::{Db, DbExt, meta};
use clap::Args;
use engine::rescue::{
    Incomplete, RebuildDepth, RebuildOptions, RebuildReport, rebuild as rebuild_catalog,
};
use jiff::Timestamp;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::{Clock, Random, SystemClock};

/// Arguments of `drystone rescue rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Put nothing in place; say what would come back
    #[arg(long)]
    dry_run: bool,

    /// Keep snapshots with blocks that are missing or bad, also those that the old catalog does not name
    #[arg(long)]
    keep_incomplete: bool,

    /// Read every block, too, and find those that are bad; takes as long as reading the whole store
    #[arg(long)]
    verify: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Where a dry run builds its catalog: about 200 bytes for each block of the store [default: the system's directory]
    #[arg(long, value_name = "DIR", requires = "dry_run")]
    scratch: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: RebuildArgs, layout: Layout) -> anyhow::Result<()> {
    let data = DataDir::open_damaged(layout)?;
    let layout = data.layout();
    let segments = look(layout).await?;
    if args.dry_run {
        let scratch = scratch(args.scratch.as_ref())?;
        let (db, report) = build(&args, segments, layout, scratch.path()).await?;
        drop(db);
        return Answer::new(report, Outcome::DryRun).tell(args.json);
    }
    let directory = replacement::begin(layout)?;
    let made = make(&args, segments, &data, &directory).await;
    if made.is_err() {
        replacement::abandon(layout);
    }
    let (report, keys) = made?;
    let archive = replacement::put_in_place(layout, &archive_name())?;
    let outcome = Outcome::Done {
        archive,
        keys,
        credentials: layout.credentials(),
    };
    Answer::new(report, outcome).tell(args.json)
}

/// Makes every file that is to be put in place.
async fn make(
    args: &RebuildArgs,
    segments: Segments,
    data: &DataDir,
    directory: &Path,
) -> anyhow::Result<(RebuildReport, Keys)> {
    let layout = data.layout();
    // What is wrong with these files is told before the segments are read.
    let root_key = root_key(layout, directory)?;
    let starts = data.starts(segments.1.store_id)?;
    let (db, report) = build(args, segments, layout, directory).await?;
    let keys = keys(layout, directory, root_key, &db, &report).await?;
    know_the_starts(&db, starts).await?;
    drop(db);
    write_back(directory).await?;
    if let Some(version) = data.missing_version() {
        crate::data_dir::write_durably(&directory.join("VERSION"), &version)?;
    }
    Ok((report, keys))
}

/// Builds the catalog in this directory.
async fn build(
    args: &RebuildArgs,
    (io, survey): Segments,
    layout: &Layout,
    directory: &Path,
) -> anyhow::Result<(Arc<Sqlite>, RebuildReport)> {
    let db = new_catalog(directory, &survey).await?;
    let found = old_catalog::find(&layout.catalog(), directory)?;
    let mut report = rebuild_catalog(RebuildOptions {
        db: Arc::clone(&db) as Arc<dyn Db>,
        io,
        survey,
        depth: match args.verify {
            true => RebuildDepth::Contents,
            false => RebuildDepth::Headers,
        },
        incomplete: match args.keep_incomplete {
            true => Incomplete::Keep,
            false => Incomplete::LeaveOut,
        },
        scratch: directory.into(),
        old: found.old,
        now: SystemClock::new().now(),
        tell: tell(),
    })
    .await
    .context("the catalog cannot be rebuilt")?;
    report.old_refused = found.refused.or(report.old_refused);
    Ok((db, report))
}

/// The root key of the directory, or a new one beside the new catalog.
fn root_key(layout: &Layout, directory: &Path) -> anyhow::Result<RootKey> {
    let path = match layout.root_key() {
        path if path.exists() => path,
        _ => directory.join("root.key"),
    };
    Ok(RootKey::load_or_create(&path, &Random::system())?)
}

/// Sees to the access keys.
async fn keys(
    layout: &Layout,
    directory: &Path,
    root_key: RootKey,
    db: &Arc<Sqlite>,
    report: &RebuildReport,
) -> anyhow::Result<Keys> {
    let keys = KeyStore::open(KeyStoreOptions {
        db: Arc::clone(db) as Arc<dyn Db>,
        root_key,
        clock: Arc::new(SystemClock::new()),
        random: Random::system(),
    })
    .await
    .context("the access keys cannot be read")?;
    let table = |name: &str| {
        let mut tables = report.taken_over.iter();
        tables.any(|taken| taken.table == name && taken.failure.is_none())
    };
    let whole = table("access_keys") && table("accounts");
    credentials::complete(&keys, layout, directory, whole).await
}

/// The new catalog is the newest one there is, whatever the directory remembers of those before.
async fn know_the_starts(db: &Sqlite, starts: i64) -> anyhow::Result<()> {
    db.transact(move |txn| {
        Box::pin(async move { meta::set_number(txn, meta::STARTS, starts).await })
    })
    .await
    .context("the new catalog cannot be written")
}

/// Leaves the catalog as one file: its WAL is written back, and gone.
async fn write_back(directory: &Path) -> anyhow::Result<()> {
    // Opening writes the whole WAL back.
    drop(open_catalog(directory).await?);
    for name in [
        "catalog.db-wal",
        "catalog.db-shm",
        "old.db",
        "old.db-wal",
        "old.db-shm",
    ] {
        let path = directory.join(name);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", path.display()));
            }
        };
        if name == "catalog.db-wal" && length > 0 {
            bail!("{} was not written back", path.display());
        }
        fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    Ok(())
}

fn archive_name() -> String {
    let seconds = SystemClock::new().now().div_euclid(1000);
    let now = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("before-rescue-{}", now.strftime("%Y%m%dT%H%M%SZ"))
}
