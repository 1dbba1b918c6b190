//! The client's end of an HTTP/1.1 connection, as thin as it can be: what it costs is not the server's.
//!
//! One request at a time, written with vectored writes from where its parts lie; of an answer the head is read and the
//! body counted, and kept only on demand. Answers must announce their length, as all of this server's do.

use anyhow::{Context, bail};
use std::io::IoSlice;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read at once: few system calls, and still within a processor's cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes of a body that is kept: a page of 10,000 changed blocks has about 3 MB.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// What to do with the body of a successful answer; that of a refusal is always kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// Count its bytes.
    Discard,
    /// Keep it.
    Keep,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Length of the body.
    pub body_bytes: u64,
    /// The body, where it was kept.
    pub body: Vec<u8>,
}

/// What stands at the beginning of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Length of the head, its empty line included.
    pub bytes: usize,
    /// Length of the body that follows.
    pub body_bytes: u64,
}

impl Head {
    /// The head at the beginning of `bytes`; `None` when it is not complete yet.
    ///
    /// # Errors
    /// It is no answer of HTTP/1.1 that announces its length.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text =
            std::str::from_utf8(&bytes[..end]).context("the head of an answer is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let Some(status) = status else {
            bail!("the answer is not of HTTP/1.1: {text}");
        };
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        let Some(body_bytes) = length else {
            bail!("the answer does not say how long it is: {text}");
        };
        Ok(Some(Head {
            status,
            bytes: end + 4,
            body_bytes,
        }))
    }
}

/// A connection that stays open from request to request.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("{address} cannot be reached"))?;
        stream
            .set_nodelay(true)
            .context("the connection ended before it began")?;
        Ok(Connection {
            stream,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends a request, whose parts follow each other, and waits for the whole answer.
    pub async fn exchange(&mut self, request: [&[u8]; 3], body: Body) -> anyhow::Result<Answer> {
        self.send(request)
            .await
            .context("a request could not be sent")?;
        self.receive(body).await
    }

    async fn send(&mut self, request: [&[u8]; 3]) -> std::io::Result<()> {
        let mut slices = request.map(IoSlice::new);
        let mut left = &mut slices[..];
        // An empty slice at the front would look like a stream that takes nothing.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match self.stream.write_vectored(left).await? {
                0 => return Err(std::io::ErrorKind::WriteZero.into()),
                written => IoSlice::advance_slices(&mut left, written),
            }
        }
        Ok(())
    }

    async fn receive(&mut self, body: Body) -> anyhow::Result<Answer> {
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled).await?;
            if let Some(head) = Head::parse(&self.buffer[..filled])? {
                break head;
            }
        };
        let keep = body == Body::Keep || !(200..300).contains(&head.status);
        if keep && head.body_bytes > KEPT_BYTES_MAX {
            bail!("an answer of {} bytes is too long", head.body_bytes);
        }
        let mut kept = Vec::new();
        let mut left = head.body_bytes;
        let mut from = head.bytes;
        loop {
            let part = &self.buffer[from..filled];
            let Some(rest) = left.checked_sub(part.len() as u64) else {
                bail!("the server sent more than its answer");
            };
            if keep {
                kept.extend_from_slice(part);
            }
            left = rest;
            if left == 0 {
                break;
            }
            from = 0;
            filled = self.read(0).await?;
        }
        Ok(Answer {
            status: head.status,
            body_bytes: head.body_bytes,
            body: kept,
        })
    }

    async fn read(&mut self, from: usize) -> anyhow::Result<usize> {
        let room = &mut self.buffer[from..];
        if room.is_empty() {
            bail!("the head of an answer is too long");
        }
        match self.stream.read(room).await {
            Ok(0) => bail!("the server closed a connection before it answered"),
            Ok(count) => Ok(count),
            Err(error) => Err(error).context("an answer could not be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let whole = b"HTTP/1.1 201 Created\r\nContent-Type: a:b\r\ncOntent-length:  12\r\n\r\n{}";
        let head = Head {
            status: 201,
            bytes: whole.len() - 2,
            body_bytes: 12,
        };
        for end in 0..whole.len() - 2 {
            assert_eq!(Head::parse(&whole[..end]).expect("no error yet"), None);
        }
        assert_eq!(Head::parse(whole).expect("a head"), Some(head));
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        for head in [
            "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n",
            "HTTP/1.1 20\r\ncontent-length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "SSH-2.0-x\r\n\r\n",
        ] {
            assert!(Head::parse(head.as_bytes()).is_err(), "{head}");
        }
        assert!(Head::parse(b"HTTP/1.1 200 \xff\r\n\r\n").is_err());
    }

    /// Answers each connection with these bytes, part after part, whatever it asks.
    async fn answers(parts: &'static [&'static [u8]]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("it is open");
            let mut asked = [0; 6];
            stream.read_exact(&mut asked).await.expect("a request");
            assert_eq!(&asked, b"abcdef");
            for part in parts {
                stream.write_all(part).await.expect("it reads");
                tokio::task::yield_now().await;
            }
        });
        Connection::open(address).await.expect("it listens")
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_put_together() {
        let parts: &[&[u8]] = &[
            b"HTTP/1.1 200 OK\r\ncont",
            b"ent-length: 4\r\n\r\nw",
            b"xyz",
        ];
        let mut connection = answers(parts).await;
        let kept = connection.exchange([b"ab", b"", b"cdef"], Body::Keep);
        let answer = kept.await.expect("an answer");
        assert_eq!((answer.status, answer.body_bytes), (200, 4));
        assert_eq!(answer.body, b"wxyz");
        let mut connection = answers(parts).await;
        let counted = connection.exchange([b"abcdef", b"", b""], Body::Discard);
        let answer = counted.await.expect("an answer");
        assert_eq!((answer.body_bytes, answer.body.len()), (4, 0));
    }

    #[tokio::test]
    async fn a_cut_or_overlong_answer_is_an_error() {
        let cut: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nw"];
        let long: &[&[u8]] = &[b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nwx"];
        for parts in [cut, long] {
            let mut connection = answers(parts).await;
            let exchange = connection.exchange([b"", b"abc", b"def"], Body::Discard);
            assert!(exchange.await.is_err());
        }
    }
}
