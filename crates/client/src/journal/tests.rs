//! Golden bytes, a model, torn tails at every length, and totality over arbitrary bytes.

use super::any_bytes::any_journal_bytes;
use super::append::{DigestFile, Journal, check_distinct, check_replaceable, remove};
use super::merge::{Entry, Records};
use super::record::RECORD_BYTES;
use super::{RUNS_MAX, WINDOW};
use crate::Error;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use types::{BlockIndex, Digest};

/// A directory with room for one file.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("blocks")
    }

    fn create(&self) -> Journal {
        Journal::create(&self.path(), HEADER).unwrap()
    }

    fn resume(&self) -> Journal {
        let (journal, header) = Journal::resume(&self.path()).unwrap().unwrap();
        assert_eq!(header, HEADER);
        journal
    }

    fn entries(&self) -> Vec<(u32, Option<Digest>)> {
        entries(&self.path())
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }
}

const HEADER: &str = r#"{"for":"a test"}"#;

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

fn digest(value: u32) -> Digest {
    Digest::of(&value.to_le_bytes())
}

fn entries(path: &Path) -> Vec<(u32, Option<Digest>)> {
    let (mut records, _) = Records::open(path).unwrap();
    std::iter::from_fn(|| records.next_entry().unwrap())
        .map(|Entry { index, digest }| (index.get(), digest))
        .collect()
}

/// The bytes of an annotated hex file: what stands before `#`, in any grouping.
fn golden() -> Vec<u8> {
    let digits: String = include_str!("../../testdata/blocks_v1.hex")
        .lines()
        .flat_map(|line| line.split('#').next())
        .flat_map(|line| line.split_whitespace())
        .collect();
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[test]
fn golden_file() {
    let place = Place::new();
    let mut journal = place.create();
    journal.append(index(5), Digest::ZERO_BLOCK).unwrap();
    journal.append(index(7), Digest::of(b"abc")).unwrap();
    drop(journal);
    let mut journal = place.resume();
    journal.begin(index(5)).unwrap();
    journal
        .append(index(BlockIndex::COUNT_MAX - 1), Digest::of(b"abc"))
        .unwrap();
    let written: Vec<String> = place.bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(place.bytes(), golden(), "encode: {}", written.join(" "));

    fs::write(place.path(), golden()).unwrap();
    let abc = Some(Digest::of(b"abc"));
    assert_eq!(
        place.entries(),
        [(5, None), (7, abc), (BlockIndex::COUNT_MAX - 1, abc)]
    );
}

#[test]
fn the_last_word_on_a_block_counts() {
    let place = Place::new();
    let mut journal = place.create();
    for (block, content) in [(1, 10), (3, 30), (2, 20), (3, 31)] {
        journal.append(index(block), digest(content)).unwrap();
    }
    drop(journal);
    let mut journal = place.resume();
    journal.append(index(2), digest(21)).unwrap();
    journal.begin(index(3)).unwrap();
    journal.begin(index(4)).unwrap();
    journal.append(index(4), digest(40)).unwrap();
    let known = |content| Some(digest(content));
    assert_eq!(
        place.entries(),
        [(1, known(10)), (2, known(21)), (3, None), (4, known(40))]
    );
    let (mut records, _) = Records::open(&place.path()).unwrap();
    let listed: Vec<u32> = std::iter::from_fn(|| records.next().unwrap())
        .map(|(index, _)| index.get())
        .collect();
    assert_eq!(listed, [1, 2, 4], "what is not known is not listed");
}

#[test]
fn a_torn_tail_is_not_read_and_cut_off() {
    let whole = Place::new();
    let mut journal = whole.create();
    for block in 0..3 {
        journal.append(index(block), digest(block)).unwrap();
    }
    drop(journal);
    let bytes = whole.bytes();
    let start = bytes.len() - 3 * RECORD_BYTES;
    for length in start..=bytes.len() {
        let records = (length - start) / RECORD_BYTES;
        let place = Place::new();
        fs::write(place.path(), &bytes[..length]).unwrap();
        assert_eq!(place.entries().len(), records, "{length} bytes");
        let (opened, _) = Records::open(&place.path()).unwrap();
        assert_eq!(
            opened.torn(),
            !(length - start).is_multiple_of(RECORD_BYTES)
        );
        place.resume().append(index(9), digest(9)).unwrap();
        assert_eq!(place.entries().len(), records + 1, "{length} bytes");
    }
}

#[test]
fn a_record_counts_only_where_it_was_written() {
    let place = Place::new();
    let mut journal = place.create();
    journal.append(index(0), digest(0)).unwrap();
    journal.append(index(1), digest(1)).unwrap();
    let mut bytes = place.bytes();
    let second = bytes.len() - RECORD_BYTES;
    bytes.copy_within(second - RECORD_BYTES..second, second);
    let moved = Place::new();
    fs::write(moved.path(), bytes).unwrap();
    assert_eq!(moved.entries(), [(0, Some(digest(0)))]);

    let other = Place::new();
    let mut journal = Journal::create(&other.path(), r#"{"for":"b test"}"#).unwrap();
    journal.append(index(0), digest(0)).unwrap();
    let mut bytes = other.bytes();
    let at = bytes.len() - RECORD_BYTES;
    bytes[at..].copy_from_slice(&place.bytes()[at..][..RECORD_BYTES]);
    fs::write(moved.path(), bytes).unwrap();
    assert_eq!(moved.entries(), [], "of another file");
}

#[test]
fn what_is_overtaken_by_too_many_begins_a_run() {
    let place = Place::new();
    let mut journal = place.create();
    let ahead = WINDOW as u32 + 10;
    for block in 1..=ahead {
        journal.append(index(block), digest(block)).unwrap();
    }
    journal.append(index(0), digest(0)).unwrap();
    journal.append(index(ahead + 1), digest(ahead + 1)).unwrap();
    let expected: Vec<_> = (0..=ahead + 1)
        .map(|block| (block, Some(digest(block))))
        .collect();
    assert_eq!(place.entries(), expected);
}

#[test]
fn too_many_runs_are_merged_into_one() {
    let place = Place::new();
    place.create();
    for round in 0..3 * RUNS_MAX as u32 {
        let mut journal = place.resume();
        journal.append(index(round), digest(round)).unwrap();
        journal.append(index(1_000), digest(round)).unwrap();
        let mut expected: Vec<_> = (0..=round)
            .map(|block| (block, Some(digest(block))))
            .collect();
        expected.push((1_000, Some(digest(round))));
        assert_eq!(place.entries(), expected);
        let overwritten = usize::try_from(round).unwrap() + RUNS_MAX + 2;
        assert!(place.bytes().len() < (overwritten + 2 * RUNS_MAX) * RECORD_BYTES);
    }
}

#[test]
fn files_are_private_and_others_are_left_alone() {
    let place = Place::new();
    let journal = place.create();
    let mode = fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let busy = Journal::resume(&place.path());
    assert!(matches!(busy, Err(Error::Config(_))), "{busy:?}");
    drop(journal);
    assert!(Journal::resume(&place.path()).unwrap().is_some());

    let disk = place.0.path().join("disk.img");
    assert!(Journal::resume(&disk).unwrap().is_none());
    check_replaceable(&disk).unwrap();
    for content in [
        &b"\0\0\0\0"[..],
        b"drystone-blocks 2 {}\n",
        b"drystone-blocks 1 {}",
    ] {
        fs::write(&disk, content).unwrap();
        let refused = [
            check_replaceable(&disk).err(),
            Journal::create(&disk, HEADER).err(),
            Journal::resume(&disk).err(),
            Records::open(&disk).err(),
            DigestFile::create(&disk, HEADER).err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(Error::Config(_))), "{error:?}");
        }
        assert_eq!(fs::read(&disk).unwrap(), content);
    }
}

