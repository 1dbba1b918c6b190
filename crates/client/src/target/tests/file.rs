//! Names, modes, locks and lengths of files.

use super::{BLOCK, blocks, index, open, read, unfit, write, zero};
use crate::Error;
use crate::source::disk::{Disk, DiskKind};
use crate::target::writer::{Unwritten, Writer};
use crate::target::{Before, Target, TargetPath, base};
use rustix::fs::OFlags;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use types::BLOCK_BYTES;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// A directory and the target in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    (dir, path)
}

#[test]
fn what_was_there_stays_until_all_is_written() {
    let (dir, path) = place();
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let target = open(&path, 3 * BLOCK, Before::Nothing).unwrap();
    write(&target, 1, 7).unwrap();
    assert_eq!(names(dir.path()), [".disk.drystone-part", "disk"]);
    assert_eq!(mode(&dir.path().join(".disk.drystone-part")), 0o600);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    target.finish().unwrap();
    assert_eq!(names(dir.path()), ["disk"]);
    assert!(fs::read(&path).unwrap() == blocks(&[0, 7, 0]));
    assert_eq!(mode(&path), 0o640);
    let used = fs::metadata(&path).unwrap().blocks() * 512;
    assert!(
        used < 2 * BLOCK,
        "{used} bytes are used for one block of data"
    );
}

#[test]
fn a_new_file_is_its_owners_alone() {
    let (_dir, path) = place();
    open(&path, 100, Before::Nothing).unwrap().finish().unwrap();
    assert_eq!(
        (mode(&path), fs::read(&path).unwrap()),
        (0o600, vec![0; 100])
    );
}

#[test]
fn the_owner_of_what_is_replaced_stays_where_that_is_allowed() {
    let (_dir, path) = place();
    fs::write(&path, "old").unwrap();
    if std::os::unix::fs::chown(&path, Some(12), Some(34)).is_err() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    open(&path, 100, Before::Nothing).unwrap().finish().unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.uid(), found.gid()), (12, 34));
}

#[test]
fn what_is_given_up_is_removed_or_kept() {
    let (dir, path) = place();
    let target = open(&path, 2 * BLOCK, Before::Nothing).unwrap();
    write(&target, 0, 1).unwrap();
    target.abandon(false);
    assert_eq!(names(dir.path()), [""; 0]);
    unfit(
        open(&path, 2 * BLOCK, Before::Partial),
        "is not there, so there is nothing to resume",
    );
    assert_eq!(names(dir.path()), [""; 0]);

    let target = open(&path, 2 * BLOCK, Before::Nothing).unwrap();
    write(&target, 0, 1).unwrap();
    target.abandon(true);
    assert_eq!(names(dir.path()), [".disk.drystone-part"]);
    let target = open(&path, 2 * BLOCK, Before::Partial).unwrap();
    assert!(read(&target, 0).iter().all(|byte| *byte == 1));
    write(&target, 1, 2).unwrap();
    target.finish().unwrap();
    assert!(fs::read(&path).unwrap() == blocks(&[1, 2]));

    open(&path, BLOCK, Before::Nothing).unwrap().abandon(true);
    // Whoever begins anew takes the place of what was left.
    let target = open(&path, 2 * BLOCK, Before::Nothing).unwrap();
    target.finish().unwrap();
    assert!(fs::read(&path).unwrap() == blocks(&[0, 0]));
    assert_eq!(names(dir.path()), ["disk"]);
}

#[test]
fn two_do_not_write_the_same_file() {
    let (_dir, path) = place();
    let first = open(&path, BLOCK, Before::Nothing).unwrap();
    let refused = "disk.drystone-part is being written by another download";
    unfit(open(&path, BLOCK, Before::Nothing), refused);
    unfit(open(&path, BLOCK, Before::Partial), refused);
    write(&first, 0, 9).unwrap();
    first.finish().unwrap();
    let first = open(&path, BLOCK, Before::Base(path.clone())).unwrap();
    let second = open(&path, BLOCK, Before::Base(path.clone()));
    unfit(second, "disk is being written by another download");
    drop(first);
    open(&path, BLOCK, Before::Base(path.clone())).unwrap();
}

