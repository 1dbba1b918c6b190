//! Block data on its way in: from a socket into one of a fixed number of buffers.
//!
//! A buffer is admitted before the first byte is read, so memory is bounded by the pool and TCP holds the rest back. Who may
//! have one, who waits, and which client is too slow to keep one is decided in `engine::Admission`; a body that stalls or crawls
//! is cut anyway (`body.rs`). That gets `Failed to read block data`; one that only others were too many for is throttled, since
//! SDKs retry that by themselves and the other not (SPEC 5.5).
//!
//! There are two intakes: one for bodies whose signature is verified, and a small one for those that must be hashed first.

use crate::body::{BodyFault, BodyLimits, Pace, RequestBody};
use crate::error::ApiError;
use auth::AccessKeyId;
use bytes::Bytes;
use engine::{Admission, AdmissionLimits, Admitted, AlignedBuf, BufferPool, Refused, Transfer};
use http_body::Body;
use tokio::time::timeout;
use types::{BLOCK_BYTES, Digest, DigestContext};

/// Buffers, and who may have them.
pub(crate) struct Intake {
    pool: BufferPool,
    admission: Admission,
    limits: BodyLimits,
}

/// What came in.
pub(crate) enum Received {
    /// Exactly a block.
    Block(ReceivedBlock),
    /// Another length; the digest is that of all bytes, where asked for.
    WrongLength(Option<Digest>),
}

/// A block of bytes and the place that it has.
pub(crate) struct ReceivedBlock {
    /// The bytes.
    pub(crate) data: AlignedBuf,
    /// To be kept until the buffer is free again.
    pub(crate) place: Admitted,
}

impl Intake {
    /// An intake into the buffers of `pool`, each of which is a place of `admission`.
    pub(crate) fn new(pool: BufferPool, admission: Admission, limits: BodyLimits) -> Intake {
        Intake {
            pool,
            admission,
            limits,
        }
    }

    /// Receives a body of exactly one block for this key.
    ///
    /// # Errors
    /// `Failed to read block data` for another length, a stall or a broken connection; throttled when no buffer came free.
    pub(crate) async fn block<B>(
        &self,
        key: &AccessKeyId,
        body: &mut RequestBody<B>,
    ) -> Result<ReceivedBlock, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body
            .declared()
            .is_some_and(|declared| declared != BLOCK_BYTES as u64)
        {
            return Err(ApiError::unreadable_block());
        }
        match self.receive(key, body, WrongLength::Refused).await? {
            Received::Block(block) => Ok(block),
            Received::WrongLength(_) => Err(ApiError::unreadable_block()),
        }
    }

    /// Receives a body of any length that may be drained; its digest is known afterwards, whatever the length.
    pub(crate) async fn any<B>(
        &self,
        key: &AccessKeyId,
        body: &mut RequestBody<B>,
    ) -> Result<Received, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if body
            .declared()
            .is_some_and(|declared| declared > self.limits.drain_bytes_max)
        {
            return Err(ApiError::unreadable_block());
        }
        self.receive(key, body, WrongLength::Hashed).await
    }

    async fn receive<B>(
        &self,
        key: &AccessKeyId,
        body: &mut RequestBody<B>,
        wrong_length: WrongLength,
    ) -> Result<Received, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let place = self.admission.admit(key.as_str(), 1).await?;
        let mut data = self.buffer().await?;
        let transfer = place.transfer();
        transfer.start();
        let received = tokio::select! {
            biased;
            received = self.fill(&mut data, body, transfer, wrong_length) => received,
            () = transfer.cut() => return Err(ApiError::throttled()),
        };
        transfer.stop();
        match received {
            Ok(Filled::Exactly) => Ok(Received::Block(ReceivedBlock { data, place })),
            Ok(Filled::Other(digest)) => Ok(Received::WrongLength(digest)),
            Err(BodyFault::Broken | BodyFault::Slow) => Err(ApiError::unreadable_block()),
        }
    }

    /// The buffer that a place stands for. It is there unless a put goes on to its end after its client has gone.
    async fn buffer(&self) -> Result<AlignedBuf, Refused> {
        match self.pool.try_take() {
            Some(data) => Ok(data),
            None => timeout(AdmissionLimits::WAIT, self.pool.take())
                .await
                .map_err(|_| Refused::TooLate),
        }
    }

    async fn fill<B>(
        &self,
        data: &mut AlignedBuf,
        body: &mut RequestBody<B>,
        transfer: &Transfer,
        wrong_length: WrongLength,
    ) -> Result<Filled, BodyFault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut pace = Pace::new(&self.limits);
        let mut filled = 0;
        while let Some(part) = pace.next(body).await? {
            let Some(room) = data.get_mut(filled..filled + part.len()) else {
                return self
                    .overlong(
                        &data[..filled],
                        &part,
                        body,
                        &mut pace,
                        transfer,
                        wrong_length,
                    )
                    .await;
            };
            room.copy_from_slice(&part);
            filled += part.len();
            transfer.moved(part.len());
        }
        if filled == data.len() {
            return Ok(Filled::Exactly);
        }
        let digest = match wrong_length {
            WrongLength::Refused => None,
            WrongLength::Hashed => {
                Some(hashed(DigestContext::new(), &data[..filled]).await.finish())
            }
        };
        Ok(Filled::Other(digest))
    }

    async fn overlong<B>(
        &self,
        begin: &[u8],
        part: &[u8],
        body: &mut RequestBody<B>,
        pace: &mut Pace<'_>,
        transfer: &Transfer,
        wrong_length: WrongLength,
    ) -> Result<Filled, BodyFault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if wrong_length == WrongLength::Refused {
            return Ok(Filled::Other(None));
        }
        let mut context = hashed(hashed(DigestContext::new(), begin).await, part).await;
        let mut length = (begin.len() + part.len()) as u64;
        while let Some(part) = pace.next(body).await? {
            transfer.moved(part.len());
            length += part.len() as u64;
            if length > self.limits.drain_bytes_max {
                return Err(BodyFault::Slow);
            }
            context = hashed(context, &part).await;
        }
        Ok(Filled::Other(Some(context.finish())))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WrongLength {
    Refused,
    Hashed,
}

enum Filled {
    Exactly,
    Other(Option<Digest>),
}

/// Hashes bytes that no valid request has, in steps that let others run.
async fn hashed(mut context: DigestContext, bytes: &[u8]) -> DigestContext {
    for step in bytes.chunks(64 * 1024) {
        context.update(step);
        tokio::task::yield_now().await;
    }
    context
}

#[cfg(test)]
mod tests;
