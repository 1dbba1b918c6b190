//! The calls of the EBS direct APIs and of EC2 that the client makes: typed, signed, repeated where that can help, counted.
//!
//! ```text
//! nouns.rs    what the calls take and answer
//! caller.rs   one attempt of a request, and the attempts of those that are nothing special
//! blocks.rs   putting and getting blocks, where the special cases are
//! lost.rs     which blocks a server has lost
//! answers.rs  answers by themselves, for fuzzing
//! ```

#[cfg(feature = "test-support")]
pub mod answers;
mod blocks;
pub(crate) mod caller;
mod lost;
mod nouns;

pub use nouns::{
    ChangedBlock, Description, Extensions, GotBlock, Lineage, ListPage, ListedBlock, PageStart,
    PutByDigest, SnapshotState, StartSnapshot, Started, Which,
};

use crate::config::{ApiOptions, Config};
use crate::flow::Flow;
use crate::retry::{Again, Failure, judge};
use crate::transport::{Dial, Endpoint, Lost, Sink, Transport, TransportOptions, network};
use crate::{Error, Meter, SnapshotId, ebs, ec2};
use blocks::Newborn;
use buffers::BufferPool;
use bytes::Bytes;
use caller::Caller;
use sigv4::Service;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use types::{BLOCK_BYTES, BlockIndex, Clock, Digest, Random};

/// Buffers beyond those of block requests in flight: being read into, hashed, written.
const BUFFERS_SPARE_MAX: usize = 48;

/// Snapshots that one call describes by their ids.
const IDS_PER_CALL: usize = 200;

/// One server (or AWS region), as one caller. Clones share connections and limits.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    caller: Caller,
    flow: Flow,
    buffers: BufferPool,
    in_flight_max: usize,
    newborn: Newborn,
    /// Blocks got so far: what tells one lost block from a server that gives none.
    blocks_got: AtomicU64,
    /// Blocks being got.
    gets: AtomicUsize,
}

/// What an [`Api`] is made of.
pub struct ApiParts {
    /// Where, and who.
    pub config: Config,
    /// How.
    pub options: ApiOptions,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// For jitter and client tokens.
    pub random: Random,
    /// What counts requests, retries, latencies and what is in flight.
    pub meter: Arc<Meter>,
}

