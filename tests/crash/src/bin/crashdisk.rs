//! Cuts the power under the server's disk at random points, and checks every time that what the server acknowledged before
//! the cut is there: the order of its syncs against real file systems.
//!
//! 1. A logging disk, a file system on it, the server on that, and a load, until the log is long enough.
//! 2. For each cut, in the order of the log: what is durable, and some of what is not, goes into a copy; that is mounted, the
//!    server is started on it, and `drystone_crash::check` compares it with the board as it was at the cut. Then garbage is
//!    collected, everything is read again, and audited.
//! 3. The same on a disk that acknowledges flushes and forgets most of them, where the check must find a loss: this program
//!    has to be able to fail.

// A program of the tests measures time.
#![allow(clippy::disallowed_methods)]

use anyhow::{Context, bail};
use drystone_crash::board::Board;
use drystone_crash::check::{self, Depth, Seen};
use drystone_crash::dice::Dice;
use drystone_crash::disk::Disk;
use drystone_crash::log::{Honesty, How, Left, Log, Replay};
use drystone_crash::model::Model;
use drystone_crash::place::{self, Kind, Mount};
use drystone_crash::server::{Program, write_settings};
use drystone_crash::workload::{Counts, Load, Work};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str =
    "usage: crashdisk --binary FILE --dir DIR [--cuts N] [--fs ext4,xfs] [--log-mib N] [--seed N]";

/// XFS refuses less than 300 MiB; two segments of 64 MiB must fit several times.
const DISK_BYTES: usize = 1 << 30;
/// A load that does not fill the log by then is slow, and long enough.
const LOAD_LIMIT: Duration = Duration::from_secs(60);
/// So many collections shall be in the log, unless it gets twice as long meanwhile.
const COLLECTIONS: u64 = 4;
/// On a lying disk: one flush in so many is carried out, and so many cuts must be enough to find a loss.
const LYING: Honesty = Honesty::OneIn(25);
const LYING_CUTS: usize = 12;
/// Points that are looked at for one cut.
const CANDIDATES: usize = 6;

struct Arguments {
    binary: PathBuf,
    dir: PathBuf,
    cuts: usize,
    kinds: Vec<Kind>,
    log_bytes: u64,
    seed: u64,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crashdisk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut found = Arguments {
        binary: PathBuf::new(),
        dir: PathBuf::new(),
        cuts: 20,
        kinds: vec![Kind::Ext4, Kind::Xfs],
        log_bytes: 256 << 20,
        seed: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().context(USAGE)?;
        match word.as_str() {
            "--binary" => found.binary = value.into(),
            "--dir" => found.dir = value.into(),
            "--cuts" => found.cuts = value.parse()?,
            "--fs" => {
                let kinds = value.split(',').map(Kind::named).collect::<Option<_>>();
                found.kinds = kinds.context(USAGE)?;
            }
            "--log-mib" => found.log_bytes = value.parse::<u64>()? << 20,
            "--seed" => found.seed = value.parse()?,
            _ => bail!(USAGE),
        }
    }
    if found.binary.as_os_str().is_empty() || found.dir.as_os_str().is_empty() {
        bail!(USAGE);
    }
    Ok(found)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    println!("crashdisk: seed {}", arguments.seed);
    let fuse = match Path::new("/dev/fuse").exists() {
        true => None,
        false => Some("there is no /dev/fuse".to_owned()),
    };
    for kind in &arguments.kinds {
        let missing = place::missing().or(fuse.clone()).or(kind.missing());
        match missing {
            Some(missing) => println!("{}: skipped, {missing}", kind.name()),
            None => on(*kind, arguments).with_context(|| kind.name())?,
        }
    }
    Ok(())
}

