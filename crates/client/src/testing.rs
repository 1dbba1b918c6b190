//! A server that does as it is told: it answers, drops, stalls and damages in the order of a script, and keeps what it was asked.
//!
//! It is reached over memory in place of sockets, so that tests can pause time.

use crate::Meter;
use crate::api::{Api, ApiParts};
use crate::config::{ApiOptions, Config, Credentials, SigningKeys};
use crate::transport::{Dial, Stream};
use sigv4::{AccessKeyId, SecretKey};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use types::{Clock, Digest, Random, TestClock, UnixMillis};

/// When the tests play: 2026-09-25 12:00 UTC.
pub(crate) const NOW: UnixMillis = 1_790_337_600_000;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers.
    Answer(Answer),
    /// Answers in pieces of so many bytes, so long apart.
    Slowly(Answer, usize, Duration),
    /// Sends so many bytes of the answer, then closes.
    Part(Answer, usize),
    /// Sends so many bytes of the answer, then nothing.
    Stall(Answer, usize),
    /// Answers without having read the body, then closes.
    Early(Answer),
    /// Answers, and closes when the next request comes.
    Last(Answer),
    /// Closes.
    Close,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Answer {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// An error of the EBS direct APIs.
    pub(crate) fn error(status: u16, code: &str, reason: Option<&str>, message: &str) -> Answer {
        let body = serde_json::json!({ "Message": message, "Reason": reason });
        let kind =
            format!("{code}:http://internal.amazon.com/coral/com.amazon.zeppelindataservice/");
        Answer::new(status, body.to_string()).with("x-amzn-ErrorType", kind)
    }

    /// A block.
    pub(crate) fn block(data: &[u8]) -> Answer {
        Answer::new(200, data)
            .with("x-amz-Data-Length", 524_288)
            .with("x-amz-Checksum-Algorithm", "SHA256")
            .with("x-amz-Checksum", crate::ebs::checksum(&Digest::of(data)))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Thus\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    acts: Mutex<VecDeque<Act>>,
    /// Acts for requests whose target has this in it; those of others are above.
    acts_by_target: Mutex<HashMap<&'static str, VecDeque<Act>>>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    /// Connections that ended.
    ended: AtomicUsize,
    /// Attempts to connect that are refused first.
    refusals: AtomicUsize,
}

impl Scripted {
    /// Does these, one with each request, then fails everything with a code that no test expects.
    pub(crate) fn new(acts: impl IntoIterator<Item = Act>) -> Scripted {
        let scripted = Scripted::default();
        scripted.shared.acts.lock().unwrap().extend(acts);
        scripted
    }

    /// Answers these.
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Scripted {
        Scripted::new(answers.into_iter().map(Act::Answer))
    }

    /// Answers these to requests whose target has this in it, the last of them again and again.
    pub(crate) fn by_target(answers: HashMap<&'static str, Vec<Answer>>) -> Scripted {
        let scripted = Scripted::default();
        let acts = |answers: Vec<Answer>| answers.into_iter().map(Act::Answer).collect();
        let answers = answers
            .into_iter()
            .map(|(part, answers)| (part, acts(answers)));
        scripted
            .shared
            .acts_by_target
            .lock()
            .unwrap()
            .extend(answers);
        scripted
    }

    /// What to do with the next request for this target.
    fn act(&self, target: &str) -> Option<Act> {
        let mut by_target = self.shared.acts_by_target.lock().unwrap();
        let acts = by_target
            .iter_mut()
            .find(|(part, _)| target.contains(**part));
        match acts {
            Some((_, acts)) if acts.len() == 1 => acts.front().cloned(),
            Some((_, acts)) => acts.pop_front(),
            None => self.shared.acts.lock().unwrap().pop_front(),
        }
    }

    /// Refuses so many connections first.
    pub(crate) fn refusing(self, count: usize) -> Scripted {
        self.shared.refusals.store(count, Ordering::Relaxed);
        self
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Connections made so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections that the client has closed.
    pub(crate) fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::Relaxed)
    }

    /// Connects to it.
    pub(crate) fn dial(&self) -> Dial {
        let scripted = self.clone();
        Arc::new(move |_| {
            let scripted = scripted.clone();
            Box::pin(async move { scripted.connect() })
        })
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let refuses = |count: usize| count.checked_sub(1);
        let (most, relaxed) = (Ordering::Relaxed, Ordering::Relaxed);
        if self
            .shared
            .refusals
            .fetch_update(most, relaxed, refuses)
            .is_ok()
        {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let scripted = self.clone();
        tokio::spawn(async move {
            // How a connection ends is what tests look at from the other side.
            let _ = scripted.serve(ours).await;
            scripted.shared.ended.fetch_add(1, Ordering::Relaxed);
        });
        Ok(Box::new(theirs))
    }

    async fn serve(&self, mut stream: DuplexStream) -> io::Result<()> {
        loop {
            let Some((mut asked, rest)) = read_head(&mut stream).await? else {
                return Ok(());
            };
            let act = self.act(&asked.target).unwrap_or_else(|| {
                Act::Answer(Answer::error(
                    418,
                    "ScriptIsOver",
                    None,
                    "too many requests",
                ))
            });
            if !matches!(act, Act::Early(_)) {
                let length = asked.header("content-length").parse().unwrap_or(0);
                let mut body = vec![0; length];
                body[..rest.len()].copy_from_slice(&rest);
                stream.read_exact(&mut body[rest.len()..]).await?;
                asked.body = body;
            }
            self.shared.asked.lock().unwrap().push(asked);
            match act {
                Act::Answer(answer) => stream.write_all(&answer.bytes()).await?,
                Act::Slowly(answer, bytes, pause) => {
                    for piece in answer.bytes().chunks(bytes) {
                        stream.write_all(piece).await?;
                        tokio::time::sleep(pause).await;
                    }
                }
                Act::Part(answer, bytes) => {
                    return stream.write_all(&answer.bytes()[..bytes]).await;
                }
                Act::Stall(answer, bytes) => {
                    stream.write_all(&answer.bytes()[..bytes]).await?;
                    let mut rest = [0; 1];
                    stream.read_exact(&mut rest).await?;
                }
                Act::Early(answer) => return stream.write_all(&answer.bytes()).await,
                Act::Last(answer) => {
                    stream.write_all(&answer.bytes()).await?;
                    let mut first = [0; 1];
                    stream.read_exact(&mut first).await?;
                    return Ok(());
                }
                Act::Close => return Ok(()),
            }
        }
    }
}

/// A request's head, and what came behind it; nothing at the end of the connection.
async fn read_head(stream: &mut DuplexStream) -> io::Result<Option<(Asked, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let rest = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let asked = Asked {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: Vec::new(),
    };
    Ok(Some((asked, rest)))
}

/// A client of a scripted server at this URL.
pub(crate) fn api_at(server: &Scripted, url: &str, options: ApiOptions) -> Api {
    api_over(server.dial(), url, options)
}

/// A client over these connections.
pub(crate) fn api_over(dial: Dial, url: &str, options: ApiOptions) -> Api {
    Api::over(dial, parts_at(url, options)).unwrap()
}

/// What a client of a server at this URL is made of.
pub(crate) fn parts_at(url: &str, options: ApiOptions) -> ApiParts {
    let keys = SigningKeys {
        access_key_id: AccessKeyId::parse("AKIDEXAMPLE").unwrap(),
        secret: SecretKey::new("secret".to_owned()),
        session_token: None,
    };
    let clock: Arc<dyn Clock> = Arc::new(TestClock::at(NOW));
    ApiParts {
        config: Config {
            region: "us-east-1".to_owned(),
            ebs: url.parse().unwrap(),
            ec2: url.parse().unwrap(),
            sts: url.parse().unwrap(),
            ca_bundle: None,
            credentials: Credentials::fixed(keys),
        },
        options,
        clock,
        random: Random::seeded(7),
        meter: Arc::new(Meter::new()),
    }
}

/// A client of a scripted server.
pub(crate) fn api(server: &Scripted) -> Api {
    api_at(server, "http://drystone.test:8080", ApiOptions::default())
}
