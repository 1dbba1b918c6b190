//! Request bodies: read within bounds of size and time, or thrown away within bounds.
//!
//! The body is first polled when it is first wanted; hyper answers `Expect: 100-continue` at that moment, so whatever is
//! refused earlier costs the client nothing. Timeouts run on tokio's clock, which tests can pause.

use crate::error::ApiError;
use bytes::Bytes;
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
    /// Longest wait for a buffer.
    pub queue: Duration,
    /// How long a request waits for a buffer before the slowest body being received may be cut, and the time between two
    /// such cuts.
    pub pressure: Duration,
    /// Bytes of a JSON body.
    pub document_bytes_max: usize,
    /// Bytes read and thrown away after an early error.
    pub drain_bytes_max: u64,
    /// Time for that.
    pub drain: Duration,
}

impl BodyLimits {
    /// What `serve` uses.
    pub const STANDARD: BodyLimits = BodyLimits {
        // Longer than the retransmissions of a lossy mobile line.
        stall: Duration::from_secs(20),
        // A block at 32 KiB/s passes, since most of it comes within the grace.
        grace: Duration::from_secs(10),
        rate_min: 64 * 1024,
        // SDKs give up after 60 s; an answer after that has no reader.
        queue: Duration::from_secs(55),
        pressure: Duration::from_secs(1),
        // 50 tags of 127 and 255 characters, each escaped as \u twice, are 230 KB.
        document_bytes_max: 256 * 1024,
        // Two blocks: a put that was refused early sees its answer (SPEC 3.2).
        drain_bytes_max: 1024 * 1024,
        drain: Duration::from_secs(5),
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

    /// A body of at most `limits.document_bytes_max`, whole.
    pub(crate) async fn document(&mut self, limits: &BodyLimits) -> Result<Bytes, ApiError> {
        let max = limits.document_bytes_max;
        if self
            .declared()
            .is_some_and(|declared| declared > max as u64)
        {
            return Err(ApiError::body_too_large(max));
        }
        let mut pace = Pace::new(limits);
        let mut whole = Vec::new();
        while let Some(data) = pace.next(self).await.map_err(document_fault)? {
            if whole.len() + data.len() > max {
                return Err(ApiError::body_too_large(max));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
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
            while let Ok(Some(data)) = self.next().await {
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
