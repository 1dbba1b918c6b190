//! What a bench found, and what that means: ratios to the limits, and the goals.
//!
//! `benches/README.md` documents the JSON form, which is this file's types.

use super::job::Measured;
use super::machine::Machine;
use super::statistics::{mb_per_second, median};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that one run of the bench found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: &'static str,
    /// Time of each step, over all its rounds.
    pub seconds: f64,
    /// Rounds; figures are their medians.
    pub rounds: u32,
    /// The machine, alone.
    pub machine: Machine,
    /// What the machine could do at most.
    pub limits: Limits,
    /// What the product does.
    pub product: Product,
    /// The product to its limits, by name.
    pub ratios: BTreeMap<String, f64>,
    /// The goals that these figures are held to.
    pub goals: Vec<Goal>,
}

/// The limits.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Limits {
    /// The store's own pattern of writes, without a store.
    pub disk: Vec<DiskStep>,
    /// The HTTP server that hashes and discards.
    pub http_put: Vec<Step>,
    /// The HTTP server that sends from memory.
    pub http_get: Vec<Step>,
}

/// The product through HTTP, with signatures.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Product {
    /// Durable puts of blocks that the store does not have.
    pub put_unique: Vec<Step>,
    /// Puts of blocks that it has.
    pub put_duplicate: Vec<Step>,
    /// Puts of zeros.
    pub put_zero: Vec<Step>,
    /// Gets of blocks that are in the page cache.
    pub get_cached: Vec<Step>,
    /// Gets of blocks that are not.
    pub get_cold: Vec<Step>,
    /// ListSnapshotBlocks, 10,000 blocks.
    pub list: Call,
    /// ListChangedBlocks, 1,000 changes in a large map.
    pub diff: Call,
    /// From CompleteSnapshot to `completed` in DescribeSnapshots.
    pub complete: Vec<Completion>,
    /// From the start of the program to its first request, after `kill -9`, in milliseconds.
    pub start_after_kill_ms: f64,
    /// Memory of the server after all puts and gets, with up to 64 in flight.
    pub memory: Resident,
}

/// One workload with so many requests in flight; medians of the rounds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Step {
    /// Requests in flight.
    pub in_flight: usize,
    /// Block data moved, in 10^6 bytes a second.
    pub mb_s: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Processor time of the server for each 2^30 bytes.
    pub server_cpu_s_per_gib: f64,
    /// Processor time of the load generator likewise.
    pub load_cpu_s_per_gib: f64,
    /// Requests of all rounds.
    pub requests: u64,
    /// What each round reached.
    pub rounds_mb_s: Vec<f64>,
}

/// The disk alone, as it is written with so many puts in flight.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DiskStep {
    /// Puts in flight.
    pub in_flight: usize,
    /// Frames in each batch.
    pub batch_frames: u64,
    /// Block data written, in 10^6 bytes a second.
    pub mb_s: f64,
    /// What each round reached.
    pub rounds_mb_s: Vec<f64>,
}

/// One call, again and again, one at a time.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Call {
    /// Blocks in the answer.
    pub items: u64,
    /// Blocks in the map.
    pub map_blocks: u64,
    /// The first call of a fresh server, whose files are not in the page cache.
    pub cold_ms: f64,
    /// Median of the others.
    pub p50_ms: f64,
    /// Their 99th percentile.
    pub p99_ms: f64,
}

/// The completion of one snapshot.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Completion {
    /// What was completed.
    pub snapshot: &'static str,
    /// Blocks put into it.
    pub blocks: u64,
    /// Time until it was completed.
    pub ms: f64,
}

/// Memory of the server.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Resident {
    /// Resident now, in 2^20 bytes.
    pub resident_mib: f64,
    /// The most that ever was.
    pub peak_mib: f64,
}

/// A figure and what it is held to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Goal {
    /// The figure.
    pub name: String,
    /// What it is.
    pub value: f64,
    /// What it is to be.
    pub goal: f64,
    /// On which side.
    pub is: Side,
    /// Whether it is.
    pub met: bool,
}

/// On which side of a goal a figure is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The goal or more.
    AtLeast,
    /// The goal or less.
    AtMost,
}

/// The rounds of a step.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    mb_s: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    server_cpu: Vec<f64>,
    load_cpu: Vec<f64>,
    requests: u64,
}

impl Samples {
    /// Adds a round.
    pub fn add(&mut self, measured: &Measured, server_cpu_seconds: f64) {
        let gib = measured.bytes.max(1) as f64 / f64::from(1_u32 << 30);
        self.mb_s
            .push(mb_per_second(measured.bytes, measured.seconds));
        self.p50_ms.push(measured.p50_ms);
        self.p99_ms.push(measured.p99_ms);
        self.server_cpu.push(server_cpu_seconds / gib);
        self.load_cpu.push(measured.cpu_seconds / gib);
        self.requests += measured.requests;
    }

