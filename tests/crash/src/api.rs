//! The calls of the two APIs that a careful client makes.

use crate::content::{self, Seed};
use crate::wire::{Answer, Ask, Connection, Key, Service, between};
use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};
use types::{BLOCK_BYTES, Digest};

/// The id of a snapshot.
pub type Id = String;

/// How long throttled calls and snapshots that are not completed yet are asked again.
const PATIENCE: Duration = Duration::from_secs(150);
const PAUSE: Duration = Duration::from_millis(5);

/// Why a call did not do what it was to do.
#[derive(Debug)]
pub enum Failure {
    /// The connection ended: it was done, or not.
    Gone,
    /// The server said no.
    Said(Answer),
    /// Nothing that a server may do: the run has failed.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Broken(error)
    }
}

impl Failure {
    /// An error to end the run with.
    pub fn unexpected(self) -> anyhow::Error {
        match self {
            Failure::Gone => anyhow::anyhow!("the connection ended"),
            Failure::Said(answer) => {
                anyhow::anyhow!("{} {}: {}", answer.status, answer.code, answer.text())
            }
            Failure::Broken(error) => error,
        }
    }

    /// Whether the server says that it could not, without a reason that the caller could mend.
    pub fn is_internal(&self) -> bool {
        matches!(self, Failure::Said(answer) if answer.status == 500)
    }
}

/// The state of a snapshot, as EC2 tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Open or sealed.
    Pending,
    /// It can be read.
    Completed,
    /// It failed.
    Error,
}

/// One client with one connection.
pub struct Api {
    connection: Connection,
}

impl Api {
    /// A client of a server.
    pub fn new(address: SocketAddr, key: &Key) -> anyhow::Result<Api> {
        Ok(Api {
            connection: Connection::new(address, key)?,
        })
    }

