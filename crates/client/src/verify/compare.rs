//! Goes through disk and snapshot together, many blocks at once.
//!
//! A disk is read wherever a block is looked at. A stream is read in order, before what is looked at goes to the server.

use super::{EXTENTS_MAX, VerifyReport};
use crate::api::{Api, ListedBlock};
use crate::download::plan::{BlockStep, Planner, Standing, Step};
use crate::download::steps::{BATCHES_WAITING, plan_all};
use crate::download::transfer::places;
use crate::download::units::{Next, Unit, Units};
use crate::download::work::place;
use crate::listing::get_with_fresh_token;
use crate::runs::{DataRuns, Runs};
use crate::source::{Extent, Source};
use crate::tasks::{Task, Tasks, blocking};
use crate::walk::Walk;
use crate::{Counter, Error, SnapshotId};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use types::{BlockIndex, Digest, is_zero};

/// What all tasks of a comparison share.
pub(super) struct Work {
    pub(super) api: Api,
    pub(super) snapshot: SnapshotId,
    pub(super) source: Source,
    pub(super) checksums_only: bool,
}

/// A comparison on its way.
pub(super) struct Comparison {
    work: Arc<Work>,
    local: Arc<Semaphore>,
    planning: Option<Task<()>>,
    steps: mpsc::Receiver<Vec<Step>>,
    units: Units,
    tasks: Tasks<Compared>,
    tasks_max: usize,
    stream: Stream,
    compared: u64,
    differing: Runs,
    bad: Runs,
}

/// How far a stream was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    /// It is none.
    No,
    /// To the block in hand.
    Open,
    /// To its end.
    Ended,
}

/// A block that was looked at.
#[derive(Clone, Copy, Debug)]
struct Compared {
    index: BlockIndex,
    verdict: Verdict,
    /// Whether the snapshot's data was fetched for it.
    fetched: bool,
}

impl Compared {
    fn unfetched(index: BlockIndex, verdict: Verdict) -> Compared {
        Compared {
            index,
            verdict,
            fetched: false,
        }
    }
}

/// What came of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Zeros on both sides.
    Zeros,
    /// The same on both.
    Same,
    /// Something else.
    Differs,
    /// The server has lost it.
    Lost,
}

impl Verdict {
    fn of(disk: Digest, snapshot: Digest) -> Verdict {
        match (disk == snapshot, disk == Digest::ZERO_BLOCK) {
            (true, true) => Verdict::Zeros,
            (true, false) => Verdict::Same,
            (false, _) => Verdict::Differs,
        }
    }
}

impl Comparison {
    /// Begins to plan; nothing is read or fetched yet.
    pub(super) fn new(work: Arc<Work>, walk: Walk) -> Comparison {
        let (sender, steps) = mpsc::channel(BATCHES_WAITING);
        let blocks = walk.volume_size().block_count();
        let local = Arc::new(Semaphore::new(places()));
        let stream = match work.source.bytes() {
            Some(_) => Stream::No,
            None => Stream::Open,
        };
        let of_planner = Arc::clone(&work);
        let next_data = move |from| match stream {
            Stream::No => of_planner.source.next_data(from),
            // What a stream has is known when it is read.
            Stream::Open | Stream::Ended => Ok((from < blocks).then(|| Extent {
                start: from,
                count: blocks - from,
            })),
        };
        let standing = Standing::Base {
            data: DataRuns::new(next_data),
            digests: None,
            trusted: 0,
        };
        let planner = Planner::new(blocks, standing, None);
        let planning = plan_all(walk, None, planner, Arc::clone(&local), sender);
        let in_flight_max = work.api.in_flight_max();
        Comparison {
            planning: Some(Task::start(planning)),
            steps,
            units: Units::default(),
            tasks: Tasks::new(false),
            tasks_max: in_flight_max.min(work.api.buffers().total()).max(1),
            stream,
            compared: 0,
            differing: Runs::new(EXTENTS_MAX),
            bad: Runs::new(EXTENTS_MAX),
            local,
            work,
        }
    }

    /// Runs until everything is compared.
    pub(super) async fn run(&mut self) -> Result<(), Error> {
        loop {
            let has_room = self.tasks.len() < self.tasks_max;
            if has_room && let Some(next) = self.units.next() {
                self.start(next).await?;
                continue;
            }
            let wants_steps = has_room && self.planning.is_some();
            tokio::select! {
                biased;
                Some(compared) = self.tasks.next() => self.note(compared?),
                steps = self.steps.recv(), if wants_steps => match steps {
                    Some(steps) => self.units.extend(steps),
                    None => {
                        if let Some(planning) = self.planning.take() {
                            planning.await?;
                        }
                    }
                },
                else => return Ok(()),
            }
        }
    }

    /// Whether a stream has more than was compared.
    pub(super) async fn stream_goes_on(&mut self) -> Result<bool, Error> {
        self.read_next().await?;
        Ok(self.stream == Stream::Open)
    }

