//! Which blocks a copy is made of, and moving them from one server to the other.
//!
//! Tasks are started in index order and their results taken in that order, so that the aggregate checksum is computed as
//! they come. A task holds a buffer from the moment its block arrives to the moment it is put: the pool of the source bounds them.

use super::begin::Begun;
use crate::api::{Api, GotBlock, ListedBlock, PutByDigest};
use crate::journal::{Journal, Records};
use crate::listing::{Blocks, ChangedBlocks, get_with_fresh_token};
use crate::tasks::Tasks;
use crate::upload::probe::{Probe, Probing};
use crate::{Counter, Error, SnapshotId};
use bytes::Bytes;
use std::sync::Arc;
use types::{BLOCK_BYTES, BlockIndex, Digest, DigestContext};

/// Tasks under way for each block that may be in flight: enough that one that waits for its next attempt holds up no others.
const TASKS_PER_PLACE: usize = 4;

/// What was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Put {
    /// Blocks.
    pub(super) count: u32,
    /// Digest of their digests, in index order (SPEC 3.4).
    pub(super) aggregate: Digest,
}

/// A block of the copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) index: BlockIndex,
    pub(super) content: Content,
}

/// What is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Zeros,
    Data {
        /// What reads it at the source.
        token: String,
        /// Its digest, if the source names it.
        digest: Option<Digest>,
    },
}

impl Content {
    /// The digest, where it is known before the block is fetched.
    fn digest(&self) -> Option<Digest> {
        match self {
            Content::Zeros => Some(Digest::ZERO_BLOCK),
            Content::Data { digest, .. } => *digest,
        }
    }

    /// Whether this is, as far as is known, what has that digest. A source that tells none never changes a block.
    fn may_be(&self, digest: Digest) -> bool {
        self.digest().is_none_or(|own| own == digest)
    }

    fn of(token: String, digest: Option<Digest>) -> Content {
        match digest {
            Some(Digest::ZERO_BLOCK) => Content::Zeros,
            digest => Content::Data { token, digest },
        }
    }
}

/// The blocks of a copy in ascending order.
pub(super) enum Listing {
    /// All that the source has.
    All(Blocks),
    /// Those that differ from the parent.
    Changed(ChangedBlocks),
}

impl Listing {
    /// Begins to list a snapshot, or in what it differs from its base.
    pub(super) async fn begin(
        from: &Api,
        source: &SnapshotId,
        parent: Option<&SnapshotId>,
    ) -> Result<Listing, Error> {
        Ok(match parent {
            None => Listing::All(Blocks::begin(from, source, BlockIndex::ZERO).await?),
            Some(parent) => {
                let changed = ChangedBlocks::begin(from, parent, source, BlockIndex::ZERO);
                Listing::Changed(changed.await?)
            }
        })
    }

    pub(super) async fn next(&mut self) -> Result<Option<Wanted>, Error> {
        match self {
            Listing::All(blocks) => Ok(blocks.next().await?.map(|block| Wanted {
                index: block.index,
                content: Content::of(block.token, block.digest),
            })),
            Listing::Changed(changed) => Ok(changed.next().await?.map(|block| Wanted {
                index: block.index,
                content: match block.second {
                    Some((token, digest)) => Content::of(token, digest),
                    None => Content::Zeros,
                },
            })),
        }
    }
}

/// Moves blocks to a copy.
pub(super) struct Mover {
    ends: Arc<Ends>,
    probing: Probing,
    tasks: Tasks<Done>,
    tasks_max: usize,
    aggregate: Aggregate,
    journal: Option<Journal>,
    earlier: Earlier,
}

/// Where blocks come from and go to.
struct Ends {
    from: Api,
    to: Api,
    source: SnapshotId,
    copy: SnapshotId,
    zeros: Bytes,
}

/// What came of a block.
struct Done {
    index: BlockIndex,
    digest: Digest,
    /// As what it counts.
    counter: Counter,
    probe: Probe,
}

impl Mover {
    /// To a copy that has begun.
    pub(super) fn new(from: &Api, to: &Api, source: &SnapshotId, begun: Begun) -> Mover {
        Mover {
            probing: Probing::new(begun.put_by_digest),
            tasks: Tasks::new(true),
            tasks_max: TASKS_PER_PLACE * from.in_flight_max().max(to.in_flight_max()),
            aggregate: Aggregate::default(),
            journal: begun.journal,
            earlier: Earlier::new(begun.earlier),
            ends: Arc::new(Ends {
                from: from.clone(),
                to: to.clone(),
                source: source.clone(),
                copy: begun.snapshot,
                zeros: Bytes::from(vec![0; BLOCK_BYTES]),
            }),
        }
    }

    /// Puts every block of a listing. Dropping the future stops what is under way.
    pub(super) async fn put_all(mut self, mut listing: Listing) -> Result<Put, Error> {
        let meter = Arc::clone(self.ends.to.meter());
        let mut listed = 0;
        while let Some(wanted) = listing.next().await? {
            listed += 1;
            // What was foretold may be less than what is listed; of an increment nothing is.
            if meter.get(Counter::Total) < listed {
                meter.set(Counter::Total, listed);
            }
            while self.tasks.len() >= self.tasks_max {
                self.take_one().await?;
            }
            self.start(wanted)?;
        }
        meter.set(Counter::Total, listed);
        while self.tasks.len() > 0 {
            self.take_one().await?;
        }
        if let Some(journal) = &mut self.journal {
            journal.sync()?;
        }
        Ok(self.aggregate.finish())
    }

