//! Block devices, as loop devices; needs root, and says so where it is not.

use super::{BLOCK, index, open, read, unfit, write, zero};
use crate::Error;
use crate::source::{Extent, Source, SourceOptions, SourcePath};
use crate::target::writer::{Unwritten, Writer};
use crate::target::zeroing::Way;
use crate::target::{Before, Target, device};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use types::BLOCK_BYTES;

/// A loop device on a file of 0xFF; released when dropped.
struct Loop {
    dir: tempfile::TempDir,
    device: PathBuf,
}

impl Loop {
    fn new(bytes: u64) -> Option<Loop> {
        Loop::with(bytes, &[])
    }

    fn with(bytes: u64, arguments: &[&str]) -> Option<Loop> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can make loop devices");
            return None;
        }
        if !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: there are no loop devices");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("backing"), vec![0xFF; bytes as usize]).unwrap();
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show"]).args(arguments);
        let device = run(losetup.arg(dir.path().join("backing")));
        Some(Loop {
            device: device.trim().into(),
            dir,
        })
    }

    fn content(&self) -> Vec<u8> {
        // A device of its own cache: what was not synced would be missing.
        fs::read(self.dir.path().join("backing")).unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run(Command::new("losetup").arg("--detach").arg(&self.device));
    }
}

/// A mounted file system; unmounted when dropped.
struct Mount<'a>(&'a Path);

impl Mount<'_> {
    fn new<'a>(device: &Path, at: &'a Path) -> Mount<'a> {
        run(Command::new("mount")
            .args(["-t", "ext4"])
            .arg(device)
            .arg(at));
        Mount(at)
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.0));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Blocks as bytes: block 0 is 1, 2 is half 2, all else zeros, and what lies behind is as it was.
fn check(device: &Loop, bytes: u64) {
    let found = device.content();
    for (at, byte) in found.iter().enumerate() {
        let expected = match at as u64 {
            at if at < BLOCK => 1,
            at if (2 * BLOCK..2 * BLOCK + 100).contains(&at) => 2,
            at if at < bytes => 0,
            _ => 0xFF,
        };
        assert_eq!(*byte, expected, "at {at}");
    }
}

fn restore(write_block: impl Fn(u32, &[u8]), zero: impl Fn(u32, u32)) {
    let mut data = vec![1; BLOCK_BYTES];
    zero(1, 1);
    write_block(0, &data);
    data.fill(0);
    data[..100].fill(2);
    write_block(2, &data);
    zero(3, 1000);
}

#[test]
fn a_used_device_holds_only_what_was_written() {
    for odd in [0, 1000, 4096 + 512] {
        let Some(device) = Loop::new(12 * BLOCK) else {
            return;
        };
        let bytes = 10 * BLOCK + odd;
        let target = open(&device.device, bytes, Before::Nothing).unwrap();
        assert!(!target.is_stream());
        restore(
            |at, data| target.write_block(index(at), data).unwrap(),
            |start, count| zero(&target, start, count).unwrap(),
        );
        assert!(read(&target, 5).iter().all(|byte| *byte == 0));
        target.finish().unwrap();
        check(&device, bytes);
    }
}

#[test]
fn every_way_to_zero_leaves_zeros() {
    let all: [&[Way]; 5] = [
        &[Way::Punch],
        &[Way::ZeroRange],
        &[Way::Write],
        &[Way::Lie, Way::Punch, Way::Write],
        &[Way::Lie, Way::Lie, Way::Write],
    ];
    for ways in all {
        let Some(device) = Loop::new(12 * BLOCK) else {
            return;
        };
        let bytes = 10 * BLOCK + 1000;
        let disk = device::open(&device.device, bytes).unwrap();
        let writer = Writer::new(disk, Unwritten::Anything).with_ways(ways);
        restore(
            |at, data| writer.write_block(index(at), data).unwrap(),
            |start, count| writer.zero(Extent { start, count }).unwrap(),
        );
        rustix::fs::fsync(writer.disk().file()).unwrap();
        drop(writer);
        check(&device, bytes);
    }
}

#[test]
fn a_device_that_only_lies_is_unfit() {
    let Some(device) = Loop::new(4 * BLOCK) else {
        return;
    };
    let disk = device::open(&device.device, 4 * BLOCK).unwrap();
    let writer = Writer::new(disk, Unwritten::Anything).with_ways(&[Way::Lie]);
    let zeroed = writer.zero(Extent { start: 0, count: 2 });
    unfit(zeroed, "does not read as zeros at 0");
}

