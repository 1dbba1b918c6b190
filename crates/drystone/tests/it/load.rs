//! Overload: more clients than places and buffers, a part of whom stand still wherever that is possible.
//!
//! Good clients must end with success, whatever the others do: they may be throttled, in words that SDKs retry, and find a
//! connection closed between two requests; nothing else. The server's memory stays within what is stated.

mod clients;
mod stalled;

use self::clients::{Block, Tally, Target, behave};
use self::stalled::{Stall, stall};
use crate::server::{Place, Server};
use crate::signed::Key;
use crate::snapshots::{Client, content};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use types::{Clock, SystemClock};

/// What the server states for its memory with the settings of `docs/drystone.toml` (docs/operations.md).
const RESIDENT_KIB_MAX: u64 = 512 << 10;

/// Nothing here takes longer, or the test has failed. A request alone is bounded by the attempts of a client.
const PATIENCE: Duration = Duration::from_secs(150);

/// Blocks that can be read.
const READABLE: u32 = 16;

/// Who comes.
#[derive(Clone, Copy)]
struct Crowd {
    good: u32,
    /// Of each kind of those who stand still.
    stalled: u32,
    kinds: &'static [Stall],
    /// Of each good client.
    requests: u32,
}

/// What came of it.
struct Outcome {
    tally: Tally,
    took: Duration,
    /// Connections on which a client stood still, and how many of them the server ended.
    stood_still: (usize, usize),
    metrics: String,
    resident_kib: u64,
}

/// Lets a crowd loose on a server.
fn rush(place: &Place, server: &Server, crowd: Crowd) -> Outcome {
    raise_file_limit();
    let client = Client::of(place, server);
    let completed = client.upload(0..READABLE);
    let target = Arc::new(Target {
        address: server.address,
        key: Key::of(place),
        pending: client.start(),
        tokens: client.blocks(&completed),
        contents: (0..READABLE).map(content).collect(),
        completed,
        blocks: Block::all(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let clock = SystemClock::new();
    let (tally, took, stood_still) = runtime.block_on(async {
        let (begun, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut standing = JoinSet::new();
        for number in 0..crowd.stalled {
            for kind in crowd.kinds.iter().copied() {
                let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
                standing.spawn(stall(Arc::clone(&target), kind, number, begun, ended));
            }
        }
        // They are there before the others come.
        while begun.load(Ordering::Relaxed) < standing.len() {
            tokio::task::yield_now().await;
        }
        let started = clock.monotonic();
        let mut good = JoinSet::new();
        for number in 0..crowd.good {
            good.spawn(behave(Arc::clone(&target), number, crowd.requests));
        }
        let mut tally = Tally::default();
        let all = async {
            while let Some(client) = good.join_next().await {
                tally.add(client.expect("a client does not panic"));
            }
        };
        timeout(PATIENCE, all)
            .await
            .expect("nobody is held up for ever");
        let took = clock.monotonic() - started;
        let counts = [&begun, &ended].map(|count| count.load(Ordering::Relaxed));
        (tally, took, (counts[0], counts[1]))
    });
    drop(runtime);
    Outcome {
        tally,
        took,
        stood_still,
        metrics: server.get("/metrics").text().to_owned(),
        resident_kib: most_resident_kib(server),
    }
}

impl Outcome {
    /// Every good request ended well.
    fn check(&self, crowd: Crowd) {
        let failures = &self.tally.failures;
        assert!(
            failures.is_empty(),
            "{} failed: {:#?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        let requests = (crowd.good * crowd.requests) as usize;
        assert_eq!(self.tally.took.len(), requests);
        println!("{}", self.summary());
    }

    fn summary(&self) -> String {
        let mut took = self.tally.took.clone();
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_millis();
        let (begun, ended) = self.stood_still;
        format!(
            "{} requests in {:.1} s ({:.0}/s), p50 {} ms, p99 {} ms, max {} ms; {} throttled, {} reconnected; {begun} stood still, \
             {ended} of them ended; {} MiB resident at most",
            took.len(),
            self.took.as_secs_f64(),
            took.len() as f64 / self.took.as_secs_f64(),
            at(50),
            at(99),
            at(100),
            self.tally.throttled,
            self.tally.reconnected,
            self.resident_kib >> 10
        )
    }

    /// The sum of all values of a metric.
    fn counted(&self, metric: &str) -> u64 {
        let lines = self.metrics.lines().filter(|line| line.starts_with(metric));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum()
    }
}

/// The most memory that the server has had, which the kernel counts.
fn most_resident_kib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let value = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    value.expect("a line").trim().parse().expect("a number")
}

/// A thousand sockets are more than the usual soft limit.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit it may be raised");
}

/// One client in ten stands still, all with the key of the others.
#[test]
fn a_thousand_connections_of_which_a_tenth_stand_still() {
    let place = Place::new();
    let server = place.serve(&[]);
    let crowd = Crowd {
        good: 900,
        stalled: 25,
        kinds: &Stall::ALL,
        requests: 4,
    };
    let outcome = rush(&place, &server, crowd);
    outcome.check(crowd);
    assert!(
        outcome.resident_kib <= RESIDENT_KIB_MAX,
        "{} KiB",
        outcome.resident_kib
    );
    let counted = outcome.counted("drystone_blocks_put_total");
    assert!(counted >= 1_800, "{counted} blocks were put");
}

/// Those who stand still would hold every buffer and all of the memory for answers, and some of the others find no place.
#[test]
fn few_places_and_more_who_stand_still_than_buffers() {
    let place = Place::new();
    fs::write(
        place.path().join("drystone.toml"),
        "[http]\nconnections_max = 96\n[store]\nbuffers = 8\n",
    )
    .expect("written");
    let server = place.serve(&["--config", "drystone.toml"]);
    let crowd = Crowd {
        good: 96,
        stalled: 12,
        kinds: &Stall::ALL,
        requests: 2,
    };
    let outcome = rush(&place, &server, crowd);
    outcome.check(crowd);
    let cut = outcome.counted("drystone_transfers_cut_total")
        + outcome.counted("drystone_connections_cut_total");
    assert!(cut > 0, "those who stood still had to go");
    let health = server.get("/healthz");
    assert_eq!(health.status, 200);
}

/// Figures for `benches/README.md`, when they are asked for with the number of requests of each client.
#[test]
fn figures_with_and_without_clients_that_stand_still() {
    #[allow(
        clippy::disallowed_methods,
        reason = "a run that takes minutes is asked for by whoever runs the tests"
    )]
    let asked = std::env::var("DRYSTONE_LOAD").ok();
    let Some(requests) = asked.and_then(|requests| requests.parse::<u32>().ok()) else {
        return;
    };
    let cases: [(&str, u32, &[Stall]); 4] = [
        ("nobody stands still", 0, &[]),
        ("25 of each kind", 25, &Stall::ALL),
        ("100 in the middle of a body", 100, &[Stall::Body]),
        ("100 that do not read", 100, &[Stall::Reading]),
    ];
    for good in [64, 900] {
        for (name, stalled, kinds) in cases {
            let place = Place::new();
            let server = place.serve(&[]);
            let crowd = Crowd {
                good,
                stalled,
                kinds,
                requests: requests * 900 / good,
            };
            println!("{good} clients, {name}:");
            rush(&place, &server, crowd).check(crowd);
        }
    }
}