    fn start(&mut self, wanted: Wanted) -> Result<(), Error> {
        let index = wanted.index;
        if let Some(digest) = self.earlier.at(index)?
            && wanted.content.may_be(digest)
        {
            self.tasks.start(async move {
                Ok(Done {
                    index,
                    digest,
                    counter: Counter::Same,
                    probe: Probe::None,
                })
            });
            return Ok(());
        }
        let by_digest = wanted
            .content
            .digest()
            .is_some_and(|digest| self.probing.tries(digest));
        let ends = Arc::clone(&self.ends);
        self.tasks
            .start(async move { ends.put(wanted, by_digest).await });
        Ok(())
    }

    /// The next block in index order. What stands in the journal may be less than what was acknowledged, by those that overtook
    /// a block still under way: they are put once more by whoever goes on.
    async fn take_one(&mut self) -> Result<(), Error> {
        let Some(done) = self.tasks.next().await else {
            return Ok(());
        };
        let done = done?;
        self.probing.note(done.digest, done.probe);
        self.aggregate.add(done.digest);
        if done.counter != Counter::Same
            && let Some(journal) = &mut self.journal
        {
            journal.append(done.index, done.digest)?;
        }
        let meter = self.ends.to.meter();
        meter.add(done.counter, 1);
        meter.add(Counter::Done, 1);
        Ok(())
    }
}

impl Ends {
    /// Puts one block, by its digest first if that is wanted.
    async fn put(&self, wanted: Wanted, by_digest: bool) -> Result<Done, Error> {
        let index = wanted.index;
        let listed = wanted.content.digest();
        let probe = match listed.filter(|_| by_digest) {
            Some(digest) => self.try_digest(index, digest).await?,
            None => Probe::None,
        };
        let done = |digest, counter| Done {
            index,
            digest,
            counter,
            probe,
        };
        match (wanted.content, listed) {
            (Content::Zeros, _) => {
                if probe != Probe::Hit {
                    let zeros = self.zeros.clone();
                    self.to
                        .put_block(&self.copy, index, zeros, Digest::ZERO_BLOCK)
                        .await?;
                }
                Ok(done(Digest::ZERO_BLOCK, Counter::Zeroed))
            }
            (Content::Data { .. }, Some(digest)) if probe == Probe::Hit => {
                Ok(done(digest, Counter::ByDigest))
            }
            (Content::Data { token, .. }, _) => {
                let block = ListedBlock {
                    index,
                    token,
                    digest: listed,
                };
                let got = get_with_fresh_token(&self.from, &self.source, &block).await?;
                let GotBlock { data, digest } = got;
                self.to
                    .put_block(&self.copy, index, data.freeze(), digest)
                    .await?;
                Ok(done(digest, Counter::Moved))
            }
        }
    }

    async fn try_digest(&self, index: BlockIndex, digest: Digest) -> Result<Probe, Error> {
        match self.to.put_by_digest(&self.copy, index, digest).await {
            Ok(PutByDigest::Done) => Ok(Probe::Hit),
            Ok(PutByDigest::DataRequired) => Ok(Probe::Miss),
            // What is wrong with the snapshot itself is said again when the data is sent.
            Err(Error::Refused(_)) => Ok(Probe::Refused),
            Err(error) => Err(error),
        }
    }
}

/// What earlier attempts put, asked for in ascending order.
struct Earlier {
    records: Option<Records>,
    next: Option<(BlockIndex, Digest)>,
}

impl Earlier {
    fn new(records: Option<Records>) -> Earlier {
        Earlier {
            records,
            next: None,
        }
    }

    fn at(&mut self, index: BlockIndex) -> Result<Option<Digest>, Error> {
        let Some(records) = &mut self.records else {
            return Ok(None);
        };
        while self.next.is_none_or(|(next, _)| next < index) {
            self.next = records.next()?;
            if self.next.is_none() {
                self.records = None;
                return Ok(None);
            }
        }
        let found = self.next.filter(|(next, _)| *next == index);
        Ok(found.map(|(_, digest)| digest))
    }
}

/// The aggregate checksum of digests that come in index order.
#[derive(Default)]
struct Aggregate {
    count: u32,
    digests: DigestContext,
}

impl Aggregate {
    fn add(&mut self, digest: Digest) {
        self.count += 1;
        self.digests.update(digest.as_bytes());
    }

    fn finish(self) -> Put {
        Put {
            count: self.count,
            aggregate: self.digests.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_are_named_are_not_data() {
        let token = || "token".to_owned();
        assert_eq!(
            Content::of(token(), Some(Digest::ZERO_BLOCK)),
            Content::Zeros
        );
        for digest in [None, Some(Digest::of(b"a"))] {
            let data = Content::Data {
                token: token(),
                digest,
            };
            assert_eq!(Content::of(token(), digest), data);
        }
    }

    #[test]
    fn the_aggregate_is_that_of_raw_digests() {
        // Vectors of SPEC 3.4: nothing, and {0: zero}, computed as there.
        assert_eq!(Aggregate::default().finish().aggregate, Digest::of(b""));
        let mut aggregate = Aggregate::default();
        aggregate.add(Digest::ZERO_BLOCK);
        let put = aggregate.finish();
        assert_eq!(put.count, 1);
        assert_eq!(put.aggregate, Digest::of(Digest::ZERO_BLOCK.as_bytes()));
    }
}
