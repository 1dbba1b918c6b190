//! The server's end of the admin socket.

use super::{Reply, Request, Served, line, parts, perform};
use anyhow::Context;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Bytes of a request: the longest names [`super::NAMED_MAX`] snapshots at 25 bytes each.
const REQUEST_BYTES_MAX: u64 = 32 << 10;

/// Clients served at a time; the next ones wait. More than all lanes of [`super::Jobs`] hold together, so that a key can be
/// disabled whatever is under way.
const CLIENTS_MAX: usize = 16;

/// How long a client may take to ask, and to take each line of its answer.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(5);

/// A socket that listens.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Makes the socket, in place of one that a dead server left. The caller holds the directory's lock.
    pub fn bind(path: &Path) -> anyhow::Result<AdminSocket> {
        let failed = || format!("the admin socket {} cannot be made", path.display());
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
        let (_dir, address) = line::address(path).with_context(failed)?;
        let listener = UnixListener::bind(address).with_context(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(failed)?;
        Ok(AdminSocket {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, served: Arc<Served>) {
        let permits = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await;
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                if let Err(error) = answer(stream, &served).await {
                    tracing::debug!("an admin client failed: {error:#}");
                }
                drop(permit);
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // The next server removes it as well.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(stream: UnixStream, served: &Served) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let line = timeout(CLIENT_TIME_MAX, line::read(&mut stream, REQUEST_BYTES_MAX))
        .await
        .context("no request came")??;
    let reply = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => {
            tracing::info!(?request, "admin request");
            answer_in_parts(&mut stream, served, request).await?
        }
        Err(error) => Reply::Refused(format!("this server does not know the request: {error}")),
    };
    send(&mut stream, &reply).await?;
    line::finish(&mut stream).await
}

/// Sends the parts of an answer as they come, and answers its end. A client that has gone is found out by the next part.
async fn answer_in_parts(
    stream: &mut BufReader<UnixStream>,
    served: &Served,
    request: Request,
) -> anyhow::Result<Reply> {
    let (parts, mut coming) = parts::channel();
    let mut work = pin!(perform(served, request, parts));
    let reply = loop {
        tokio::select! {
            Some(part) = coming.recv() => send(stream, &Reply::Part(part)).await?,
            reply = &mut work => break reply,
        }
    };
    while let Ok(part) = coming.try_recv() {
        send(stream, &Reply::Part(part)).await?;
    }
    Ok(reply)
}

async fn send(stream: &mut BufReader<UnixStream>, reply: &Reply) -> anyhow::Result<()> {
    timeout(CLIENT_TIME_MAX, line::write(stream, reply))
        .await
        .context("the answer was not taken")?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::ask::{Unreached, ask};
    use crate::admin::{KeyRequest, Part, Step};

    const LIST: Request = Request::Key(KeyRequest::List);

    fn no_parts(part: Part) -> anyhow::Result<()> {
        anyhow::bail!("{part:?} was not expected")
    }

    async fn reaches(directory: &Path) {
        fs::create_dir_all(directory).expect("made");
        let path = directory.join("admin.sock");
        let socket = AdminSocket::bind(&path).expect("bound");
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let server = async {
            let (stream, _) = socket.listener.accept().await.expect("a client");
            let mut stream = BufReader::new(stream);
            let line = line::read(&mut stream, REQUEST_BYTES_MAX)
                .await
                .expect("a request");
            assert_eq!(line.as_slice(), b"{\"key\":\"list\"}\n");
            send(&mut stream, &Reply::Keys(Vec::new()))
                .await
                .expect("taken");
        };
        let (reply, ()) = tokio::join!(ask(&path, &LIST, no_parts), server);
        assert!(matches!(reply, Ok(Reply::Keys(keys)) if keys.is_empty()));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_request_gets_its_reply() {
        let under = tempfile::tempdir().expect("a directory");
        reaches(under.path()).await;
    }

    #[tokio::test]
    async fn a_path_longer_than_a_socket_address_works() {
        let under = tempfile::tempdir().expect("a directory");
        reaches(&under.path().join("d".repeat(120))).await;
    }

    #[tokio::test]
    async fn no_socket_and_a_dead_one_mean_no_server() {
        let under = tempfile::tempdir().expect("a directory");
        let path = under.path().join("admin.sock");
        let none = || async { ask(&path, &LIST, no_parts).await };
        assert!(matches!(none().await, Err(Unreached::NoServer)));
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(matches!(none().await, Err(Unreached::NoServer)));
        AdminSocket::bind(&path).expect("a dead socket is replaced");
    }

    #[tokio::test]
    async fn parts_come_in_order_before_the_reply() {
        let under = tempfile::tempdir().expect("a directory");
        let path = under.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).expect("bound");
        let part = |done| {
            Part::Progress(Step {
                step: "marking".to_owned(),
                done,
            })
        };
        let server = async {
            let (stream, _) = socket.listener.accept().await.expect("a client");
            let mut stream = BufReader::new(stream);
            line::read(&mut stream, REQUEST_BYTES_MAX)
                .await
                .expect("a request");
            for reply in [Reply::Part(part(1)), Reply::Part(part(2)), Reply::Done] {
                send(&mut stream, &reply).await.expect("taken");
            }
        };
        let mut seen = Vec::new();
        let take = |part| {
            seen.push(part);
            Ok(())
        };
        let (reply, ()) = tokio::join!(ask(&path, &LIST, take), server);
        assert!(matches!(reply, Ok(Reply::Done)));
        assert_eq!(seen, [part(1), part(2)]);
    }
}
