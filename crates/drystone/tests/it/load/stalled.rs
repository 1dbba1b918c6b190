//! Clients that stand still, each at another point, and begin again when the server ends their connection.

use super::clients::Target;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;
use types::BLOCK_BYTES;

/// How often a client that must not read looks whether its connection has ended.
const GLANCE: Duration = Duration::from_millis(100);

/// Where a client stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stall {
    /// In the middle of a head.
    Head,
    /// In the middle of the block of a put that is signed well.
    Body,
    /// With answers to many gets that it does not read.
    Reading,
    /// After an answer.
    Idle,
}

impl Stall {
    pub const ALL: [Stall; 4] = [Stall::Head, Stall::Body, Stall::Reading, Stall::Idle];
}

/// Stands still for ever; `ended` counts the connections that the server ended, and `begun` those that stood still.
pub async fn stall(
    target: Arc<Target>,
    kind: Stall,
    client: u32,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
) {
    loop {
        // Whatever goes wrong here goes wrong because the server has ended the connection.
        if let Ok(mut stream) = connect(target.address).await {
            let stood = stand(&target, kind, client, &mut stream).await;
            begun.fetch_add(1, Ordering::Relaxed);
            if stood.is_ok() {
                end(kind, &mut stream).await;
            }
            ended.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// With a small buffer, so that what is not read stays with the server.
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(address).await
}

async fn stand(
    target: &Target,
    kind: Stall,
    client: u32,
    stream: &mut TcpStream,
) -> std::io::Result<()> {
    match kind {
        Stall::Head => stream.write_all(b"PUT /snapshots HTTP/1.1\r\nhost: ").await,
        Stall::Body => {
            let put = target.put(client, 0);
            stream.write_all(&put[..put.len() - BLOCK_BYTES / 2]).await
        }
        Stall::Reading => {
            // More than all buffers of the system hold between us.
            for round in 0..32 {
                stream.write_all(&target.get(client, round).0).await?;
            }
            Ok(())
        }
        Stall::Idle => {
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                .await?;
            stream.readable().await
        }
    }
}

/// Waits for the server to end the connection.
async fn end(kind: Stall, stream: &mut TcpStream) {
    if kind == Stall::Reading {
        while let Ok(ready) = stream.ready(Interest::READABLE | Interest::ERROR).await {
            if ready.is_read_closed() || ready.is_error() {
                return;
            }
            sleep(GLANCE).await;
        }
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}
