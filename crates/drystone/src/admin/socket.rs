//! The admin socket: its two ends.

use super::{Reply, Request, perform};
use anyhow::{Context, anyhow, bail};
use auth::KeyStore;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Bytes of a request: the longest names a key of 128 letters.
const REQUEST_BYTES_MAX: u64 = 4096;

/// Bytes of a reply: 10,000 keys at up to 300 bytes each.
const REPLY_BYTES_MAX: u64 = 8 << 20;

/// Clients served at a time; the next ones wait.
const CLIENTS_MAX: usize = 4;

/// How long a client may take to ask, and to take its reply.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a command waits for the server.
const SERVER_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes of the longest socket path that the system takes, its final zero aside.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The server's end.
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
        let (_dir, address) = address(path).with_context(failed)?;
        let listener = UnixListener::bind(address).with_context(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(failed)?;
        Ok(AdminSocket {
            listener,
            path: path.to_owned(),
        })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, keys: Arc<KeyStore>) {
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
            let keys = Arc::clone(&keys);
            tokio::spawn(async move {
                if let Err(error) = answer(stream, &keys).await {
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

async fn answer(stream: UnixStream, keys: &KeyStore) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let line = timeout(CLIENT_TIME_MAX, read_line(&mut stream, REQUEST_BYTES_MAX))
        .await
        .context("no request came")??;
    let reply = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => {
            tracing::info!(?request, "admin request");
            perform(keys, request).await
        }
        Err(error) => Reply::Refused(format!("this server does not know the request: {error}")),
    };
    timeout(CLIENT_TIME_MAX, write_line(&mut stream, &reply))
        .await
        .context("the reply was not taken")?
}

/// Why a server did not answer.
#[derive(Debug)]
pub enum Unreached {
    /// None listens.
    NoServer,
    /// One listens and failed to answer.
    Failed(anyhow::Error),
}

/// The client's end: asks the server whose socket this is.
pub async fn ask(path: &Path, request: &Request) -> Result<Reply, Unreached> {
    let (_dir, address) = match address(path) {
        Ok(address) => address,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Unreached::NoServer),
        Err(error) => return Err(failed(path, error)),
    };
    let stream = match UnixStream::connect(address).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Err(Unreached::NoServer);
        }
        Err(error) => return Err(failed(path, error)),
    };
    let exchange = async {
        let mut stream = BufReader::new(stream);
        write_line(&mut stream, request).await?;
        let line = read_line(&mut stream, REPLY_BYTES_MAX).await?;
        serde_json::from_slice(&line)
            .context("this program does not know the reply; is the server a newer version?")
    };
    match timeout(SERVER_TIME_MAX, exchange).await {
        Ok(reply) => reply.map_err(Unreached::Failed),
        Err(_) => Err(Unreached::Failed(anyhow!(
            "the server gave no answer within {} s; its log may say why",
            SERVER_TIME_MAX.as_secs()
        ))),
    }
}

fn failed(path: &Path, error: io::Error) -> Unreached {
    Unreached::Failed(anyhow::Error::new(error).context(format!(
        "the admin socket {} cannot be used; run this as the user of the server",
        path.display()
    )))
}

/// An address for the socket that the system takes; it holds while the directory is open. A path too long for a socket
/// address is reached through its directory's descriptor.
fn address(path: &Path) -> io::Result<(Option<OwnedFd>, PathBuf)> {
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((None, path.to_owned()));
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let address = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(name);
    Ok((Some(directory), address))
}

async fn read_line(
    stream: &mut BufReader<UnixStream>,
    bytes_max: u64,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    stream
        .take(bytes_max)
        .read_until(b'\n', &mut line)
        .await
        .context("the connection broke")?;
    if line.last() != Some(&b'\n') {
        bail!(
            "the other side ended before the end of its line, or sent more than {bytes_max} bytes"
        );
    }
    Ok(line)
}

async fn write_line(
    stream: &mut BufReader<UnixStream>,
    message: &impl serde::Serialize,
) -> anyhow::Result<()> {
    let mut line = Zeroizing::new(serde_json::to_vec(message)?);
    line.push(b'\n');
    stream
        .write_all(&line)
        .await
        .context("the connection broke")?;
    stream.shutdown().await.context("the connection broke")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::KeyRequest;

    const LIST: Request = Request::Key(KeyRequest::List);

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
            let line = read_line(&mut stream, REQUEST_BYTES_MAX)
                .await
                .expect("a request");
            assert_eq!(line.as_slice(), b"{\"key\":\"list\"}\n");
            write_line(&mut stream, &Reply::Keys(Vec::new()))
                .await
                .expect("taken");
        };
        let (reply, ()) = tokio::join!(ask(&path, &LIST), server);
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
        assert!(matches!(ask(&path, &LIST).await, Err(Unreached::NoServer)));
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(matches!(ask(&path, &LIST).await, Err(Unreached::NoServer)));
        AdminSocket::bind(&path).expect("a dead socket is replaced");
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut far = BufReader::new(far);
        let flood = tokio::spawn(async move {
            let mut near = near;
            while near.write_all(&[b'x'; 1024]).await.is_ok() {}
        });
        let error = read_line(&mut far, REQUEST_BYTES_MAX)
            .await
            .expect_err("too long")
            .to_string();
        assert!(error.contains("more than 4096 bytes"), "{error}");
        drop(far);
        flood.await.expect("the other side went away");
    }
}
