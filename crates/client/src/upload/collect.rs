//! Takes what came of each block, in any order, and makes of it what must be said in index order: the count and aggregate checksum of
//! the blocks put (SPEC 3.4), and the digest file of what the snapshot then holds.
//!
//! Invariants
//! - A put is noted in the journal as soon as it is acknowledged, not in index order.
//! - At most [`WINDOW`] blocks are past the oldest one that is not done with: whoever takes a block to look at takes a permit first,
//!   and it is given back in index order.

use super::decide::Verdict;
use crate::journal::{DigestFile, Journal};
use crate::{Counter, Error, Meter};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use types::{BlockIndex, Digest, DigestContext};

/// Blocks under way, from the oldest one on; about 1 MiB. One that is repeated for minutes holds up the others after 8 GiB.
pub(super) const WINDOW: usize = 16_384;

/// A journal that several threads append to.
pub(super) type SharedJournal = Arc<Mutex<Journal>>;

/// What came of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// Its place among all items.
    pub(super) sequence: u64,
    /// Which block.
    pub(super) index: BlockIndex,
    /// What the snapshot holds for it now.
    pub(super) digest: Digest,
    /// Why.
    pub(super) held: Held,
    /// As what it counts.
    pub(super) counter: Counter,
}

/// Why the snapshot holds something for a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Held {
    /// It was put just now.
    Put,
    /// An earlier attempt put it.
    Stands,
    /// The parent lists it.
    Inherited,
    /// Nobody lists it: zeros.
    Nothing,
}

impl Settled {
    /// A block for which nothing had to be put.
    pub(super) fn skipped(
        (sequence, index): (u64, BlockIndex),
        digest: Digest,
        parent_lists: bool,
        verdict: Verdict,
    ) -> Settled {
        let held = match verdict {
            Verdict::Stands => Held::Stands,
            _ if parent_lists => Held::Inherited,
            _ => Held::Nothing,
        };
        Settled {
            sequence,
            index,
            digest,
            held,
            counter: verdict.counter(),
        }
    }
}

/// What came of all blocks.
#[derive(Debug)]
pub(super) struct Summary {
    /// Blocks that were put to the snapshot, in this attempt and earlier ones.
    pub(super) count: u32,
    /// The digest of their digests.
    pub(super) aggregate: Digest,
    /// The digest file, not yet finished.
    pub(super) digests: Option<DigestFile>,
}

/// What the collector is sent.
#[derive(Debug)]
pub(super) enum Message {
    /// A block is done with.
    Settled(Settled),
    /// That was all; so many there were.
    End(u64),
    /// No more will come.
    Stop,
}

/// The collector at work on its own thread.
#[derive(Debug)]
pub(super) struct Collector {
    sender: mpsc::Sender<Message>,
    result: oneshot::Receiver<Result<Option<Summary>, Error>>,
}

/// What a collector is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) journal: Option<SharedJournal>,
    pub(super) digests: Option<DigestFile>,
    /// Permits to look at blocks.
    pub(super) gate: Arc<Semaphore>,
    pub(super) meter: Arc<Meter>,
}

impl Collector {
    /// Starts it.
    pub(super) fn start(parts: Parts) -> Result<Collector, Error> {
        let (sender, receiver) = mpsc::channel(1_024);
        let (answer, result) = oneshot::channel();
        let work = Work {
            parts,
            window: Window::default(),
            count: 0,
            aggregate: DigestContext::new(),
        };
        std::thread::Builder::new()
            .name("upload-collector".to_owned())
            .spawn(move || {
                // Nobody may be waiting any more.
                let _ = answer.send(work.run(receiver));
            })
            .map_err(Error::io("a thread cannot be started"))?;
        Ok(Collector { sender, result })
    }

    /// Where to send to. When it is closed, [`Collector::stop`] knows why.
    pub(super) fn sender(&self) -> &mpsc::Sender<Message> {
        &self.sender
    }

    /// Waits for the result after all `items` were sent.
    pub(super) async fn finish(self, items: u64) -> Result<Summary, Error> {
        // When it is gone already its result says why.
        let _ = self.sender.send(Message::End(items)).await;
        let summary = self.result.await.expect("the collector does not panic")?;
        Ok(summary.expect("its end was told"))
    }

    /// Waits until everything that was sent is in the journal. Answers why the collector ended by itself, if it did.
    pub(super) async fn stop(self) -> Option<Error> {
        let _ = self.sender.send(Message::Stop).await;
        self.result.await.ok()?.err()
    }
}

struct Work {
    parts: Parts,
    window: Window,
    count: u32,
    aggregate: DigestContext,
}

impl Work {
    fn run(mut self, mut receiver: mpsc::Receiver<Message>) -> Result<Option<Summary>, Error> {
        while let Some(message) = receiver.blocking_recv() {
            match message {
                Message::Settled(settled) => self.take(settled)?,
                Message::End(items) => {
                    assert_eq!(
                        self.window.released, items,
                        "every block that was looked at is settled"
                    );
                    return Ok(Some(Summary {
                        count: self.count,
                        aggregate: self.aggregate.finish(),
                        digests: self.parts.digests,
                    }));
                }
                Message::Stop => return Ok(None),
            }
        }
        Ok(None)
    }

