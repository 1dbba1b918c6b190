//! Connections: kept open, bounded in number, with a limit on how long nothing may move.
//!
//! HTTP/1.1 over TCP or TLS. A connection serves one request at a time; one that has served waits for the next, the last used first,
//! and is closed after [`IDLE_MAX`]. Proxies (`HTTPS_PROXY`) are not supported.
//!
//! Invariants
//! - Every request ends: connecting, standing still, and the whole have their limits.
//! - A connection goes back only after request and answer have both passed whole. A request that is dropped closes its connection.
//! - What an answer may take in memory is bounded before it is read: block data goes into the buffer given, the rest stops at
//!   [`TEXT_BYTES_MAX`].

mod dial;
mod endpoint;
mod line;

pub(crate) use dial::{Dial, network};
pub(crate) use endpoint::{Endpoint, Origin};
#[cfg(test)]
pub(crate) use line::Stream;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use line::{Progress, Watched};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long a connection waits for its next request: less than servers wait.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// Connections beyond those of block requests: listings, and what else goes on beside them.
const CONNECTIONS_SPARE: usize = 8;

/// Bytes of an answer that is not block data: a page of 10,000 changed blocks with checksums has 7 MB.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Who is asking.
const AGENT: &str = concat!("drystone/", env!("CARGO_PKG_VERSION"));

/// Limits of a [`Transport`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransportOptions {
    /// Time for a connection to stand, TLS included.
    pub(crate) connect_timeout: Duration,
    /// Longest time without a byte moving, once a request has begun.
    pub(crate) stall_timeout: Duration,
    /// Longest time of a request.
    pub(crate) attempt_timeout: Duration,
    /// Most block requests at once.
    pub(crate) in_flight_max: usize,
}

/// Sends requests.
pub(crate) struct Transport {
    options: TransportOptions,
    dial: Dial,
    slots: Semaphore,
    idle: Mutex<HashMap<Origin, Vec<Connection>>>,
}

/// A request, signed already.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// The method.
    pub(crate) method: Method,
    /// Path and query, the endpoint's prefix included.
    pub(crate) target: String,
    /// Headers, `host` included.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
    /// Whether it may be sent twice and be answered as if it had been sent once.
    pub(crate) is_idempotent: bool,
}

/// Where the body of an answer goes.
pub(crate) enum Sink<'a> {
    /// Into memory, up to [`TEXT_BYTES_MAX`].
    Text,
    /// That of a success into this buffer; `received` hears of each piece.
    Block {
        /// As long as a block.
        buffer: &'a mut [u8],
        /// Gets the bytes of each piece.
        received: &'a (dyn Fn(usize) + Send + Sync),
    },
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body, unless it went into a buffer.
    pub(crate) text: Vec<u8>,
    /// Bytes that came for a buffer; it holds no more than fit.
    pub(crate) block_bytes: usize,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The server is not the one that it should be.
    #[error("the server cannot be trusted: {0}")]
    Untrusted(String),
    /// No connection in time.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The connection ended or broke.
    #[error("the connection was lost: {0}")]
    Closed(String),
    /// Nothing moved.
    #[error("nothing moved for {0:?}")]
    Stalled(Duration),
    /// Not done in time.
    #[error("not done within {0:?}")]
    TooSlow(Duration),
    /// An answer without an end, for what this is.
    #[error("the answer is longer than any of this API")]
    TooLong,
    /// The request cannot be written down.
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
}

impl Transport {
    /// Sends over connections that `dial` makes.
    pub(crate) fn new(options: TransportOptions, dial: Dial) -> Transport {
        Transport {
            options,
            dial,
            slots: Semaphore::new(options.in_flight_max.max(1) + CONNECTIONS_SPARE),
            idle: Mutex::default(),
        }
    }

