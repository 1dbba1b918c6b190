//! The HTTP side of the server: accepting, connections, and stopping.
//!
//! HTTP/1.1 with keep-alive, `100 Continue` and half-closed clients. The number of connections is bounded; when it is
//! reached, the next clients wait in the accept queue of the system rather than be refused (some clients never retry,
//! SPEC C.6): answers then end their connections, and the connection that was idle longest is closed, so that everybody
//! gets a turn.
//!
//! Every answer below 200 or above 299 has a JSON or XML body, also the ones that hyper gives by itself (`wire.rs`).
//!
//! Deliberately absent: HTTP/2 (no client of the API asks for it, SPEC 8.39) and TLS (a later layer below this one).

mod framing;
pub mod refusal;
mod wire;

use self::wire::{Exchange, Wire, WireContext};
use crate::metrics::HttpMetrics;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use types::{Clock, Random};

/// Bytes of a body that are read at once. Larger buffers are slower: the bytes leave the processor's cache.
const BUFFER_BYTES: usize = 64 << 10;

/// Bytes of a request head; clients send about 1,500.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Headers of one request; clients send about 15.
const HEADERS_MAX: usize = 100;

/// Clients that the system keeps waiting; it may lower this itself (`net.core.somaxconn`).
const ACCEPT_QUEUE: u32 = 4096;

/// How long to wait after the system refused a connection, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The client's address, in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// How long a client waits for a connection to end before the next idle one is asked to.
const EVICTION_PAUSE: Duration = Duration::from_millis(50);

/// What a handler answers.
pub type Answer = Response<Full<Bytes>>;

/// What answers requests. It must not panic.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections at a time.
    pub connections_max: usize,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may go on after the stop.
    pub stop_timeout: Duration,
}

/// What a server is made of.
pub struct Parts {
    /// Answers the requests.
    pub handler: Handler,
    /// Counts connections and bytes.
    pub metrics: Arc<HttpMetrics>,
    /// Dates refusals.
    pub clock: Arc<dyn Clock>,
    /// Makes the ids of refused requests.
    pub random: Random,
}

/// Takes an address for a server. From now on clients wait instead of being refused.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restart takes its port back while old connections linger in the system.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

/// Serves until `stop`, then lets the requests in flight end. Answers the number of connections that did not in time.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    parts: Parts,
    stop: impl Future<Output = ()>,
) -> usize {
    let permits = Arc::new(Semaphore::new(options.connections_max));
    let (stopping, stopped) = watch::channel(false);
    let shared = Arc::new(Shared::new(options, parts, stopped));
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &permits, &shared.pressure) => accepted,
        };
        let (stream, peer, permit) = accepted;
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A client that sees its answer late because of Nagle's algorithm waits 40 ms for nothing.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "a connection ended before it began");
                return;
            }
            shared.connection(stream, peer).await;
            drop(permit);
        });
    }
    drop(listener);
    // No receiver: no connection to stop.
    let _ = stopping.send(true);
    let all = u32::try_from(options.connections_max).unwrap_or(u32::MAX);
    match timeout(options.stop_timeout, permits.acquire_many(all)).await {
        Ok(_) => 0,
        Err(_) => options.connections_max - permits.available_permits(),
    }
}

/// The next client, when there is room for it. One client more than connections is taken out of the accept queue: only
/// its being there tells that somebody waits.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    pressure: &Pressure,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let (stream, peer) = loop {
        match listener.accept().await {
            Ok(accepted) => break accepted,
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; is the limit of open files too low?");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    let permit = pressure.make_room(permits).await;
    (stream, peer, permit)
}

fn is_of_one_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// More clients than connections.
#[derive(Default)]
struct Pressure {
    on: AtomicBool,
    evict: Notify,
}

impl Pressure {
    /// A permit for a client that waits, at the cost of connections that have nothing to do.
    async fn make_room(&self, permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            return permit;
        }
        self.on.store(true, Ordering::Relaxed);
        let permit = loop {
            self.evict.notify_one();
            // The notice may go to a connection that got a request meanwhile: hence again and again.
            let acquired = timeout(EVICTION_PAUSE, Arc::clone(permits).acquire_owned()).await;
            if let Ok(Ok(permit)) = acquired {
                break permit;
            }
        };
        self.on.store(false, Ordering::Relaxed);
        permit
    }

    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

struct Shared {
    handler: Handler,
    builder: http1::Builder,
    wire: Arc<WireContext>,
    pressure: Pressure,
    stopped: watch::Receiver<bool>,
}

impl Shared {
    fn new(options: Options, parts: Parts, stopped: watch::Receiver<bool>) -> Shared {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .half_close(true)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES)
            // hyper counts this from the end of the previous request: it bounds idleness and slow heads alike.
            .header_read_timeout(options.idle_timeout);
        let Parts {
            handler,
            metrics,
            clock,
            random,
        } = parts;
        let wire = Arc::new(WireContext {
            metrics,
            clock,
            random,
        });
        Shared {
            handler,
            builder,
            wire,
            pressure: Pressure::default(),
            stopped,
        }
    }

    async fn connection<S>(self: Arc<Self>, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = self.wire.metrics.connection();
        let exchange = Arc::new(Exchange::default());
        let wire = Wire::new(stream, &exchange, Arc::clone(&self.wire));
        let service = Requests {
            shared: Arc::clone(&self),
            exchange: Arc::clone(&exchange),
            peer: Peer(peer),
        };
        let mut connection = self.builder.serve_connection(TokioIo::new(wire), service);

        let mut stopped = self.stopped.clone();
        let mut stopped = pin!(stopped.wait_for(|stopped| *stopped));
        let mut evicted = pin!(self.pressure.evict.notified());
        let mut closing = false;
        let mut closed_idle = false;
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(result);
            }
            let idle = exchange.is_idle();
            let ends = !closing
                && (stopped.as_mut().poll(cx).is_ready()
                    || idle && evicted.as_mut().poll(cx).is_ready() && self.pressure.is_on());
            if !ends {
                return Poll::Pending;
            }
            (closing, closed_idle) = (true, idle);
            Pin::new(&mut connection).graceful_shutdown();
            Pin::new(&mut connection).poll(cx)
        })
        .await;
        let parts = connection.into_parts();
        let mut wire = parts.io.into_inner();
        match result {
            Err(error) if error.is_timeout() && parts.read_buf.is_empty() => closed_idle = true,
            Err(error) if error.is_timeout() => wire.give_up_on_head(),
            Err(error) => tracing::debug!(%peer, %error, "a connection failed"),
            Ok(()) => {}
        }
        if closed_idle {
            wire.close_idle().await
        } else {
            wire.close().await
        }
    }
}

/// The requests of one connection.
struct Requests {
    shared: Arc<Shared>,
    exchange: Arc<Exchange>,
    peer: Peer,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let busy = self.exchange.begin();
        request.extensions_mut().insert(self.peer);
        let exchange = Arc::clone(&self.exchange);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let bodiless = request.method() == Method::HEAD;
            let mut answer = (shared.handler)(request).await;
            if shared.pressure.is_on() {
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let body = answer.body().size_hint().exact().unwrap_or(0);
            exchange.announced.announce(if bodiless { 0 } else { body });
            drop(busy);
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests;