impl Api {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`]: certificates cannot be read, or an endpoint is none.
    pub fn new(parts: ApiParts) -> Result<Api, Error> {
        let config = &parts.config;
        // Most commands never call STS.
        let tls = [&config.ebs, &config.ec2]
            .into_iter()
            .any(|url| url.scheme_str() == Some("https"));
        let dial = network(tls, config.ca_bundle.as_deref())?;
        Api::over(dial, parts)
    }

    /// The same over given connections.
    pub(crate) fn over(dial: Dial, parts: ApiParts) -> Result<Api, Error> {
        let ApiParts {
            config,
            options,
            clock,
            random,
            meter,
        } = parts;
        let in_flight_max = options.in_flight_max.max(1);
        let transport = TransportOptions {
            connect_timeout: options.connect_timeout,
            stall_timeout: options.stall_timeout,
            attempt_timeout: options.attempt_timeout,
            in_flight_max,
        };
        let caller = Caller {
            ebs: Endpoint::new(&config.ebs)?,
            ec2: Endpoint::new(&config.ec2)?,
            sts: Endpoint::new(&config.sts)?,
            region: config.region,
            credentials: config.credentials,
            transport: Transport::new(transport, dial),
            clock,
            random,
            meter: Arc::clone(&meter),
            attempts_max: options.attempts_max.max(1),
            skew: AtomicI64::new(0),
        };
        let buffers = in_flight_max + in_flight_max.clamp(8, BUFFERS_SPARE_MAX);
        let inner = Inner {
            caller,
            flow: Flow::new(in_flight_max, options.bandwidth, meter),
            buffers: BufferPool::new(buffers, BLOCK_BYTES),
            in_flight_max,
            newborn: Newborn::default(),
            blocks_got: AtomicU64::new(0),
            gets: AtomicUsize::new(0),
        };
        Ok(Api {
            inner: Arc::new(inner),
        })
    }

    /// The meter of this caller.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.inner.caller.meter
    }

    /// Buffers for block data, both ways: their number bounds the memory of a transfer.
    pub fn buffers(&self) -> &BufferPool {
        &self.inner.buffers
    }

    /// Most block requests that can ever be on the way at once: more concurrent callers only wait.
    pub fn in_flight_max(&self) -> usize {
        self.inner.in_flight_max
    }

    /// Scheme, host and port of the EBS direct APIs, for messages.
    pub fn endpoint(&self) -> String {
        self.inner.caller.ebs.label().to_owned()
    }

    /// Whose snapshots these are, for state files: endpoint with its path, region, and who is asking.
    pub fn realm(&self) -> String {
        let Caller {
            ebs,
            region,
            credentials,
            ..
        } = &self.inner.caller;
        let (endpoint, path, holder) = (ebs.label(), ebs.prefix(), credentials.holder());
        format!("{endpoint}{path} in {region} with {holder}")
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.inner.caller.region
    }

    /// Time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.caller.clock
    }

    /// Randomness.
    pub fn random(&self) -> &Random {
        &self.inner.caller.random
    }

    /// Starts a snapshot, asking for every extension.
    pub async fn start_snapshot(&self, request: &StartSnapshot) -> Result<Started, Error> {
        let call = ebs::start_snapshot::call(request);
        let started = self
            .inner
            .caller
            .call(&call, ebs::start_snapshot::parse)
            .await?;
        self.inner.newborn.started(&started);
        Ok(started)
    }

    /// Whether a snapshot was started so lately that the server may not know it everywhere yet.
    pub(crate) fn is_newborn(&self, id: &SnapshotId) -> bool {
        self.inner.newborn.contains(id)
    }

    /// Puts a block of 512 KiB whose digest is known. Repeats by itself what may be repeated, `Failed to read block data` and a
    /// checksum mismatch reported by the server among it; waits for a place in flight and for bandwidth.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`]; [`Error::Corrupt`]: the server got other data in every attempt; [`Error::Unfit`]: the
    /// data changed in memory, or is not 512 KiB.
    pub async fn put_block(
        &self,
        id: &SnapshotId,
        index: BlockIndex,
        data: Bytes,
        digest: Digest,
    ) -> Result<(), Error> {
        blocks::put(&self.inner, id, index, data, digest).await
    }

    /// Puts a block that the server may hold, without its data. Only where [`Extensions::put_by_digest`] was answered.
    pub async fn put_by_digest(
        &self,
        id: &SnapshotId,
        index: BlockIndex,
        digest: Digest,
    ) -> Result<PutByDigest, Error> {
        blocks::put_by_digest(&self.inner, id, index, digest).await
    }

    /// Completes a snapshot to which `count` distinct blocks were put, whose digests in index order have this digest (SPEC 3.4).
    ///
    /// A repeat is harmless: completing is idempotent by state (SPEC 3.5).
    ///
    /// # Errors
    /// [`Error::SnapshotFailed`]: it is in state `error` already.
    pub async fn complete_snapshot(
        &self,
        id: &SnapshotId,
        count: u32,
        aggregate: Digest,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let call = ebs::complete_snapshot::call(id, count, &aggregate);
        let mut tries = inner.caller.tries(call.operation, Service::Ebs);
        let has_failed = loop {
            let answer = inner.caller.attempt(&call, Sink::Text).await;
            let parse = |answer| ebs::complete_snapshot::parse(&answer).map_err(Failure::NotTheApi);
            match answer.and_then(parse) {
                Ok(has_failed) => break has_failed,
                Err(failure) => blocks::after_write(inner, id, &mut tries, failure).await?,
            }
        };
        match has_failed {
            false => Ok(()),
            true => Err(Error::SnapshotFailed {
                snapshot: id.clone(),
                state: "error".to_owned(),
                message: None,
            }),
        }
    }

    /// Gets a block into a buffer of [`Api::buffers`], verified against the checksum that comes with it and, if given, the
    /// one that is expected. An invalid or expired token is [`Error::Refused`] with reason `INVALID_BLOCK_TOKEN`.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unreadable`] (the server has lost this block), [`Error::Refused`], [`Error::Unreachable`].
    pub async fn get_block(
        &self,
        id: &SnapshotId,
        index: BlockIndex,
        token: &str,
        expected: Option<Digest>,
    ) -> Result<GotBlock, Error> {
        blocks::get(&self.inner, id, index, token, expected).await
    }

    /// A page of up to 10,000 blocks, with checksums where the server names them.
    pub async fn list_blocks(
        &self,
        id: &SnapshotId,
        start: PageStart,
    ) -> Result<ListPage<ListedBlock>, Error> {
        self.list_blocks_up_to(id, start, ebs::MAX_RESULTS).await
    }

    /// A page of so many blocks, at least 100.
    pub(crate) async fn list_blocks_up_to(
        &self,
        id: &SnapshotId,
        start: PageStart,
        count: u32,
    ) -> Result<ListPage<ListedBlock>, Error> {
        let call = ebs::list_snapshot_blocks::call(id, &start, count);
        self.inner
            .caller
            .call(&call, ebs::list_snapshot_blocks::parse)
            .await
    }

    /// A page of up to 10,000 changed blocks, with checksums where the server names them.
    pub async fn list_changed_blocks(
        &self,
        first: &SnapshotId,
        second: &SnapshotId,
        start: PageStart,
    ) -> Result<ListPage<ChangedBlock>, Error> {
        let call = ebs::list_changed_blocks::call(first, second, &start);
        self.inner
            .caller
            .call(&call, ebs::list_changed_blocks::parse)
            .await
    }

    /// Descriptions of snapshots, all pages of them, with lineage where the server tells it. `each` gets them as they come.
    pub async fn describe_snapshots(
        &self,
        which: &Which,
        each: &mut (dyn FnMut(Description) + Send),
    ) -> Result<(), Error> {
        let caller = &self.inner.caller;
        let parse = ec2::describe_snapshots::parse;
        let tag = match which {
            Which::Own => None,
            Which::Tagged { key, value } => Some((key.as_str(), value.as_str())),
            Which::Ids(ids) => {
                for ids in ids.chunks(IDS_PER_CALL) {
                    let call = ec2::describe_snapshots::by_id(ids);
                    let page = caller.call(&call, parse).await?;
                    page.snapshots.into_iter().for_each(&mut *each);
                }
                return Ok(());
            }
        };
        let mut next: Option<String> = None;
        loop {
            let call = ec2::describe_snapshots::own(tag, next.as_deref());
            let page = caller.call(&call, parse).await?;
            // Servers that know no escapes in filters may have told of more.
            let asked = |snapshot: &Description| {
                tag.is_none_or(|(key, value)| {
                    snapshot.tags.get(key).is_some_and(|found| found == value)
                })
            };
            page.snapshots
                .into_iter()
                .filter(asked)
                .for_each(&mut *each);
            match page.next {
                None => return Ok(()),
                Some(token) if next.as_ref() == Some(&token) => {
                    return Err(Error::NotTheApi {
                        operation: call.operation,
                        endpoint: caller.ec2.label().to_owned(),
                        reason: "a page that leads to itself".to_owned(),
                    });
                }
                token => next = token,
            }
        }
    }

    /// Deletes a snapshot in whatever state.
    ///
    /// An attempt without an answer may have deleted it: that the next one finds nothing is a success then. One that was started just
    /// now may not be known everywhere yet, and is asked for again (SPEC 3.13).
    pub async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), Error> {
        let caller = &self.inner.caller;
        let call = ec2::delete_snapshot::call(id);
        let mut tries = caller.tries(call.operation, Service::Ec2);
        let mut may_be_done = false;
        loop {
            let failure = match caller.attempt(&call, Sink::Text).await {
                Ok(answer) => match ec2::delete_snapshot::parse(&answer) {
                    Ok(()) => return Ok(()),
                    Err(reason) => Failure::NotTheApi(reason),
                },
                Err(Failure::Refused(refusal))
                    if ec2::delete_snapshot::is_not_found(&refusal) && may_be_done =>
                {
                    return Ok(());
                }
                Err(Failure::Refused(refusal))
                    if ec2::delete_snapshot::is_not_found(&refusal) && self.is_newborn(id) =>
                {
                    tries.wait(Again::Failed, Failure::Refused(refusal)).await;
                    continue;
                }
                Err(failure) => failure,
            };
            let was_sent = !matches!(
                failure,
                Failure::Lost(Lost::Connect(_) | Lost::ConnectTimeout(_) | Lost::Untrusted(_))
            );
            may_be_done |= was_sent && judge(&failure) == Some(Again::Failed);
            tries.after(failure).await?;
        }
    }

    /// Sets tags.
    pub async fn create_tags(
        &self,
        ids: &[SnapshotId],
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let call = ec2::tags::create(ids, tags);
        self.inner.caller.call(&call, ec2::tags::parse_create).await
    }

    /// Removes tags by key.
    pub async fn delete_tags(&self, ids: &[SnapshotId], keys: &[String]) -> Result<(), Error> {
        let call = ec2::tags::delete(ids, keys);
        self.inner.caller.call(&call, ec2::tags::parse_delete).await
    }

    /// The caller's account.
    pub async fn caller_account(&self) -> Result<String, Error> {
        let call = ec2::get_caller_identity::call();
        self.inner
            .caller
            .call(&call, ec2::get_caller_identity::parse)
            .await
    }
}

#[cfg(test)]
mod tests;
