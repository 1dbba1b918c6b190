//! The limit of HTTP: a server of the product's own stack that does nothing but what no store can do without.
//!
//! A put is read into a pooled buffer and hashed on the product's own hashing pool, then it is forgotten. A
//! get is answered with one of many blocks that lie in memory, so many that no cache of a processor holds them, as it does not
//! hold what the product reads. There is no signature, no catalog and no disk.

use crate::http::{self, Answer, Handler, Options, Parts, Patience};
use crate::metrics::{HttpMetrics, Metrics};
use crate::open::{self, Ambient};
use crate::settings::Settings;
use anyhow::Context;
use auth::RequestId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::{BufferPool, HashPool};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use types::{BLOCK_BYTES, Random};

/// What the address is written after, for the process that started this one.
pub const ADDRESS_PREFIX: &str = "listening on ";

/// Serves until it is killed.
pub async fn run() -> anyhow::Result<()> {
    let (listener, address) = listen()?;
    let mut out = std::io::stdout();
    writeln!(out, "{ADDRESS_PREFIX}{address}")
        .and_then(|()| out.flush())
        .context("the address cannot be told")?;
    serve(listener).await.context("threads cannot be started")
}

/// Takes a free port of this machine.
pub fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = http::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .context("no port can be listened on")?;
    let address = listener
        .local_addr()
        .context("the address cannot be read")?;
    Ok((listener, address))
}

/// Serves for ever, with the settings that the product has by default.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let settings = Settings::default();
    let ambient = Ambient::new();
    let limit = Arc::new(Limit::new(&settings, ambient.random.clone())?);
    let handler: Handler = Arc::new(
        move |request: ::http::Request<Incoming>| -> BoxFuture<'static, Answer> {
            let limit = Arc::clone(&limit);
            Box::pin(async move { limit.answer(request).await })
        },
    );
    let parts = Parts {
        metrics: Arc::new(HttpMetrics::register(Metrics::new().registry())),
        crowded: Arc::clone(&handler),
        handler,
        clock: ambient.clock,
        random: ambient.random,
    };
    let options = Options {
        connections_max: settings.http.connections_max as usize,
        idle_timeout: settings.http.idle_timeout.duration(),
        stop_timeout: settings.http.stop_timeout.duration(),
        patience: Patience::STANDARD,
    };
    http::serve(listener, options, parts, std::future::pending()).await;
    Ok(())
}

/// Blocks that gets are answered with in turn: 128 MiB.
const BLOCKS: u64 = 256;

struct Limit {
    buffers: BufferPool,
    hashing: HashPool,
    blocks: Vec<(Bytes, String)>,
    next: AtomicUsize,
    random: Random,
}

impl Limit {
    fn new(settings: &Settings, random: Random) -> std::io::Result<Limit> {
        let blocks = super::requests::Blocks::new(super::requests::Content::Stamped {
            seed: 0,
            first: 0,
            count: BLOCKS,
        });
        let block = |number| {
            let bytes = [blocks.shared(), &blocks.stamp(number)].concat();
            (Bytes::from(bytes), blocks.checksum(number))
        };
        Ok(Limit {
            buffers: BufferPool::new(settings.store.buffers as usize, BLOCK_BYTES),
            hashing: HashPool::start(open::cores())?,
            blocks: (0..BLOCKS).map(block).collect(),
            next: AtomicUsize::new(0),
            random,
        })
    }

    async fn answer(&self, request: ::http::Request<Incoming>) -> Answer {
        let answer = match request.method().as_str() {
            "PUT" => self.put(request.into_body()).await,
            "GET" => {
                let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.blocks.len();
                let (block, checksum) = &self.blocks[turn];
                block_answer(block.clone(), checksum)
            }
            _ => None,
        };
        let mut answer = answer.unwrap_or_else(|| {
            let mut refused = Answer::new(Full::default());
            *refused.status_mut() = ::http::StatusCode::BAD_REQUEST;
            refused
        });
        let id = RequestId::generate(&self.random);
        let headers = answer.headers_mut();
        headers.insert(RequestId::HEADER, id.header_value());
        answer
    }

    async fn put(&self, mut body: Incoming) -> Option<Answer> {
        let mut buffer = self.buffers.take().await;
        let mut filled = 0;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.ok()?.into_data() else {
                continue;
            };
            let room = buffer.get_mut(filled..filled + data.len())?;
            room.copy_from_slice(&data);
            filled += data.len();
        }
        if filled != BLOCK_BYTES {
            return None;
        }
        let digest = self.hashing.hash(buffer).await?.digest();
        let mut answer = block_answer(
            Bytes::from_static(b"{}"),
            &STANDARD.encode(digest.as_bytes()),
        )?;
        *answer.status_mut() = ::http::StatusCode::CREATED;
        Some(answer)
    }
}

/// The headers of the product's answers.
fn block_answer(body: Bytes, checksum: &str) -> Option<Answer> {
    ::http::Response::builder()
        .header("content-type", "application/octet-stream")
        .header("x-amz-data-length", body.len())
        .header("x-amz-checksum", checksum)
        .header("x-amz-checksum-algorithm", "SHA256")
        .header("content-length", body.len())
        .body(Full::new(body))
        .ok()
}
