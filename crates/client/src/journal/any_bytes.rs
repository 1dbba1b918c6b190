//! What must hold whatever stands in a file of block digests: for tests and fuzzing.

use super::append::Journal;
use super::merge::{Entry, Records};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use types::{BlockIndex, Digest};

/// Puts these bytes to the reader of files of block digests, once as a whole file, once over a good one, at the place that the
/// first two of them name. Uses one file in this directory.
///
/// # Panics
/// When something other than an error comes of it: indexes out of order, or entries that going on with the file changes.
pub fn any_journal_bytes(folder: &Path, data: &[u8]) {
    let path = folder.join("blocks");
    fs::write(&path, data).expect("the folder can be written to");
    read_and_go_on(&path);

    let Some((place, over)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut good = good_file(&path);
    let start = usize::from(u16::from_le_bytes(*place)) % good.len();
    for (old, new) in good[start..].iter_mut().zip(over) {
        *old = *new;
    }
    fs::write(&path, &good).expect("the folder can be written to");
    read_and_go_on(&path);
}

/// Two runs, the second of which takes some of the first back.
fn good_file(path: &Path) -> Vec<u8> {
    // Whatever stands there may be no journal, and would not be replaced.
    fs::remove_file(path).expect("it was written before");
    let append = |journal: &mut Journal, blocks: &[u32]| {
        for block in blocks {
            let index = BlockIndex::new(*block).expect("a small number");
            let appended = match block % 3 {
                0 => journal.begin(index),
                _ => journal.append(index, Digest::of(&block.to_le_bytes())),
            };
            appended.expect("the folder can be written to");
        }
    };
    let mut journal = Journal::create(path, "{}").expect("the folder can be written to");
    append(&mut journal, &[1, 2, 5, 4, 8]);
    drop(journal);
    let resumed = Journal::resume(path).expect("it was just written");
    let (mut journal, _) = resumed.expect("it was just written");
    append(&mut journal, &[2, 3, 9, 10]);
    fs::read(path).expect("it was just written")
}

fn read_and_go_on(path: &Path) {
    let resumed = Journal::resume(path);
    assert_eq!(resumed.is_ok(), Records::open(path).is_ok());
    let (Some(before), Ok(Some((mut journal, _)))) = (entries(path), resumed) else {
        return;
    };
    let last = BlockIndex::new(BlockIndex::COUNT_MAX - 1).expect("it is the last one");
    journal
        .append(last, Digest::ZERO_BLOCK)
        .expect("the folder can be written to");
    let mut expected = before;
    expected.insert(last, Some(Digest::ZERO_BLOCK));
    assert_eq!(entries(path), Some(expected));
}

/// What a file says of each block; nothing when it is no file of this kind, or one whose writer broke the rules.
fn entries(path: &Path) -> Option<BTreeMap<BlockIndex, Option<Digest>>> {
    let (mut records, _) = Records::open(path).ok()?;
    let mut entries = BTreeMap::new();
    while let Some(Entry { index, digest }) = records.next_entry().ok()? {
        let ascends = entries
            .last_key_value()
            .is_none_or(|(last, _)| *last < index);
        assert!(ascends, "indexes ascend");
        entries.insert(index, digest);
    }
    Some(entries)
}
