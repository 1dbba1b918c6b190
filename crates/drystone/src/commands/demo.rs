//! `drystone demo`: the whole story on a throw-away server, with sizes and times: upload, change, upload what changed, diff, restore,
//! compare, delete.
//!
//! ```text
//! demo/image.rs   the image: made, or copied from one that exists; changed; compared
//! demo/story.rs   the steps
//! demo/table.rs   what they took
//! ```
//!
//! The server is this program in a process of its own, on a directory of its own. Both are gone at the end, also of one by Ctrl-C
//! or failure; the server dies with this process even when that is killed. The steps use the client library, as commands do.

mod image;
mod story;
mod table;

use super::bench::processes::{Server, Stop};
use super::interrupt::Interrupt;
use super::{Interrupted, print_json};
use anyhow::{Context, ensure};
use clap::Args;
use image::Image;
use std::path::{Path, PathBuf};
use story::{Story, StoryParts};
use table::Table;

/// Room on the disk, beside that for a copy of the image, the store and a restored image.
const SPARE_BYTES: u64 = 512 << 20;

/// Arguments of `drystone demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// A disk image to show it with; it is only read [default: one of 256 MiB is made]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,

    /// Where the demo may work: a directory is made there, and removed at the end [default: TMPDIR, or /tmp]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Print JSON at the end instead of a table (docs/client.md)
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen("the demo's server and files are removed", |text| {
        eprintln!("{text}");
    })?;
    let below = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let place = tempfile::Builder::new()
        .prefix("drystone-demo-")
        .tempdir_in(&below)
        .with_context(|| format!("no directory can be made in {}", below.display()))?;
    tokio::select! {
        told = tell(&args, place.path()) => told,
        () = interrupt.came() => Err(Interrupted.into()),
    }
}

async fn tell(args: &DemoArgs, place: &Path) -> anyhow::Result<()> {
    let image = Image::prepare(args.image.as_deref(), place.join("disk.img"), |bytes| {
        check_space(place, bytes)
    })
    .await?;
    // The kernel ends the server with the thread that started it: this one, which runs the command to its end.
    let stop = Stop::default();
    let data = place.join("data");
    let server = Server::start(&stop, &data, &place.join("log"))?;
    let mut table = Table::new(args.json);
    table.say(&format!(
        "A server on http://{}, in {}, gone at the end.",
        server.address(),
        place.display()
    ))?;
    table.say(&image.description())?;
    let story = Story::new(StoryParts {
        address: server.address(),
        data,
        credentials: server.credentials(),
        restored: place.join("restored.img"),
        image,
    })?;
    let told = story.tell(&mut table).await;
    drop(server);
    told?;
    if args.json {
        return print_json(&table);
    }
    table.say("\nEverything that was compared is equal.")
}

/// Refuses a disk on which the demo would end for want of room.
fn check_space(place: &Path, image_bytes: u64) -> anyhow::Result<()> {
    let system = rustix::fs::statvfs(place)
        .with_context(|| format!("{} cannot be asked for space", place.display()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let needed = image_bytes.saturating_mul(3).saturating_add(SPARE_BYTES);
    ensure!(
        free >= needed,
        "{} are free in {}, and the demo needs {}: name another directory with --dir",
        super::figures::bytes(free),
        place.display(),
        super::figures::bytes(needed)
    );
    Ok(())
}
