//! Puts one block of a pending snapshot by its digest: done if the snapshot's domain stores the block, else the caller sends it.
//!
//! ```text
//! step                                     what makes it safe                    a crash after it leaves
//! admit: as for any put (put_block.rs)     a hint only; the commit decides       nothing
//! shared domain? data required             nothing was looked up                 nothing
//! chunk known? if not, data required       a hint only; the commit decides       nothing
//! commit: snapshot still open? chunk       one transaction (put_batch.rs);       all or nothing
//!   of kind block, live, entry written     what vanished meanwhile is told
//! ```
//!
//! The commit is that of a put whose content is known, so it is as safe against collection: the chunk's record is stamped, a condemned one
//! revived, in the transaction that writes the entry. Where a put would store the bytes that it still holds, because the chunk is
//! absent or damaged, this one answers [`ByDigest::DataRequired`], and then nothing was recorded. So the worst that a wrong hint
//! costs is a block sent that was there. A block of zeros has no chunk and is always put.
//!
//! What an answer tells: that a snapshot of the same domain, deleted ones not long ago included, has the block. Where domains are
//! shared between accounts ([`DedupScope::Store`]) that would tell one account what another has: there nothing is looked up, for
//! blocks of zeros neither, and the answer and its time are always the same. Who may put but not read is for the edge to stop: a block put by
//! digest can be read in the new snapshot.
//!
//! It takes no buffer and no place on the hashing pool; what bounds it is the queue of puts ([`crate::limits`]), in which it
//! is one row. Errors: as for a put; [`Error::Unavailable`] too, when an attempt may have been recorded and the chunk is
//! gone since.

use crate::put_batch::{Content, PutItem, PutOutcome};
use crate::put_block::refuse_unless_open;
use crate::{DedupScope, Engine, Error, PutPermit, limits, to_its_end};
use types::{ChunkName, Digest, Domain};

/// What became of a put by digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum ByDigest {
    /// The block is put, durably.
    Put,
    /// Nothing was put: the data is to be sent.
    DataRequired,
}

impl Engine {
    /// Whether this store puts blocks by digest: not where accounts share a domain.
    pub fn puts_by_digest(&self) -> bool {
        match self.inner.dedup {
            DedupScope::Account => true,
            DedupScope::Store => false,
        }
    }

    /// Puts the block of this digest if the snapshot's domain stores it; durable when it answers so. `progress` is what the client
    /// says of itself, in percent.
    ///
    /// Once begun it goes on to its end, also when the caller goes away.
    pub async fn put_by_digest(
        &self,
        permit: PutPermit,
        digest: Digest,
        progress: Option<u8>,
    ) -> Result<ByDigest, Error> {
        let engine = self.clone();
        let done =
            to_its_end(async move { engine.by_digest(permit, digest, progress).await }).await;
        let metrics = &self.inner.metrics;
        match done {
            Ok(ByDigest::Put) => metrics.by_digest_hits.inc(),
            Ok(ByDigest::DataRequired) => metrics.by_digest_misses.inc(),
            Err(Error::NoSpace { .. }) => metrics.puts_without_space.inc(),
            Err(_) => 0,
        };
        done
    }

    async fn by_digest(
        &self,
        permit: PutPermit,
        digest: Digest,
        progress: Option<u8>,
    ) -> Result<ByDigest, Error> {
        let PutPermit { id, index, domain } = permit;
        // A snapshot keeps its domain when the store is opened with another scope later.
        if !self.puts_by_digest() || domain == Domain::STORE {
            return Ok(ByDigest::DataRequired);
        }
        let key = (domain, ChunkName::plain(digest));
        let content = match digest {
            Digest::ZERO_BLOCK => Content::Zeros,
            _ if self.is_stored(key).await? => Content::Known(key),
            _ => return Ok(ByDigest::DataRequired),
        };
        // Whether an attempt may have been recorded: then nothing that refuses a later one is the truth about this put.
        let mut unknown = false;
        for _ in 0..limits::PUT_ATTEMPTS {
            let item = PutItem {
                id,
                index,
                digest,
                content: content.clone(),
                progress,
            };
            match self.record_put(item).await {
                Some(PutOutcome::Done) => {
                    self.count_put(&content);
                    return Ok(ByDigest::Put);
                }
                Some(PutOutcome::Unknown) => unknown = true,
                None => break,
                Some(_) if unknown => break,
                Some(PutOutcome::NotOpen(state)) => {
                    return match state {
                        Some(state) => {
                            refuse_unless_open(id, state).map(|()| ByDigest::DataRequired)
                        }
                        None => Err(Error::SnapshotNotFound { id }),
                    };
                }
                Some(PutOutcome::NeedsData) => {
                    self.inner.known_chunks.forget(&key);
                    return Ok(ByDigest::DataRequired);
                }
                Some(PutOutcome::Failed(error)) => return Err(error),
            }
        }
        Err(Error::Unavailable {
            reason: "the put could not be committed".to_owned(),
        })
    }
}