#[test]
fn zeros_that_stood_there_before_prove_nothing() {
    let Some(device) = Loop::new(8 * BLOCK) else {
        return;
    };
    let target = open(&device.device, 8 * BLOCK, Before::Nothing).unwrap();
    zero(&target, 0, 2).unwrap();
    target.finish().unwrap();
    let disk = device::open(&device.device, 8 * BLOCK).unwrap();
    let writer = Writer::new(disk, Unwritten::Anything).with_ways(&[Way::Lie, Way::Punch]);
    for start in [0, 4] {
        writer.zero(Extent { start, count: 2 }).unwrap();
    }
    rustix::fs::fsync(writer.disk().file()).unwrap();
    drop(writer);
    let expected = super::blocks(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
    assert!(device.content() == expected);
}

#[test]
fn a_device_of_odd_length_is_written_and_read_to_its_end() {
    let bytes = 2 * BLOCK + 3 * 512;
    let Some(device) = Loop::new(bytes) else {
        return;
    };
    let target = open(&device.device, bytes, Before::Nothing).unwrap();
    zero(&target, 0, 2).unwrap();
    let mut data = vec![0; BLOCK_BYTES];
    data[..3 * 512].fill(3);
    target.write_block(index(2), &data).unwrap();
    target.finish().unwrap();
    let options = SourceOptions { map: None };
    let source = Source::open(&SourcePath::Path(device.device.clone()), &options).unwrap();
    assert_eq!(source.bytes(), Some(bytes));
    assert_eq!(
        source.next_data(0).unwrap(),
        Some(Extent { start: 0, count: 3 })
    );
    assert_eq!(
        source.next_data(2).unwrap(),
        Some(Extent { start: 2, count: 1 })
    );
    assert_eq!(source.next_data(3).unwrap(), None);
    let mut found = buffers::Aligned::zeroed(BLOCK_BYTES);
    source.read_block(index(2), found.as_mut_slice()).unwrap();
    assert!(found.as_slice() == data);
    source.read_block(index(1), found.as_mut_slice()).unwrap();
    assert!(found.as_slice().iter().all(|byte| *byte == 0));
    assert!(!source.was_modified().unwrap());
    let identity = source.identity();
    assert!(identity.starts_with("device /dev/loop"), "{identity}");
}

#[test]
fn a_device_that_is_too_small_is_unfit() {
    let Some(device) = Loop::new(2 * BLOCK) else {
        return;
    };
    let refused = open(&device.device, 2 * BLOCK + 1, Before::Nothing);
    unfit(
        refused,
        "it has 1048576 bytes and 1048577 are to be written",
    );
    assert!(device.content().iter().all(|byte| *byte == 0xFF));
}

#[test]
fn a_device_in_use_is_unfit() {
    let Some(device) = Loop::new(64 * BLOCK) else {
        return;
    };
    let first = open(&device.device, BLOCK, Before::Nothing).unwrap();
    unfit(open(&device.device, BLOCK, Before::Nothing), "is in use");
    drop(first);
    open(&device.device, BLOCK, Before::Nothing).unwrap();

    if Command::new("mkfs.ext4").arg("-V").output().is_err() {
        eprintln!("skipped: mkfs.ext4 is not installed");
        return;
    }
    run(Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&device.device));
    let at = device.dir.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let mount = Mount::new(&device.device, &at);
    let refused = open(&device.device, BLOCK, Before::Nothing);
    let full = fill(&at.join("disk"));
    drop(mount);
    unfit(refused, "is in use: it is mounted");
    match full {
        Err(Error::Io { what, source }) => {
            assert!(
                what.contains("mounted/disk cannot be written at "),
                "{what}"
            );
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
}

/// Writes a file until the file system is full.
fn fill(path: &Path) -> Result<(), Error> {
    let target = open(path, 1000 * BLOCK, Before::Nothing)?;
    let filled = (0..1000).try_for_each(|at| write(&target, at, 1));
    target.abandon(false);
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "only lost+found"
    );
    filled
}

#[test]
fn a_device_that_cannot_be_written_is_unfit() {
    let Some(device) = Loop::with(2 * BLOCK, &["--read-only"]) else {
        return;
    };
    unfit(open(&device.device, BLOCK, Before::Nothing), "is read-only");
}

#[test]
fn a_base_may_be_a_device_or_lie_on_one() {
    let Some(device) = Loop::new(4 * BLOCK) else {
        return;
    };
    // In place.
    let base = Before::Base(device.device.clone());
    let target = open(&device.device, 3 * BLOCK, base.clone()).unwrap();
    write(&target, 1, 1).unwrap();
    assert!(read(&target, 0).iter().all(|byte| *byte == 0xFF));
    target.finish().unwrap();
    assert!(device.content() == super::blocks(&[0xFF, 1, 0xFF, 0xFF]));

    // To a file: only as much as is written.
    let file = device.dir.path().join("file");
    let target = open(&file, 2 * BLOCK, base).unwrap();
    zero(&target, 0, 1).unwrap();
    target.finish().unwrap();
    assert!(fs::read(&file).unwrap() == super::blocks(&[0, 1]));

    // From a file that is shorter, with a hole: what it lacks is zeros.
    let sparse = File::options().write(true).open(&file).unwrap();
    sparse.set_len(BLOCK * 5 / 2).unwrap();
    let target = open(&device.device, 3 * BLOCK, Before::Base(file.clone())).unwrap();
    target.finish().unwrap();
    assert!(device.content() == super::blocks(&[0, 1, 0, 0xFF]));

    // What was left on a device is taken up.
    let target = open(&device.device, 3 * BLOCK, Before::Partial).unwrap();
    assert!(read(&target, 1).iter().all(|byte| *byte == 1));
    write(&target, 2, 2).unwrap();
    target.finish().unwrap();
    assert!(device.content() == super::blocks(&[0, 1, 2, 0xFF]));
}

#[test]
fn zeros_of_a_base_replace_what_stood_there() {
    let Some(device) = Loop::new(6 * BLOCK) else {
        return;
    };
    let file = device.dir.path().join("file");
    fs::write(&file, super::blocks(&[0, 5, 0, 6, 0])).unwrap();
    let target = open(&device.device, 5 * BLOCK, Before::Base(file)).unwrap();
    target.finish().unwrap();
    assert!(device.content() == super::blocks(&[0, 5, 0, 6, 0, 0xFF]));
}

#[test]
fn data_past_the_end_of_a_device_is_unfit() {
    let Some(device) = Loop::new(2 * BLOCK) else {
        return;
    };
    let target: Target = open(&device.device, BLOCK + 512, Before::Nothing).unwrap();
    unfit(
        write(&target, 1, 1),
        "block 1 has data past the end of /dev/loop",
    );
    unfit(
        write(&target, 2, 1),
        "block 2 has data past the end of /dev/loop",
    );
    target.finish().unwrap();
    assert!(device.content().iter().all(|byte| *byte == 0xFF));
}