fn on(kind: Kind, arguments: &Arguments) -> anyhow::Result<()> {
    let dir = arguments.dir.join(kind.name());
    fs::create_dir_all(&dir)?;
    let mut dice = Dice::new(arguments.seed);
    let recorded = record(kind, arguments, &dir, &mut dice)?;
    let mut cutter = Cutter {
        kind,
        binary: &arguments.binary,
        dir: &dir,
        recorded: &recorded,
        totals: Totals::default(),
    };
    cutter.cuts(arguments.cuts, Honesty::Honest, &mut dice)?;
    println!("{}: {}", kind.name(), cutter.totals.summary());
    let found = cutter.cuts(LYING_CUTS, LYING, &mut dice);
    match found {
        Err(error) => {
            println!(
                "{}: a disk that forgets flushes is found out: {error:#}",
                kind.name()
            );
            Ok(())
        }
        Ok(()) => bail!("{LYING_CUTS} cuts of a disk that forgets flushes, and no loss was found"),
    }
}

/// A load on a logging disk.
struct Recorded {
    log: Arc<Log>,
    board: Board,
    /// The server was ready, so its first start is complete.
    ready: u64,
    end: u64,
}

fn program(binary: &Path, mounted: &Path, beside: &Path) -> Program {
    Program {
        binary: binary.to_path_buf(),
        data: mounted.join("data"),
        settings: beside.join("drystone.toml"),
        log: beside.join("log"),
    }
}

fn record(
    kind: Kind,
    arguments: &Arguments,
    dir: &Path,
    dice: &mut Dice,
) -> anyhow::Result<Recorded> {
    let disk = Disk::mount(&dir.join("fuse"), DISK_BYTES)?;
    kind.format(disk.path())?;
    let mounted = dir.join("mounted");
    let mount = Mount::file(kind, disk.path(), &mounted)?;
    let program = program(&arguments.binary, &mounted, dir);
    write_settings(&program.settings, "[store]\nreserve = \"64 MiB\"\n")?;
    let log = disk.log();
    let stamp = Arc::clone(&log);
    let board = Board::new(
        arguments.seed,
        Arc::new(move || stamp.events()),
        Model::default(),
    );

    let server = program.start()?;
    let ready = log.events();
    let load = Load {
        sessions: 6,
        writers: 3,
        puts_max: 6,
        keep: 10,
        may_be_full: false,
        collects: program.knows("gc"),
    };
    let (stop, counts, key) = (AtomicBool::new(false), Counts::default(), program.key()?);
    let work = Work {
        board: &board,
        load: &load,
        counts: &counts,
        stop: &stop,
        address: server.address,
        key: &key,
    };
    let mut load_dice = dice.fork();
    let collects = load.collects;
    let before = log.bytes();
    thread::scope(|scope| {
        let load = scope.spawn(|| work.run(&program, &mut load_dice));
        let began = Instant::now();
        while began.elapsed() < LOAD_LIMIT && !load.is_finished() {
            let collected = !collects || counts.collections.load(Ordering::Relaxed) >= COLLECTIONS;
            let written = log.bytes() - before;
            if written >= arguments.log_bytes && (collected || written >= 2 * arguments.log_bytes) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::SeqCst);
        load.join().unwrap_or_else(|_| bail!("the load panicked"))
    })?;
    let end = log.events();
    server.kill()?;
    mount.end()?;
    println!(
        "{}: logged {} MiB and {} flushes under {} puts, {} completions, {} deletions, {} collections",
        kind.name(),
        log.bytes() >> 20,
        log.flushes(ready, end).len(),
        counts.puts.load(Ordering::Relaxed),
        counts.completes.load(Ordering::Relaxed),
        counts.deletes.load(Ordering::Relaxed),
        counts.collections.load(Ordering::Relaxed),
    );
    Ok(Recorded {
        log,
        board,
        ready,
        end,
    })
}

#[derive(Default)]
struct Totals {
    cuts: usize,
    torn: usize,
    volatile: usize,
    kept: usize,
    seen: Seen,
    worst_start: Duration,
}

impl Totals {
    fn summary(&self) -> String {
        format!(
            "{} cuts ({} with torn writes; {} volatile writes, {} of them kept in whole or part), worst start {:.1?}; {} \
             snapshots, {} acknowledged puts, {} blocks compared; nothing lost",
            self.cuts,
            self.torn,
            self.volatile,
            self.kept,
            self.worst_start,
            self.seen.snapshots,
            self.seen.puts,
            self.seen.blocks
        )
    }
}

