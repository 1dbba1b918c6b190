//! Which blocks a copy is made of, and moving them from one server to the other.
//!
//! Tasks are started in index order and their results taken in that order, so that the aggregate checksum is computed as
//! they come. A task holds a buffer from the moment its block arrives to the moment it is put: the pool of the source bounds them.

use super::Prepared;
use crate::api::{Api, GotBlock, PutByDigest};
use crate::listing::{Blocks, ChangedBlocks, fresh_token};
use crate::tasks::Tasks;
use crate::{Counter, Error, SnapshotId};
use bytes::Bytes;
use std::sync::Arc;
use types::{BLOCK_BYTES, BlockIndex, Digest, DigestContext};

/// Tasks under way for each block that may be in flight: enough that one that waits for its next attempt holds up no others.
const TASKS_PER_PLACE: usize = 4;

/// What is copied, from where to where.
#[derive(Clone)]
pub(super) struct Ends {
    pub(super) from: Api,
    pub(super) to: Api,
    pub(super) source: SnapshotId,
    pub(super) copy: SnapshotId,
    pub(super) put_by_digest: bool,
}

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
    pub(super) async fn begin(from: &Api, prepared: &Prepared) -> Result<Listing, Error> {
        let source = &prepared.source.id;
        Ok(match &prepared.parent {
            None => Listing::All(Blocks::begin(from, source, BlockIndex::ZERO).await?),
            Some((parent, _)) => {
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

/// Puts every block of a listing. Dropping the future stops what is under way.
pub(super) async fn put_all(ends: Ends, mut listing: Listing) -> Result<Put, Error> {
    let meter = Arc::clone(ends.to.meter());
    let tasks_max = TASKS_PER_PLACE * ends.from.in_flight_max().max(ends.to.in_flight_max());
    let ends = Arc::new(ends);
    let zeros = Bytes::from(vec![0; BLOCK_BYTES]);
    let mut tasks = Tasks::new(true);
    let mut aggregate = Aggregate::default();
    let mut listed = 0;
    loop {
        let next = listing.next().await?;
        let at_most = if next.is_some() { tasks_max - 1 } else { 0 };
        while tasks.len() > at_most
            && let Some(done) = tasks.next().await
        {
            aggregate.add(done?);
            meter.add(Counter::Done, 1);
        }
        let Some(wanted) = next else { break };
        listed += 1;
        // What the description promised may be more than what is listed: an increment is not known before.
        if meter.get(Counter::Total) < listed {
            meter.set(Counter::Total, listed);
        }
        let (ends, zeros) = (Arc::clone(&ends), zeros.clone());
        tasks.start(async move { ends.put(wanted, zeros).await });
    }
    meter.set(Counter::Total, listed);
    Ok(aggregate.finish())
}

impl Ends {
    /// Puts one block, and answers its digest.
    async fn put(&self, wanted: Wanted, zeros: Bytes) -> Result<Digest, Error> {
        let index = wanted.index;
        let (token, listed) = match wanted.content {
            Content::Data { token, digest } => (token, digest),
            Content::Zeros => {
                self.put_zeros(index, zeros).await?;
                return Ok(Digest::ZERO_BLOCK);
            }
        };
        if let Some(digest) = listed
            && self.is_put_by_digest(index, digest).await?
        {
            self.to.meter().add(Counter::ByDigest, 1);
            return Ok(digest);
        }
        let GotBlock { data, digest } = self.get(index, token, listed).await?;
        self.to
            .put_block(&self.copy, index, data.freeze(), digest)
            .await?;
        self.to.meter().add(Counter::Moved, 1);
        Ok(digest)
    }

    async fn put_zeros(&self, index: BlockIndex, zeros: Bytes) -> Result<(), Error> {
        if !self.is_put_by_digest(index, Digest::ZERO_BLOCK).await? {
            self.to
                .put_block(&self.copy, index, zeros, Digest::ZERO_BLOCK)
                .await?;
        }
        self.to.meter().add(Counter::Zeroed, 1);
        Ok(())
    }

    async fn is_put_by_digest(&self, index: BlockIndex, digest: Digest) -> Result<bool, Error> {
        if !self.put_by_digest {
            return Ok(false);
        }
        let asked = self.to.put_by_digest(&self.copy, index, digest).await?;
        Ok(asked == PutByDigest::Done)
    }

    /// Gets a block; a token that has expired since it was listed is listed anew.
    async fn get(
        &self,
        index: BlockIndex,
        token: String,
        listed: Option<Digest>,
    ) -> Result<GotBlock, Error> {
        let got = self.from.get_block(&self.source, index, &token, listed);
        match got.await {
            Err(error) if is_token_refused(&error) => {
                let Some(fresh) = fresh_token(&self.from, &self.source, index).await? else {
                    return Err(error);
                };
                let got = self
                    .from
                    .get_block(&self.source, index, &fresh.token, listed);
                got.await
            }
            answer => answer,
        }
    }
}

fn is_token_refused(error: &Error) -> bool {
    matches!(error, Error::Refused(refusal) if refusal.reason.as_deref() == Some("INVALID_BLOCK_TOKEN"))
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
