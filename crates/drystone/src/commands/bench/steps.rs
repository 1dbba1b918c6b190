//! The steps of a bench, in order.
//!
//! ```text
//! machine    SHA-256
//! scene      a snapshot of some unique blocks: it warms the server, is read later, and is what duplicates repeat
//! puts       for 1, 4, 16, 64 in flight, in rounds: disk, HTTP limit, unique, duplicate, zeros
//! gets       likewise: HTTP limit, from the page cache, and with the page cache dropped
//! maps       10,000 blocks, and 64 TiB with scattered blocks and a child: complete, restart, list, diff
//! ```
//!
//! The rounds of limit and product take turns, because a machine does not stay the same for minutes. Every run has its own
//! snapshot and, where blocks are to be new, bytes of its own.

use super::BenchArgs;
use super::control::Control;
use super::job::{Job, Measured, Then, Work};
use super::machine::{self, Alone, Disk, FRAME_BYTES, Machine};
use super::place::Place;
use super::processes::{Limit, Server, Stop, load};
use super::report::{
    self, Call, Completion, DiskStep, Limits, Product, Report, Resident, Samples, rounded,
};
use super::requests::{Content, Key};
use super::statistics::{median, millis};
use super::usage;
use crate::open;
use anyhow::ensure;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Handle;
use types::limits::LIST_RESULTS_MAX;
use types::{Random, VolumeSize};

/// Requests in flight.
const IN_FLIGHT: [usize; 4] = [1, 4, 16, 64];

/// Blocks of the snapshot that is read: 512 MiB, more than any processor's cache.
const READ_BLOCKS: u64 = 1024;

/// Requests that a limit server is sent again and again.
const REPEATED: u64 = 256;

/// Requests prepared for one run at most: about 60 MB.
const PREPARED_MAX: u64 = 60_000;

/// Blocks of the large map, scattered evenly over 64 TiB.
const MAP_BLOCKS: u64 = 20_480;

/// The distance between two of them.
const MAP_STEP: u32 = 6_553;

/// Blocks that its child changes, one in twenty.
const CHANGES: u64 = 1_000;

/// How long a scene may take to be set, whatever `--seconds` says; signatures last 5 minutes.
const SCENE_TIME_MAX: Duration = Duration::from_secs(240);

/// An id that no server gave.
const NO_SNAPSHOT: &str = "snap-00000000000000000";

/// A bench under way.
struct Bench<'a> {
    stop: &'a Stop,
    runtime: &'a Handle,
    place: &'a Place,
    rounds: u32,
    /// Of one run: the time of a step, shared by its rounds.
    run_time: Duration,
    /// New blocks of one run at most, so that the disk holds all of them.
    unique_max: u64,
    random: Random,
    limit: Limit,
    server: Server,
    key: Key,
}

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Limit,
    Product,
}

/// The snapshot that gets read and that duplicates repeat.
struct Source {
    snapshot: String,
    content: Content,
    blocks: u64,
}

/// Measures everything.
pub fn measure(
    args: &BenchArgs,
    place: &Place,
    stop: &Stop,
    runtime: &Handle,
) -> anyhow::Result<Report> {
    let rounds = args.rounds;
    let run_time = Duration::from_secs_f64(args.seconds) / rounds;
    say("the machine");
    let (sha256_core_mb_s, sha256_all_cores_mb_s) = machine::hashing(run_time.min(SHA_TIME_MAX))?;
    stop.check()?;
    let disk = Disk::open(&place.dir("disk")?, stop)?;
    let limit = Limit::start(stop)?;
    let server = Server::start(stop, &place.path("data"), &place.path("server.log"))?;
    let key = Key::read(&server.credentials())?;
    let runs = IN_FLIGHT.len() as u64 * u64::from(rounds);
    let bench = Bench {
        stop,
        runtime,
        place,
        rounds,
        run_time,
        unique_max: (place.budget_bytes()? / FRAME_BYTES / runs).max(1),
        random: Random::system(),
        limit,
        server,
        key,
    };

    let mut limits = Limits::default();
    let mut product = Product::default();
    let source = bench.source(&mut product)?;
    let alone = bench.puts(&disk, &source, &mut limits, &mut product)?;
    bench.gets(&source, &mut limits, &mut product)?;
    product.memory = memory_of(bench.server.pid())?;
    bench.maps(&source, &mut product)?;

    let machine = Machine {
        cores: open::cores(),
        processor: machine::processor(),
        kernel: machine::kernel(),
        direct_io: disk.is_direct(),
        sha256_core_mb_s: rounded(sha256_core_mb_s),
        sha256_all_cores_mb_s: rounded(sha256_all_cores_mb_s),
        hash_block_ms: rounded(alone.hash_ms),
        sync_block_ms: rounded(alone.sync_block_ms),
        sync_4k_ms: rounded(alone.sync_4k_ms),
    };
    let ratios = report::ratios(&machine, &limits, &product);
    let goals = report::goals(&ratios, &product);
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        seconds: args.seconds,
        rounds,
        machine,
        limits,
        product,
        ratios,
        goals,
    })
}

