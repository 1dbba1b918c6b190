//! Sources against what was written to them.

use super::{Extent, Opened, Source, SourceOptions, SourcePath};
use crate::Error;
use rustix::fs::{CWD, FileType, Mode};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use types::{BLOCK_BYTES, BlockIndex};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn options() -> SourceOptions {
    SourceOptions { map: None }
}

fn open(path: &Path) -> Result<Source, Error> {
    Source::open(&SourcePath::Path(path.to_path_buf()), &options())
}

fn opened(file: File) -> Opened {
    Opened {
        file: file.into(),
        name: "standard input".to_owned(),
        place: "-".to_owned(),
    }
}

fn block(source: &Source, index: u32) -> Vec<u8> {
    let mut buffer = vec![0xEE; BLOCK_BYTES];
    source
        .read_block(BlockIndex::new(index).unwrap(), &mut buffer)
        .unwrap();
    buffer
}

fn runs(source: &Source) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(Extent { start, count }) = source.next_data(from).unwrap() {
        assert!(start >= from && count > 0);
        found.push((start, count));
        from = start + count;
    }
    found
}

#[track_caller]
fn unfit<T: std::fmt::Debug>(result: Result<T, Error>, part: &str) {
    match result {
        Err(Error::Unfit(message)) => assert!(message.contains(part), "{message}"),
        other => panic!("{other:?} instead of {part}"),
    }
}

#[test]
fn holes_are_rounded_to_blocks_and_what_is_between_them_is_merged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let file = File::create(&path).unwrap();
    file.set_len(20 * BLOCK + 1000).unwrap();
    // Two ends of neighbouring blocks, which become one run; one byte in the middle of a block; the last byte of a block.
    for at in [
        2 * BLOCK + 500_000,
        3 * BLOCK + 5,
        9 * BLOCK + 70_000,
        15 * BLOCK - 1,
    ] {
        file.write_all_at(b"x", at).unwrap();
    }
    file.sync_all().unwrap();
    let source = open(&path).unwrap();
    assert_eq!(source.bytes(), Some(20 * BLOCK + 1000));
    assert_eq!(runs(&source), [(2, 2), (9, 1), (14, 1)]);
    assert_eq!(
        source.next_data(3).unwrap(),
        Some(Extent { start: 3, count: 1 })
    );
    assert_eq!(source.next_data(15).unwrap(), None);
    assert_eq!(source.next_data(1 << 27).unwrap(), None);
    let mut expected = vec![0; BLOCK_BYTES];
    expected[70_000] = b'x';
    assert!(block(&source, 9) == expected);
    assert!(block(&source, 20).iter().all(|byte| *byte == 0));
    assert!(block(&source, 21).iter().all(|byte| *byte == 0));
}

#[test]
fn the_last_block_is_filled_up_with_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd");
    let data: Vec<u8> = (0..BLOCK + 4097).map(|number| number as u8 | 1).collect();
    fs::write(&path, &data).unwrap();
    let source = open(&path).unwrap();
    assert_eq!(runs(&source), [(0, 2)]);
    assert!(block(&source, 0) == data[..BLOCK_BYTES]);
    let last = block(&source, 1);
    assert!(last[..4097] == data[BLOCK_BYTES..]);
    assert!(last[4097..].iter().all(|byte| *byte == 0));
}

#[test]
fn nothing_is_in_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty");
    fs::write(&path, "").unwrap();
    let source = open(&path).unwrap();
    assert_eq!((source.bytes(), runs(&source)), (Some(0), vec![]));
    assert!(block(&source, 0).iter().all(|byte| *byte == 0));
}

#[test]
fn the_largest_volume_is_searched_by_its_data_alone() {
    // Most file systems have no files of this size, that in memory has.
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let path = dir.path().join("huge");
    let file = File::create(&path).unwrap();
    if let Err(error) = file.set_len(64 << 40) {
        eprintln!("skipped: no file of 64 TiB can be made here: {error}");
        return;
    }
    file.write_all_at(b"x", (64 << 40) - 1).unwrap();
    file.write_all_at(b"x", 1 << 40).unwrap();
    let source = open(&path).unwrap();
    assert_eq!(runs(&source), [(2 << 20, 1), ((1 << 27) - 1, 1)]);
    assert_eq!(block(&source, (1 << 27) - 1)[BLOCK_BYTES - 1], b'x');
    file.set_len((64 << 40) + 1).unwrap();
    unfit(open(&path), "more than 64 TiB");
}

#[test]
fn many_holes_are_told_in_several_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("many");
    let file = File::create(&path).unwrap();
    file.set_len(2500 * BLOCK).unwrap();
    for block in 0..2500 {
        file.write_all_at(b"x", block * BLOCK + 9999).unwrap();
    }
    let runs = runs(&open(&path).unwrap());
    assert!((2..=10).contains(&runs.len()), "{runs:?}");
    let mut end = 0;
    for (start, count) in runs {
        assert_eq!(start, end);
        end = start + count;
    }
    assert_eq!(end, 2500);
}

