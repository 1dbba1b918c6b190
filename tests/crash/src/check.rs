//! A server against a model: everything acknowledged is there byte for byte, nothing else is visible.
//!
//! Steps
//! 1. Starts without an answer are sent again with their token: the same snapshot or a new one, both are right.
//! 2. The snapshots that are told are those of the model: none lost, none back, none unknown, none failed.
//! 3. Deletions and completions without an answer are sent again.
//! 4. Puts without an answer are sent again. Then open snapshots (all, or some) are completed with the count and the LINEAR
//!    aggregate of what was acknowledged: a put that was lost fails its snapshot here.
//! 5. Completed snapshots are read: the indexes, every byte (or some), and the difference to their parents.

use crate::api::{Api, Failure, Id, State};
use crate::board::Board;
use crate::content;
use crate::dice::Dice;
use crate::model::{Content, Model, Op, Outcome, Stage};
use crate::server::{Program, Server};
use crate::workload;
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Clients that read at a time.
const READERS: usize = 4;

/// How much is checked.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// Open snapshots that are completed, in percent.
    pub complete_percent: u64,
    /// Snapshots that have been read before and are read again at most; of each, a few blocks.
    pub again_max: usize,
    /// Whether a put may find the disk full; then its snapshot stays open.
    pub may_be_full: bool,
}

/// What a check has seen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Snapshots that are there.
    pub snapshots: u64,
    /// Acknowledged puts that were read back, each counted once in a run.
    pub puts: u64,
    /// Blocks that were read and compared.
    pub blocks: u64,
}

/// Compares a server with what the board knows, and brings the board up to date.
///
/// `verified` holds the snapshots that were read in full before; those that are read now are added.
///
/// # Errors
/// Something acknowledged is not there, or something is there that may not be.
pub fn check(
    program: &Program,
    server: &Server,
    board: &Board,
    depth: Depth,
    verified: &mut BTreeSet<Id>,
    dice: &mut Dice,
) -> anyhow::Result<Seen> {
    let mut api = program.api(server)?;
    settle_starts(board, &mut api).map_err(Failure::unexpected)?;
    let model = board.model();
    let told = api.describe().map_err(Failure::unexpected)?;
    for id in told.keys() {
        if model.gone.contains(id) {
            bail!("{id} is back: its deletion was acknowledged");
        }
        if !model.snapshots.contains_key(id) {
            bail!("{id} is there, and nobody started it");
        }
    }
    for (id, snapshot) in &model.snapshots {
        match (told.get(id), snapshot.stage, snapshot.deleting) {
            (None, _, true) => note_deleted(board, id),
            (None, _, false) => bail!("{id} is lost: its start was acknowledged"),
            (Some(_), _, true) => workload::delete(board, &mut api, id)
                .map_err(|failure| failure.unexpected().context(format!("{id}: deleting")))?,
            (Some(State::Error), ..) => bail!("{id} has failed"),
            (Some(State::Completed), Stage::Open, _) => bail!("{id} was never completed"),
            (Some(_), ..) => settle(board, &mut api, id, depth, dice)
                .map_err(|failure| failure.unexpected().context(format!("{id}: completing")))?,
        }
    }
    read_all(program, server, board, depth, verified, dice)
}

fn note_deleted(board: &Board, id: &str) {
    let op = Op::Delete { id: id.to_owned() };
    // It is not there, so it was done.
    let _ = board.perform(op, || Ok(Outcome::Done));
}

fn settle_starts(board: &Board, api: &mut Api) -> Result<(), Failure> {
    for (token, parent) in board.model().unanswered {
        let op = Op::Start {
            token: token.clone(),
            parent: parent.clone(),
        };
        board.perform(op, || {
            Ok(Outcome::Started(api.start(&token, parent.as_deref())?))
        })?;
    }
    Ok(())
}

/// Brings a snapshot as far as it can be told.
fn settle(
    board: &Board,
    api: &mut Api,
    id: &str,
    depth: Depth,
    dice: &mut Dice,
) -> Result<(), Failure> {
    let snapshot = board.model_of(id).context("it is in the model")?;
    if snapshot.stage == Stage::Sealed {
        return Ok(());
    }
    if snapshot.stage == Stage::Open {
        if !dice.chance(depth.complete_percent) {
            return Ok(());
        }
        for (index, seed) in snapshot.uncertain() {
            match workload::put(board, api, id, index, seed) {
                Err(failure) if depth.may_be_full && failure.is_internal() => return Ok(()),
                other => other?,
            }
        }
    }
    let snapshot = board.model_of(id).context("it is in the model")?;
    let own = snapshot.certain().context("every put was answered")?;
    board.perform(Op::Complete { id: id.to_owned() }, || {
        match api.complete(id, &own) {
            Err(Failure::Said(answer)) if answer.text().contains("already completed") => {}
            other => other?,
        }
        Ok(Outcome::Done)
    })?;
    Ok(())
}