/// The rate of hashing does not need more.
const SHA_TIME_MAX: Duration = Duration::from_secs(1);

impl Bench<'_> {
    fn control(&self) -> Control<'_> {
        Control {
            runtime: self.runtime,
            key: &self.key,
            address: self.server.address(),
        }
    }

    fn address(&self, target: Target) -> SocketAddr {
        match target {
            Target::Limit => self.limit.address(),
            Target::Product => self.server.address(),
        }
    }

    /// Runs a load against a target; answers also the target's processor time meanwhile.
    fn run(
        &self,
        target: Target,
        in_flight: usize,
        time: Duration,
        work: Work,
    ) -> anyhow::Result<(Measured, f64)> {
        self.stop.check()?;
        let pid = match target {
            Target::Limit => self.limit.pid(),
            Target::Product => self.server.pid(),
        };
        let job = Job {
            address: self.address(target),
            key: self.key.clone(),
            in_flight,
            millis_max: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            work,
        };
        let before = usage::cpu_seconds(pid)?;
        let measured = load(self.stop, &job)?;
        Ok((measured, usage::cpu_seconds(pid)? - before))
    }

    /// Puts into a new snapshot of the product, each request once.
    fn put(
        &self,
        in_flight: usize,
        content: Content,
        requests: u64,
    ) -> anyhow::Result<(Measured, f64)> {
        let snapshot = self.control().start(VolumeSize::GIB_MAX, None)?;
        let work = Work::Put {
            snapshot,
            content,
            index_step: 1,
            requests,
            then: Then::End,
        };
        self.run(Target::Product, in_flight, self.run_time, work)
    }

    fn put_to_limit(&self, in_flight: usize) -> anyhow::Result<(Measured, f64)> {
        let work = Work::Put {
            snapshot: NO_SNAPSHOT.to_owned(),
            content: self.unique(REPEATED),
            index_step: 1,
            requests: REPEATED,
            then: Then::Repeat,
        };
        self.run(Target::Limit, in_flight, self.run_time, work)
    }

    /// Blocks that nobody has.
    fn unique(&self, count: u64) -> Content {
        Content::Stamped {
            seed: self.random.bits(),
            first: 0,
            count,
        }
    }

    /// Fills a snapshot before anything is measured; answers its id.
    fn scene(
        &self,
        parent: Option<&str>,
        content: Content,
        index_step: u32,
        blocks: u64,
    ) -> anyhow::Result<String> {
        let snapshot = self.control().start(VolumeSize::GIB_MAX, parent)?;
        let work = Work::Put {
            snapshot: snapshot.clone(),
            content,
            index_step,
            requests: blocks,
            then: Then::End,
        };
        let (measured, _) = self.run(Target::Product, 16, SCENE_TIME_MAX, work)?;
        ensure!(
            measured.requests == blocks,
            "only {} of {blocks} blocks could be put in {} s",
            measured.requests,
            SCENE_TIME_MAX.as_secs()
        );
        Ok(snapshot)
    }

    fn source(&self, product: &mut Product) -> anyhow::Result<Source> {
        say("a snapshot of unique blocks");
        let blocks = READ_BLOCKS;
        let content = self.unique(blocks);
        let snapshot = self.scene(None, content, 1, blocks)?;
        self.complete(product, "1,024 unique blocks", &snapshot, blocks)?;
        Ok(Source {
            snapshot,
            content,
            blocks,
        })
    }

    fn complete(
        &self,
        product: &mut Product,
        what: &'static str,
        snapshot: &str,
        blocks: u64,
    ) -> anyhow::Result<()> {
        let took = self.control().complete(snapshot, blocks)?;
        product.complete.push(Completion {
            snapshot: what,
            blocks,
            ms: rounded(millis(took)),
        });
        Ok(())
    }

    fn puts(
        &self,
        disk: &Disk,
        source: &Source,
        limits: &mut Limits,
        product: &mut Product,
    ) -> anyhow::Result<Alone> {
        let mut alone = Vec::new();
        for in_flight in IN_FLIGHT {
            let (mut raw, mut http) = (Vec::new(), Samples::default());
            let mut unique = Samples::default();
            let mut duplicate = Samples::default();
            let mut zero = Samples::default();
            for round in 1..=self.rounds {
                say(&format!("puts, {in_flight} in flight, round {round}"));
                if in_flight == 1 {
                    alone.push(Alone::measure(disk, self.run_time)?);
                }
                raw.push(disk.pattern(in_flight, self.run_time)?);
                let (measured, cpu) = self.put_to_limit(in_flight)?;
                http.add(&measured, cpu);
                // As many as the limit would manage, and some more.
                let rate = measured.requests as f64 / measured.seconds.max(1e-3);
                let enough = |times: f64| {
                    let requests = rate * times * self.run_time.as_secs_f64();
                    (requests.ceil() as u64 + in_flight as u64).min(PREPARED_MAX)
                };
                let count = enough(1.25).min(self.unique_max);
                let (measured, cpu) = self.put(in_flight, self.unique(count), count)?;
                unique.add(&measured, cpu);
                let (measured, cpu) = self.put(in_flight, source.content, enough(1.5))?;
                duplicate.add(&measured, cpu);
                // Zeros are not hashed.
                let (measured, cpu) = self.put(in_flight, Content::Zero, enough(4.0))?;
                zero.add(&measured, cpu);
            }
            limits.disk.push(DiskStep {
                in_flight,
                batch_frames: machine::batch_frames(in_flight),
                mb_s: rounded(median(&raw)),
                rounds_mb_s: raw.into_iter().map(rounded).collect(),
            });
            limits.http_put.push(http.step(in_flight));
            product.put_unique.push(unique.step(in_flight));
            product.put_duplicate.push(duplicate.step(in_flight));
            product.put_zero.push(zero.step(in_flight));
        }
        let middle = |figure: fn(&Alone) -> f64| {
            let figures: Vec<f64> = alone.iter().map(figure).collect();
            median(&figures)
        };
        Ok(Alone {
            hash_ms: middle(|alone| alone.hash_ms),
            sync_block_ms: middle(|alone| alone.sync_block_ms),
            sync_4k_ms: middle(|alone| alone.sync_4k_ms),
        })
    }

    fn gets(
        &self,
        source: &Source,
        limits: &mut Limits,
        product: &mut Product,
    ) -> anyhow::Result<()> {
        let get = |target, in_flight, then| {
            let work = Work::Get {
                snapshot: source.snapshot.clone(),
                listed_by: self.server.address(),
                then,
            };
            self.run(target, in_flight, self.run_time, work)
        };
        for in_flight in IN_FLIGHT {
            let mut http = Samples::default();
            let mut cached = Samples::default();
            let mut cold = Samples::default();
            for round in 1..=self.rounds {
                say(&format!("gets, {in_flight} in flight, round {round}"));
                let (measured, cpu) = get(Target::Limit, in_flight, Then::Repeat)?;
                http.add(&measured, cpu);
                self.server.drop_page_cache()?;
                let (measured, cpu) = get(Target::Product, in_flight, Then::End)?;
                cold.add(&measured, cpu);
                self.warm(source)?;
                let (measured, cpu) = get(Target::Product, in_flight, Then::Repeat)?;
                cached.add(&measured, cpu);
            }
            limits.http_get.push(http.step(in_flight));
            product.get_cached.push(cached.step(in_flight));
            product.get_cold.push(cold.step(in_flight));
        }
        Ok(())
    }

    /// Reads every block of the source once, so that the page cache has it.
    fn warm(&self, source: &Source) -> anyhow::Result<()> {
        let work = Work::Get {
            snapshot: source.snapshot.clone(),
            listed_by: self.server.address(),
            then: Then::End,
        };
        let (measured, _) = self.run(Target::Product, 16, SCENE_TIME_MAX, work)?;
        ensure!(
            measured.requests == source.blocks,
            "{} of {} blocks were listed",
            measured.requests,
            source.blocks
        );
        Ok(())
    }

    /// The large maps; the server is restarted for each round, so that its first call finds nothing cached.
    fn maps(mut self, source: &Source, product: &mut Product) -> anyhow::Result<()> {
        let listed = LIST_RESULTS_MAX as u64;
        say("a snapshot of 10,000 blocks");
        let dense = self.scene(None, Content::Zero, 1, listed)?;
        self.complete(product, "10,000 blocks", &dense, listed)?;
        say("a large map and a child of it");
        let large = self.scene(None, Content::Zero, MAP_STEP, MAP_BLOCKS)?;
        self.complete(
            product,
            "20,480 blocks scattered over 64 TiB",
            &large,
            MAP_BLOCKS,
        )?;
        let changes = (MAP_BLOCKS / CHANGES) as u32 * MAP_STEP;
        let child = self.scene(Some(&large), source.content, changes, CHANGES)?;
        self.complete(product, "1,000 changes in that", &child, CHANGES)?;

        let list = format!("/snapshots/{dense}/blocks?maxResults={LIST_RESULTS_MAX}");
        let diff = format!(
            "/snapshots/{child}/changedblocks?firstSnapshotId={large}&maxResults={LIST_RESULTS_MAX}"
        );
        let (mut lists, mut diffs, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            say(&format!("restart, list and diff, round {round}"));
            starts.push(self.restart()?);
            lists.push(self.call(&list, listed)?);
            diffs.push(self.call(&diff, CHANGES)?);
        }
        product.list = call_of(&lists, listed);
        product.diff = call_of(&diffs, MAP_BLOCKS);
        product.start_after_kill_ms = rounded(median(&starts));
        Ok(())
    }

    /// Kills the server and starts it again, with nothing of its files in the page cache; answers the time in milliseconds.
    fn restart(&mut self) -> anyhow::Result<f64> {
        self.server.kill();
        self.server.drop_page_cache()?;
        let (data, log) = (self.place.path("data"), self.place.path("server.log"));
        self.server = Server::start(self.stop, &data, &log)?;
        Ok(millis(self.server.started_in()))
    }

    fn call(&self, target: &str, items: u64) -> anyhow::Result<Measured> {
        let work = Work::Call {
            target: target.to_owned(),
            requests: PREPARED_MAX,
        };
        let (measured, _) = self.run(Target::Product, 1, self.run_time, work)?;
        ensure!(
            measured.items == items,
            "{target} answered {} blocks, not {items}",
            measured.items
        );
        Ok(measured)
    }
}

fn call_of(rounds: &[Measured], map_blocks: u64) -> Call {
    let middle = |figure: fn(&Measured) -> f64| {
        let figures: Vec<f64> = rounds.iter().map(figure).collect();
        rounded(median(&figures))
    };
    Call {
        items: rounds.first().map_or(0, |measured| measured.items),
        map_blocks,
        cold_ms: middle(|measured| measured.first_ms),
        p50_ms: middle(|measured| measured.p50_ms),
        p99_ms: middle(|measured| measured.p99_ms),
    }
}

fn memory_of(pid: u32) -> anyhow::Result<Resident> {
    let memory = usage::memory(pid)?;
    let mib = |bytes: u64| rounded(bytes as f64 / f64::from(1_u32 << 20));
    Ok(Resident {
        resident_mib: mib(memory.resident),
        peak_mib: mib(memory.peak),
    })
}

/// Progress, for people who wait; standard output is for the result.
fn say(what: &str) {
    eprintln!("drystone bench: {what}");
}