    /// What was found.
    pub(super) fn report(self, longer: bool, modified: bool) -> VerifyReport {
        let differing = self.differing.blocks();
        let (extents, extents_cut) = self.differing.into_extents();
        let (bad, bad_cut) = self.bad.into_extents();
        VerifyReport {
            compared: self.compared,
            differing,
            extents,
            bad,
            cut: extents_cut || bad_cut,
            longer,
            modified,
        }
    }

    async fn start(&mut self, next: Next) -> Result<(), Error> {
        match next {
            Next::Holes(count) => self.count(Counter::Zero, count),
            Next::Unit(Unit::Unlisted(extent)) => {
                for _ in 0..extent.count {
                    self.read_next().await?;
                }
                self.bad.add(extent);
                self.count(Counter::Bad, extent.count);
            }
            Next::Unit(Unit::Check(index)) => {
                if let Some(disk) = self.read_next().await? {
                    let verdict = Verdict::of(disk, Digest::ZERO_BLOCK);
                    self.note(Compared::unfetched(index, verdict));
                    return Ok(());
                }
                let (work, local) = (Arc::clone(&self.work), Arc::clone(&self.local));
                self.tasks.start(async move {
                    let disk = read(&work, &local, index).await?;
                    let verdict = Verdict::of(disk, Digest::ZERO_BLOCK);
                    Ok(Compared::unfetched(index, verdict))
                });
            }
            Next::Unit(Unit::Block(BlockStep { block, .. })) => {
                let disk = self.read_next().await?;
                let (work, local) = (Arc::clone(&self.work), Arc::clone(&self.local));
                self.tasks
                    .start(async move { compare(&work, &local, block, disk).await });
            }
            // A plan for something that stands there has no such step.
            Next::Unit(Unit::Zeros(extent)) => self.count(Counter::Zero, extent.count),
        }
        Ok(())
    }

    /// The digest of a stream's next block, zeros after its end; nothing for a disk.
    async fn read_next(&mut self) -> Result<Option<Digest>, Error> {
        match self.stream {
            Stream::No => return Ok(None),
            Stream::Ended => return Ok(Some(Digest::ZERO_BLOCK)),
            Stream::Open => {}
        }
        let mut buffer = self.work.api.buffers().take().await;
        let work = Arc::clone(&self.work);
        let read = blocking(move || {
            let any = work.source.read_next(&mut buffer)?;
            Ok(any.then(|| digest(&buffer)))
        });
        let digest = read.await?;
        if digest.is_none() {
            self.stream = Stream::Ended;
        }
        Ok(Some(digest.unwrap_or(Digest::ZERO_BLOCK)))
    }

    fn note(&mut self, compared: Compared) {
        let extent = Extent {
            start: compared.index.get(),
            count: 1,
        };
        let meter = self.work.api.meter();
        match compared.verdict {
            Verdict::Zeros => {}
            Verdict::Same => self.compared += 1,
            Verdict::Differs => {
                self.compared += 1;
                self.differing.add(extent);
            }
            Verdict::Lost => self.bad.add(extent),
        }
        let counter = match compared.verdict {
            Verdict::Lost => Some(Counter::Bad),
            _ if compared.fetched => Some(Counter::Moved),
            Verdict::Zeros => Some(Counter::Zero),
            Verdict::Same => Some(Counter::Same),
            Verdict::Differs => None,
        };
        if let Some(counter) = counter {
            meter.add(counter, 1);
        }
        meter.add(Counter::Done, 1);
    }

    fn count(&self, counter: Counter, blocks: u32) {
        let meter = self.work.api.meter();
        meter.add(counter, u64::from(blocks));
        meter.add(Counter::Done, u64::from(blocks));
    }
}

/// Compares a block that the snapshot has; the disk's digest is that of a stream.
async fn compare(
    work: &Arc<Work>,
    local: &Arc<Semaphore>,
    block: ListedBlock,
    disk: Option<Digest>,
) -> Result<Compared, Error> {
    let disk = match disk {
        Some(disk) => disk,
        None => read(work, local, block.index).await?,
    };
    let index = block.index;
    if let Some(listed) = block.digest.filter(|_| work.checksums_only) {
        return Ok(Compared::unfetched(index, Verdict::of(disk, listed)));
    }
    match get_with_fresh_token(&work.api, &work.snapshot, &block).await {
        Ok(got) => Ok(Compared {
            index,
            verdict: Verdict::of(disk, got.digest),
            fetched: true,
        }),
        Err(Error::Unreadable { .. } | Error::Corrupt { .. }) => {
            Ok(Compared::unfetched(index, Verdict::Lost))
        }
        Err(error) => Err(error),
    }
}

/// The digest of a block of the disk.
async fn read(
    work: &Arc<Work>,
    local: &Arc<Semaphore>,
    index: BlockIndex,
) -> Result<Digest, Error> {
    let mut buffer = work.api.buffers().take().await;
    let place = place(local).await;
    let work = Arc::clone(work);
    blocking(move || {
        let _place = place;
        work.source.read_block(index, &mut buffer)?;
        Ok(digest(&buffer))
    })
    .await
}

fn digest(data: &[u8]) -> Digest {
    match is_zero(data) {
        true => Digest::ZERO_BLOCK,
        false => Digest::of(data),
    }
}
