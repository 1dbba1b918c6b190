//! A connection's bytes, watched: when one last moved, in either direction.

use crate::instant;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// Bytes both ways: a trait because plain and TLS connections, and those of tests, are different types.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What moved on a connection, and when.
#[derive(Debug)]
pub(crate) struct Progress {
    opened: Instant,
    /// Microseconds from `opened` to the last byte, or to the beginning of the last request.
    moved: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    in_use: AtomicBool,
}

impl Progress {
    /// Of a connection that has just been made, for a request.
    pub(crate) fn new() -> Progress {
        Progress {
            opened: instant::now(),
            moved: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            in_use: AtomicBool::new(true),
        }
    }

    /// A request begins or has ended.
    pub(crate) fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Ordering::Relaxed);
        self.touch();
    }

    /// Bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Resolves once nothing has moved for so long.
    pub(crate) async fn stalled(&self, limit: Duration) {
        loop {
            let since = self.last();
            sleep_until(since + limit).await;
            if self.last() == since {
                return;
            }
        }
    }

    /// Resolves once no request has been on the way for so long.
    pub(crate) async fn idle(&self, limit: Duration) {
        loop {
            self.stalled(limit).await;
            if !self.in_use.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(limit).await;
        }
    }

    fn last(&self) -> Instant {
        self.opened + Duration::from_micros(self.moved.load(Ordering::Relaxed))
    }

    fn touch(&self) {
        let micros = instant::now().duration_since(self.opened).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        self.moved.store(micros, Ordering::Relaxed);
    }
}

/// A stream whose movement is noted.
pub(crate) struct Watched {
    stream: Box<dyn Stream>,
    progress: Arc<Progress>,
}

impl Watched {
    /// Notes what moves on this stream.
    pub(crate) fn new(stream: Box<dyn Stream>, progress: Arc<Progress>) -> Watched {
        Watched { stream, progress }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes @ 1..)) = result {
            self.progress
                .sent
                .fetch_add(bytes as u64, Ordering::Relaxed);
            self.progress.touch();
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.progress
                .received
                .fetch_add(bytes as u64, Ordering::Relaxed);
            self.progress.touch();
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
