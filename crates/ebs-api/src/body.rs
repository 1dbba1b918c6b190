//! Request bodies: read within bounds of size and time, or thrown away within bounds.
//!
//! The body is first polled when it is first wanted; hyper answers `Expect: 100-continue` at that moment, so whatever is
//! refused earlier costs the client nothing. Timeouts run on tokio's clock, which tests can pause.

use crate::admission::SMALL_DOCUMENT;
use crate::error::ApiError;
use auth::AccessKeyId;
use bytes::Bytes;
use engine::{Admission, Admitted};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How patient the server is with bodies. Every field has its reason beside the value in [`BodyLimits::STANDARD`].
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// Longest silence in the middle of a body.
    pub stall: Duration,
    /// Time that a body may take whatever its rate.
    pub grace: Duration,
    /// Bytes per second that a body must reach after the grace.
    pub rate_min: u64,
    /// Bytes of a JSON body.
    pub document_bytes_max: usize,
    /// Bytes read and thrown away after an early error.
    pub drain_bytes_max: u64,
    /// Time for that.
    pub drain: Duration,
    /// Longest silence during it.
    pub drain_quiet: Duration,
}

impl BodyLimits {
    /// What `serve` uses.
    pub const STANDARD: BodyLimits = BodyLimits {
        // Longer than the retransmissions of a lossy mobile line.
        stall: Duration::from_secs(20),
        grace: Duration::from_secs(10),
        // 64 uploads at a time over 10 Mbit/s are let through; while others wait, more is asked for (engine::Admission).
        rate_min: 16 * 1024,
        // 50 tags of 127 and 255 characters, each escaped as \u twice, are 230 KB.
        document_bytes_max: 256 * 1024,
        // Two blocks: a put that was refused early sees its answer (SPEC 3.2).
        drain_bytes_max: 1024 * 1024,
        drain: Duration::from_secs(5),
        // A client that is still sending is heard from within a round trip; one that waits for an answer is not.
        drain_quiet: Duration::from_millis(500),
    };
}

/// Why a body is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BodyFault {
    /// The connection failed, or the framing is broken.
    Broken,
    /// It stalled, or was too slow.
    Slow,
}

/// The body of a request, with what is known of it.
pub(crate) struct RequestBody<B> {
    inner: B,
    expects_continue: bool,
    polled: bool,
    ended: bool,
}

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// A body that nobody has touched yet.
    pub(crate) fn new(inner: B, headers: &HeaderMap) -> RequestBody<B> {
        RequestBody {
            inner,
            expects_continue: headers.contains_key(http::header::EXPECT),
            polled: false,
            ended: false,
        }
    }

    /// The length that the client announced; `None` when the body is chunked.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.inner.size_hint().exact()
    }

    /// The next bytes, or `None` at the end, and again after the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        while !self.ended {
            self.polled = true;
            match Pin::new(&mut self.inner).frame().await {
                Some(Ok(frame)) => {
                    // Trailers say nothing that we use.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => {
                    self.ended = true;
                    return Err(BodyFault::Broken);
                }
                None => self.ended = true,
            }
        }
        Ok(None)
    }

    /// A body of at most `limits.document_bytes_max`, whole. A large one takes a place of `large` for this key.
    pub(crate) async fn document(
        &mut self,
        limits: &BodyLimits,
        large: &Admission,
        key: &AccessKeyId,
    ) -> Result<Document, ApiError> {
        let max = limits.document_bytes_max;
        let declared = self.declared().unwrap_or(0);
        if declared > max as u64 {
            return Err(ApiError::body_too_large(max));
        }
        let mut document = Document::default();
        if declared > SMALL_DOCUMENT as u64 {
            document.admit(large, key).await?;
        }
        let mut pace = Pace::new(limits);
        loop {
            let data = match &document.room {
                None => pace.next(self).await,
                Some(room) => tokio::select! {
                    biased;
                    data = pace.next(self) => data,
                    () = room.transfer().cut() => return Err(ApiError::throttled()),
                },
            };
            let Some(data) = data.map_err(document_fault)? else {
                break;
            };
            let length = document.bytes.len() + data.len();
            if length > max {
                return Err(ApiError::body_too_large(max));
            }
            if length > SMALL_DOCUMENT && document.room.is_none() {
                document.admit(large, key).await?;
            }
            if let Some(room) = &document.room {
                room.transfer().moved(data.len());
            }
            document.bytes.extend_from_slice(&data);
        }
        if let Some(room) = &document.room {
            room.transfer().stop();
        }
        Ok(document)
    }

    /// Reads and throws away what is left, within limits, so that a client that is still sending sees the answer instead of
    /// a broken connection. Answers whether the connection can be used again.
    pub(crate) async fn drain(&mut self, limits: &BodyLimits) -> bool {
        if self.ended || self.inner.is_end_stream() {
            return true;
        }
        if self.expects_continue && !self.polled {
            return false;
        }
        let mut left = limits.drain_bytes_max;
        let drained = timeout(limits.drain, async {
            loop {
                let data = match timeout(limits.drain_quiet, self.next()).await {
                    Ok(Ok(Some(data))) => data,
                    Ok(_) => break,
                    Err(_) => return false,
                };
                match left.checked_sub(data.len() as u64) {
                    Some(rest) => left = rest,
                    None => return false,
                }
            }
            true
        });
        // A body that broke off has ended, but its connection has too.
        drained.await.unwrap_or(false)
    }
}

/// A whole body, and the place that it has if it is large.
#[derive(Default)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    room: Option<Admitted>,
}

impl Document {
    async fn admit(&mut self, large: &Admission, key: &AccessKeyId) -> Result<(), ApiError> {
        let room = large.admit(key.as_str(), 1).await?;
        room.transfer().start();
        self.room = Some(room);
        Ok(())
    }
}

/// Holds a body to the limits of time: no long silence, and a minimum rate after the grace.
pub(crate) struct Pace<'a> {
    limits: &'a BodyLimits,
    begun: Instant,
    received: u64,
}

impl Pace<'_> {
    /// Begins now.
    #[allow(
        clippy::disallowed_methods,
        reason = "timeouts of sockets run on tokio's own clock, which tests pause"
    )]
    pub(crate) fn new(limits: &BodyLimits) -> Pace<'_> {
        Pace {
            limits,
            begun: Instant::now(),
            received: 0,
        }
    }

    /// The next bytes, in time.
    pub(crate) async fn next<B>(
        &mut self,
        body: &mut RequestBody<B>,
    ) -> Result<Option<Bytes>, BodyFault>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let earned =
            Duration::from_millis(self.received.saturating_mul(1000) / self.limits.rate_min.max(1));
        let due = self.begun + self.limits.grace + earned;
        let data = timeout_at(due, timeout(self.limits.stall, body.next()));
        let data = data
            .await
            .map_err(|_| BodyFault::Slow)?
            .map_err(|_| BodyFault::Slow)??;
        self.received += data.as_ref().map_or(0, |data| data.len() as u64);
        Ok(data)
    }
}

fn document_fault(fault: BodyFault) -> ApiError {
    match fault {
        BodyFault::Broken => ApiError::body_incomplete(),
        BodyFault::Slow => ApiError::body_timeout(),
    }
}

#[cfg(test)]
mod tests;