    /// Their medians.
    pub fn step(&self, in_flight: usize) -> Step {
        Step {
            in_flight,
            mb_s: rounded(median(&self.mb_s)),
            p50_ms: rounded(median(&self.p50_ms)),
            p99_ms: rounded(median(&self.p99_ms)),
            server_cpu_s_per_gib: rounded(median(&self.server_cpu)),
            load_cpu_s_per_gib: rounded(median(&self.load_cpu)),
            requests: self.requests,
            rounds_mb_s: self.mb_s.iter().copied().map(rounded).collect(),
        }
    }
}

/// Three decimals: more would claim what was not measured.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The product to its limits. The limit of a durable put is the smaller of disk and HTTP; that of a single put's latency
/// is one hash and two syncs, here the other way round: the smaller the better.
pub fn ratios(machine: &Machine, limits: &Limits, product: &Product) -> BTreeMap<String, f64> {
    let mut ratios = BTreeMap::new();
    for step in &product.put_unique {
        let disk = limits
            .disk
            .iter()
            .find(|disk| disk.in_flight == step.in_flight);
        let http = mb_s(&limits.http_put, step.in_flight);
        if let (Some(disk), Some(http)) = (disk, http) {
            add(&mut ratios, "durable_put", step, disk.mb_s.min(http));
        }
    }
    for (name, steps, limit) in [
        ("duplicate_put", &product.put_duplicate, &limits.http_put),
        ("get_cached", &product.get_cached, &limits.http_get),
    ] {
        for step in steps {
            if let Some(limit) = mb_s(limit, step.in_flight) {
                add(&mut ratios, name, step, limit);
            }
        }
    }
    let alone = machine.hash_block_ms + machine.sync_block_ms + machine.sync_4k_ms;
    if let Some(single) = product.put_unique.iter().find(|step| step.in_flight == 1) {
        ratios.insert("put_latency_1".to_owned(), rounded(single.p50_ms / alone));
    }
    ratios
}

fn mb_s(steps: &[Step], in_flight: usize) -> Option<f64> {
    let step = steps.iter().find(|step| step.in_flight == in_flight)?;
    Some(step.mb_s)
}

fn add(ratios: &mut BTreeMap<String, f64>, name: &str, step: &Step, limit: f64) {
    let name = format!("{name}_{}", step.in_flight);
    ratios.insert(name, rounded(step.mb_s / limit));
}