#[test]
fn a_file_that_shrinks_is_unfit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shrinks");
    fs::write(&path, vec![1; 3 * BLOCK_BYTES]).unwrap();
    let source = open(&path).unwrap();
    assert!(!source.was_modified().unwrap());
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(BLOCK + 10)
        .unwrap();
    let mut buffer = vec![0; BLOCK_BYTES];
    let read = source.read_block(BlockIndex::new(1).unwrap(), &mut buffer);
    unfit(
        read,
        "is shorter than when it was opened: it ends at 524298 of 1572864 bytes",
    );
    let read = source.read_block(BlockIndex::new(2).unwrap(), &mut buffer);
    unfit(read, "is shorter than when it was opened");
    assert!(block(&source, 0).iter().all(|byte| *byte == 1));
    unfit(
        source.was_modified(),
        "had 1572864 bytes when it was opened and has 524298 now",
    );
}

#[test]
fn a_file_that_grows_or_is_written_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("grows");
    fs::write(&path, vec![1; 100]).unwrap();
    // Its time of modification is another than that of what follows, however coarse the clock is.
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let source = open(&path).unwrap();
    file.write_all_at(b"2", 0).unwrap();
    assert!(source.was_modified().unwrap());
    file.set_len(101).unwrap();
    unfit(source.was_modified(), "had 100 bytes");
    assert!(block(&source, 0)[100..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_fifo_is_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let data: Vec<u8> = (0..2 * BLOCK + 7)
        .map(|number| (number % 251) as u8)
        .collect();
    let writer = std::thread::spawn({
        let (path, data) = (path.clone(), data.clone());
        move || {
            let mut fifo = File::options().write(true).open(path).unwrap();
            // Pieces of a length that fits nothing.
            data.chunks(10_007)
                .for_each(|part| fifo.write_all(part).unwrap());
        }
    });
    let source = open(&path).unwrap();
    assert_eq!(source.bytes(), None);
    unfit(
        source.next_data(0),
        "can only be read from its beginning to its end",
    );
    assert!(!source.was_modified().unwrap());
    let mut found = Vec::new();
    let mut buffer = vec![0xEE; BLOCK_BYTES];
    while source.read_next(&mut buffer).unwrap() {
        found.extend_from_slice(&buffer);
    }
    writer.join().unwrap();
    assert!(!source.read_next(&mut buffer).unwrap());
    assert_eq!(found.len(), 3 * BLOCK_BYTES);
    assert!(found[..data.len()] == data);
    assert!(found[data.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn standard_input_is_the_file_that_it_is_redirected_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    fs::write(&path, vec![7; 2 * BLOCK_BYTES]).unwrap();
    let source = Source::of(opened(File::open(&path).unwrap()), &options()).unwrap();
    assert_eq!(
        (source.bytes(), runs(&source)),
        (Some(2 * BLOCK), vec![(0, 2)])
    );

    let mut read_in_part = File::open(&path).unwrap();
    read_in_part.seek(SeekFrom::Start(BLOCK + 100)).unwrap();
    let source = Source::of(opened(read_in_part), &options()).unwrap();
    assert_eq!(source.bytes(), None);
    let mut buffer = vec![0xEE; BLOCK_BYTES];
    assert!(source.read_next(&mut buffer).unwrap());
    assert!(buffer[..BLOCK_BYTES - 100].iter().all(|byte| *byte == 7));
    assert!(buffer[BLOCK_BYTES - 100..].iter().all(|byte| *byte == 0));
    assert!(!source.read_next(&mut buffer).unwrap());
}

#[test]
fn what_has_no_content_is_unfit() {
    let dir = tempfile::tempdir().unwrap();
    unfit(
        open(dir.path()),
        "is neither a file nor a device nor a stream",
    );
    let missing = open(&dir.path().join("missing"));
    assert!(matches!(&missing, Err(Error::Io { what, .. }) if what.ends_with("cannot be opened")));
    let zeros = open(Path::new("/dev/zero")).unwrap();
    assert_eq!(zeros.bytes(), None);
    let map = SourceOptions {
        map: Some(dir.path().join("map")),
    };
    let stream = Source::open(&SourcePath::Path("/dev/zero".into()), &map);
    unfit(stream, "a map is of no use");
}

#[test]
fn the_identity_is_one_line_and_follows_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a name\nin two lines");
    fs::write(&path, "content").unwrap();
    let identity = open(&path).unwrap().identity();
    assert!(
        identity.starts_with("file /") && identity.contains(" 7 "),
        "{identity}"
    );
    assert!(identity.contains("a name\\nin two lines") && !identity.contains('\n'));
    assert_eq!(open(&path).unwrap().identity(), identity);
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("takes the inode"), "").unwrap();
    fs::write(&path, "content").unwrap();
    assert_ne!(open(&path).unwrap().identity(), identity);
}