    /// The headers that every request to this endpoint has, in addition to those that its signature adds.
    pub(crate) fn headers(endpoint: &Endpoint) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(HOST, endpoint.host_header());
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers
    }

    /// Sends a request and receives its answer.
    ///
    /// A server may close a connection just when the next request is sent on it. Where not a byte of an answer came on a connection that
    /// had served before, an idempotent request is sent again, once, on a new one.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        request: &Outgoing,
        mut sink: Sink<'_>,
    ) -> Result<Answer, Lost> {
        let _slot = self
            .slots
            .acquire()
            .await
            .map_err(|_| Lost::Connect("shut down".to_owned()))?;
        let limit = self.options.attempt_timeout;
        let sent = timeout(limit, async {
            if let Some(connection) = self.waiting(endpoint.origin()) {
                let before = connection.progress.received();
                let progress = Arc::clone(&connection.progress);
                match self
                    .exchange(endpoint, connection, request, &mut sink)
                    .await
                {
                    Err(Lost::Closed(_))
                        if request.is_idempotent && progress.received() == before => {}
                    answer => return answer,
                }
            }
            let connection = self.connect(endpoint.origin()).await?;
            self.exchange(endpoint, connection, request, &mut sink)
                .await
        });
        sent.await.unwrap_or(Err(Lost::TooSlow(limit)))
    }

    async fn connect(&self, origin: &Origin) -> Result<Connection, Lost> {
        let limit = self.options.connect_timeout;
        let stream = match timeout(limit, (self.dial)(origin.clone())).await {
            Err(_) => return Err(Lost::ConnectTimeout(limit)),
            Ok(Err(error)) if dial::is_untrusted(&error) => {
                return Err(Lost::Untrusted(told(&error)));
            }
            Ok(Err(error)) => return Err(Lost::Connect(told(&error))),
            Ok(Ok(stream)) => stream,
        };
        let progress = Arc::new(Progress::new());
        let watched = TokioIo::new(Watched::new(stream, Arc::clone(&progress)));
        let (sender, driver) = http1::handshake(watched)
            .await
            .map_err(|error| Lost::Connect(told(&error)))?;
        let idle = Arc::clone(&progress);
        let driver = tokio::spawn(async move {
            tokio::select! {
                // How a connection ends is told to the request on it.
                _ = driver => {}
                () = idle.idle(IDLE_MAX) => {}
            }
        });
        Ok(Connection {
            sender,
            progress,
            driver: driver.abort_handle(),
        })
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        mut connection: Connection,
        request: &Outgoing,
        sink: &mut Sink<'_>,
    ) -> Result<Answer, Lost> {
        let progress = Arc::clone(&connection.progress);
        progress.set_in_use(true);
        let sent_before = progress.sent();
        let limit = self.options.stall_timeout;
        let answer = tokio::select! {
            answer = exchange(&mut connection.sender, request, sink) => answer?,
            () = progress.stalled(limit) => return Err(Lost::Stalled(limit)),
        };
        progress.set_in_use(false);
        // An answer that came early leaves the rest of the request in the way of the next.
        if progress.sent() - sent_before > request.body.len() as u64 {
            self.keep(endpoint.origin(), connection);
        }
        Ok(answer)
    }

    /// A connection that waits for a request.
    fn waiting(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(origin)?;
        connections.retain(|connection| !connection.sender.is_closed());
        connections.pop()
    }

    fn keep(&self, origin: &Origin, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.get_mut(origin) {
            Some(connections) => connections.push(connection),
            None => {
                idle.insert(origin.clone(), vec![connection]);
            }
        }
    }
}

/// An open connection; dropping it closes it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    progress: Arc<Progress>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    outgoing: &Outgoing,
    sink: &mut Sink<'_>,
) -> Result<Answer, Lost> {
    let closed = |error: hyper::Error| Lost::Closed(told(&error));
    let mut request = Request::new(Full::new(outgoing.body.clone()));
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = outgoing
        .target
        .parse()
        .map_err(|error: http::uri::InvalidUri| Lost::Unsendable(error.to_string()))?;
    *request.headers_mut() = outgoing.headers.clone();
    if outgoing.body.is_empty() && outgoing.method != Method::GET {
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    sender.ready().await.map_err(closed)?;
    let (head, mut body) = sender
        .send_request(request)
        .await
        .map_err(closed)?
        .into_parts();
    let mut answer = Answer {
        status: head.status,
        headers: head.headers,
        text: Vec::new(),
        block_bytes: 0,
    };
    receive(&mut answer, &mut body, sink).await?;
    Ok(answer)
}

async fn receive(
    answer: &mut Answer,
    body: &mut Incoming,
    sink: &mut Sink<'_>,
) -> Result<(), Lost> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Lost::Closed(told(&error)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        match sink {
            Sink::Block { buffer, received } if answer.status == StatusCode::OK => {
                let at = answer.block_bytes;
                answer.block_bytes += data.len();
                let Some(room) = buffer.get_mut(at..answer.block_bytes) else {
                    return Err(Lost::TooLong);
                };
                room.copy_from_slice(&data);
                received(data.len());
            }
            Sink::Block { .. } | Sink::Text => {
                if answer.text.len() + data.len() > TEXT_BYTES_MAX {
                    return Err(Lost::TooLong);
                }
                answer.text.extend_from_slice(&data);
            }
        }
    }
    Ok(())
}

/// An error with its causes: the first alone often says nothing.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
