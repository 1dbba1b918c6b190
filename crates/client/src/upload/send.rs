//! Puts blocks, many at once, by digest where that is likely to do.
//!
//! A block whose content is on its way already, for another index, waits for that: the server then has it, and need not be sent it twice.

use super::collect::{Held, Message, Settled};
use super::probe::{Probe, Probing};
use super::read::Put;
use crate::api::{Api, PutByDigest};
use crate::tasks::Tasks;
use crate::{Counter, Error, SnapshotId};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;
use types::{BLOCK_BYTES, Digest};

/// Puts what readers send.
pub(super) struct Sender {
    api: Api,
    snapshot: SnapshotId,
    probing: Probing,
    tasks: Tasks<Done>,
    /// Digests of data on its way, and the blocks that wait for each.
    on_the_way: HashMap<Digest, Vec<Put>>,
    waiting: usize,
    /// Blocks that have waited long enough.
    ready: VecDeque<Put>,
    settled: mpsc::Sender<Message>,
    zeros: Bytes,
}

/// What came of a put.
struct Done {
    settled: Settled,
    probe: Probe,
}

impl Sender {
    /// Sends to this snapshot; `put_by_digest` is what the server offers.
    pub(super) fn new(
        api: &Api,
        snapshot: &SnapshotId,
        put_by_digest: bool,
        settled: mpsc::Sender<Message>,
    ) -> Sender {
        Sender {
            api: api.clone(),
            snapshot: snapshot.clone(),
            probing: Probing::new(put_by_digest),
            tasks: Tasks::new(false),
            on_the_way: HashMap::new(),
            waiting: 0,
            ready: VecDeque::new(),
            settled,
            zeros: Bytes::from(vec![0; BLOCK_BYTES]),
        }
    }

    /// Puts everything that comes, until the channel ends. Dropping the future stops what is on its way.
    pub(super) async fn run(
        &mut self,
        puts: &mut mpsc::Receiver<Result<Put, Error>>,
    ) -> Result<(), Error> {
        let most = self.api.in_flight_max();
        let mut open = true;
        loop {
            while self.tasks.len() < most
                && let Some(put) = self.ready.pop_front()
            {
                self.start(put);
            }
            let room = self.tasks.len() < most;
            if !open && self.tasks.len() == 0 {
                return Ok(());
            }
            tokio::select! {
                Some(done) = self.tasks.next() => self.done(done?).await?,
                put = puts.recv(), if open && room => match put {
                    Some(put) => self.take(put?, most),
                    None => open = false,
                },
            }
        }
    }

    fn take(&mut self, put: Put, most: usize) {
        // Those that wait hold buffers, of which the others need enough.
        if self.waiting < most / 2
            && let Some(same) = self.on_the_way.get_mut(&put.digest)
        {
            same.push(put);
            self.waiting += 1;
            return;
        }
        self.start(put);
    }

    fn start(&mut self, put: Put) {
        let probe = self.probing.tries(put.digest);
        if self.probing.offered() && !self.probing.knows(put.digest) {
            self.on_the_way.entry(put.digest).or_default();
        }
        let zeros = self.zeros.clone();
        let work = send(self.api.clone(), self.snapshot.clone(), put, probe, zeros);
        self.tasks.start(work);
    }

    async fn done(&mut self, done: Done) -> Result<(), Error> {
        let digest = done.settled.digest;
        self.probing.note(digest, done.probe);
        let same = self.on_the_way.remove(&digest).unwrap_or_default();
        self.waiting -= same.len();
        self.ready.extend(same);
        self.settled
            .send(Message::Settled(done.settled))
            .await
            .map_err(|_| Error::Interrupted)
    }
}

/// Puts one block.
async fn send(
    api: Api,
    snapshot: SnapshotId,
    put: Put,
    by_digest: bool,
    zeros: Bytes,
) -> Result<Done, Error> {
    let probe = match by_digest {
        true => match api.put_by_digest(&snapshot, put.index, put.digest).await {
            Ok(PutByDigest::Done) => Probe::Hit,
            Ok(PutByDigest::DataRequired) => Probe::Miss,
            // What is wrong with the snapshot itself is said again when the data is sent.
            Err(Error::Refused(_)) => Probe::Refused,
            Err(error) => return Err(error),
        },
        false => Probe::None,
    };
    let is_zero = put.data.is_none();
    if probe != Probe::Hit {
        let data = put.data.unwrap_or(zeros);
        api.put_block(&snapshot, put.index, data, put.digest)
            .await?;
    }
    let counter = match (is_zero, probe) {
        (true, _) => Counter::Zeroed,
        (false, Probe::Hit) => Counter::ByDigest,
        (false, _) => Counter::Moved,
    };
    Ok(Done {
        settled: Settled {
            sequence: put.sequence,
            index: put.index,
            digest: put.digest,
            held: Held::Put,
            counter,
        },
        probe,
    })
}
