//! Compares what is referred to with what is recorded, in the order of keys, reading each once.
//!
//! | | live | condemned | damaged | no record |
//! |---|---|---|---|---|
//! | referred to | counted | revived, with an alarm | counted | missing, with an alarm |
//! | not, stamped by this epoch | left alone: a reference was made while the mark ran | – | left alone | |
//! | not, stamped before | to be condemned | to be swept | to be dropped | |
//!
//! Nothing is changed here but that a condemned chunk in use is revived. What is to be done is kept, sorted, until all has been compared.

use super::Amount;
use super::mark::{MarkFault, Marked};
use super::pace::Pace;
use super::reference::{KEY_BYTES, Owner, REFERENCE_BYTES, Reference, Sorted, encode_key};
use crate::sorter::{self, MEMORY_BYTES};
use catalog::chunks::{ChunkKey, ChunkRecord, ChunkState};
use catalog::{Db, DbExt};
use chunkstore::ChunkKind;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use types::SnapshotId;

/// Chunk records read in one transaction, and references at a time.
const ROWS: usize = 2_000;

/// Chunks without a record that are named in the log.
const MISSING_MAX: usize = 100;

/// Bytes of a candidate: a key and an [`Action`].
const CANDIDATE_BYTES: usize = KEY_BYTES + 1;

pub(crate) type Candidates = sorter::Sorted<CANDIDATE_BYTES, KEY_BYTES>;

/// What is to become of a chunk that nothing refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Live becomes condemned.
    Condemn = 1,
    /// Condemned by an earlier cycle: the record goes.
    Sweep = 2,
    /// Damaged: the record goes at once, since nobody may refer to it anew.
    Drop = 3,
}

impl Action {
    pub(crate) fn from_byte(byte: u8) -> Action {
        match byte {
            1 => Action::Condemn,
            2 => Action::Sweep,
            _ => Action::Drop,
        }
    }
}

/// What one snapshot alone refers to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Own {
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
}

/// What came of it.
pub(crate) struct Merged {
    pub(crate) live_pages: Amount,
    pub(crate) live_blocks: Amount,
    /// Records that nothing refers to, whatever is done about them.
    pub(crate) garbage: Amount,
    pub(crate) condemn: Amount,
    pub(crate) sweep: Amount,
    pub(crate) revived: u64,
    pub(crate) missing: u64,
    /// The first of the missing ones, and whose they are.
    pub(crate) missing_first: Vec<(Reference, Option<SnapshotId>)>,
    /// By the numbers of the mark.
    pub(crate) own: Vec<Own>,
    /// Bytes that chunk records name, by container.
    pub(crate) named: HashMap<u64, u64>,
    pub(crate) candidates: Candidates,
}

/// What a merge works on.
pub(crate) struct Merge {
    pub(crate) db: Arc<dyn Db>,
    pub(crate) scratch: Arc<Path>,
    pub(crate) pace: Pace,
    /// Chunks stamped by this epoch or later are left alone.
    pub(crate) epoch: i64,
    /// Whether condemned chunks in use are revived.
    pub(crate) revive: bool,
}

impl Merge {
    /// Compares.
    pub(crate) async fn run(mut self, marked: &mut Marked) -> Result<Merged, MarkFault> {
        let mut candidates =
            sorter::Sorter::new(Arc::clone(&self.scratch), MEMORY_BYTES, |_, _| {});
        let mut counts = Counts {
            own: vec![Own::default(); marked.numbers.len()],
            ..Counts::default()
        };
        let mut stream = Stream::new(&mut marked.references);
        let mut revived = 0;
        let mut after: Option<ChunkKey> = None;
        self.pace.step("comparing chunk records");
        loop {
            let records = self.records(after).await?;
            let mut wrongly_condemned = Vec::new();
            for record in &records {
                counts.name(record);
                match stream.find(&record.key(), &mut counts).await? {
                    Some(reference) => {
                        counts.count(&reference, record);
                        if record.state == ChunkState::Condemned {
                            wrongly_condemned.push(record.key());
                        }
                    }
                    None => {
                        if let Some(action) = counts.unreferred(record, self.epoch) {
                            candidates.push(candidate(record, action)).await?;
                        }
                    }
                }
            }
            revived += wrongly_condemned.len() as u64;
            if self.revive && !wrongly_condemned.is_empty() {
                self.revive_all(wrongly_condemned).await?;
            }
            after = records.last().map(ChunkRecord::key).or(after);
            self.pace.done(records.len() as u64).await;
            if records.len() < ROWS {
                break;
            }
        }
        stream.miss_the_rest(&mut counts).await?;
        Ok(Merged {
            missing_first: whose(&counts.missing_first, marked),
            live_pages: counts.live_pages,
            live_blocks: counts.live_blocks,
            garbage: counts.garbage,
            condemn: counts.condemn,
            sweep: counts.sweep,
            revived,
            missing: counts.missing,
            own: counts.own,
            named: counts.named,
            candidates: candidates.sorted().await?,
        })
    }

