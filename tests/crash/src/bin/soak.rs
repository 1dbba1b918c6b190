//! Kills `drystone serve` with SIGKILL at random moments under 64 writers, and checks every time that what it acknowledged
//! is there: on a file system with room, and on a small one that is full.
//!
//! A round: load until a random number of acknowledgements and some milliseconds more; SIGKILL; now and then a start that
//! is killed too; a start, whose time is measured; then `drystone_crash::check` and `drystone audit`. Deletions, collections
//! and scrubs are part of the load. At the end everything is completed, read once more, scrubbed and audited.

// A program of the tests measures time.
#![allow(clippy::disallowed_methods)]

use anyhow::{Context, bail};
use drystone_crash::api::{Api, Failure, Id};
use drystone_crash::board::Board;
use drystone_crash::check::{self, Depth, Seen};
use drystone_crash::content;
use drystone_crash::dice::Dice;
use drystone_crash::model::{Model, Op, Outcome};
use drystone_crash::place::{self, Kind, Mount};
use drystone_crash::server::{Program, Server, write_settings};
use drystone_crash::workload::{self, Counts, Load, Work};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: soak --binary FILE --dir DIR [--kills N] [--full-kills N] [--seed N]";

/// Writers at a time, in sessions of four.
const SESSIONS: usize = 16;
const WRITERS: usize = 4;
/// Acknowledgements before a kill, at most.
const ACKNOWLEDGED_MAX: u64 = 500;
/// A full disk acknowledges little; a round ends after this time in any case.
const ROUND_LIMIT: Duration = Duration::from_secs(6);
/// The size of the small file system.
const SMALL_BYTES: u64 = 640 << 20;
/// Refusals for want of room before the first kill of a full disk.
const FULL_AFTER: u64 = 40;
/// Blocks that must fit once everything was deleted and collected.
const BLOCKS_AFTER: u32 = 200;

