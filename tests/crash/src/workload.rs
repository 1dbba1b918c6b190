//! Sessions of many writers, with deletes, reads, collections and scrubs beside them.

use crate::api::{Api, Failure};
use crate::board::Board;
use crate::check;
use crate::content::{self, Seed};
use crate::dice::Dice;
use crate::model::{Op, Outcome};
use crate::server::{Program, said};
use crate::wire::Key;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Blocks of the volumes: one GiB.
const VOLUME_BLOCKS: u64 = 2048;

/// After an answer that there is no room.
const PAUSE: Duration = Duration::from_millis(20);

/// How the load looks.
#[derive(Clone, Debug)]
pub struct Load {
    /// Sessions at a time.
    pub sessions: usize,
    /// Writers of each session.
    pub writers: usize,
    /// Puts of a session before it is completed or left.
    pub puts_max: u64,
    /// More readable snapshots than this are deleted.
    pub keep: usize,
    /// Whether the disk may be full: then a put may fail, and is told as an internal error.
    pub may_be_full: bool,
    /// Whether `drystone gc` and `drystone scrub` run beside it.
    pub collects: bool,
}

/// What was done, by all.
#[derive(Default, Debug)]
pub struct Counts {
    /// Puts that were acknowledged.
    pub puts: AtomicU64,
    /// Snapshots whose completion was acknowledged.
    pub completes: AtomicU64,
    /// Deletions that were acknowledged.
    pub deletes: AtomicU64,
    /// Puts and starts that found no room.
    pub no_room: AtomicU64,
    /// Collections that went to their end.
    pub collections: AtomicU64,
    /// Scrubs that went to their end.
    pub scrubs: AtomicU64,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Everything that a writer needs.
pub struct Work<'a> {
    /// The list of all calls.
    pub board: &'a Board,
    /// How the load looks.
    pub load: &'a Load,
    /// What was done.
    pub counts: &'a Counts,
    /// Says when to end.
    pub stop: &'a AtomicBool,
    /// The server.
    pub address: SocketAddr,
    /// For whom.
    pub key: &'a Key,
}