/// The figures that have a goal.
pub fn goals(ratios: &BTreeMap<String, f64>, product: &Product) -> Vec<Goal> {
    let of_ratios = [
        ("durable_put_16", Side::AtLeast, 0.8),
        ("durable_put_64", Side::AtLeast, 0.8),
        ("duplicate_put_16", Side::AtLeast, 0.9),
        ("get_cached_16", Side::AtLeast, 0.8),
        ("put_latency_1", Side::AtMost, 2.5),
    ];
    let of_ratios = of_ratios
        .into_iter()
        .filter_map(|(name, side, goal)| Some((name, *ratios.get(name)?, side, goal)));
    let absolute = [
        ("list_ms", product.list.p50_ms, Side::AtMost, 20.0),
        ("diff_ms", product.diff.p50_ms, Side::AtMost, 50.0),
        ("memory_mib", product.memory.peak_mib, Side::AtMost, 512.0),
    ];
    of_ratios
        .chain(absolute)
        .map(|(name, value, is, goal)| Goal {
            name: name.to_owned(),
            value,
            goal,
            is,
            met: match is {
                Side::AtLeast => value >= goal,
                Side::AtMost => value <= goal,
            },
        })
        .collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn step(in_flight: usize, mb_s: f64, p50_ms: f64) -> Step {
        Step {
            in_flight,
            mb_s,
            p50_ms,
            p99_ms: 10.0 * p50_ms,
            server_cpu_s_per_gib: 1.234,
            load_cpu_s_per_gib: 0.5,
            requests: 100,
            rounds_mb_s: vec![mb_s],
        }
    }

    /// A report of round numbers.
    pub fn report() -> Report {
        let machine = Machine {
            cores: 2,
            processor: "A processor with a name that is rather long, as they are 64-Core"
                .to_owned(),
            kernel: "6.1.0-18-cloud-amd64".to_owned(),
            direct_io: true,
            sha256_core_mb_s: 1500.0,
            sha256_all_cores_mb_s: 2900.0,
            hash_block_ms: 0.3,
            sync_block_ms: 0.5,
            sync_4k_ms: 0.2,
        };
        let disk = |in_flight, mb_s| DiskStep {
            in_flight,
            batch_frames: 8,
            mb_s,
            rounds_mb_s: vec![mb_s],
        };
        let limits = Limits {
            disk: vec![disk(1, 800.0), disk(16, 1000.0), disk(64, 3000.0)],
            http_put: vec![
                step(1, 500.0, 1.0),
                step(16, 1200.0, 5.0),
                step(64, 1250.0, 20.0),
            ],
            http_get: vec![step(16, 3000.0, 2.0)],
        };
        let product = Product {
            put_unique: vec![
                step(1, 200.0, 2.0),
                step(16, 900.0, 8.0),
                step(64, 750.0, 30.0),
            ],
            put_duplicate: vec![step(16, 1140.0, 6.0)],
            put_zero: vec![step(16, 2000.0, 3.0)],
            get_cached: vec![step(16, 1500.0, 4.0)],
            get_cold: vec![step(16, 700.0, 9.0)],
            list: Call {
                items: 10_000,
                map_blocks: 10_000,
                cold_ms: 30.0,
                p50_ms: 12.0,
                p99_ms: 15.0,
            },
            diff: Call {
                items: 1_000,
                map_blocks: 20_480,
                cold_ms: 90.0,
                p50_ms: 60.0,
                p99_ms: 70.0,
            },
            complete: vec![Completion {
                snapshot: "1,000 changes of a large map",
                blocks: 1_000,
                ms: 45.0,
            }],
            start_after_kill_ms: 80.0,
            memory: Resident {
                resident_mib: 200.0,
                peak_mib: 300.0,
            },
        };
        let ratios = ratios(&machine, &limits, &product);
        let goals = goals(&ratios, &product);
        Report {
            version: "0.0.0",
            seconds: 5.0,
            rounds: 3,
            machine,
            limits,
            product,
            ratios,
            goals,
        }
    }

    #[test]
    fn the_limit_of_a_durable_put_is_the_smaller_one() {
        let ratios = report().ratios;
        assert_eq!(ratios["durable_put_1"], 0.4, "HTTP is the limit");
        assert_eq!(ratios["durable_put_16"], 0.9, "the disk is the limit");
        assert_eq!(ratios["durable_put_64"], 0.6);
        assert_eq!(ratios["duplicate_put_16"], 0.95);
        assert_eq!(ratios["get_cached_16"], 0.5);
        assert_eq!(ratios["put_latency_1"], 2.0);
        assert_eq!(ratios.len(), 6);
    }

    #[test]
    fn goals_are_held_on_the_right_side() {
        let met: Vec<(String, bool)> = report()
            .goals
            .into_iter()
            .map(|goal| (goal.name, goal.met))
            .collect();
        let wanted = [
            ("durable_put_16", true),
            ("durable_put_64", false),
            ("duplicate_put_16", true),
            ("get_cached_16", false),
            ("put_latency_1", true),
            ("list_ms", true),
            ("diff_ms", false),
            ("memory_mib", true),
        ];
        assert_eq!(met, wanted.map(|(name, met)| (name.to_owned(), met)));
    }

    #[test]
    fn rounds_become_medians() {
        let mut samples = Samples::default();
        for (seconds, p50_ms) in [(2.0, 9.0), (1.0, 1.0), (4.0, 2.0)] {
            let measured = Measured {
                requests: 10,
                bytes: 1 << 30,
                seconds,
                p50_ms,
                cpu_seconds: 0.25,
                ..Measured::default()
            };
            samples.add(&measured, 0.5);
        }
        let step = samples.step(16);
        assert_eq!((step.in_flight, step.requests), (16, 30));
        assert_eq!((step.mb_s, step.p50_ms), (536.871, 2.0));
        assert_eq!(
            (step.server_cpu_s_per_gib, step.load_cpu_s_per_gib),
            (0.5, 0.25)
        );
        assert_eq!(step.rounds_mb_s, [536.871, 1073.742, 268.435]);
    }

    #[test]
    fn the_json_has_the_documented_shape() {
        let json = serde_json::to_value(report()).expect("it is JSON");
        for pointer in [
            "/ratios/durable_put_16",
            "/ratios/durable_put_64",
            "/ratios/duplicate_put_16",
            "/ratios/get_cached_16",
            "/ratios/put_latency_1",
            "/machine/sha256_core_mb_s",
            "/limits/disk/0/batch_frames",
            "/limits/http_put/0/rounds_mb_s/0",
            "/product/put_unique/0/server_cpu_s_per_gib",
            "/product/get_cold/0/p99_ms",
            "/product/list/cold_ms",
            "/product/complete/0/ms",
            "/product/memory/peak_mib",
            "/goals/0/value",
        ] {
            let value = json.pointer(pointer);
            assert!(value.is_some_and(serde_json::Value::is_number), "{pointer}");
        }
        assert_eq!(json["goals"][0]["is"], "at_least");
        assert_eq!(json["goals"][1]["met"], false);
    }
}
