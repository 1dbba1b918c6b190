//! The load generator: a process of its own that sends prepared requests over some connections, and measures.
//!
//! It reads one [`Job`] from standard input and writes one outcome to standard output, both as JSON. Bodies, checksums and
//! signatures are made before the clock starts; while it runs, nothing is hashed or signed. Each connection has one request
//! in flight. Whatever goes wrong ends the run: figures of a run with errors mean nothing.

use super::connection::{Body, Connection};
use super::job::{Job, Measured, Then, Work};
use super::requests::{Blocks, Heads};
use super::statistics::{millis, percentile};
use super::usage;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use types::{BLOCK_BYTES, Clock, SystemClock};

/// Bytes of the longest job.
const JOB_BYTES_MAX: u64 = 64 << 10;

/// How much longer than its time a run may take: for the requests that are in flight at its end.
const GRACE: Duration = Duration::from_secs(60);

/// Requests of [`Work::Call`] whatever its time: the first is apart, and a median needs some others.
const CALLS_MIN: u64 = 6;

/// Letters of a refusal that an error shows.
const SHOWN_MAX: usize = 300;

/// Runs the job on standard input; the outcome, good or bad, goes to standard output.
pub fn run() -> anyhow::Result<()> {
    let outcome = job_and_outcome().map_err(|error| format!("{error:#}"));
    let mut text = serde_json::to_vec(&outcome)?;
    text.push(b'\n');
    std::io::stdout()
        .write_all(&text)
        .context("the outcome cannot be written")
}

fn job_and_outcome() -> anyhow::Result<Measured> {
    let mut text = Vec::new();
    std::io::stdin()
        .take(JOB_BYTES_MAX)
        .read_to_end(&mut text)
        .context("no job came")?;
    let job: Job = serde_json::from_slice(&text).context("the job cannot be read")?;
    // A connection costs little beside what the server does for it: most cores are the server's.
    let threads = (crate::open::cores() / 4).clamp(1, 8);
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads).enable_all().build()?;
    runtime.block_on(perform(&job))
}

/// Prepares the requests of a job and sends them.
pub async fn perform(job: &Job) -> anyhow::Result<Measured> {
    let prepared = Arc::new(prepare(job).await?);
    let mut connections = Vec::with_capacity(job.in_flight);
    for _ in 0..job.in_flight {
        connections.push(Connection::open(job.address).await?);
    }
    let time_max = Duration::from_millis(job.millis_max);
    let cpu_before = usage::own_cpu_seconds();
    let lanes = timeout(time_max + GRACE, drive(connections, &prepared, time_max))
        .await
        .context("the server did not answer in time")??;
    let cpu_seconds = usage::own_cpu_seconds() - cpu_before;
    Ok(summary(&prepared, lanes, cpu_seconds))
}

/// Requests that wait to be sent.
struct Prepared {
    heads: Vec<Vec<u8>>,
    blocks: Option<Blocks>,
    /// Sent whatever the time.
    requests_min: u64,
    requests_max: u64,
    status: u16,
    /// Length of a right answer's body, where it is known.
    body_bytes: Option<u64>,
    keeps_first: bool,
}

async fn prepare(job: &Job) -> anyhow::Result<Prepared> {
    let heads = Heads::new(&job.key, "ebs", job.address, SystemClock::new().now())?;
    match &job.work {
        Work::Put {
            snapshot,
            content,
            index_step,
            requests,
            then,
        } => {
            let blocks = Blocks::new(*content);
            let head = |number: u64| {
                let index = u32::try_from(number * u64::from(*index_step))
                    .context("there are more blocks than a volume has")?;
                heads.put(snapshot, index, &blocks.checksum(number))
            };
            let heads = (0..*requests).map(head).collect::<Result<_, _>>()?;
            Ok(Prepared::blocks(heads, *then, 201, None, Some(blocks)))
        }
        Work::Get {
            snapshot,
            listed_by,
            then,
        } => {
            let listed = list(job, snapshot, *listed_by).await?;
            let head = |item: &Listed| {
                heads.get(&format!(
                    "/snapshots/{snapshot}/blocks/{}?blockToken={}",
                    item.block_index, item.block_token
                ))
            };
            let heads = listed.iter().map(head).collect::<Result<_, _>>()?;
            let length = BLOCK_BYTES as u64;
            Ok(Prepared::blocks(heads, *then, 200, Some(length), None))
        }
        Work::Call { target, requests } => Ok(Prepared {
            heads: vec![heads.get(target)?],
            blocks: None,
            requests_min: CALLS_MIN.min(*requests),
            requests_max: *requests,
            status: 200,
            body_bytes: None,
            keeps_first: true,
        }),
    }
}