impl Work<'_> {
    /// Runs the load until `stop`, or until the server is gone.
    ///
    /// # Errors
    /// The server said what it may not say.
    pub fn run(&self, program: &Program, dice: &mut Dice) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..self.load.sessions {
                let dice = dice.fork();
                threads.push(scope.spawn(|| self.sessions(dice)));
            }
            if self.load.collects {
                let dice = dice.fork();
                threads.push(scope.spawn(|| self.collect(program, dice)));
            }
            let mut outcome = Ok(());
            for thread in threads {
                let ended = thread.join().unwrap_or_else(|_| bail!("a writer panicked"));
                if ended.is_err() {
                    self.stop.store(true, Ordering::SeqCst);
                    outcome = outcome.and(ended);
                }
            }
            outcome
        })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn sessions(&self, mut dice: Dice) -> anyhow::Result<()> {
        let mut apis = Vec::new();
        for _ in 0..self.load.writers.max(1) {
            apis.push(Api::new(self.address, self.key)?);
        }
        while !self.stopped() {
            match self.session(&mut apis, &mut dice) {
                Ok(()) => {}
                Err(Failure::Gone) => return Ok(()),
                Err(failure) if self.load.may_be_full && failure.is_internal() => {
                    count(&self.counts.no_room);
                    if let Err(failure) = self.make_room(&mut apis[0], &mut dice) {
                        return match failure {
                            Failure::Gone => Ok(()),
                            other => Err(other.unexpected().context("while making room")),
                        };
                    }
                    thread::sleep(PAUSE);
                }
                Err(failure) => return Err(failure.unexpected().context("in a session")),
            }
        }
        Ok(())
    }

    /// Some puts into a snapshot, and often its completion; now and then a deletion, and reads of others.
    fn session(&self, apis: &mut [Api], dice: &mut Dice) -> Result<(), Failure> {
        let open = dice.chance(60).then(|| self.board.claim_open(dice));
        let id = match open.flatten() {
            Some(id) => id,
            None => self.start(&mut apis[0], dice)?,
        };
        let outcome = self.write(apis, &id, dice);
        self.board.release(&id);
        outcome?;
        if dice.chance(30) {
            self.read_some(&mut apis[0], dice)?;
        }
        match self.board.claim_victim(dice, self.load.keep) {
            Some(victim) => self.delete(&mut apis[0], &victim),
            None => Ok(()),
        }
    }

    fn start(&self, api: &mut Api, dice: &mut Dice) -> Result<String, Failure> {
        let parent = match dice.chance(60) {
            true => self.board.pin(dice).map(|(id, _)| id),
            false => None,
        };
        let token = self.board.token();
        let op = Op::Start {
            token: token.clone(),
            parent: parent.clone(),
        };
        let started = self.board.perform(op, || {
            let id = api.start(&token, parent.as_deref())?;
            // Before the board tells others of it.
            self.board.claim(&id);
            Ok(Outcome::Started(id))
        });
        if let Some(parent) = &parent {
            self.board.unpin(parent);
        }
        match started? {
            Outcome::Started(id) => Ok(id),
            Outcome::Done | Outcome::Unknown => {
                Err(anyhow::anyhow!("a start without an id").into())
            }
        }
    }

    fn write(&self, apis: &mut [Api], id: &str, dice: &mut Dice) -> Result<(), Failure> {
        let model = self.board.model_of(id).context("the snapshot is ours")?;
        let mut todo: BTreeMap<u32, Seed> = model.uncertain().into_iter().collect();
        for _ in 0..1 + dice.below(self.load.puts_max) {
            let again = model.own.keys().next().filter(|_| dice.chance(5));
            let index = match again {
                Some(index) => *index,
                None => u32::try_from(dice.below(VOLUME_BLOCKS)).context("an index")?,
            };
            todo.insert(index, content::any(dice));
        }
        self.put_all(apis, id, &todo)?;
        if dice.chance(70) && !self.stopped() {
            let model = self.board.model_of(id).context("the snapshot is ours")?;
            let own = model.certain().context("every put was answered")?;
            let op = Op::Complete { id: id.to_owned() };
            let completed = self.board.perform(op, || {
                apis[0].complete(id, &own)?;
                Ok(Outcome::Done)
            });
            completed.map_err(needs_no_room)?;
            count(&self.counts.completes);
            apis[0].list(id)?;
            self.board.readable(id);
        }
        Ok(())
    }

    fn put_all(
        &self,
        apis: &mut [Api],
        id: &str,
        todo: &BTreeMap<u32, Seed>,
    ) -> Result<(), Failure> {
        let lists: Vec<Vec<(u32, Seed)>> = (0..apis.len())
            .map(|part| {
                let mine = todo.iter().skip(part).step_by(apis.len());
                mine.map(|(index, seed)| (*index, *seed)).collect()
            })
            .collect();
        thread::scope(|scope| {
            let threads: Vec<_> = apis
                .iter_mut()
                .zip(lists)
                .map(|(api, list)| scope.spawn(move || self.put_list(api, id, &list)))
                .collect();
            let mut outcome = Ok(());
            for thread in threads {
                let ended = thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a writer panicked").into()));
                outcome = outcome.and(ended);
            }
            outcome
        })
    }

    fn put_list(&self, api: &mut Api, id: &str, list: &[(u32, Seed)]) -> Result<(), Failure> {
        for (index, seed) in list {
            put(self.board, api, id, *index, *seed)?;
            count(&self.counts.puts);
        }
        Ok(())
    }

    fn delete(&self, api: &mut Api, id: &str) -> Result<(), Failure> {
        delete(self.board, api, id).map_err(needs_no_room)?;
        count(&self.counts.deletes);
        Ok(())
    }

    fn make_room(&self, api: &mut Api, dice: &mut Dice) -> Result<(), Failure> {
        match self.board.claim_victim(dice, 1) {
            Some(victim) => self.delete(api, &victim),
            None => Ok(()),
        }
    }

    fn read_some(&self, api: &mut Api, dice: &mut Dice) -> Result<(), Failure> {
        let Some((id, content)) = self.board.pin(dice) else {
            return Ok(());
        };
        let outcome = check::read(api, &id, &content, Some(3), dice);
        self.board.unpin(&id);
        outcome.map(|_| ())
    }

    /// `drystone gc` and now and then `drystone scrub`, one after the other.
    fn collect(&self, program: &Program, mut dice: Dice) -> anyhow::Result<()> {
        while !self.stopped() {
            let (arguments, counter) = match dice.chance(85) {
                true => (&["gc"][..], &self.counts.collections),
                false => (&["scrub", "--rate", "1 GiB"][..], &self.counts.scrubs),
            };
            let output = program.run(arguments)?;
            if output.status.success() {
                count(counter);
            } else if !self.stopped() {
                let gone = Api::new(self.address, self.key)?.describe();
                match gone {
                    Err(Failure::Gone) => return Ok(()),
                    _ => bail!("`drystone {}`: {}", arguments.join(" "), said(&output)),
                }
            }
            thread::sleep(Duration::from_millis(dice.below(30)));
        }
        Ok(())
    }
}

/// The reserve is there so that completions and deletions go on when the disk is full.
fn needs_no_room(failure: Failure) -> Failure {
    match failure.is_internal() {
        true => Failure::Broken(failure.unexpected().context("it needs no room")),
        false => failure,
    }
}

/// Puts a block and takes note.
///
/// # Errors
/// Those of the call.
pub fn put(board: &Board, api: &mut Api, id: &str, index: u32, seed: Seed) -> Result<(), Failure> {
    let op = Op::Put {
        id: id.to_owned(),
        index,
        seed,
    };
    board.perform(op, || {
        api.put(id, index, seed)?;
        Ok(Outcome::Done)
    })?;
    Ok(())
}

/// Deletes a snapshot and takes note.
///
/// # Errors
/// Those of the call.
pub fn delete(board: &Board, api: &mut Api, id: &str) -> Result<(), Failure> {
    let op = Op::Delete { id: id.to_owned() };
    board.perform(op, || {
        api.delete(id)?;
        Ok(Outcome::Done)
    })?;
    Ok(())
}
