//! `drystone copy-catalog`: writes a copy of the catalog, also while the server runs.
//!
//! The copy is for `drystone rescue rebuild`, which takes from it what segments do not hold: accounts, access keys, tags.
//! It is refused as a catalog to serve: puts and collections after it have changed what it tells of the segments.

use super::figures::bytes;
use super::print;
use crate::admin::DataArgs;
use crate::data_dir::{Layout, sync_dir};
use crate::settings::{Overrides, Settings};
use anyhow::{Context, bail};
use catalog::db::Sqlite;
use clap::Args;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use types::{Clock, SystemClock};

/// Arguments of `drystone copy-catalog`.
#[derive(Debug, Args)]
pub struct CopyCatalogArgs {
    /// File to write; one that is there is replaced, once the copy is whole
    #[arg(value_name = "FILE")]
    to: PathBuf,

    #[command(flatten)]
    place: DataArgs,
}

/// Runs the command.
pub async fn run(args: CopyCatalogArgs) -> anyhow::Result<()> {
    let settings = Settings::load(Overrides {
        data: args.place.data,
        config: args.place.config,
        ..Overrides::default()
    })?;
    let layout = Layout::new(&settings.data)?;
    let to = std::path::absolute(&args.to)
        .with_context(|| format!("{} is no name for a file", args.to.display()))?;
    if to.starts_with(layout.root()) {
        bail!(
            "{} is in the data directory: a copy is of use on another disk",
            to.display()
        );
    }
    let copied = {
        let to = to.clone();
        tokio::task::spawn_blocking(move || copy(&layout.catalog(), &to)).await?
    };
    let length =
        copied.with_context(|| format!("the catalog cannot be copied to {}", to.display()))?;
    print(&format!("{}, {}\n", to.display(), bytes(length)))
}

/// Makes the copy under another name first, so that a copy that is there stays until the next one is whole and durable.
fn copy(catalog: &Path, to: &Path) -> anyhow::Result<u64> {
    let mut fresh = to.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Sqlite::copy(catalog, &fresh, SystemClock::new().now())?;
    let file = File::open(&fresh)?;
    file.sync_all()?;
    fs::rename(&fresh, to)?;
    sync_dir(to.parent().unwrap_or(Path::new("/")))?;
    Ok(file.metadata()?.len())
}
