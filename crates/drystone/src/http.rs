//! The HTTP side of the server: accepting, connections, and stopping.
//!
//! HTTP/1.1 with keep-alive, `100 Continue` and half-closed clients. The number of connections is bounded; `door.rs` says
//! what becomes of clients beyond it. Every wait for a client has a limit of time: for a head, for the next request, for a body
//! (in the crates of the APIs), for an answer to be taken (`wire.rs`).
//!
//! Every answer below 200 or above 299 has a JSON or XML body, also the ones that hyper gives by itself (`wire.rs`).
//!
//! Deliberately absent: HTTP/2 (no client of the API asks for it, SPEC 8.39) and TLS (a later layer below this one).

mod door;
mod exchange;
mod framing;
mod patience;
pub mod refusal;
mod wire;

use self::door::{Door, Entry};
use self::exchange::Exchange;
pub use self::patience::Patience;
use self::wire::{Wire, WireContext};
use crate::metrics::HttpMetrics;
use bytes::Bytes;
use engine::Transfer;
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
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
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

/// Bytes of memory for the head and body of such a client; there may be many.
const TELLING_BUFFER_BYTES: usize = HEAD_BYTES_MAX;

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
    /// How long to wait for clients.
    pub patience: Patience,
}

/// What a server is made of.
pub struct Parts {
    /// Answers the requests. An answer that holds memory brings its [`Transfer`] as an extension.
    pub handler: Handler,
    /// Answers the requests of clients that there is no place for, at once and without a look at the body.
    pub crowded: Handler,
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
    let (stopping, stopped) = watch::channel(false);
    let shared = Arc::new(Shared::new(options, parts, stopped));
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A client that sees its answer late because of Nagle's algorithm waits 40 ms for nothing.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "a connection ended before it began");
                return;
            }
            shared.admit(stream, peer).await;
        });
    }
    drop(listener);
    // No receiver: no connection to stop.
    let _ = stopping.send(true);
    shared.door.emptied(options.stop_timeout).await
}

/// The next client.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; is the limit of open files too low?");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

struct Shared {
    handler: Handler,
    crowded: Handler,
    builder: http1::Builder,
    telling: http1::Builder,
    wire: Arc<WireContext>,
    door: Arc<Door>,
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
            // hyper counts this from the end of the previous request; the wire has a shorter limit for heads that have begun.
            .header_read_timeout(options.idle_timeout);
        let mut telling = builder.clone();
        telling
            .max_buf_size(TELLING_BUFFER_BYTES)
            .header_read_timeout(options.patience.telling);
        let Parts {
            handler,
            crowded,
            metrics,
            clock,
            random,
        } = parts;
        let wire = Arc::new(WireContext {
            metrics,
            clock,
            random,
            patience: options.patience,
        });
        Shared {
            handler,
            crowded,
            builder,
            telling,
            wire,
            door: Arc::new(Door::new(options.connections_max, options.patience)),
            stopped,
        }
    }

    /// Serves a client, or tells it to come again.
    async fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let metrics = &self.wire.metrics;
        match self.door.enter().await {
            Entry::Served(_place) => Arc::clone(&self).connection(stream, peer).await,
            Entry::Told(_place) => {
                metrics.crowded_out("told");
                self.tell(stream, peer).await;
            }
            Entry::Dropped => metrics.crowded_out("dropped"),
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let _open = self.wire.metrics.connection();
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.wire.clock)));
        let seat = self.door.seat(&exchange);
        let wire = Wire::new(stream, Arc::clone(&exchange), Arc::clone(&self.wire));
        let service = Requests {
            handler: Arc::clone(&self.handler),
            closes: Closes::When(Arc::clone(&self.door)),
            exchange: Arc::clone(&exchange),
            peer: Peer(peer),
        };
        let mut connection = self.builder.serve_connection(TokioIo::new(wire), service);

        let mut stopped = self.stopped.clone();
        let mut stopped = pin!(stopped.wait_for(|stopped| *stopped));
        let mut evicted = pin!(exchange.eviction());
        let mut stopping = false;
        let end = poll_fn(|cx| {
            if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(End::Over(result));
            }
            let idle = exchange.is_idle();
            // Nothing is under way: no request, and no answer that hyper still holds.
            let crowded = exchange.is_between_requests() && self.door.is_crowded();
            if crowded || idle && evicted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Evicted);
            }
            if stopping || stopped.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(_) if idle => Poll::Ready(End::Idle),
                polled => polled.map(End::Over),
            }
        })
        .await;
        // To ask it to end now would make room for nobody.
        drop(seat);
        let parts = connection.into_parts();
        let mut wire = parts.io.into_inner();
        match end {
            End::Evicted => {
                self.wire.metrics.cut("idle_under_pressure");
                return wire.close_idle().await;
            }
            End::Idle => return wire.close_idle().await,
            End::Over(Err(error)) if error.is_timeout() && parts.read_buf.is_empty() => {
                return wire.close_idle().await;
            }
            End::Over(_) if wire.is_given_up() => return wire.reset(),
            End::Over(Err(error)) if error.is_timeout() => wire.give_up_on_head(),
            End::Over(Err(error)) => tracing::debug!(%peer, %error, "a connection failed"),
            End::Over(Ok(())) => {}
        }
        wire.close().await
    }

    /// Answers one request of a client that there is no place for.
    async fn tell(&self, stream: TcpStream, peer: SocketAddr) {
        let exchange = Arc::new(Exchange::new(Arc::clone(&self.wire.clock)));
        let wire = Wire::new(stream, Arc::clone(&exchange), Arc::clone(&self.wire));
        let service = Requests {
            handler: Arc::clone(&self.crowded),
            closes: Closes::Always,
            exchange,
            peer: Peer(peer),
        };
        let mut connection = self.telling.serve_connection(TokioIo::new(wire), service);
        let told = timeout(
            self.wire.patience.telling,
            poll_fn(|cx| Pin::new(&mut connection).poll(cx)),
        )
        .await;
        let wire = connection.into_parts().io.into_inner();
        match told {
            _ if wire.is_given_up() => wire.reset(),
            Ok(Ok(())) => wire.close().await,
            Ok(Err(_)) | Err(_) => wire.close_idle().await,
        }
    }
}

/// How a connection came to its end.
enum End {
    Over(hyper::Result<()>),
    /// With the server, and without a request.
    Idle,
    /// For a client that waited.
    Evicted,
}

/// Whether an answer is the last of its connection.
enum Closes {
    Always,
    /// When clients wait at this door.
    When(Arc<Door>),
}

/// The requests of one connection.
struct Requests {
    handler: Handler,
    closes: Closes,
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
        let bodiless = request.method() == Method::HEAD;
        let door = match &self.closes {
            Closes::Always => None,
            Closes::When(door) => Some(Arc::clone(door)),
        };
        let answering = (self.handler)(request);
        Box::pin(async move {
            let mut answer = answering.await;
            if door.is_none_or(|door| door.is_crowded()) {
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if let Some(transfer) = answer.extensions_mut().remove::<Arc<Transfer>>() {
                exchange.deliver(transfer);
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