struct Cutter<'a> {
    kind: Kind,
    binary: &'a Path,
    dir: &'a Path,
    recorded: &'a Recorded,
    totals: Totals,
}

impl Cutter<'_> {
    /// Cuts at random points between two flushes, in the order of the log.
    fn cuts(&mut self, count: usize, honesty: Honesty, dice: &mut Dice) -> anyhow::Result<()> {
        let Recorded {
            log, ready, end, ..
        } = self.recorded;
        let flushes = log.flushes(*ready, *end);
        let mut cuts: Vec<u64> = (0..count)
            .map(|_| {
                let mut some = [0; CANDIDATES].map(|_| somewhere(&flushes, *end, dice));
                // Mostly where there is much to lose.
                if dice.chance(70) {
                    some.sort_by_key(|cut| log.volatile(*cut));
                }
                some[CANDIDATES - 1]
            })
            .collect();
        cuts.sort_unstable();
        let base = self.dir.join("base");
        place::sparse_file(&base, DISK_BYTES as u64)?;
        let file = OpenOptions::new().write(true).open(&base)?;
        let mut replay = Replay::new(log, file, honesty);
        for (number, cut) in cuts.into_iter().enumerate() {
            replay.advance(cut)?;
            let how = How::any(dice);
            let image = self.dir.join("cut");
            copy(&base, &image)?;
            let left = replay.leave(cut, &writable(&image)?, how, dice)?;
            let outcome = self.look(cut, &image, dice);
            outcome.with_context(|| {
                format!("cut {} of {count}, at event {cut}, {left:?}", number + 1)
            })?;
            if honesty == Honesty::Honest {
                self.count(&left);
            }
        }
        Ok(())
    }

    fn count(&mut self, left: &Left) {
        self.totals.cuts += 1;
        self.totals.torn += usize::from(matches!(left.how, How::Torn(..)));
        self.totals.volatile += left.volatile;
        self.totals.kept += left.kept;
    }

    /// Recovers a disk after a cut, and compares.
    fn look(&mut self, cut: u64, image: &Path, dice: &mut Dice) -> anyhow::Result<()> {
        let at = self.dir.join("recovered");
        let mount = Mount::file(self.kind, image, &at)?;
        let program = program(self.binary, &at, self.dir);
        let board = Board::without_cuts(0, self.recorded.board.at(cut));
        let server = program.start()?;
        self.totals.worst_start = self.totals.worst_start.max(server.took);
        let depth = Depth {
            complete_percent: 100,
            again_max: usize::MAX,
            may_be_full: false,
        };
        let seen = check::check(&program, &server, &board, depth, &mut BTreeSet::new(), dice)?;
        if program.knows("gc") {
            // The second sweeps what the first condemned.
            program.must(&["gc"])?;
            program.must(&["gc"])?;
            check::check(&program, &server, &board, depth, &mut BTreeSet::new(), dice)
                .context("after collections")?;
            program.must(&["audit", "--depth", "headers"])?;
        }
        program.check_log()?;
        self.totals.seen.snapshots += seen.snapshots;
        self.totals.seen.puts += seen.puts;
        self.totals.seen.blocks += seen.blocks;
        server.kill()?;
        mount.end()
    }
}

/// A point right after a flush, right before the next one has ended, or anywhere between the two.
fn somewhere(flushes: &[u64], end: u64, dice: &mut Dice) -> u64 {
    let at = dice.index(flushes.len());
    let from = flushes[at] + 1;
    let to = flushes.get(at + 1).copied().unwrap_or(end).max(from);
    match dice.below(10) {
        0..2 => from,
        2..6 => to,
        _ => from + dice.below(to - from + 1),
    }
}

fn writable(path: &Path) -> anyhow::Result<File> {
    Ok(OpenOptions::new().write(true).open(path)?)
}

/// Copies a file with its holes.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--sparse=always", "--reflink=auto"])
        .arg(from)
        .arg(to);
    place::run(&mut copy).map(|_| ())
}
