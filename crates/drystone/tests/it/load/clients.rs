//! Clients that behave: they send whole requests, read whole answers, and come again when they are told to.

use crate::signed::{Call, Key};
use crate::snapshots::content;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use types::{BLOCK_BYTES, Clock, Digest, SystemClock};

/// Times that a request is tried. SDKs try 3 to 5 times; here many more clients come at once than any of them serves.
const ATTEMPTS: u32 = 50;

/// Different blocks that are put.
const CONTENTS: u32 = 64;

/// What clients ask of which server.
pub struct Target {
    pub address: SocketAddr,
    pub key: Key,
    /// A pending snapshot.
    pub pending: String,
    /// A completed one, and the tokens of its blocks.
    pub completed: String,
    pub tokens: Vec<(u32, String)>,
    /// What is in them.
    pub contents: Vec<Vec<u8>>,
    /// Blocks to put.
    pub blocks: Vec<Block>,
}

/// A block and its checksum.
pub struct Block {
    data: Vec<u8>,
    checksum: String,
}

impl Block {
    pub fn all() -> Vec<Block> {
        (0..CONTENTS)
            .map(|number| {
                let data = content(1_000 + number);
                let checksum = STANDARD.encode(Digest::of(&data).as_bytes());
                Block { data, checksum }
            })
            .collect()
    }
}

impl Target {
    /// The bytes of a put of a client.
    pub fn put(&self, client: u32, round: u32) -> Vec<u8> {
        let index = (client * 31 + round) % 2_048;
        let block = &self.blocks[index as usize % self.blocks.len()];
        let headers = [
            ("x-amz-data-length", "524288"),
            ("x-amz-checksum", &*block.checksum),
            ("x-amz-checksum-algorithm", "SHA256"),
        ];
        let target = format!("/snapshots/{}/blocks/{index}", self.pending);
        self.call("PUT", &target, &headers, &block.data)
    }

    /// The bytes of a get of a client, and what must come back.
    pub fn get(&self, client: u32, round: u32) -> (Vec<u8>, u32) {
        let (index, token) = &self.tokens[(client + round) as usize % self.tokens.len()];
        let target = format!(
            "/snapshots/{}/blocks/{index}?blockToken={token}",
            self.completed
        );
        (self.call("GET", &target, &[], b""), *index)
    }

    fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&'static str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let call = Call {
            service: "ebs",
            method,
            target,
            headers,
            body,
        };
        call.bytes(self.address, &self.key, "keep-alive")
    }
}

/// What clients saw.
#[derive(Default, Debug)]
pub struct Tally {
    /// Time of each request from its first attempt to its success.
    pub took: Vec<Duration>,
    /// Answers that asked to come again.
    pub throttled: usize,
    /// Connections that the server ended between two requests.
    pub reconnected: usize,
    /// Anything else: there must be none.
    pub failures: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.took.extend(other.took);
        self.throttled += other.throttled;
        self.reconnected += other.reconnected;
        self.failures.extend(other.failures);
    }
}

enum Outcome {
    Done,
    Throttled(Duration),
    /// The connection was closed after the last answer, before the request was read.
    Gone,
    Failed(String),
}

/// One client: puts and gets in turn, one after the other.
pub async fn behave(target: Arc<Target>, client: u32, requests: u32) -> Tally {
    let mut tally = Tally::default();
    let clock = SystemClock::new();
    let mut connection = None;
    for round in 0..requests {
        let begun = clock.monotonic();
        let mut tries = 0..ATTEMPTS;
        loop {
            let outcome = match tries.next() {
                Some(_) => attempt(&target, &mut connection, client, round).await,
                None => Outcome::Failed("it was never served".to_owned()),
            };
            match outcome {
                Outcome::Done => {
                    tally.took.push(clock.monotonic() - begun);
                    break;
                }
                Outcome::Throttled(after) => {
                    tally.throttled += 1;
                    // Spread, as SDKs do.
                    sleep(after.mul_f64(f64::from(client % 8 + 1) / 8.0)).await;
                }
                Outcome::Gone => tally.reconnected += 1,
                Outcome::Failed(failure) => {
                    tally.failures.push(failure);
                    return tally;
                }
            }
        }
    }
    tally
}

async fn attempt(
    target: &Target,
    connection: &mut Option<TcpStream>,
    client: u32,
    round: u32,
) -> Outcome {
    let (request, expected) = if (client + round).is_multiple_of(2) {
        (target.put(client, round), None)
    } else {
        let (request, index) = target.get(client, round);
        (request, Some(index))
    };
    let reused = connection.is_some();
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => match TcpStream::connect(target.address).await {
            Ok(stream) => stream,
            Err(error) => return Outcome::Failed(format!("connecting: {error}")),
        },
    };
    let sent = stream.write_all(&request).await;
    let answer = match read_answer(&mut stream).await {
        Ok(answer) => answer,
        Err(_) if reused => return Outcome::Gone,
        Err(error) => return Outcome::Failed(format!("sent {sent:?}, then {error}")),
    };
    if !answer.closes {
        *connection = Some(stream);
    }
    match (answer.status, expected) {
        (201, None) => Outcome::Done,
        (200, Some(index)) if answer.body == target.contents[index as usize] => Outcome::Done,
        (400, _) if answer.text().contains(r#""__type":"ThrottlingException""#) => {
            match answer.retry_after {
                Some(after) => Outcome::Throttled(after),
                None => Outcome::Failed("throttled without a time to come again".to_owned()),
            }
        }
        (200, Some(index)) => {
            Outcome::Failed(format!("{} bytes for block {index}", answer.body.len()))
        }
        _ => Outcome::Failed(format!("{}: {}", answer.status, answer.text())),
    }
}

struct Answer {
    status: u16,
    closes: bool,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        let start = &self.body[..self.body.len().min(300)];
        String::from_utf8_lossy(start).into_owned()
    }
}

async fn read_answer(stream: &mut TcpStream) -> Result<Answer, String> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES + 2_048);
    let head = loop {
        let found = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = found {
            break end + 4;
        }
        read_more(stream, &mut bytes).await?;
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let mut lines = text.split("\r\n").filter_map(|line| line.split_once(": "));
        lines
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    };
    let number = |name: &str| header(name).and_then(|value| value.parse::<u64>().ok());
    let length = number("content-length").ok_or("no length")? as usize;
    while bytes.len() < head + length {
        read_more(stream, &mut bytes).await?;
    }
    Ok(Answer {
        status: text
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .ok_or("no status")?,
        closes: header("connection") == Some("close"),
        retry_after: number("x-amz-retry-after").map(Duration::from_millis),
        body: bytes.split_off(head),
    })
}

async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), String> {
    match stream.read_buf(bytes).await {
        Ok(0) => Err(format!("the end after {} bytes", bytes.len())),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error} after {} bytes", bytes.len())),
    }
}