#[test]
fn what_took_the_hidden_name_is_left_alone() {
    let (dir, path) = place();
    let hidden = dir.path().join(".disk.drystone-part");
    let first = open(&path, BLOCK, Before::Nothing).unwrap();
    write(&first, 0, 1).unwrap();
    fs::remove_file(&hidden).unwrap();
    let second = open(&path, BLOCK, Before::Nothing).unwrap();
    unfit(first.finish(), "was removed or replaced by somebody else");
    assert_eq!(names(dir.path()), [".disk.drystone-part"]);

    fs::remove_file(&hidden).unwrap();
    let third = open(&path, BLOCK, Before::Nothing).unwrap();
    second.abandon(false);
    write(&third, 0, 3).unwrap();
    third.finish().unwrap();
    assert!(fs::read(&path).unwrap() == blocks(&[3]));
}

#[test]
fn names_are_followed_and_may_be_long() {
    let (dir, path) = place();
    let link = dir.path().join("link");
    symlink("disk", &link).unwrap();
    let missing = open(&link, BLOCK, Before::Nothing);
    assert!(matches!(missing, Err(Error::Io { what, .. }) if what.contains("cannot be followed")));
    fs::write(&path, "old").unwrap();
    open(&link, 10, Before::Nothing).unwrap().finish().unwrap();
    assert_eq!(names(dir.path()), ["disk", "link"]);
    assert!(link.is_symlink());
    assert_eq!(fs::read(&path).unwrap(), [0; 10]);

    let long = dir.path().join("n".repeat(255));
    let target = open(&long, 10, Before::Nothing).unwrap();
    target.abandon(true);
    let other = dir.path().join("n".repeat(254));
    unfit(open(&other, 10, Before::Partial), "is not there");
    open(&long, 10, Before::Partial).unwrap().finish().unwrap();
    assert_eq!(fs::read(&long).unwrap(), [0; 10]);
}

#[test]
fn a_planted_file_is_not_written() {
    let (dir, path) = place();
    let hidden = dir.path().join(".disk.drystone-part");
    symlink("elsewhere", &hidden).unwrap();
    let refused = open(&path, BLOCK, Before::Nothing);
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    fs::remove_file(&hidden).unwrap();
    fs::write(dir.path().join("other"), "precious").unwrap();
    fs::hard_link(dir.path().join("other"), &hidden).unwrap();
    unfit(
        open(&path, BLOCK, Before::Partial),
        "is not a file of this user's",
    );
    fs::remove_file(&hidden).unwrap();
    fs::write(&hidden, "left").unwrap();
    if std::os::unix::fs::chown(&hidden, Some(12), None).is_ok() {
        unfit(
            open(&path, BLOCK, Before::Partial),
            "is not a file of this user's",
        );
    }
}

#[test]
fn data_past_the_end_is_unfit() {
    let (_dir, path) = place();
    let target = open(&path, BLOCK + 100, Before::Nothing).unwrap();
    write(&target, 0, 1).unwrap();
    let mut data = vec![0; BLOCK_BYTES];
    data[99] = 1;
    target.write_block(index(1), &data).unwrap();
    data[100] = 1;
    let refused = target.write_block(index(1), &data);
    unfit(refused, "block 1 has data past the end of");
    unfit(write(&target, 2, 1), "block 2 has data past the end of");
    write(&target, 2, 0).unwrap();
    zero(&target, 2, 1000).unwrap();
    target.finish().unwrap();
    let found = fs::read(&path).unwrap();
    assert_eq!(
        (found.len() as u64, found[BLOCK_BYTES + 99]),
        (BLOCK + 100, 1)
    );
}