fn read_all(
    program: &Program,
    server: &Server,
    board: &Board,
    depth: Depth,
    verified: &mut BTreeSet<Id>,
    dice: &mut Dice,
) -> anyhow::Result<Seen> {
    let model = board.model();
    let sealed = model
        .snapshots
        .iter()
        .filter(|(_, s)| s.stage == Stage::Sealed);
    let (mut again, new): (Vec<_>, Vec<_>) = sealed.partition(|(id, _)| verified.contains(*id));
    while again.len() > depth.again_max {
        again.swap_remove(dice.index(again.len()));
    }
    let mut seen = Seen {
        snapshots: model.snapshots.len() as u64,
        ..Seen::default()
    };
    seen.puts = new
        .iter()
        .map(|(_, snapshot)| snapshot.own.len() as u64)
        .sum();
    let mut todo = Vec::new();
    for (some, (id, _)) in again
        .into_iter()
        .map(|item| (true, item))
        .chain(new.into_iter().map(|item| (false, item)))
    {
        todo.push((id, some));
    }
    let (next, blocks) = (AtomicUsize::new(0), Mutex::new(0));
    let seeds: Vec<Dice> = (0..READERS).map(|_| dice.fork()).collect();
    let work = |mut dice: Dice| -> anyhow::Result<()> {
        let mut api = program.api(server)?;
        while let Some((id, some)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            let count = read_one(&mut api, &model, id, *some, &mut dice)
                .map_err(|failure| failure.unexpected().context((*id).clone()))?;
            board.readable(id);
            if let Ok(mut blocks) = blocks.lock() {
                *blocks += count;
            }
        }
        Ok(())
    };
    let outcome = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = seeds
            .into_iter()
            .map(|dice| scope.spawn(move || work(dice)))
            .collect();
        let mut outcome = Ok(());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| bail!("a reader panicked"));
            outcome = outcome.and(ended);
        }
        outcome
    });
    outcome?;
    verified.extend(todo.into_iter().map(|(id, _)| id.clone()));
    seen.blocks = blocks.into_inner().unwrap_or_default();
    Ok(seen)
}

fn read_one(
    api: &mut Api,
    model: &Model,
    id: &str,
    some: bool,
    dice: &mut Dice,
) -> Result<u64, Failure> {
    let snapshot = &model.snapshots[id];
    let content = snapshot.content().context("a sealed snapshot is certain")?;
    let count = read(api, id, &content, some.then_some(8), dice)?;
    let parent = snapshot.parent.as_ref();
    let parent = parent.filter(|parent| model.snapshots.contains_key(*parent));
    if let Some(parent) = parent {
        let expected: Vec<u32> = content
            .iter()
            .filter(|(index, seed)| snapshot.base.get(*index) != Some(*seed))
            .map(|(index, _)| *index)
            .collect();
        let found = api.changed(parent, id)?;
        if found != expected {
            return Err(
                anyhow::anyhow!("differs from {parent} at {found:?}, not at {expected:?}").into(),
            );
        }
    }
    Ok(count)
}

/// Reads a snapshot, all of it or `some` blocks, and compares; answers the number of blocks.
///
/// # Errors
/// It is not what it must be.
pub fn read(
    api: &mut Api,
    id: &str,
    content: &Content,
    some: Option<usize>,
    dice: &mut Dice,
) -> Result<u64, Failure> {
    let listed = api.list(id)?;
    if !listed.keys().eq(content.keys()) {
        let found: Vec<_> = listed.keys().collect();
        let expected: Vec<_> = content.keys().collect();
        return Err(anyhow::anyhow!("{id} has blocks {found:?}, not {expected:?}").into());
    }
    let mut chosen: Vec<_> = listed.iter().collect();
    while some.is_some_and(|some| chosen.len() > some) {
        chosen.swap_remove(dice.index(chosen.len()));
    }
    for (index, token) in &chosen {
        let found = api.get(id, **index, token)?;
        if found != content::block(content[*index]) {
            return Err(anyhow::anyhow!("block {index} of {id} has other bytes").into());
        }
    }
    Ok(chosen.len() as u64)
}
