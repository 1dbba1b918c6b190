//! Puts and gets blocks: a place in flight for each attempt, checksums compared on both ways, and the answers to what can go wrong.
//!
//! - The server got other data than was hashed: the line damaged it, or this machine's memory did. The data is hashed again before it is
//!   sent again, and if the digest differs now, the memory did.
//! - A snapshot just started may not be known everywhere on AWS (SPEC 3.13): for [`NEWBORN`] "does not exist" is asked again.
//! - A block that fails with 500 may be lost on the server: lost.rs decides.

use super::lost::{Faults, Verdict};
use super::{GotBlock, Inner, PutByDigest, Started};
use crate::ebs::{get_snapshot_block, put_snapshot_block};
use crate::flow::Outcome;
use crate::retry::{Again, Failure, Tries, judge};
use crate::transport::{Answer, Lost, Sink};
use crate::{Counter, Error, Refusal, SnapshotId, hashing, instant};
use bytes::Bytes;
use sigv4::Service;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::{BLOCK_BYTES, BlockIndex, Digest};

/// How long a snapshot may be unknown after it was started (SPEC 3.13).
const NEWBORN: Duration = Duration::from_secs(130);

/// Snapshots that were started lately by a server that may not know them everywhere yet.
#[derive(Default)]
pub(super) struct Newborn(Mutex<HashMap<SnapshotId, Instant>>);

impl Newborn {
    /// A snapshot was started. A server of ours knows it from then on.
    pub(super) fn started(&self, started: &Started) {
        if started.extensions.lineage {
            return;
        }
        let now = instant::now();
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|_, time| now.duration_since(*time) < NEWBORN);
        times.insert(started.id.clone(), now);
    }

    pub(super) fn contains(&self, id: &SnapshotId) -> bool {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times
            .get(id)
            .is_some_and(|time| instant::now().duration_since(*time) < NEWBORN)
    }
}

/// Notes how long a block request takes in all, from the first place in flight on.
#[derive(Default)]
struct Watch(Option<Instant>);

impl Watch {
    fn begin(&mut self) {
        self.0.get_or_insert_with(instant::now);
    }

    fn end(&self, inner: &Inner) {
        if let Some(begun) = self.0 {
            let took = instant::now().duration_since(begun);
            inner.caller.meter.took(took);
        }
    }
}

pub(super) async fn put(
    inner: &Inner,
    id: &SnapshotId,
    index: BlockIndex,
    data: Bytes,
    digest: Digest,
) -> Result<(), Error> {
    if data.len() != BLOCK_BYTES {
        let bytes = data.len();
        return Err(Error::Unfit(format!("block {index} has {bytes} bytes")));
    }
    let mut watch = Watch::default();
    let result = put_data(inner, id, index, data, digest, &mut watch).await;
    watch.end(inner);
    result
}

async fn put_data(
    inner: &Inner,
    id: &SnapshotId,
    index: BlockIndex,
    data: Bytes,
    digest: Digest,
    watch: &mut Watch,
) -> Result<(), Error> {
    let caller = &inner.caller;
    let call = put_snapshot_block::call(id, index, data.clone(), &digest);
    let mut tries = caller.tries(call.operation, Service::Ebs);
    loop {
        inner.flow.pace(BLOCK_BYTES).await;
        let place = inner.flow.admit().await;
        watch.begin();
        let attempt = caller.attempt(&call, Sink::Text).await;
        place.end(outcome(&attempt));
        // What went into a connection that broke is not known; where there was an answer, it was all or nearly so.
        if !matches!(attempt, Err(Failure::Lost(_) | Failure::Unsent(_))) {
            caller.meter.add(Counter::Bytes, BLOCK_BYTES as u64);
        }
        let failure = match attempt {
            Ok(answer) if put_snapshot_block::agrees(&answer, &digest) => return Ok(()),
            Ok(_) => Failure::Corrupt("the server computed another checksum".to_owned()),
            Err(Failure::Refused(refusal))
                if put_snapshot_block::is_checksum_mismatch(&refusal) =>
            {
                Failure::Corrupt(refusal.to_string())
            }
            Err(failure) => failure,
        };
        let was_damaged = matches!(failure, Failure::Corrupt(_));
        if was_damaged && hashing::digest_of_bytes(data.clone()).await != digest {
            return Err(Error::Unfit(format!(
                "block {index} changed in the memory of this machine after it was hashed: its memory may be faulty"
            )));
        }
        match after_write(inner, id, &mut tries, failure).await {
            Err(Error::Unreachable { .. }) if was_damaged => {
                return Err(Error::Corrupt {
                    snapshot: id.clone(),
                    index,
                });
            }
            other => other?,
        }
    }
}

