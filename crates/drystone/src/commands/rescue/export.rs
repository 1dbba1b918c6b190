//! `drystone rescue export`: writes one snapshot to a raw file, from the segments alone.
//!
//! A catalog is built in a scratch directory and thrown away; the data directory is only read, and its lock is not taken, so this works
//! beside a server and on a read-only mount. Every block is proved by its digest. The file is sparse: what the snapshot
//! does not hold, and what is zeros, takes no space. Without `--keep-going` the first block that cannot be read ends it, and no file is
//! left; with it, such blocks read as zeros in the file, and are named.

use super::{look, new_catalog, scratch, tell};
use crate::commands::DataInDanger;
use crate::commands::figures::{bytes, counted};
use crate::commands::print;
use crate::data_dir::Layout;
use anyhow::{Context, bail};
use bytes::Bytes;
use catalog::Db;
use chunkstore::{ChunkStore, ReadOnlyStore};
use clap::Args;
use engine::rescue::{Incomplete, RebuildDepth, RebuildOptions, Salvaged, SnapshotBlocks, rebuild};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::{BLOCK_BYTES, BlockIndex, Clock, SnapshotId, SystemClock};

/// Extents named in the answer; more are counted.
const NAMED_MAX: usize = 100;

/// Arguments of `drystone rescue export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The snapshot, as in snap-0123456789abcdef0
    snapshot: String,

    /// The raw file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    /// Go on past blocks that cannot be read: they become zeros, and are named
    #[arg(long)]
    keep_going: bool,

    /// Where the catalog of this run is built: about 200 bytes for each block of the store [default: the system's directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: ExportArgs, layout: &Layout) -> anyhow::Result<()> {
    let id = SnapshotId::parse(&args.snapshot).with_context(|| {
        format!(
            "`{}` is no snapshot id of ours; `drystone rescue list` shows those that the segments hold",
            args.snapshot
        )
    })?;
    if args.to.symlink_metadata().is_ok() {
        bail!("{} is there already; name a new file", args.to.display());
    }
    let (io, survey) = look(layout).await?;
    let scratch = scratch(args.scratch.as_ref())?;
    let db = new_catalog(scratch.path(), &survey).await?;
    let chunks = Arc::new(ReadOnlyStore::new(survey.store_id, Arc::clone(&io)));
    rebuild(RebuildOptions {
        db: Arc::clone(&db) as Arc<dyn Db>,
        io,
        survey,
        depth: RebuildDepth::Headers,
        incomplete: Incomplete::NotLookedFor,
        scratch: scratch.path().into(),
        old: None,
        now: SystemClock::new().now(),
        tell: tell(),
    })
    .await?;
    let blocks = SnapshotBlocks::open(db, chunks as Arc<dyn ChunkStore>, id).await?;
    let target = Target::create(&args.to, &blocks)?;
    match write(&target, blocks, args.keep_going).await {
        Ok(written) => written.tell(&args.to),
        Err(error) => {
            target.remove()?;
            Err(error)
        }
    }
}

/// The file that is being written.
struct Target {
    path: PathBuf,
    file: Arc<File>,
}

impl Target {
    fn create(path: &Path, blocks: &SnapshotBlocks) -> anyhow::Result<Target> {
        let failed = || format!("{} cannot be made", path.display());
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(path);
        let file = file.with_context(failed)?;
        let size = u64::from(blocks.snapshot().volume_size.gib()) << 30;
        file.set_len(size).with_context(failed)?;
        Ok(Target {
            path: path.to_owned(),
            file: Arc::new(file),
        })
    }

    /// Writes blocks where they belong.
    async fn write(&self, blocks: Vec<(BlockIndex, Bytes)>) -> anyhow::Result<()> {
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || {
            blocks.into_iter().try_for_each(|(index, data)| {
                let offset = u64::from(index.get()) * BLOCK_BYTES as u64;
                file.write_all_at(&data, offset)
            })
        });
        let written = written.await?;
        written.with_context(|| format!("{} cannot be written", self.path.display()))
    }

    async fn sync(&self) -> anyhow::Result<()> {
        let file = Arc::clone(&self.file);
        let synced = tokio::task::spawn_blocking(move || file.sync_all()).await?;
        synced.with_context(|| format!("{} cannot be synced", self.path.display()))
    }

    /// Half a snapshot must not be taken for one.
    fn remove(&self) -> anyhow::Result<()> {
        fs::remove_file(&self.path).with_context(|| {
            format!(
                "{} is not whole, and cannot be removed",
                self.path.display()
            )
        })
    }
}

/// What became of the blocks.
#[derive(Default)]
struct Written {
    blocks: u64,
    bad_blocks: u64,
    /// The first of them: start, count and reason.
    bad: Vec<(u32, u32, String)>,
}

impl Written {
    fn add_bad(&mut self, start: BlockIndex, count: u32, reason: String) {
        self.bad_blocks += u64::from(count);
        if let Some((last, length, before)) = self.bad.last_mut()
            && *last + *length == start.get()
            && *before == reason
        {
            *length += count;
        } else if self.bad.len() < NAMED_MAX {
            self.bad.push((start.get(), count, reason));
        }
    }

    fn tell(self, to: &Path) -> anyhow::Result<()> {
        let mut text = format!(
            "wrote {} ({}) to {}\n",
            counted(self.blocks, "block"),
            bytes(self.blocks * BLOCK_BYTES as u64),
            to.display()
        );
        for (start, count, reason) in &self.bad {
            text.push_str(&format!("bad: {}: {reason}\n", extent(*start, *count)));
        }
        print(&text)?;
        if self.bad_blocks == 0 {
            return Ok(());
        }
        Err(DataInDanger(format!(
            "{} could not be read and {} zeros in {}",
            counted(self.bad_blocks, "block"),
            if self.bad_blocks == 1 { "is" } else { "are" },
            to.display()
        ))
        .into())
    }
}

async fn write(
    target: &Target,
    mut blocks: SnapshotBlocks,
    keep_going: bool,
) -> anyhow::Result<Written> {
    let mut written = Written::default();
    loop {
        let parts = blocks.next().await?;
        if parts.is_empty() {
            break;
        }
        let mut good = Vec::new();
        for part in parts {
            match part {
                Salvaged::Block { index, data } => good.push((index, data)),
                Salvaged::Bad {
                    start,
                    count,
                    reason,
                } if keep_going => written.add_bad(start, count, reason),
                Salvaged::Bad {
                    start,
                    count,
                    reason,
                } => {
                    let extent = extent(start.get(), count);
                    return Err(DataInDanger(format!(
                        "{extent} cannot be read: {reason}; nothing was kept, --keep-going writes all others"
                    ))
                    .into());
                }
            }
        }
        written.blocks += good.len() as u64;
        target.write(good).await?;
    }
    target.sync().await?;
    if written.blocks == 0 && written.bad_blocks > 0 {
        bail!("no block of the snapshot could be read");
    }
    Ok(written)
}

fn extent(start: u32, count: u32) -> String {
    match count {
        1 => format!("block {start}"),
        _ => format!("blocks {start} to {}", start + (count - 1)),
    }
}
