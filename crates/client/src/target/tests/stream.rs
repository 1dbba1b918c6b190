//! What comes out of a stream is the whole disk, in order.

use super::{BLOCK, blocks, open, unfit, write, zero};
use crate::Error;
use crate::target::{Before, Target, TargetPath};
use rustix::fs::{CWD, FileType, Mode};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use types::BLOCK_BYTES;

fn fifo() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    (dir, path)
}

fn reader(path: &Path) -> JoinHandle<Vec<u8>> {
    let path = path.to_path_buf();
    std::thread::spawn(move || {
        let mut found = Vec::new();
        File::open(path).unwrap().read_to_end(&mut found).unwrap();
        found
    })
}

fn check(bytes: u64, expected: &[u8], steps: impl Fn(&Target) -> Result<(), Error>) {
    let (_dir, path) = fifo();
    let reader = reader(&path);
    let target = open(&path, bytes, Before::Nothing).unwrap();
    assert!(target.is_stream());
    steps(&target).unwrap();
    unfit(target.next_data(0), "cannot be read back");
    target.finish().unwrap();
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn holes_are_written_as_zeros_said_or_not() {
    let expected = blocks(&[0, 1, 0, 0, 2, 0]);
    check(6 * BLOCK, &expected, |target| {
        zero(target, 0, 1)?;
        write(target, 1, 1)?;
        zero(target, 2, 2)?;
        write(target, 4, 2)?;
        zero(target, 5, 1)
    });
    check(6 * BLOCK, &expected, |target| {
        write(target, 1, 1)?;
        write(target, 4, 2)
    });
    check(6 * BLOCK, &blocks(&[0; 6]), |_| Ok(()));
}

#[test]
fn the_end_may_lie_inside_a_block() {
    check(
        BLOCK + 100,
        &blocks(&[1, 2])[..BLOCK_BYTES + 100],
        |target| {
            write(target, 0, 1)?;
            let mut data = vec![0; BLOCK_BYTES];
            data[..100].fill(2);
            unfit(write(target, 1, 2), "block 1 has data past the end");
            target.write_block(super::index(1), &data)?;
            write(target, 2, 0)?;
            zero(target, 3, 1000)
        },
    );
}

#[test]
fn waiting_for_a_reader_can_be_stopped() {
    let (_dir, path) = fifo();
    let options = super::options(BLOCK, Before::Nothing);
    let stopped = AtomicBool::new(true);
    let refused = Target::open_unless(&TargetPath::Path(path), &options, &stopped);
    assert!(matches!(refused, Err(Error::Interrupted)), "{refused:?}");
}

#[test]
fn nobody_to_read_is_an_error() {
    let (_dir, path) = fifo();
    let reader = std::thread::spawn({
        let path = path.clone();
        move || drop(File::open(path).unwrap())
    });
    let target = open(&path, 100 * BLOCK, Before::Nothing).unwrap();
    reader.join().unwrap();
    match write(&target, 0, 1) {
        Err(Error::Io { what, source }) => {
            assert!(what.ends_with("fifo cannot be written at 0"), "{what}");
            assert_eq!(source.kind(), io::ErrorKind::BrokenPipe);
        }
        other => panic!("{other:?}"),
    }
    target.abandon(false);
    assert!(path.exists());
}

#[test]
fn a_stream_holds_nothing_before() {
    let null = Path::new("/dev/null");
    unfit(
        open(null, BLOCK, Before::Partial),
        "it holds nothing to go on with",
    );
    let base = Before::Base(PathBuf::from("/dev/null"));
    unfit(open(null, BLOCK, base), "it holds nothing to go on with");
    let target = open(null, 100 * BLOCK, Before::Nothing).unwrap();
    zero(&target, 0, 100).unwrap();
    target.finish().unwrap();
}
