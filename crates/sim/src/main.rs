//! Runs seeds: `sim --seeds N [--from S]`, or one of them aloud: `sim --seed S`.

use sim::plan::Verb;
use sim::{Failure, Told, run};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const USAGE: &str = "usage: sim --seeds N [--from SEED] [--threads N] | sim --seed SEED";

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    calls: u64,
    lives: u64,
    broken: u64,
    steps: u64,
    counts: BTreeMap<Verb, (u64, u64)>,
    failures: Vec<Failure>,
}

impl Sum {
    fn add(&mut self, told: Result<Told, Box<Failure>>) {
        self.seeds += 1;
        match told {
            Ok(told) => {
                self.calls += told.calls;
                self.lives += told.lives;
                self.broken += told.broken;
                self.steps += told.steps;
                for (verb, (called, well)) in told.counts {
                    let count = self.counts.entry(verb).or_default();
                    *count = (count.0 + called, count.1 + well);
                }
            }
            Err(failure) => {
                eprintln!("{failure}\n");
                self.failures.push(*failure);
            }
        }
    }

    fn print(&self) {
        let Sum {
            seeds,
            calls,
            lives,
            broken,
            steps,
            counts,
            failures,
        } = self;
        println!(
            "{seeds} seeds: {calls} calls, {lives} lives ({broken} broke), {steps} durable steps"
        );
        for (verb, (called, well)) in counts {
            println!("  {verb:?}: {called}, {well} of them well");
        }
        for failure in failures {
            println!("seed {} fails: {}", failure.seed, failure.wrong);
        }
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    if let Some(seed) = number("--seed") {
        return match run(seed, true) {
            Ok(told) => {
                println!("{told:?}");
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(seeds) = number("--seeds") else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let from = number("--from").unwrap_or_default();
    let threads = number("--threads").unwrap_or(2).max(1);
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(from);
    // Each seed runs on one thread; different seeds know nothing of each other.
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        break;
                    }
                    let told = run(seed, false);
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(told);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.print();
    if sum.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
