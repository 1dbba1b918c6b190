//! The client's end of the admin socket.

use super::{Part, Reply, Request, line};
use anyhow::{Context, anyhow};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Bytes of a line from the server: 10,000 keys at up to 300 bytes each.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// How long a command waits for the next line; work that takes long says every second that it goes on.
const SERVER_TIME_MAX: Duration = Duration::from_secs(30);

/// Why a server did not answer.
#[derive(Debug)]
pub enum Unreached {
    /// None listens.
    NoServer,
    /// One listens and failed to answer.
    Failed(anyhow::Error),
}

/// Asks the server whose socket this is. `on_part` takes each part of the answer; its failure ends the conversation.
pub async fn ask(
    path: &Path,
    request: &Request,
    mut on_part: impl FnMut(Part) -> anyhow::Result<()>,
) -> Result<Reply, Unreached> {
    let mut stream = connect(path).await?;
    let ask = line::write(&mut stream, request);
    in_time(ask).await?.map_err(Unreached::Failed)?;
    loop {
        let line = in_time(line::read(&mut stream, LINE_BYTES_MAX)).await?;
        let line = line.map_err(Unreached::Failed)?;
        let reply = serde_json::from_slice(&line)
            .context("this program does not know the reply; is the server another version?");
        match reply.map_err(Unreached::Failed)? {
            Reply::Part(part) => on_part(part).map_err(Unreached::Failed)?,
            end => return Ok(end),
        }
    }
}

async fn connect(path: &Path) -> Result<BufReader<UnixStream>, Unreached> {
    let (_dir, address) = match line::address(path) {
        Ok(address) => address,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Unreached::NoServer),
        Err(error) => return Err(failed(path, error)),
    };
    match UnixStream::connect(address).await {
        Ok(stream) => Ok(BufReader::new(stream)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            Err(Unreached::NoServer)
        }
        Err(error) => Err(failed(path, error)),
    }
}

async fn in_time<T>(exchange: impl Future<Output = T>) -> Result<T, Unreached> {
    timeout(SERVER_TIME_MAX, exchange).await.map_err(|_| {
        Unreached::Failed(anyhow!(
            "the server gave no answer within {} s; its log may say why",
            SERVER_TIME_MAX.as_secs()
        ))
    })
}

fn failed(path: &Path, error: io::Error) -> Unreached {
    Unreached::Failed(anyhow::Error::new(error).context(format!(
        "the admin socket {} cannot be used; run this as the user of the server",
        path.display()
    )))
}