#[test]
fn a_digest_file_stands_there_whole_or_not_at_all() {
    let place = Place::new();
    let names = || fs::read_dir(place.0.path()).unwrap().count();
    let mut file = DigestFile::create(&place.path(), HEADER).unwrap();
    file.append(index(3), digest(3)).unwrap();
    assert!(!place.path().exists());
    drop(file);
    assert_eq!(names(), 0);
    let mut file = DigestFile::create(&place.path(), HEADER).unwrap();
    file.append(index(3), digest(3)).unwrap();
    file.finish().unwrap();
    assert_eq!(place.entries(), [(3, Some(digest(3)))]);
    assert_eq!(names(), 1);
}

/// A restored disk that took the name of its own state file was removed with the state.
#[test]
fn only_the_journal_itself_is_removed() {
    let place = Place::new();
    let journal = place.create();
    journal.remove().unwrap();
    assert!(!place.path().exists());
    journal.remove().unwrap();
    remove(&place.path()).unwrap();

    for disk in [&b"a disk"[..], b"drystone-blocks 1 {}\n"] {
        let journal = place.create();
        let other = place.0.path().join("other");
        fs::write(&other, disk).unwrap();
        fs::rename(&other, place.path()).unwrap();
        journal.remove().unwrap();
        assert_eq!(place.bytes(), disk);
        fs::remove_file(place.path()).unwrap();
    }
    fs::write(place.path(), b"a disk").unwrap();
    remove(&place.path()).unwrap();
    assert_eq!(place.bytes(), b"a disk");
    fs::write(place.path(), b"drystone-blocks 1 {}\n").unwrap();
    remove(&place.path()).unwrap();
    assert!(!place.path().exists());
}

