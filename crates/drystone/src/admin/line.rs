//! Lines of JSON on the admin socket, and the socket's address.

use anyhow::{Context, bail};
use rustix::fs::{Mode, OFlags};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// Bytes of the longest socket path that the system takes, its final zero aside.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// An address for the socket that the system takes; it holds while the directory is open. A path too long for a socket
/// address is reached through its directory's descriptor.
pub fn address(path: &Path) -> io::Result<(Option<OwnedFd>, PathBuf)> {
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

/// Reads a whole line of at most `bytes_max` bytes.
pub async fn read(
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

/// Writes a message as a line.
pub async fn write(
    stream: &mut BufReader<UnixStream>,
    message: &impl serde::Serialize,
) -> anyhow::Result<()> {
    let mut line = Zeroizing::new(serde_json::to_vec(message)?);
    line.push(b'\n');
    stream
        .write_all(&line)
        .await
        .context("the connection broke")
}

/// Says that no more lines follow.
pub async fn finish(stream: &mut BufReader<UnixStream>) -> anyhow::Result<()> {
    stream.shutdown().await.context("the connection broke")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut far = BufReader::new(far);
        let flood = tokio::spawn(async move {
            let mut near = near;
            while near.write_all(&[b'x'; 1024]).await.is_ok() {}
        });
        let error = read(&mut far, 4096)
            .await
            .expect_err("too long")
            .to_string();
        assert!(error.contains("more than 4096 bytes"), "{error}");
        drop(far);
        flood.await.expect("the other side went away");
    }
}