impl Prepared {
    fn blocks(
        heads: Vec<Vec<u8>>,
        then: Then,
        status: u16,
        body_bytes: Option<u64>,
        blocks: Option<Blocks>,
    ) -> Prepared {
        Prepared {
            requests_min: 1,
            requests_max: match then {
                Then::End => heads.len() as u64,
                Then::Repeat => u64::MAX,
            },
            heads,
            blocks,
            status,
            body_bytes,
            keeps_first: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    blocks: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    block_index: u32,
    block_token: String,
}

/// The first blocks of a snapshot, with their tokens, which are letters and digits.
async fn list(job: &Job, snapshot: &str, by: SocketAddr) -> anyhow::Result<Vec<Listed>> {
    let heads = Heads::new(&job.key, "ebs", by, SystemClock::new().now())?;
    let head = heads.get(&format!("/snapshots/{snapshot}/blocks?maxResults=10000"))?;
    let answer = Connection::open(by)
        .await?
        .exchange([&head, &[], &[]], Body::Keep)
        .await?;
    ensure!(
        answer.status == 200,
        "the blocks of {snapshot} cannot be listed: {}",
        shown(&answer.body)
    );
    let page: Page = serde_json::from_slice(&answer.body).context("a listing cannot be read")?;
    ensure!(!page.blocks.is_empty(), "{snapshot} has no blocks");
    Ok(page.blocks)
}

/// What one connection saw.
#[derive(Default)]
struct Lane {
    latencies: Vec<Duration>,
    first: Option<Duration>,
    bytes: u64,
    items: u64,
    last_answer: Duration,
}

async fn drive(
    connections: Vec<Connection>,
    prepared: &Arc<Prepared>,
    time_max: Duration,
) -> anyhow::Result<Vec<Lane>> {
    let next = Arc::new(AtomicU64::new(0));
    let clock = Arc::new(SystemClock::new());
    let mut running = JoinSet::new();
    for connection in connections {
        let (prepared, next, clock) = (Arc::clone(prepared), Arc::clone(&next), Arc::clone(&clock));
        running.spawn(lane(connection, prepared, next, clock, time_max));
    }
    let mut lanes = Vec::new();
    while let Some(ended) = running.join_next().await {
        lanes.push(ended.context("a connection died")??);
    }
    Ok(lanes)
}

async fn lane(
    mut connection: Connection,
    prepared: Arc<Prepared>,
    next: Arc<AtomicU64>,
    clock: Arc<SystemClock>,
    time_max: Duration,
) -> anyhow::Result<Lane> {
    let mut lane = Lane::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let begun = clock.monotonic();
        let late = begun >= time_max && number >= prepared.requests_min;
        if late || number >= prepared.requests_max {
            return Ok(lane);
        }
        let place = number % prepared.heads.len() as u64;
        let head = &prepared.heads[place as usize];
        let first = prepared.keeps_first && number == 0;
        let body = if first { Body::Keep } else { Body::Discard };
        let answer = match &prepared.blocks {
            Some(blocks) => {
                let stamp = blocks.stamp(place);
                let request = [head.as_slice(), blocks.shared(), &stamp];
                connection.exchange(request, body).await?
            }
            None => connection.exchange([head, &[], &[]], body).await?,
        };
        lane.last_answer = clock.monotonic();
        let took = lane.last_answer.saturating_sub(begun);
        if answer.status != prepared.status
            || prepared
                .body_bytes
                .is_some_and(|wanted| wanted != answer.body_bytes)
        {
            bail!(
                "a request was answered {} with {} bytes: {}",
                answer.status,
                answer.body_bytes,
                shown(&answer.body)
            );
        }
        if number == 0 {
            lane.first = Some(took);
            lane.items = items(&answer.body);
        }
        if !first {
            lane.latencies.push(took);
        }
        lane.bytes += match (&prepared.blocks, prepared.body_bytes) {
            (Some(_), _) => BLOCK_BYTES as u64,
            (None, _) => answer.body_bytes,
        };
    }
}

fn summary(prepared: &Prepared, lanes: Vec<Lane>, cpu_seconds: f64) -> Measured {
    let mut latencies: Vec<Duration> = Vec::new();
    let mut measured = Measured {
        cpu_seconds,
        ..Measured::default()
    };
    let mut end = Duration::ZERO;
    for lane in lanes {
        latencies.extend(&lane.latencies);
        measured.bytes += lane.bytes;
        measured.items += lane.items;
        measured.first_ms += lane.first.map(millis).unwrap_or_default();
        end = end.max(lane.last_answer);
    }
    measured.requests = latencies.len() as u64 + u64::from(prepared.keeps_first);
    latencies.sort_unstable();
    measured.seconds = end.as_secs_f64();
    measured.p50_ms = millis(percentile(&latencies, 50));
    measured.p99_ms = millis(percentile(&latencies, 99));
    measured
}

/// Blocks in a page of a listing: a full parse would cost more than it tells.
fn items(page: &[u8]) -> u64 {
    let name = b"\"BlockIndex\":";
    page.windows(name.len())
        .filter(|window| window == name)
        .count() as u64
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .take(SHOWN_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::http_limit;
    use super::super::requests::{Content, Key};
    use super::*;

    #[test]
    fn blocks_of_a_page_are_counted() {
        assert_eq!(items(b""), 0);
        let page = br#"{"BlockSize":524288,"Blocks":[{"BlockIndex":1,"BlockToken":"a"},{"BlockIndex":2}]}"#;
        assert_eq!(items(page), 2);
    }

    fn job(address: SocketAddr, work: Work) -> Job {
        Job {
            address,
            key: Key::nobodys(),
            in_flight: 4,
            millis_max: 60_000,
            work,
        }
    }

    fn put(requests: u64, snapshot: &str) -> Work {
        Work::Put {
            snapshot: snapshot.to_owned(),
            content: Content::Stamped {
                seed: 1,
                first: 0,
                count: requests,
            },
            index_step: 3,
            requests,
            then: Then::End,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_run_against_the_limit_server_measures_every_request() {
        let (listener, address) = http_limit::listen().expect("an address");
        tokio::spawn(http_limit::serve(listener));
        let puts = perform(&job(address, put(24, "snap-1")))
            .await
            .expect("puts");
        assert_eq!((puts.requests, puts.bytes), (24, 24 * BLOCK_BYTES as u64));
        assert!(puts.seconds > 0.0 && puts.first_ms > 0.0 && puts.p50_ms > 0.0);
        assert!(puts.p50_ms <= puts.p99_ms);

        let call = Work::Call {
            target: "/snapshots/snap-1/blocks/0?blockToken=a".to_owned(),
            requests: 9,
        };
        let calls = perform(&job(address, call)).await.expect("calls");
        assert_eq!((calls.requests, calls.bytes), (9, 9 * BLOCK_BYTES as u64));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_run_without_time_still_tells_the_first_call_from_the_others() {
        let (listener, address) = http_limit::listen().expect("an address");
        tokio::spawn(http_limit::serve(listener));
        let call = Work::Call {
            target: "/".to_owned(),
            requests: 1_000,
        };
        let mut hurried = job(address, call);
        (hurried.in_flight, hurried.millis_max) = (1, 0);
        let calls = perform(&hurried).await.expect("calls");
        assert_eq!(calls.requests, CALLS_MIN);
        assert!(calls.first_ms > 0.0 && calls.p50_ms > 0.0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_refusal_ends_the_run() {
        let (listener, address) = http_limit::listen().expect("an address");
        tokio::spawn(http_limit::serve(listener));
        let call = Work::Put {
            snapshot: "snap-1".to_owned(),
            content: Content::Zero,
            index_step: u32::MAX,
            requests: 3,
            then: Then::End,
        };
        assert!(
            perform(&job(address, call)).await.is_err(),
            "beyond the volume"
        );
        let malformed = perform(&job(address, put(1, "a b"))).await;
        let error = malformed.expect_err("no valid request");
        assert!(format!("{error:#}").contains("400"), "{error:#}");
    }
}
