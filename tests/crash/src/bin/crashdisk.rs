//! Cuts the power under the server's disk at random points, and checks every time that what the server acknowledged before
//! the cut is there: the order of its syncs against real file systems.
//!
//! 1. A logging disk, a file system on it, the server on that, and a load, until the log is long enough. On one disk a flush
//!    for the catalog covers the segments too; so there is a second layout, in which the segments have a disk of their own.
//! 2. For each cut, in the order of the log: what is durable, and some of what is not, goes into a copy; that is mounted, the
//!    server is started on it, and `drystone_crash::check` compares it with the board as it was at the cut. Then garbage is
//!    collected, everything is read again, and audited.
//! 3. The same on a disk that acknowledges flushes and forgets most of them, where the check must find a loss: this program
//!    has to be able to fail.

use anyhow::{Context, bail};
use drystone_crash::cuts::Cutter;
use drystone_crash::dice::Dice;
use drystone_crash::log::Honesty;
use drystone_crash::machine::{self, Layout, Order};
use drystone_crash::place::{self, Kind};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: crashdisk --binary FILE --dir DIR [--cuts N] [--fs ext4,xfs] [--disks 1,2] [--log-mib N] \
                     [--seed N]";

/// On a lying disk: one flush in so many is carried out, and so many cuts must be enough to find a loss.
const LYING: Honesty = Honesty::OneIn(25);
const LYING_CUTS: usize = 12;

struct Arguments {
    binary: PathBuf,
    dir: PathBuf,
    cuts: usize,
    kinds: Vec<Kind>,
    layouts: Vec<Layout>,
    log_bytes: u64,
    seed: u64,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crashdisk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut found = Arguments {
        binary: PathBuf::new(),
        dir: PathBuf::new(),
        cuts: 20,
        kinds: vec![Kind::Ext4, Kind::Xfs],
        layouts: vec![Layout::OneDisk, Layout::TwoDisks],
        log_bytes: 128 << 20,
        seed: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().context(USAGE)?;
        match word.as_str() {
            "--binary" => found.binary = value.into(),
            "--dir" => found.dir = value.into(),
            "--cuts" => found.cuts = value.parse()?,
            "--fs" => {
                let kinds = value.split(',').map(Kind::named).collect::<Option<_>>();
                found.kinds = kinds.context(USAGE)?;
            }
            "--disks" => {
                let layouts = value.split(',').map(Layout::named).collect::<Option<_>>();
                found.layouts = layouts.context(USAGE)?;
            }
            "--log-mib" => found.log_bytes = value.parse::<u64>()? << 20,
            "--seed" => found.seed = value.parse()?,
            _ => bail!(USAGE),
        }
    }
    if found.binary.as_os_str().is_empty() || found.dir.as_os_str().is_empty() {
        bail!(USAGE);
    }
    Ok(found)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    println!("crashdisk: seed {}", arguments.seed);
    let fuse = match Path::new("/dev/fuse").exists() {
        true => None,
        false => Some("there is no /dev/fuse".to_owned()),
    };
    for kind in &arguments.kinds {
        let missing = place::missing().or(fuse.clone()).or(kind.missing());
        if let Some(missing) = missing {
            println!("{}: skipped, {missing}", kind.name());
            continue;
        }
        for layout in &arguments.layouts {
            let name = format!("{} on {}", kind.name(), layout.name());
            on(*kind, *layout, &name, arguments).with_context(|| name.clone())?;
        }
    }
    Ok(())
}

fn on(kind: Kind, layout: Layout, name: &str, arguments: &Arguments) -> anyhow::Result<()> {
    let dir = arguments.dir.join(name.replace(' ', "-"));
    fs::create_dir_all(&dir)?;
    let mut dice = Dice::new(arguments.seed);
    let order = Order {
        kind,
        layout,
        binary: arguments.binary.clone(),
        dir: dir.clone(),
        log_bytes: arguments.log_bytes,
    };
    let recorded = machine::record(&order, &mut dice)?;
    println!("{name}: {}", recorded.summary());
    let mut cutter = Cutter::new(&order, &recorded);
    if let Err(error) = cutter.cut(arguments.cuts, Honesty::Honest, &mut dice) {
        let kept = keep(&cutter, &order, arguments)?;
        return Err(error.context(format!("the disks and the log are in {}", kept.display())));
    }
    println!("{name}: {}", cutter.summary());
    match cutter.cut(LYING_CUTS, LYING, &mut dice) {
        Err(error) => {
            let text = format!("{error:#}");
            let mut lines = text.lines();
            // A server that does not start says why at the end of its log.
            let (first, last) = (lines.next().unwrap_or_default(), lines.next_back());
            let last = last.map(|line| format!(" … {line}")).unwrap_or_default();
            println!("{name}: a disk that forgets flushes is found out: {first}{last}");
        }
        Ok(()) => {
            bail!("{LYING_CUTS} cuts of a disk that forgets flushes, and no loss was found")
        }
    }
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Puts what shows a loss beside the folder of this run, which goes away.
fn keep(cutter: &Cutter<'_>, order: &Order, arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let folder = arguments.dir.with_extension("failed");
    fs::create_dir_all(&folder)?;
    for (disk, _) in order.layout.places().iter().enumerate() {
        fs::rename(cutter.image(disk), folder.join(format!("disk-{disk}")))?;
    }
    fs::rename(order.dir.join("log"), folder.join("log"))?;
    Ok(folder)
}
