//! `drystone bench`: measures the machine, and the server on it.
//!
//! ```text
//! bench                 this process: no work of its own while something is measured
//!  ├─ serve             the server under test: `drystone serve` on a fresh data directory
//!  ├─ http-limit        the same HTTP stack, without a store                             (http_limit.rs)
//!  └─ load              one for each run: prepared requests, latencies                   (load.rs)
//! ```
//!
//! Children are this program again (`drystone bench-part`, hidden). They ask the kernel to be killed when the bench dies.
//! Ctrl-C and SIGTERM kill them; whatever was under way then fails, and the directory is removed on the way out.

mod connection;
mod control;
mod http_limit;
mod job;
mod load;
mod machine;
mod place;
pub(super) mod processes;
mod report;
mod requests;
mod statistics;
mod steps;
mod table;
mod usage;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use place::Place;
use processes::{Stop, THIS_PROGRAM};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Longest step: signatures made before it must hold to its end, and they hold 5 minutes.
const SECONDS_MAX: f64 = 200.0;

/// Arguments of `drystone bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Time of each step, over all its rounds
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    seconds: f64,

    /// Times that the product and its limits take turns; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,

    /// Directory on the disk to measure: a fresh directory is made below it, and removed at the end [default: .]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Print JSON (benches/README.md)
    #[arg(long)]
    json: bool,
}

/// Arguments of the hidden `drystone bench-part`.
#[derive(Debug, Args)]
pub struct PartArgs {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Become `drystone serve`
    Serve {
        #[arg(long)]
        data: PathBuf,
    },
    /// Serve HTTP without a store
    HttpLimit,
    /// Send the requests of the job on standard input
    Load,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    ensure!(
        (0.1..=SECONDS_MAX).contains(&args.seconds),
        "--seconds is {}: use 0.1 to {SECONDS_MAX}",
        args.seconds
    );
    ensure!(
        (1..=100).contains(&args.rounds),
        "--rounds is {}: use 1 to 100",
        args.rounds
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let stop = Stop::default();
    stop_on_signals(&runtime, &stop)?;
    let below = args.data.clone().unwrap_or_else(|| PathBuf::from("."));
    let place = Place::make(&below)?;
    place.check_space()?;
    let measured = steps::measure(args, &place, &stop, runtime.handle());
    drop(place);
    // A child that was killed fails in a way of its own: what matters is why.
    stop.check()?;
    let report = measured?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => table::table(&report),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("the report cannot be printed")
}

fn stop_on_signals(runtime: &tokio::runtime::Runtime, stop: &Stop) -> anyhow::Result<()> {
    let _entered = runtime.enter();
    let failed = "signals cannot be heard";
    let mut interrupt = signal(SignalKind::interrupt()).context(failed)?;
    let mut terminate = signal(SignalKind::terminate()).context(failed)?;
    let stop = stop.clone();
    runtime.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.stop();
    });
    Ok(())
}

/// Runs a part of a bench, in a process that the bench started.
pub fn run_part(args: PartArgs) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("the end of the bench cannot be heard")?;
    match args.part {
        Part::Serve { data } => {
            // Another image of the same process: the kernel keeps what it was asked for.
            let error = Command::new(THIS_PROGRAM)
                .args([
                    "serve",
                    "--listen",
                    "127.0.0.1:0",
                    "--log",
                    "warn",
                    "--data",
                ])
                .arg(data)
                .exec();
            Err(error).context("the server cannot be started")
        }
        Part::HttpLimit => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(http_limit::run())
        }
        Part::Load => load::run(),
    }
}
