//! A server under load on logging disks.

use crate::board::Board;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::log::{Events, Log};
use crate::model::Model;
use crate::place::{Kind, Mount, Mounts};
use crate::server::{Program, write_settings};
use crate::workload::{Counts, Load, Work};
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// XFS refuses less than 300 MiB; segments of 64 MiB must fit several times.
pub const DISK_BYTES: usize = 1 << 30;

/// A load that does not fill the log by then is slow, and long enough.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

/// So many collections shall be in the log, unless it gets twice as long meanwhile.
const COLLECTIONS: u64 = 4;

/// Which disks there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// One for all: whatever flushes it flushes everything.
    OneDisk,
    /// The segments have one of their own, so that a flush of the catalog does not cover them, nor the other way round.
    TwoDisks,
}

impl Layout {
    /// The layout with this number of disks.
    pub fn named(name: &str) -> Option<Layout> {
        match name {
            "1" => Some(Layout::OneDisk),
            "2" => Some(Layout::TwoDisks),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Layout::OneDisk => "one disk",
            Layout::TwoDisks => "two disks",
        }
    }

    /// Where each disk is mounted, below the first one.
    pub fn places(self) -> &'static [&'static str] {
        match self {
            Layout::OneDisk => &[""],
            Layout::TwoDisks => &["", "data/segments"],
        }
    }
}

/// What is to be recorded, and where.
#[derive(Clone, Debug)]
pub struct Order {
    /// The file system.
    pub kind: Kind,
    /// The disks.
    pub layout: Layout,
    /// The program under test.
    pub binary: PathBuf,
    /// A folder for everything.
    pub dir: PathBuf,
    /// How much is written at least.
    pub log_bytes: u64,
}

impl Order {
    /// The program, on file systems that are mounted at `mounted`.
    pub fn program(&self, mounted: &Path) -> Program {
        Program {
            binary: self.binary.clone(),
            data: mounted.join("data"),
            settings: self.dir.join("drystone.toml"),
            log: self.dir.join("log"),
        }
    }
}

/// What was asked of the disks, and of the server.
pub struct Recorded {
    /// One for each disk.
    pub logs: Vec<Arc<Log>>,
    /// Every call with its answer, stamped with the events of the disks.
    pub board: Board,
    /// The server was ready, so its first start is complete.
    pub ready: u64,
    /// The load had ended.
    pub end: u64,
    counts: Counts,
}

impl Recorded {
    /// The ends of all flushes under the load, in order.
    pub fn flushes(&self) -> Vec<u64> {
        let logs = self.logs.iter();
        let mut all: Vec<u64> = logs
            .flat_map(|log| log.flushes(self.ready, self.end))
            .collect();
        all.sort_unstable();
        all
    }

    /// How many changes are volatile at a cut.
    pub fn volatile(&self, cut: u64) -> usize {
        self.logs.iter().map(|log| log.volatile(cut)).sum()
    }

    /// What there is, in a line.
    pub fn summary(&self) -> String {
        let Counts {
            puts,
            completes,
            deletes,
            collections,
            ..
        } = &self.counts;
        format!(
            "logged {} MiB and {} flushes under {} puts, {} completions, {} deletions, {} collections",
            self.logs.iter().map(|log| log.bytes()).sum::<u64>() >> 20,
            self.flushes().len(),
            puts.load(Ordering::Relaxed),
            completes.load(Ordering::Relaxed),
            deletes.load(Ordering::Relaxed),
            collections.load(Ordering::Relaxed),
        )
    }
}

/// Makes disks and file systems, runs the server under load on them, and takes them down again.
///
/// # Errors
/// The machine lacks something, or the server does what it may not do.
pub fn record(order: &Order, dice: &mut Dice) -> anyhow::Result<Recorded> {
    let events = Events::default();
    let mounted = order.dir.join("mounted");
    let program = order.program(&mounted);
    write_settings(&program.settings, "[store]\nreserve = \"64 MiB\"\n")?;
    // Mounts end before the disks under them.
    let mut disks = Vec::new();
    let mut mounts = Mounts::default();
    for place in order.layout.places() {
        if !place.is_empty() {
            make_room_for(&program, &mounted.join(place))?;
        }
        let at = order.dir.join(format!("fuse-{}", disks.len()));
        let disk = Disk::mount(&at, DISK_BYTES, Arc::clone(&events))?;
        order.kind.format(disk.path())?;
        mounts.push(Mount::file(order.kind, disk.path(), &mounted.join(place))?);
        disks.push(disk);
        let _ = fs::remove_dir(mounted.join(place).join("lost+found"));
    }
    let stamp = Arc::clone(&events);
    let board = Board::new(
        dice.roll(),
        Arc::new(move || stamp.load(Ordering::SeqCst)),
        Model::default(),
    );

    let server = program.start()?;
    let ready = events.load(Ordering::SeqCst);
    let logs: Vec<Arc<Log>> = disks.iter().map(Disk::log).collect();
    let counts = Counts::default();
    let load = Load {
        sessions: 6,
        writers: 3,
        puts_max: 6,
        keep: 10,
        may_be_full: false,
        collects: program.knows("gc"),
    };
    let work = Work {
        board: &board,
        load: &load,
        counts: &counts,
        stop: &AtomicBool::new(false),
        address: server.address,
        key: &program.key()?,
    };
    run(&work, &program, &logs, order.log_bytes, dice)?;
    let end = events.load(Ordering::SeqCst);
    server.kill()?;
    mounts.end()?;
    Ok(Recorded {
        logs,
        board,
        ready,
        end,
        counts,
    })
}

/// A data directory that is made already lets another file system be mounted in it.
fn make_room_for(program: &Program, place: &Path) -> anyhow::Result<()> {
    program.start()?.kill()?;
    let files = fs::read_dir(place).with_context(|| format!("cannot read {}", place.display()))?;
    if files.count() > 0 {
        bail!("{} is not empty after a first start", place.display());
    }
    Ok(())
}

fn run(
    work: &Work<'_>,
    program: &Program,
    logs: &[Arc<Log>],
    log_bytes: u64,
    dice: &mut Dice,
) -> anyhow::Result<()> {
    let mut dice = dice.fork();
    let written = || logs.iter().map(|log| log.bytes()).sum::<u64>();
    let before = written();
    thread::scope(|scope| {
        let load = scope.spawn(|| work.run(program, &mut dice));
        let began = Instant::now();
        while began.elapsed() < LOAD_LIMIT && !load.is_finished() {
            let collected = work.counts.collections.load(Ordering::Relaxed) >= COLLECTIONS;
            let written = written() - before;
            let enough = written >= log_bytes && (collected || !work.load.collects);
            if enough || written >= 2 * log_bytes {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        work.stop.store(true, Ordering::SeqCst);
        load.join().unwrap_or_else(|_| bail!("the load panicked"))
    })
}