    fn call(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(answer) = self.connection.ask(ask)? else {
                return Err(Failure::Gone);
            };
            let throttled =
                answer.code.contains("Throttl") || matches!(answer.status, 429 | 502..=504);
            if throttled && Instant::now() < deadline {
                thread::sleep(PAUSE);
            } else if answer.status < 300 {
                return Ok(answer);
            } else {
                return Err(Failure::Said(answer));
            }
        }
    }

    /// Starts a snapshot; the same token answers the same snapshot.
    pub fn start(&mut self, token: &str, parent: Option<&str>) -> Result<Id, Failure> {
        let mut body = json!({"VolumeSize": 1, "ClientToken": token, "Timeout": 4320});
        if let Some(parent) = parent {
            body["ParentSnapshotId"] = Value::from(parent);
        }
        let answer = self.call(&Ask {
            service: Service::Ebs,
            method: "POST",
            target: "/snapshots",
            headers: &[],
            body: body.to_string().as_bytes(),
        })?;
        let id = text(&parsed(&answer)?, "SnapshotId")?;
        Ok(id)
    }

    /// Puts a block.
    pub fn put(&mut self, id: &str, index: u32, seed: Seed) -> Result<(), Failure> {
        let block = content::block(seed);
        let checksum = STANDARD.encode(Digest::of(&block).as_bytes());
        self.call(&Ask {
            service: Service::Ebs,
            method: "PUT",
            target: &format!("/snapshots/{id}/blocks/{index}"),
            headers: &[
                ("x-amz-data-length", "524288"),
                ("x-amz-checksum", &checksum),
                ("x-amz-checksum-algorithm", "SHA256"),
            ],
            body: &block,
        })?;
        Ok(())
    }

    /// Completes a snapshot with the count and the aggregate of what was put.
    pub fn complete(&mut self, id: &str, own: &BTreeMap<u32, Seed>) -> Result<(), Failure> {
        let count = own.len().to_string();
        let checksum = STANDARD.encode(content::aggregate(own.values().copied()).as_bytes());
        self.call(&Ask {
            service: Service::Ebs,
            method: "POST",
            target: &format!("/snapshots/completion/{id}"),
            headers: &[
                ("x-amz-changedblockscount", &count),
                ("x-amz-checksum", &checksum),
                ("x-amz-checksum-algorithm", "SHA256"),
                ("x-amz-checksum-aggregation-method", "LINEAR"),
            ],
            body: b"",
        })?;
        Ok(())
    }

    /// Deletes a snapshot.
    pub fn delete(&mut self, id: &str) -> Result<(), Failure> {
        self.ec2(&format!(
            "Action=DeleteSnapshot&Version=2016-11-15&SnapshotId={id}"
        ))?;
        Ok(())
    }

    /// Every snapshot there is.
    pub fn describe(&mut self) -> Result<BTreeMap<Id, State>, Failure> {
        let mut found = BTreeMap::new();
        let mut next = String::new();
        loop {
            let answer = self.ec2(&format!(
                "Action=DescribeSnapshots&Version=2016-11-15&MaxResults=1000&Owner.1=self{next}"
            ))?;
            let text = answer.text();
            for item in text.split("<snapshotId>").skip(1) {
                let (id, rest) = item.split_once('<').context("an id ends")?;
                let state = match between(rest, "<status>", "</status>") {
                    Some("pending") => State::Pending,
                    Some("completed") => State::Completed,
                    Some("error") => State::Error,
                    other => return Err(anyhow::anyhow!("the state {other:?}").into()),
                };
                found.insert(id.to_owned(), state);
            }
            match between(&text, "<nextToken>", "</nextToken>") {
                Some(token) if !token.is_empty() => {
                    let encoded: String = token.bytes().map(|b| format!("%{b:02X}")).collect();
                    next = format!("&NextToken={encoded}");
                }
                _ => return Ok(found),
            }
        }
    }

    fn ec2(&mut self, form: &str) -> Result<Answer, Failure> {
        self.call(&Ask {
            service: Service::Ec2,
            method: "POST",
            target: "/",
            headers: &[("content-type", "application/x-www-form-urlencoded")],
            body: form.as_bytes(),
        })
    }

    /// The blocks of a completed snapshot with their tokens; waits while it is pending.
    pub fn list(&mut self, id: &str) -> Result<BTreeMap<u32, String>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut found = BTreeMap::new();
        let mut next = String::new();
        loop {
            let answer =
                match self.get_of_ebs(&format!("/snapshots/{id}/blocks?maxResults=1000{next}")) {
                    Err(Failure::Said(answer))
                        if answer.text().contains("not complete") || answer.status == 404 =>
                    {
                        if Instant::now() > deadline {
                            return Err(Failure::Said(answer));
                        }
                        match self.describe()?.get(id) {
                            Some(State::Pending) => thread::sleep(PAUSE),
                            // It may have been completed between the two calls.
                            Some(State::Completed) if found.is_empty() => {}
                            _ => return Err(Failure::Said(answer)),
                        }
                        continue;
                    }
                    other => parsed(&other?)?,
                };
            for block in answer["Blocks"].as_array().context("no blocks")? {
                found.insert(number(block, "BlockIndex")?, text(block, "BlockToken")?);
            }
            match answer["NextToken"].as_str() {
                Some(token) => next = format!("&pageToken={}", escaped(token)),
                None => return Ok(found),
            }
        }
    }

    /// The indexes at which two snapshots differ.
    pub fn changed(&mut self, first: &str, second: &str) -> Result<Vec<u32>, Failure> {
        let mut found = Vec::new();
        let mut next = String::new();
        loop {
            let answer = parsed(&self.get_of_ebs(&format!(
                "/snapshots/{second}/changedblocks?firstSnapshotId={first}&maxResults=1000{next}"
            ))?)?;
            for block in answer["ChangedBlocks"].as_array().context("no blocks")? {
                found.push(number(block, "BlockIndex")?);
            }
            match answer["NextToken"].as_str() {
                Some(token) => next = format!("&pageToken={}", escaped(token)),
                None => return Ok(found),
            }
        }
    }

    /// The bytes of a block.
    pub fn get(&mut self, id: &str, index: u32, token: &str) -> Result<Vec<u8>, Failure> {
        let token = escaped(token);
        let answer = self.get_of_ebs(&format!(
            "/snapshots/{id}/blocks/{index}?blockToken={token}"
        ))?;
        if answer.body.len() != BLOCK_BYTES {
            return Err(anyhow::anyhow!("a block of {} bytes", answer.body.len()).into());
        }
        Ok(answer.body)
    }

    fn get_of_ebs(&mut self, target: &str) -> Result<Answer, Failure> {
        self.call(&Ask {
            service: Service::Ebs,
            method: "GET",
            target,
            headers: &[],
            body: b"",
        })
    }
}

fn parsed(answer: &Answer) -> anyhow::Result<Value> {
    serde_json::from_slice(&answer.body).context("an answer that is no JSON")
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    match value[name].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("no {name} in {value}"),
    }
}

fn number(value: &Value, name: &str) -> anyhow::Result<u32> {
    let number = value[name].as_u64().and_then(|n| u32::try_from(n).ok());
    number.with_context(|| format!("no {name} in {value}"))
}

/// A token in a query: its base64 has three characters with a meaning there.
fn escaped(token: &str) -> String {
    token
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D")
}