    fn take(&mut self, settled: Settled) -> Result<(), Error> {
        if settled.held == Held::Put
            && let Some(journal) = &self.parts.journal
        {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.append(settled.index, settled.digest)?;
        }
        self.parts.meter.add(settled.counter, 1);
        self.parts.meter.add(Counter::Done, 1);
        self.window.insert(settled);
        while let Some(next) = self.window.pop() {
            if matches!(next.held, Held::Put | Held::Stands) {
                self.count += 1;
                self.aggregate.update(next.digest.as_bytes());
            }
            if next.held != Held::Nothing
                && let Some(digests) = &mut self.parts.digests
            {
                digests.append(next.index, next.digest)?;
            }
            self.parts.gate.add_permits(1);
        }
        Ok(())
    }
}

/// Puts blocks back in order.
#[derive(Debug, Default)]
struct Window {
    waiting: VecDeque<Option<Settled>>,
    /// Number of blocks that were given on, all of them in order.
    released: u64,
}

impl Window {
    fn insert(&mut self, settled: Settled) {
        let place = usize::try_from(settled.sequence - self.released)
            .expect("the gate keeps blocks within a window");
        assert!(place < WINDOW, "the gate keeps blocks within a window");
        if self.waiting.len() <= place {
            self.waiting.resize(place + 1, None);
        }
        self.waiting[place] = Some(settled);
    }

    fn pop(&mut self) -> Option<Settled> {
        let next = self.waiting.front_mut()?.take()?;
        self.waiting.pop_front();
        self.released += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Records;
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, proptest};

    fn settled(sequence: u64, held: Held) -> Settled {
        Settled {
            sequence,
            index: BlockIndex::new(3 * sequence as u32).unwrap(),
            digest: Digest::of(&sequence.to_le_bytes()),
            held,
            counter: Counter::Moved,
        }
    }

    fn any_held() -> impl Strategy<Value = Held> {
        any::<u8>().prop_map(|byte| match byte % 4 {
            0 => Held::Put,
            1 => Held::Stands,
            2 => Held::Inherited,
            _ => Held::Nothing,
        })
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same(
            blocks in proptest::collection::vec(any_held(), 0..60).prop_flat_map(|held| {
                let all: Vec<Settled> = (0..).zip(held).map(|(at, held)| settled(at, held)).collect();
                Just(all).prop_shuffle()
            })
        ) {
            let place = tempfile::tempdir().unwrap();
            let (journal, digests) = (place.path().join("journal"), place.path().join("digests"));
            let gate = Arc::new(Semaphore::new(0));
            let meter = Arc::new(Meter::new());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let summary = runtime.block_on(async {
                let collector = Collector::start(Parts {
                    journal: Some(Arc::new(Mutex::new(Journal::create(&journal, "{}").unwrap()))),
                    digests: Some(DigestFile::create(&digests, "{}").unwrap()),
                    gate: Arc::clone(&gate),
                    meter: Arc::clone(&meter),
                }).unwrap();
                for settled in &blocks {
                    collector.sender().send(Message::Settled(*settled)).await.unwrap();
                }
                collector.finish(blocks.len() as u64).await.unwrap()
            });
            let mut sorted = blocks.clone();
            sorted.sort_by_key(|settled| settled.sequence);
            let own: Vec<&Settled> = sorted
                .iter()
                .filter(|settled| matches!(settled.held, Held::Put | Held::Stands))
                .collect();
            let mut aggregate = DigestContext::new();
            own.iter().for_each(|settled| aggregate.update(settled.digest.as_bytes()));
            prop_assert_eq!(summary.aggregate, aggregate.finish());
            prop_assert_eq!(summary.count as usize, own.len());
            prop_assert_eq!(gate.available_permits(), blocks.len());
            prop_assert_eq!(meter.get(Counter::Done), blocks.len() as u64);

            summary.digests.unwrap().finish().unwrap();
            let listed = |path, which: &dyn Fn(Held) -> bool| {
                let (mut records, _) = Records::open(path).unwrap();
                let found: Vec<_> = std::iter::from_fn(|| records.next().unwrap()).collect();
                let expected: Vec<_> = sorted
                    .iter()
                    .filter(|settled| which(settled.held))
                    .map(|settled| (settled.index, settled.digest))
                    .collect();
                assert_eq!(found, expected);
            };
            listed(&digests, &|held| held != Held::Nothing);
            listed(&journal, &|held| held == Held::Put);
        }
    }

    #[tokio::test]
    async fn what_was_sent_before_a_stop_is_in_the_journal() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("journal");
        let collector = Collector::start(Parts {
            journal: Some(Arc::new(Mutex::new(Journal::create(&path, "{}").unwrap()))),
            digests: None,
            gate: Arc::new(Semaphore::new(0)),
            meter: Arc::new(Meter::new()),
        })
        .unwrap();
        for sequence in (1..50).rev() {
            let message = Message::Settled(settled(sequence, Held::Put));
            collector.sender().send(message).await.unwrap();
        }
        assert!(collector.stop().await.is_none());
        let (mut records, _) = Records::open(&path).unwrap();
        assert_eq!(std::iter::from_fn(|| records.next().unwrap()).count(), 49);
    }
}
