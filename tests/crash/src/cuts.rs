//! Power cuts: what the server finds on its disks after each of them.

use crate::board::Board;
use crate::check::{self, Depth, Seen};
use crate::dice::Dice;
use crate::log::{Honesty, How, Left, Replay};
use crate::machine::{DISK_BYTES, Order, Recorded};
use crate::place::{self, Mount, Mounts};
use anyhow::Context;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Points that are looked at for one cut.
const CANDIDATES: usize = 6;

/// How much is checked after a cut: everything.
const DEPTH: Depth = Depth {
    complete_percent: 100,
    again_max: usize::MAX,
    may_be_full: false,
};

/// Cuts the power in what was recorded.
pub struct Cutter<'a> {
    order: &'a Order,
    recorded: &'a Recorded,
    cuts: usize,
    torn: usize,
    volatile: usize,
    kept: usize,
    seen: Seen,
    worst_start: Duration,
}

impl<'a> Cutter<'a> {
    /// Nothing was cut yet.
    pub fn new(order: &'a Order, recorded: &'a Recorded) -> Cutter<'a> {
        Cutter {
            order,
            recorded,
            cuts: 0,
            torn: 0,
            volatile: 0,
            kept: 0,
            seen: Seen::default(),
            worst_start: Duration::ZERO,
        }
    }

    /// What was seen, in a line.
    pub fn summary(&self) -> String {
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

    /// Cuts at random points, in the order of the log.
    ///
    /// # Errors
    /// Something that was acknowledged before a cut is not there after it.
    pub fn cut(&mut self, count: usize, honesty: Honesty, dice: &mut Dice) -> anyhow::Result<()> {
        let mut replays = Vec::new();
        for (number, log) in self.recorded.logs.iter().enumerate() {
            let base = self.file("base", number);
            place::sparse_file(&base, DISK_BYTES as u64)?;
            replays.push(Replay::new(log, writable(&base)?, honesty));
        }
        for (number, cut) in self.points(count, dice).into_iter().enumerate() {
            let how = How::any(dice);
            for replay in &mut replays {
                replay.advance(cut)?;
            }
            let before = dice.clone();
            let left = self.leave(&replays, cut, how, dice)?;
            let mounts = match self.mount() {
                // A file system cannot stand on a disk that forgets, and what it says is no answer of ours.
                Err(_) if honesty != Honesty::Honest => continue,
                mounted => mounted,
            };
            let outcome = mounts.and_then(|mounts| self.look(mounts, cut, dice));
            if outcome.is_err() && honesty == Honesty::Honest {
                // As they were before anybody looked at them.
                self.leave(&replays, cut, how, &mut before.clone())?;
            }
            outcome.with_context(|| {
                format!(
                    "cut {} of {count}, at event {cut}, {left:?}, {how:?}",
                    number + 1
                )
            })?;
            self.cuts += 1;
            self.torn += usize::from(matches!(how, How::Torn(..)));
            self.volatile += left.volatile;
            self.kept += left.kept;
        }
        Ok(())
    }

    /// Makes the images of the disks after a cut.
    fn leave(
        &self,
        replays: &[Replay<'_, File>],
        cut: u64,
        how: How,
        dice: &mut Dice,
    ) -> anyhow::Result<Left> {
        let mut left = Left {
            volatile: 0,
            kept: 0,
        };
        for (disk, replay) in replays.iter().enumerate() {
            let image = self.image(disk);
            copy(&self.file("base", disk), &image)?;
            left += replay.leave(cut, &writable(&image)?, how, dice)?;
        }
        Ok(left)
    }

    /// The image of a disk after the last cut.
    pub fn image(&self, disk: usize) -> PathBuf {
        self.file("cut", disk)
    }

    fn file(&self, name: &str, disk: usize) -> PathBuf {
        self.order.dir.join(format!("{name}-{disk}"))
    }

    fn points(&self, count: usize, dice: &mut Dice) -> Vec<u64> {
        let flushes = self.recorded.flushes();
        let mut points: Vec<u64> = (0..count)
            .map(|_| {
                let mut some = [0; CANDIDATES].map(|_| point(&flushes, self.recorded.end, dice));
                // Mostly where there is much to lose.
                if dice.chance(70) {
                    some.sort_by_key(|cut| self.recorded.volatile(*cut));
                }
                some[CANDIDATES - 1]
            })
            .collect();
        points.sort_unstable();
        points
    }

    fn recovered(&self) -> PathBuf {
        self.order.dir.join("recovered")
    }

    /// Mounts the disks after a cut: the file systems recover.
    fn mount(&self) -> anyhow::Result<Mounts> {
        let mut mounts = Mounts::default();
        for (disk, place) in self.order.layout.places().iter().enumerate() {
            mounts.push(Mount::file(
                self.order.kind,
                &self.image(disk),
                &self.recovered().join(place),
            )?);
        }
        Ok(mounts)
    }

    /// Starts the server after a cut, and compares.
    fn look(&mut self, mounts: Mounts, cut: u64, dice: &mut Dice) -> anyhow::Result<()> {
        let program = self.order.program(&self.recovered());
        let board = Board::without_cuts(0, self.recorded.board.at(cut));
        let server = program.start()?;
        self.worst_start = self.worst_start.max(server.took);
        let seen = check::check(&program, &server, &board, DEPTH, &mut BTreeSet::new(), dice)?;
        if program.knows("gc") {
            // The second sweeps what the first condemned.
            program.must(&["gc"])?;
            program.must(&["gc"])?;
            check::check(&program, &server, &board, DEPTH, &mut BTreeSet::new(), dice)
                .context("after collections")?;
            program.must(&["audit", "--depth", "headers"])?;
        }
        program.check_log()?;
        self.seen.snapshots += seen.snapshots;
        self.seen.puts += seen.puts;
        self.seen.blocks += seen.blocks;
        server.kill()?;
        mounts.end()
    }
}

/// A point right after a flush, right before the next one has ended, or anywhere between the two.
fn point(flushes: &[u64], end: u64, dice: &mut Dice) -> u64 {
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