struct Arguments {
    binary: PathBuf,
    dir: PathBuf,
    kills: u64,
    full_kills: u64,
    seed: u64,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut found = Arguments {
        binary: PathBuf::new(),
        dir: PathBuf::new(),
        kills: 15,
        full_kills: 5,
        seed: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().context(USAGE)?;
        match word.as_str() {
            "--binary" => found.binary = value.into(),
            "--dir" => found.dir = value.into(),
            "--kills" => found.kills = value.parse()?,
            "--full-kills" => found.full_kills = value.parse()?,
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
    println!("soak: seed {}", arguments.seed);
    if arguments.kills > 0 {
        let dir = arguments.dir.join("roomy");
        std::fs::create_dir_all(&dir)?;
        let load = Load {
            sessions: SESSIONS,
            writers: WRITERS,
            puts_max: 10,
            keep: 60,
            may_be_full: false,
            collects: true,
        };
        let mut soak = Soak::new(arguments, &dir, &dir, load, arguments.seed)?;
        soak.run(arguments.kills)?;
        println!("with room: {}", soak.summary());
    }
    if arguments.full_kills > 0 {
        if let Some(missing) = place::missing().or(Kind::Ext4.missing()) {
            println!("full disk: skipped, {missing}");
            return Ok(());
        }
        full_disk(arguments)?;
    }
    Ok(())
}

fn full_disk(arguments: &Arguments) -> anyhow::Result<()> {
    let dir = arguments.dir.join("full");
    std::fs::create_dir_all(&dir)?;
    let (image, mounted) = (dir.join("image"), dir.join("mounted"));
    place::sparse_file(&image, SMALL_BYTES)?;
    Kind::Ext4.format(&image)?;
    let mount = Mount::file(Kind::Ext4, &image, &mounted)?;
    let load = Load {
        sessions: SESSIONS,
        writers: WRITERS,
        puts_max: 10,
        // Nothing is deleted before the disk is full.
        keep: usize::MAX,
        may_be_full: true,
        collects: true,
    };
    let mut soak = Soak::new(
        arguments,
        &mounted,
        &dir,
        load,
        arguments.seed.wrapping_add(1),
    )?;
    soak.run(arguments.full_kills)?;
    if soak.collects() {
        soak.room_returns()?;
    }
    println!("full disk: {}", soak.summary());
    drop(soak);
    mount.end()
}

struct Soak {
    program: Program,
    load: Load,
    board: Board,
    counts: Counts,
    dice: Dice,
    verified: BTreeSet<Id>,
    audits: bool,
    kills: u64,
    kills_of_starts: u64,
    starts: Vec<Duration>,
    puts_checked: u64,
    blocks_read: u64,
}

impl Soak {
    fn new(
        arguments: &Arguments,
        place: &Path,
        beside: &Path,
        mut load: Load,
        seed: u64,
    ) -> anyhow::Result<Soak> {
        let program = Program {
            binary: arguments.binary.clone(),
            data: place.join("data"),
            settings: beside.join("drystone.toml"),
            log: beside.join("log"),
        };
        write_settings(&program.settings, "[store]\nreserve = \"64 MiB\"\n")?;
        load.collects &= program.knows("gc");
        let audits = program.knows("audit");
        if !load.collects || !audits {
            println!("this version has no `drystone gc` or no `drystone audit`: without them");
        }
        Ok(Soak {
            program,
            load,
            board: Board::without_cuts(seed, Model::default()),
            counts: Counts::default(),
            dice: Dice::new(seed),
            verified: BTreeSet::new(),
            audits,
            kills: 0,
            kills_of_starts: 0,
            starts: Vec::new(),
            puts_checked: 0,
            blocks_read: 0,
        })
    }

    fn collects(&self) -> bool {
        self.load.collects
    }

    fn run(&mut self, kills: u64) -> anyhow::Result<()> {
        let mut server = self.start()?;
        for round in 0..kills {
            self.round(&server, round == 0)
                .with_context(|| format!("kill {} of {kills}", round + 1))?;
            server = self
                .kill_and_check(server, 50, 3)
                .with_context(|| format!("after kill {} of {kills}", round + 1))?;
        }
        // Everything, once more.
        let server = self.kill_and_check(server, 100, usize::MAX)?;
        if self.audits {
            self.program
                .must(&["scrub", "--restart", "--rate", "1 GiB"])?;
            self.program.must(&["audit", "--depth", "headers"])?;
        }
        server.kill()?;
        self.program.check_log()
    }

    fn start(&mut self) -> anyhow::Result<Server> {
        let server = self.program.start()?;
        self.starts.push(server.took);
        Ok(server)
    }

    /// Load until the moment of the kill; the writers are still at work when this returns.
    fn round(&mut self, server: &Server, first: bool) -> anyhow::Result<()> {
        let stop = AtomicBool::new(false);
        let key = self.program.key()?;
        let enough = self.acknowledged() + 1 + self.dice.below(ACKNOWLEDGED_MAX);
        let more = Duration::from_micros(self.dice.below(20_000));
        let mut dice = self.dice.fork();
        let fill = first && self.load.may_be_full;
        // A collection yields to requests, so most kills come before its end; some shall come after it.
        let collected = self.load.collects && self.dice.chance(25);
        let collections = collected.then(|| self.counts.collections.load(Ordering::Relaxed));
        let work = Work {
            board: &self.board,
            load: &self.load,
            counts: &self.counts,
            stop: &stop,
            address: server.address,
            key: &key,
        };
        thread::scope(|scope| {
            let load = scope.spawn(|| work.run(&self.program, &mut dice));
            let began = Instant::now();
            while !load.is_finished() {
                let reached = match fill {
                    true => self.counts.no_room.load(Ordering::Relaxed) >= FULL_AFTER,
                    false => {
                        let now = self.counts.collections.load(Ordering::Relaxed);
                        let busy = collections.is_some_and(|before| now == before);
                        self.acknowledged() >= enough && !busy || began.elapsed() > ROUND_LIMIT
                    }
                };
                if reached {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(more);
            let killed = server.kill();
            stop.store(true, Ordering::SeqCst);
            let ended = load.join().unwrap_or_else(|_| bail!("the load panicked"));
            killed.and(ended)
        })
    }

    fn acknowledged(&self) -> u64 {
        let counts = [
            &self.counts.puts,
            &self.counts.completes,
            &self.counts.deletes,
        ];
        counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Waits for the killed process, starts the next and checks it.
    fn kill_and_check(
        &mut self,
        server: Server,
        complete_percent: u64,
        again_max: usize,
    ) -> anyhow::Result<Server> {
        drop(server);
        self.kills += 1;
        self.board.everybody_left();
        if self.audits && self.dice.chance(30) {
            self.program.must(&["audit"]).context("before the start")?;
        }
        while self.dice.chance(15) {
            let mut child = self.program.spawn()?;
            thread::sleep(Duration::from_millis(self.dice.below(60)));
            child.kill()?;
            child.wait()?;
            self.kills_of_starts += 1;
        }
        let server = self.start()?;
        let depth = Depth {
            complete_percent,
            again_max,
            may_be_full: self.load.may_be_full,
        };
        let Seen { puts, blocks, .. } = check::check(
            &self.program,
            &server,
            &self.board,
            depth,
            &mut self.verified,
            &mut self.dice,
        )?;
        self.puts_checked += puts;
        self.blocks_read += blocks;
        if self.load.collects && self.dice.chance(40) {
            self.program.must(&["gc"])?;
            workload::count(&self.counts.collections);
        }
        if self.audits {
            self.program.must(&["audit"])?;
        }
        Ok(server)
    }

    /// On a disk that was full: when everything is deleted and collected, there is room again.
    fn room_returns(&mut self) -> anyhow::Result<()> {
        let server = self.start()?;
        let mut api = self.program.api(&server)?;
        for id in self.board.model().snapshots.keys() {
            workload::delete(&self.board, &mut api, id).map_err(Failure::unexpected)?;
        }
        for _ in 0..3 {
            self.program.must(&["gc"])?;
        }
        let id = self.fill(&mut api).map_err(|failure| {
            failure
                .unexpected()
                .context("everything was deleted and collected, and there is no room")
        })?;
        let server = {
            drop(server);
            self.start()?
        };
        let depth = Depth {
            complete_percent: 100,
            again_max: usize::MAX,
            may_be_full: false,
        };
        check::check(
            &self.program,
            &server,
            &self.board,
            depth,
            &mut self.verified,
            &mut self.dice,
        )
        .with_context(|| format!("after {id} was written into the room that returned"))?;
        self.program.must(&["audit", "--depth", "headers"])
    }

    fn fill(&mut self, api: &mut Api) -> Result<Id, Failure> {
        let token = self.board.token();
        let op = Op::Start {
            token: token.clone(),
            parent: None,
        };
        let started = self
            .board
            .perform(op, || Ok(Outcome::Started(api.start(&token, None)?)))?;
        let Outcome::Started(id) = started else {
            return Err(anyhow::anyhow!("a start without an id").into());
        };
        for index in 0..BLOCKS_AFTER {
            let mut seed = content::any(&mut self.dice);
            while seed < 1 << 32 {
                seed = content::any(&mut self.dice);
            }
            workload::put(&self.board, api, &id, index, seed)?;
        }
        Ok(id)
    }

    fn summary(&self) -> String {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let worst = self.starts.iter().max().copied().unwrap_or_default();
        let mut sorted = self.starts.clone();
        sorted.sort();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        format!(
            "{} kills, {} more in starts, {} starts (median {median:.1?}, worst {worst:.1?}); {} puts, {} completions, {} \
             deletions acknowledged; {} refused for want of room; {} acknowledged puts read back, {} blocks compared; {} \
             collections, {} scrubs; nothing lost",
            self.kills,
            self.kills_of_starts,
            self.starts.len(),
            load(&self.counts.puts),
            load(&self.counts.completes),
            load(&self.counts.deletes),
            load(&self.counts.no_room),
            self.puts_checked,
            self.blocks_read,
            load(&self.counts.collections),
            load(&self.counts.scrubs),
        )
    }
}
