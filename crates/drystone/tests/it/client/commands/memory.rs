//! Memory does not depend on the size of a disk: under 150 MiB for 64 TiB of holes, and for data beyond any cache.

use super::session::{Running, Session, sparse, write_block};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// What no transfer may need, in KiB.
const MOST: u64 = 150 * 1024;

/// Runs a command to its success, and answers the most memory that it ever had, in KiB. The high-water mark is read again and
/// again, since it is gone with the process: what is missed is the last two milliseconds.
fn peak(command: Command) -> u64 {
    let running = Running::start(command);
    let status = PathBuf::from(format!("/proc/{}/status", running.pid()));
    let (peak, ended) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let watcher = {
        let (peak, ended) = (Arc::clone(&peak), Arc::clone(&ended));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(high_water(&status).unwrap_or(0), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let done = running.end();
    ended.store(true, Ordering::Relaxed);
    watcher.join().expect("the watcher does not panic");
    assert_eq!(done.code, Some(0), "{done:?}");
    peak.load(Ordering::Relaxed)
}

fn high_water(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A directory whose file system takes files of 64 TiB; few do.
fn roomy() -> Option<TempDir> {
    [
        std::env::temp_dir().as_path(),
        Path::new("/dev/shm"),
        Path::new("/var/tmp"),
    ]
    .into_iter()
    .filter_map(|above| tempfile::tempdir_in(above).ok())
    .find(|directory| {
        let probe = File::create(directory.path().join("probe"));
        probe.and_then(|file| file.set_len(64 << 40)).is_ok()
    })
}

#[test]
fn sixty_four_tib_of_holes() {
    let Some(directory) = roomy() else {
        eprintln!("no file system here takes 64 TiB: nothing was tested");
        return;
    };
    let session = Session::new();
    let path = |name: &str| {
        let path = directory.path().join(name);
        path.to_str().expect("text").to_owned()
    };
    let (disk, back) = (path("disk"), path("back"));
    // Far apart, so that every page of the block map is another one.
    let data: Vec<u64> = (0..50).map(|nth| nth * 2_684_354 + nth % 7).collect();
    sparse(Path::new(&disk), 1 << 27, &data);
    let up = peak(session.command(&["upload", &disk, "--wait", "--digests", &path("digests")]));
    let id = session.json(&["ls"])["snapshots"][0]["snapshot_id"].take();
    let id = id.as_str().expect("an id");
    let down = peak(session.command(&["download", id, &back]));
    let verified = peak(session.command(&["verify", id, &back]));
    assert!(
        up.max(down).max(verified) < MOST,
        "{up}, {down}, {verified} KiB"
    );
    eprintln!("64 TiB of holes: up {up}, down {down}, verify {verified} KiB");
}

#[test]
fn more_data_than_memory_may_be_used() {
    let session = Session::new();
    let blocks = 1024;
    let disk = session.disk("disk", blocks, &[]);
    let file = File::options().write(true).open(disk).expect("there");
    // Several times what may be used.
    assert!(blocks * 512 > 3 * MOST);
    (0..blocks).for_each(|index| write_block(&file, index, index));
    let up = peak(session.command(&["upload", "disk", "--wait"]));
    let id = session.json(&["ls"])["snapshots"][0]["snapshot_id"].take();
    let id = id.as_str().expect("an id");
    let down = peak(session.command(&["download", id, "back"]));
    assert!(up.max(down) < MOST, "{up}, {down} KiB");
    eprintln!("data: up {up}, down {down} KiB");
}
