//! Signed requests over a plain socket that is kept open.

use anyhow::{Context, bail};
use auth::{AccessKeyId, PayloadHash, RequestHead, SecretKey, Signer, SignerOptions};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;
use types::{Clock, Digest, SystemClock};

/// The region of a server that was not told another.
const REGION: &str = "us-east-1";

/// An answer that takes longer is a hang, and a hang is a failure. Virtual machines stand still for a minute now and then.
const PATIENCE: Duration = Duration::from_secs(150);

/// No answer here is longer.
const BODY_BYTES_MAX: usize = 64 << 20;

/// An access key, and nothing that shows its secret.
#[derive(Clone)]
pub struct Key {
    id: String,
    secret: String,
}

impl Key {
    /// The key in a file of AWS shared credentials.
    pub fn read(path: &Path) -> anyhow::Result<Key> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let value = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let key = value("aws_access_key_id =").zip(value("aws_secret_access_key ="));
        let (id, secret) = key.with_context(|| format!("no access key in {}", path.display()))?;
        Ok(Key { id, secret })
    }

    fn signer(&self, service: &str) -> anyhow::Result<Signer> {
        Ok(Signer::new(SignerOptions {
            access_key_id: AccessKeyId::parse(&self.id).context("the access key has no id")?,
            secret: SecretKey::new(self.secret.clone()),
            session_token: None,
            region: REGION.to_owned(),
            service: service.to_owned(),
        }))
    }
}

/// Which API is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// The EBS direct APIs.
    Ebs,
    /// The query API of EC2.
    Ec2,
}

/// What is asked.
pub struct Ask<'a> {
    /// Of which API.
    pub service: Service,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Headers of the operation.
    pub headers: &'a [(&'static str, &'a str)],
    /// The body; bodies of puts are not signed.
    pub body: &'a [u8],
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The code of an error, as SDKs read it.
    pub code: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is opened when it is needed.
pub struct Connection {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    ebs: Signer,
    ec2: Signer,
    clock: SystemClock,
}

impl Connection {
    /// A connection to a server, for a key.
    pub fn new(address: SocketAddr, key: &Key) -> anyhow::Result<Connection> {
        Ok(Connection {
            address,
            stream: None,
            ebs: key.signer("ebs")?,
            ec2: key.signer("ec2")?,
            clock: SystemClock::new(),
        })
    }

    /// Asks, and answers `None` when the connection ended before the answer was complete.
    ///
    /// # Errors
    /// No answer came in time, or what came is no HTTP.
    pub fn ask(&mut self, ask: &Ask<'_>) -> anyhow::Result<Option<Answer>> {
        let head = self.head(ask)?;
        match self.exchange(&head, ask.body) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                self.stream = None;
                let kind = error.downcast_ref::<std::io::Error>().map(|e| e.kind());
                match kind {
                    Some(ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        bail!("{} {}: no answer in {PATIENCE:?}", ask.method, ask.target)
                    }
                    Some(_) => Ok(None),
                    None => Err(error.context(format!("{} {}", ask.method, ask.target))),
                }
            }
        }
    }

    fn exchange(&mut self, head: &[u8], body: &[u8]) -> anyhow::Result<Answer> {
        let reader = match &mut self.stream {
            Some(reader) => reader,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                self.stream.insert(BufReader::new(stream))
            }
        };
        reader.get_mut().write_all(head)?;
        reader.get_mut().write_all(body)?;
        let (answer, close) = read_answer(reader)?;
        if close {
            self.stream = None;
        }
        Ok(answer)
    }

    fn head(&self, ask: &Ask<'_>) -> anyhow::Result<Vec<u8>> {
        let (path, query) = match ask.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (ask.target, None),
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(self.address.to_string())?);
        for (name, value) in ask.headers {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::try_from(*value)?,
            );
        }
        let payload = match ask.method {
            "PUT" => PayloadHash::Unsigned,
            _ => PayloadHash::Digest(Digest::of(ask.body)),
        };
        let signer = match ask.service {
            Service::Ebs => &self.ebs,
            Service::Ec2 => &self.ec2,
        };
        let head = RequestHead {
            method: ask.method,
            path,
            query,
            headers: &headers,
        };
        let signed = signer.sign(&head, payload, self.clock.now())?;
        for (name, value) in signed.headers {
            headers.insert(name, value);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(ask.body.len()));
        let mut text = format!("{} {} HTTP/1.1\r\n", ask.method, ask.target).into_bytes();
        for (name, value) in &headers {
            text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        text.extend_from_slice(b"\r\n");
        Ok(text)
    }
}

/// Reads one answer; says too whether the server closes behind it. An I/O error is passed on as it is.
fn read_answer(reader: &mut impl BufRead) -> anyhow::Result<(Answer, bool)> {
    let status = line(reader)?;
    let mut words = status.split(' ');
    let status = match (words.next(), words.next().map(str::parse)) {
        (Some("HTTP/1.1"), Some(Ok(status))) => status,
        _ => bail!("no HTTP: {status:?}"),
    };
    let (mut length, mut close, mut code) = (None, false, String::new());
    loop {
        let header = line(reader)?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<usize>()?),
            "connection" => close = value.eq_ignore_ascii_case("close"),
            "x-amzn-errortype" => {
                code = value.split(':').next().unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    let length = length.context("an answer without a length")?;
    if length > BODY_BYTES_MAX {
        bail!("an answer of {length} bytes");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if code.is_empty() && status >= 400 {
        let text = String::from_utf8_lossy(&body);
        code = between(&text, "<Code>", "</Code>")
            .unwrap_or("?")
            .to_owned();
    }
    Ok((Answer { status, code, body }, close))
}

fn line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

/// The text after `start` and before the `end` that follows.
pub fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = text.split_once(start)?.1;
    Some(rest.split_once(end)?.0)
}
