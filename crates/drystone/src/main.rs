//! Drystone: a self-hosted store for snapshots of block devices that speaks the EBS direct APIs.
//!
//! ```text
//! main.rs          command line and exit codes                  <- start here
//! settings.rs      what an operator decides
//! serve.rs         the server, put together; open.rs: what stands in a data directory
//! data_dir.rs      layout, lock and version of the data directory
//! first_start.rs   the first account and its credentials
//! http.rs          connections; http/: the wire, and answers to what is no HTTP
//! router.rs        from a request to the crate that answers it
//! schedule.rs      collection and scrub, by themselves
//! admin.rs         admin commands over DIR/admin.sock
//! metrics.rs       what /metrics shows
//! commands.rs      the other commands, one file each
//! ```
//!
//! Exit codes:
//!
//! ```text
//!   0  done
//!   1  refused or failed
//!   2  wrong arguments
//!   3  the catalog failed while serving: start again
//!   4  done, and data is lost or in danger (scrub, audit, gc, rescue; download --keep-going, verify)
//!   5  done, and what was compared differs (verify)
//! 130  interrupted by SIGINT or SIGTERM
//! ```

mod admin;
mod commands;
mod data_dir;
mod first_start;
mod http;
mod logging;
mod metrics;
mod open;
mod router;
mod schedule;
mod serve;
mod settings;

use clap::{Parser, Subcommand};
use commands::audit::AuditArgs;
use commands::bench::{BenchArgs, PartArgs};
use commands::copy::CopyArgs;
use commands::copy_catalog::CopyCatalogArgs;
use commands::demo::DemoArgs;
use commands::diff::DiffArgs;
use commands::download::DownloadArgs;
use commands::gc::GcArgs;
use commands::key::KeyArgs;
use commands::ls::LsArgs;
use commands::rescue::RescueArgs;
use commands::rm::RmArgs;
use commands::scrub::ScrubArgs;
use commands::show::ShowArgs;
use commands::tag::TagArgs;
use commands::upload::UploadArgs;
use commands::usage::UsageArgs;
use commands::verify::VerifyArgs;
use commands::wait::WaitArgs;
use commands::{DataInDanger, Differences, Interrupted, WrongArguments};
use rustix::fs::Mode;
use settings::Overrides;
use std::process::ExitCode;

/// Blocks of half a MiB come and go with every request: the system's allocator spends its time on page faults there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
const WRONG_ARGUMENTS: u8 = 2;
const CATALOG_FAILED: u8 = 3;
const DATA_IN_DANGER: u8 = 4;
const DIFFERENCES: u8 = 5;

#[derive(Debug, Parser)]
#[command(name = "drystone", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the EBS direct APIs, and the EC2 and STS calls that go with them
    Serve(Overrides),
    /// Make a snapshot of a disk: only what the server lacks is sent
    Upload(UploadArgs),
    /// Make a disk of a snapshot
    Download(DownloadArgs),
    /// Compare a disk with a snapshot
    Verify(VerifyArgs),
    /// Show where two snapshots differ
    Diff(DiffArgs),
    /// List snapshots
    Ls(LsArgs),
    /// Show all that is known of a snapshot
    Show(ShowArgs),
    /// Delete snapshots
    Rm(RmArgs),
    /// Wait until a snapshot is completed
    Wait(WaitArgs),
    /// Set and remove tags of a snapshot
    Tag(TagArgs),
    /// Move a snapshot from one server to another
    Copy(CopyArgs),
    /// Show it all on a throw-away server
    Demo(DemoArgs),
    /// Manage access keys, while the server runs or not
    Key(KeyArgs),
    /// Collect garbage now, while the server runs or not
    Gc(GcArgs),
    /// Show what each snapshot alone holds, and the store in all
    Usage(UsageArgs),
    /// Read and verify everything that is stored
    Scrub(ScrubArgs),
    /// Compare the catalog with what is stored; changes nothing
    Audit(AuditArgs),
    /// Copy the catalog for a later rescue, while the server runs or not
    CopyCatalog(CopyCatalogArgs),
    /// Make something of segments whose catalog is lost
    Rescue(RescueArgs),
    /// Measure this machine, and the server on it
    Bench(BenchArgs),
    /// A process that `bench` starts
    #[command(hide = true)]
    BenchPart(PartArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let serves = matches!(cli.command, Command::Serve(_));
    // Whatever this process makes is for its own user only.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit_code(&error);
            // Who interrupts a command was told what that does, but not which snapshot stays.
            if code != Interrupted::CODE || names_a_snapshot(&error) {
                report(&error, serves);
            }
            ExitCode::from(code)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<serve::CatalogFault>() {
        CATALOG_FAILED
    } else if error.is::<DataInDanger>() {
        DATA_IN_DANGER
    } else if error.is::<Differences>() {
        DIFFERENCES
    } else if error.is::<WrongArguments>() {
        WRONG_ARGUMENTS
    } else if error.is::<Interrupted>()
        || error.downcast_ref::<client::Error>().is_some_and(gave_up)
    {
        Interrupted::CODE
    } else {
        FAILED
    }
}

fn gave_up(error: &client::Error) -> bool {
    match error {
        client::Error::Interrupted => true,
        client::Error::AfterCompletion { source, .. } => gave_up(source),
        _ => false,
    }
}

fn names_a_snapshot(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<client::Error>();
    matches!(error, Some(client::Error::AfterCompletion { .. }))
}

/// Says what went wrong once: in the server's log where there is one, else in a line for people.
fn report(error: &anyhow::Error, serves: bool) {
    if serves && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error:#}");
    } else {
        match error.downcast_ref::<client::Error>() {
            Some(told) => eprintln!("drystone: {}", commands::advice::told(told)),
            None => eprintln!("drystone: {error:#}"),
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(overrides) => on_runtime(serve::run(overrides)),
        Command::Upload(args) => as_client(commands::upload::run(args)),
        Command::Download(args) => as_client(commands::download::run(args)),
        Command::Verify(args) => as_client(commands::verify::run(args)),
        Command::Diff(args) => as_client(commands::diff::run(args)),
        Command::Ls(args) => as_client(commands::ls::run(args)),
        Command::Show(args) => as_client(commands::show::run(args)),
        Command::Rm(args) => as_client(commands::rm::run(args)),
        Command::Wait(args) => as_client(commands::wait::run(args)),
        Command::Tag(args) => as_client(commands::tag::run(args)),
        Command::Copy(args) => as_client(commands::copy::run(args)),
        Command::Demo(args) => as_client(commands::demo::run(args)),
        Command::Key(args) => on_runtime(commands::key::run(args)),
        Command::Gc(args) => on_runtime(commands::gc::run(args)),
        Command::Usage(args) => on_runtime(commands::usage::run(args)),
        Command::Scrub(args) => on_runtime(commands::scrub::run(args)),
        Command::Audit(args) => on_runtime(commands::audit::run(args)),
        Command::CopyCatalog(args) => on_runtime(commands::copy_catalog::run(args)),
        Command::Rescue(args) => on_runtime(commands::rescue::run(args)),
        Command::Bench(args) => commands::bench::run(&args),
        Command::BenchPart(args) => commands::bench::run_part(args),
    }
}

/// For commands that speak to a server: what the client warns of is said.
fn as_client(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    logging::start_notes()?;
    on_runtime(work)
}

fn on_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // Whatever still runs is what a killed process would have been doing.
    runtime.shutdown_background();
    done
}