pub(super) async fn put_by_digest(
    inner: &Inner,
    id: &SnapshotId,
    index: BlockIndex,
    digest: Digest,
) -> Result<PutByDigest, Error> {
    let caller = &inner.caller;
    let call = put_snapshot_block::call_by_digest(id, index, &digest);
    let mut tries = caller.tries(call.operation, Service::Ebs);
    let mut watch = Watch::default();
    let result = loop {
        let place = inner.flow.admit().await;
        watch.begin();
        let attempt = caller.attempt(&call, Sink::Text).await;
        place.end(outcome(&attempt));
        let failure = match attempt {
            Ok(answer) if put_snapshot_block::agrees(&answer, &digest) => {
                break Ok(PutByDigest::Done);
            }
            Ok(_) => Failure::NotTheApi("the checksum of another block".to_owned()),
            Err(Failure::Refused(refusal)) if put_snapshot_block::requires_data(&refusal) => {
                break Ok(PutByDigest::DataRequired);
            }
            Err(failure) => failure,
        };
        if let Err(error) = after_write(inner, id, &mut tries, failure).await {
            break Err(error);
        }
    };
    watch.end(inner);
    result
}

/// Returns when it is time for another attempt of what changes a snapshot, which may have been started just now.
pub(super) async fn after_write(
    inner: &Inner,
    id: &SnapshotId,
    tries: &mut Tries<'_>,
    failure: Failure,
) -> Result<(), Error> {
    match failure {
        Failure::Refused(refusal) if is_unknown(&refusal) && inner.newborn.contains(id) => {
            tries.wait(Again::Failed, Failure::Refused(refusal)).await;
            Ok(())
        }
        failure => tries.after(failure).await,
    }
}

fn is_unknown(refusal: &Refusal) -> bool {
    refusal.code == "ResourceNotFoundException"
        && refusal
            .reason
            .as_deref()
            .is_none_or(|reason| reason == "SNAPSHOT_NOT_FOUND")
}

pub(super) async fn get(
    inner: &Inner,
    id: &SnapshotId,
    index: BlockIndex,
    token: &str,
    expected: Option<Digest>,
) -> Result<GotBlock, Error> {
    let mut watch = Watch::default();
    let result = get_data(inner, id, index, token, expected, &mut watch).await;
    watch.end(inner);
    result
}

async fn get_data(
    inner: &Inner,
    id: &SnapshotId,
    index: BlockIndex,
    token: &str,
    expected: Option<Digest>,
    watch: &mut Watch,
) -> Result<GotBlock, Error> {
    let caller = &inner.caller;
    let call = get_snapshot_block::call(id, index, token);
    let mut tries = caller.tries(call.operation, Service::Ebs);
    let mut faults = Faults::new(inner, id, index);
    let mut buffer = inner.buffers.take().await;
    let received = |bytes: usize| caller.meter.add(Counter::Bytes, bytes as u64);
    loop {
        inner.flow.pace(BLOCK_BYTES).await;
        let place = inner.flow.admit().await;
        watch.begin();
        faults.attempt();
        let sink = Sink::Block {
            buffer: &mut buffer,
            received: &received,
        };
        let attempt = caller.attempt(&call, sink).await;
        place.end(outcome(&attempt));
        let failure = match attempt.and_then(|answer| announced(&answer)) {
            Ok(announced) => {
                let (returned, digest) = hashing::digest(buffer).await;
                buffer = returned;
                if digest == announced && expected.is_none_or(|expected| expected == digest) {
                    inner.blocks_got.fetch_add(1, Ordering::Relaxed);
                    return Ok(GotBlock {
                        data: buffer,
                        digest,
                    });
                }
                Failure::Corrupt("block data does not match its checksum".to_owned())
            }
            Err(failure) => failure,
        };
        let was_damaged = matches!(failure, Failure::Corrupt(_));
        let verdict = faults.add(fault(&failure), tries.failed() + 1).await;
        match (verdict, failure) {
            (Verdict::Lost, Failure::Refused(refusal)) => {
                return Err(Error::Unreadable {
                    snapshot: id.clone(),
                    index,
                    refusal,
                });
            }
            (Verdict::Again, failure) => tries.wait(Again::Failed, failure).await,
            (_, failure) => match tries.after(failure).await {
                Err(Error::Unreachable { .. }) if was_damaged => {
                    return Err(Error::Corrupt {
                        snapshot: id.clone(),
                        index,
                    });
                }
                other => other?,
            },
        }
    }
}

/// The digest that an answer with a whole block announces.
fn announced(answer: &Answer) -> Result<Digest, Failure> {
    let digest = get_snapshot_block::parse(answer).map_err(Failure::NotTheApi)?;
    match answer.block_bytes {
        BLOCK_BYTES => Ok(digest),
        bytes => Err(Failure::Corrupt(format!("block data of {bytes} bytes"))),
    }
}

/// The answer of a service that failed at just this; not that of something before it.
fn fault(failure: &Failure) -> Option<&Refusal> {
    match failure {
        Failure::Refused(refusal)
            if refusal.status == 500
                && matches!(
                    refusal.code.as_str(),
                    "InternalServerException" | "InternalFailure" | "InternalServerError"
                ) =>
        {
            Some(refusal)
        }
        _ => None,
    }
}

fn outcome(attempt: &Result<Answer, Failure>) -> Outcome {
    match attempt {
        Ok(_) => Outcome::Done,
        Err(Failure::Lost(Lost::Stalled(_) | Lost::TooSlow(_) | Lost::ConnectTimeout(_))) => {
            Outcome::Overload
        }
        Err(failure) => match judge(failure) {
            Some(Again::Throttled) => Outcome::Overload,
            _ => Outcome::Other,
        },
    }
}