#[test]
fn one_file_by_two_names_is_noticed() {
    let place = Place::new();
    let folder = place.0.path();
    let check = |one: &str, other: &str, distinct: bool| {
        let result = check_distinct(&folder.join(one), &folder.join(other));
        assert_eq!(result.is_ok(), distinct, "{one} {other}");
    };
    check("blocks", "other", true);
    check("blocks", "blocks", false);
    fs::create_dir(folder.join("sub")).unwrap();
    check("sub/../blocks", "./blocks", false);
    drop(place.create());
    symlink(place.path(), folder.join("link")).unwrap();
    check("link", "blocks", false);
    check("link", "other", true);
}

/// Whatever stood under the name of an unfinished file was emptied, and through a link, any file at all.
#[test]
fn an_unfinished_file_that_nobody_left_is_not_touched() {
    let place = Place::new();
    let unfinished = place.0.path().join("blocks.unfinished");
    let victim = place.0.path().join("victim");
    let refused = || {
        let error = Journal::create(&place.path(), HEADER).unwrap_err();
        let named = error.to_string().contains("blocks.unfinished");
        assert!(named, "{error}");
        assert!(DigestFile::create(&place.path(), HEADER).is_err());
        assert!(!place.path().exists());
    };
    for content in [&b"a file"[..], b"drystone-blocks 1 {}\n", b""] {
        fs::write(&victim, content).unwrap();
        symlink(&victim, &unfinished).unwrap();
        refused();
        assert_eq!(fs::read(&victim).unwrap(), content);
        fs::remove_file(&unfinished).unwrap();
        fs::hard_link(&victim, &unfinished).unwrap();
        refused();
        assert_eq!(fs::read(&victim).unwrap(), content);
        fs::remove_file(&unfinished).unwrap();
    }
    fs::write(&unfinished, b"a file").unwrap();
    refused();
    assert_eq!(fs::read(&unfinished).unwrap(), b"a file");

    // What a kill left, at whatever moment.
    for left in [
        &b""[..],
        b"dryst",
        b"drystone-blocks 1 {",
        b"drystone-blocks 1 {}\n123",
    ] {
        fs::write(&unfinished, left).unwrap();
        drop(place.create());
        assert_eq!(place.entries(), []);
        fs::remove_file(place.path()).unwrap();
    }
}

/// What is done to a journal.
#[derive(Clone, Debug)]
enum Step {
    Append(u32, u32),
    Begin(u32),
    Resume,
    Tear(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let block = || prop_oneof![0..20u32, 0..BlockIndex::COUNT_MAX];
    let step = prop_oneof![
        20 => (block(), any::<u32>()).prop_map(|(block, content)| Step::Append(block, content)),
        4 => block().prop_map(Step::Begin),
        2 => proptest::prelude::Just(Step::Resume),
        1 => (1..RECORD_BYTES).prop_map(Step::Tear),
    ];
    vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reads_what_a_map_would_hold(steps in steps()) {
        let place = Place::new();
        let mut journal = place.create();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Append(block, content) => {
                    journal.append(index(block), digest(content)).unwrap();
                    model.insert(block, Some(digest(content)));
                }
                Step::Begin(block) => {
                    journal.begin(index(block)).unwrap();
                    model.insert(block, None);
                }
                Step::Resume => {
                    drop(journal);
                    journal = place.resume();
                }
                Step::Tear(bytes) => {
                    drop(journal);
                    let mut content = place.bytes();
                    content.extend(vec![0xA5; bytes]);
                    fs::write(place.path(), content).unwrap();
                    journal = place.resume();
                }
            }
        }
        let expected: Vec<_> = model.into_iter().collect();
        prop_assert_eq!(place.entries(), expected);
    }

    #[test]
    fn any_bytes_give_records_or_an_error(
        bytes in vec(any::<u8>(), 0..400),
        magic in any::<bool>(),
    ) {
        let place = Place::new();
        let head = if magic { "drystone-blocks 1 {}\n" } else { "" };
        any_journal_bytes(place.0.path(), &[head.as_bytes(), &bytes].concat());
    }

    #[test]
    fn flipped_bits_lose_records_and_never_make_any(at in 0..usize::MAX, bit in 0..8u32) {
        let place = Place::new();
        let mut bytes = golden();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        fs::write(place.path(), bytes).unwrap();
        let abc = Some(Digest::of(b"abc"));
        if let Ok((mut records, _)) = Records::open(&place.path()) {
            while let Ok(Some(Entry { index, digest })) = records.next_entry() {
                let said = match index.get() {
                    5 => digest.is_none() || digest == Some(Digest::ZERO_BLOCK),
                    _ => digest == abc,
                };
                assert!(said, "{index} {digest:?}");
            }
        }
    }
}