    async fn records(&self, after: Option<ChunkKey>) -> Result<Vec<ChunkRecord>, catalog::Error> {
        let records = self.db.view(move |txn| {
            Box::pin(async move { catalog::chunks::records_after(txn, after, ROWS as u32).await })
        });
        records.await
    }

    async fn revive_all(&self, keys: Vec<ChunkKey>) -> Result<(), catalog::Error> {
        let keys = Arc::new(keys);
        let revived = self.db.transact(move |txn| {
            let keys = Arc::clone(&keys);
            Box::pin(async move { catalog::chunks::revive(txn, &keys).await })
        });
        revived.await
    }
}

fn candidate(record: &ChunkRecord, action: Action) -> [u8; CANDIDATE_BYTES] {
    let mut candidate = [0; CANDIDATE_BYTES];
    candidate[..KEY_BYTES].copy_from_slice(&encode_key(&record.key()));
    candidate[KEY_BYTES] = action as u8;
    candidate
}

/// The references, and the snapshot of each that has only one.
fn whose(references: &[Reference], marked: &Marked) -> Vec<(Reference, Option<SnapshotId>)> {
    let numbers: HashMap<u32, SnapshotId> = match references.is_empty() {
        true => HashMap::new(),
        false => marked.numbers.iter().map(|(id, n)| (*n, *id)).collect(),
    };
    let owner = |reference: &Reference| match reference.owner {
        Owner::One(number) => numbers.get(&number).copied(),
        Owner::Several => None,
    };
    references
        .iter()
        .map(|reference| (*reference, owner(reference)))
        .collect()
}

/// The references, read from front to end.
struct Stream<'a> {
    sorted: &'a mut Sorted,
    items: std::vec::IntoIter<[u8; REFERENCE_BYTES]>,
    /// The first one that has not been passed.
    head: Option<Reference>,
    ended: bool,
}

impl Stream<'_> {
    fn new(sorted: &mut Sorted) -> Stream<'_> {
        Stream {
            sorted,
            items: Vec::new().into_iter(),
            head: None,
            ended: false,
        }
    }

    /// The reference to this chunk, if there is one. Those before it have no record.
    async fn find(
        &mut self,
        key: &ChunkKey,
        counts: &mut Counts,
    ) -> std::io::Result<Option<Reference>> {
        while let Some(reference) = self.peek().await? {
            if reference.key() > *key {
                return Ok(None);
            }
            self.head = None;
            if reference.key() == *key {
                return Ok(Some(reference));
            }
            counts.miss(&reference);
        }
        Ok(None)
    }

    async fn miss_the_rest(&mut self, counts: &mut Counts) -> std::io::Result<()> {
        while let Some(reference) = self.peek().await? {
            self.head = None;
            counts.miss(&reference);
        }
        Ok(())
    }

    async fn peek(&mut self) -> std::io::Result<Option<Reference>> {
        while self.head.is_none() && !self.ended {
            match self.items.next() {
                Some(bytes) => self.head = Some(Reference::decode(&bytes)),
                None => {
                    let items = self.sorted.next(ROWS).await?;
                    self.ended = items.is_empty();
                    self.items = items.into_iter();
                }
            }
        }
        Ok(self.head)
    }
}

#[derive(Default)]
struct Counts {
    live_pages: Amount,
    live_blocks: Amount,
    garbage: Amount,
    condemn: Amount,
    sweep: Amount,
    missing: u64,
    missing_first: Vec<Reference>,
    own: Vec<Own>,
    named: HashMap<u64, u64>,
}

impl Counts {
    fn name(&mut self, record: &ChunkRecord) {
        *self.named.entry(record.location.container).or_default() +=
            u64::from(record.location.length);
    }

    fn count(&mut self, reference: &Reference, record: &ChunkRecord) {
        let bytes = u64::from(record.location.length);
        let is_block = reference.kind == ChunkKind::Block;
        match is_block {
            true => self.live_blocks.add(bytes),
            false => self.live_pages.add(bytes),
        }
        if let Owner::One(number) = reference.owner
            && let Some(own) = self.own.get_mut(number as usize)
        {
            own.blocks += u64::from(is_block);
            own.bytes += bytes;
        }
    }

    fn unreferred(&mut self, record: &ChunkRecord, epoch: i64) -> Option<Action> {
        if record.epoch >= epoch {
            return None;
        }
        let bytes = u64::from(record.location.length);
        self.garbage.add(bytes);
        Some(match record.state {
            ChunkState::Live => {
                self.condemn.add(bytes);
                Action::Condemn
            }
            ChunkState::Condemned => {
                self.sweep.add(bytes);
                Action::Sweep
            }
            ChunkState::Damaged => {
                self.sweep.add(bytes);
                Action::Drop
            }
        })
    }

    fn miss(&mut self, reference: &Reference) {
        self.missing += 1;
        if self.missing_first.len() < MISSING_MAX {
            self.missing_first.push(*reference);
        }
    }
}
