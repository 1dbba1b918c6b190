//! Every way of reading gives the same bytes.

use super::{Disk, DiskKind};
use proptest::prelude::proptest;
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::Ordering;
use types::{BLOCK_BYTES, BlockIndex};

/// Ways of reading, as kernels and file systems offer them.
#[derive(Clone, Copy, Debug)]
enum Way {
    WithoutTrace,
    Cached,
    Direct,
    DroppedBehind,
}

fn open(path: &Path, way: Way) -> Disk {
    let bytes = fs::metadata(path).unwrap().len();
    let file = File::open(path).unwrap().into();
    let name = path.display().to_string();
    let mut disk = Disk::new(file, DiskKind::File, name, bytes, OFlags::RDONLY);
    match way {
        Way::WithoutTrace => {}
        Way::Cached => disk.dont_cache.store(false, Ordering::Relaxed),
        Way::Direct | Way::DroppedBehind => {
            disk.dont_cache.store(false, Ordering::Relaxed);
            disk.direct_first = true;
        }
    }
    if matches!(way, Way::DroppedBehind) {
        disk.refuse_direct();
    }
    disk
}

fn check(bytes: usize) {
    // Not in memory, where all ways might be one.
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = dir.path().join("disk");
    let mut data: Vec<u8> = (0..bytes).map(|number| (number % 251) as u8).collect();
    fs::write(&path, &data).unwrap();
    let blocks = bytes / BLOCK_BYTES + 2;
    data.resize(blocks * BLOCK_BYTES, 0);
    for way in [
        Way::Direct,
        Way::WithoutTrace,
        Way::DroppedBehind,
        Way::Cached,
    ] {
        let disk = open(&path, way);
        let mut buffer = buffers::Aligned::zeroed(BLOCK_BYTES + 1);
        for shift in [0, 1] {
            for index in 0..blocks {
                let buffer = &mut buffer.as_mut_slice()[shift..BLOCK_BYTES + shift];
                buffer.fill(0xEE);
                disk.read_block(BlockIndex::new(index as u32).unwrap(), buffer)
                    .unwrap();
                let expected = &data[index * BLOCK_BYTES..][..BLOCK_BYTES];
                assert!(buffer == expected, "{way:?}: {index} of {bytes} bytes");
            }
        }
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(8))]

    #[test]
    fn all_ways_give_what_was_written(bytes in 0..3 * BLOCK_BYTES) {
        check(bytes);
    }
}

#[test]
fn all_ways_give_what_was_written_at_the_edges() {
    for bytes in [
        0,
        1,
        4_095,
        4_096,
        4_097,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
        BLOCK_BYTES + 1,
    ] {
        check(bytes);
    }
}

#[test]
fn what_was_not_in_the_page_cache_is_not_there_afterwards() {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, vec![1; 8 * BLOCK_BYTES]).unwrap();
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let Some(before) = resident(&path) else {
        eprintln!("skipped: fincore is not installed");
        return;
    };
    if before > 0 {
        eprintln!("skipped: this file system keeps {before} pages whatever it is advised");
        return;
    }
    let mut buffer = vec![0; BLOCK_BYTES];
    for way in [Way::Direct, Way::DroppedBehind, Way::WithoutTrace] {
        let disk = open(&path, way);
        for index in 0..8 {
            disk.read_block(BlockIndex::new(index).unwrap(), &mut buffer)
                .unwrap();
        }
        let traceless =
            disk.dont_cache.load(Ordering::Relaxed) || !matches!(way, Way::WithoutTrace);
        if traceless {
            assert_eq!(resident(&path), Some(0), "{way:?}");
        } else {
            eprintln!("skipped: this kernel or file system cannot read without a trace");
        }
    }
}

/// Pages of a file that are in memory.
fn resident(path: &Path) -> Option<u64> {
    let output = std::process::Command::new("fincore")
        .args(["--noheadings", "--output", "PAGES"])
        .arg(path)
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