#[test]
fn no_more_is_written_than_the_volume() {
    let (dir, path) = place();
    let mut options = super::options(1 << 30, Before::Nothing);
    options.bytes = Some((1 << 30) + 1);
    let refused = Target::open(&TargetPath::Path(path), &options);
    unfit(
        refused,
        "1073741825 bytes are to be written and the volume has 1073741824",
    );
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_longer_base_may_only_end_in_zeros() {
    let (dir, path) = place();
    let base = dir.path().join("base");
    let mut content = blocks(&[1, 2, 0, 0]);
    fs::write(&base, &content).unwrap();
    for bytes in [2 * BLOCK, 3 * BLOCK + 7] {
        let target = open(&path, bytes, Before::Base(base.clone())).unwrap();
        target.finish().unwrap();
        assert!(fs::read(&path).unwrap() == content[..bytes as usize]);
    }
    content[3 * BLOCK_BYTES + 7] = 1;
    fs::write(&base, &content).unwrap();
    let refused = open(&path, 3 * BLOCK + 7, Before::Base(base.clone()));
    unfit(
        refused,
        "has data past the 1572871 bytes that are to be written: block 3",
    );
    // In place nothing may be cut off before that is known.
    let refused = open(&base, 2 * BLOCK, Before::Base(base.clone()));
    unfit(refused, "has data past the");
    assert!(fs::read(&base).unwrap() == content);
    assert_eq!(names(dir.path()), ["base", "disk"]);
}

#[test]
fn a_base_keeps_its_holes() {
    let (dir, path) = place();
    let base = dir.path().join("base");
    let file = File::create(&base).unwrap();
    file.set_len(1000 * BLOCK).unwrap();
    file.write_all_at(&blocks(&[1, 0, 3]), 500 * BLOCK).unwrap();
    drop(file);
    let target = open(&path, 1001 * BLOCK, Before::Base(base)).unwrap();
    write(&target, 7, 4).unwrap();
    target.finish().unwrap();
    let found = File::open(&path).unwrap();
    let used = found.metadata().unwrap().blocks() * 512;
    assert!(used < 5 * BLOCK, "{used} bytes are used");
    let mut part = vec![0; 3 * BLOCK_BYTES];
    found.read_exact_at(&mut part, 500 * BLOCK).unwrap();
    assert!(part == blocks(&[1, 0, 3]));
    let missing = open(&path, BLOCK, Before::Base(dir.path().join("missing")));
    assert!(matches!(missing, Err(Error::Io { .. })));
}

#[test]
fn zeros_of_a_base_become_holes() {
    let (_dir, path) = place();
    let base = path.with_file_name("base");
    fs::write(&base, blocks(&[1, 0, 0, 0, 5, 0])).unwrap();
    let source = super::super::open_base(&base).unwrap();
    let file = File::create_new(&path).unwrap();
    file.set_len(6 * BLOCK).unwrap();
    let name = path.display().to_string();
    let disk = Disk::new(file.into(), DiskKind::File, name, 6 * BLOCK, OFlags::WRONLY);
    let writer = Writer::new(disk, Unwritten::Zeros);
    base::copy(&source, &writer, &AtomicBool::new(false)).unwrap();
    assert!(fs::read(&path).unwrap() == blocks(&[1, 0, 0, 0, 5, 0]));
    let used = fs::metadata(&path).unwrap().blocks() * 512;
    assert!(used < 3 * BLOCK, "{used} bytes are used");
}

#[test]
fn a_copy_of_a_base_can_be_stopped() {
    let (dir, path) = place();
    let base = dir.path().join("base");
    fs::write(&base, blocks(&[1, 2])).unwrap();
    let stopped = AtomicBool::new(true);
    let options = super::options(2 * BLOCK, Before::Base(base));
    let refused = Target::open_unless(&TargetPath::Path(path), &options, &stopped);
    match refused {
        Err(Error::Interrupted) => assert_eq!(names(dir.path()), ["base"]),
        // Nothing was copied: the file system shares the data.
        Ok(target) => target.abandon(false),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_space_is_an_error_that_says_where() {
    let full = Path::new("/dev/full");
    let target = open(full, 1 << 30, Before::Nothing).unwrap();
    match write(&target, 0, 1) {
        Err(Error::Io { what, source }) => {
            assert_eq!(what, "/dev/full cannot be written at 0");
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn directories_are_unfit() {
    let (dir, _) = place();
    let refused = open(dir.path(), BLOCK, Before::Nothing);
    unfit(refused, "is neither a file nor a device nor a stream");
    let missing = open(&dir.path().join("missing/disk"), BLOCK, Before::Nothing);
    assert!(matches!(missing, Err(Error::Io { what, .. }) if what.contains("the directory")));
}
