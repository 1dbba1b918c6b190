//! Maps, by hand and by `qemu-img`.

use super::Map;
use crate::Error;
use crate::source::{Source, SourceOptions, SourcePath};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use types::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

fn runs(map: &Map) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    while let Some(run) = map.next_data(found.last().map_or(0, |(start, count)| start + count)) {
        found.push((run.start, run.count));
    }
    found
}

fn parse(text: &str, bytes: u64) -> Result<Vec<(u32, u32)>, String> {
    Map::parse(text.as_bytes(), bytes)
        .map(|map| runs(&map))
        .map_err(|error| error.to_string())
}

/// Entries of (start, length, data, zero).
fn entries(all: &[(u64, u64, bool, bool)]) -> String {
    let all: Vec<String> = all
        .iter()
        .map(|(start, length, data, zero)| {
            format!(
                r#"{{"start":{start},"length":{length},"depth":0,"present":true,"zero":{zero},"data":{data},"offset":{start}}}"#
            )
        })
        .collect();
    format!("[{}]", all.join(",\n"))
}

#[test]
fn data_is_rounded_to_blocks() {
    let text = entries(&[
        (0, 100, true, false),
        (100, 2 * BLOCK, false, true),
        (2 * BLOCK + 100, BLOCK, true, false),
        (3 * BLOCK + 100, 2 * BLOCK, true, true),
        (5 * BLOCK + 100, BLOCK, false, false),
        (6 * BLOCK + 100, 412, false, true),
    ]);
    // Space that is set aside reads as zeros; what is neither data nor zeros is not known.
    let expected = Ok(vec![(0, 1), (2, 2), (5, 2)]);
    assert_eq!(parse(&text, 6 * BLOCK + 512), expected);
    // The length of an image is rounded up to sectors in a map.
    assert_eq!(parse(&text, 6 * BLOCK + 1), expected);
    assert_eq!(parse("[]", 0), Ok(vec![]));
}

#[test]
fn what_does_not_describe_the_source_is_refused() {
    let check = |text: &str, bytes: u64, part: &str| match parse(text, bytes) {
        Err(message) => assert!(message.contains(part), "{message}"),
        Ok(found) => panic!("{found:?} instead of {part}"),
    };
    let whole = entries(&[(0, BLOCK, true, false)]);
    check(
        &whole,
        2 * BLOCK,
        "it covers 524288 bytes and the source has 1048576",
    );
    check(&whole, BLOCK - 512, "lie past the source's 523776 bytes");
    check(
        &whole,
        BLOCK + 1,
        "it covers 524288 bytes and the source has 524289",
    );
    let gap = entries(&[(0, 100, true, false), (200, BLOCK - 200, false, true)]);
    check(&gap, BLOCK, "after 100 comes 200");
    let twice = entries(&[(0, 512, true, false), (0, BLOCK, false, true)]);
    check(&twice, BLOCK, "after 512 comes 0");
    let overflow = entries(&[(0, 512, true, false), (512, u64::MAX, false, true)]);
    check(&overflow, BLOCK, "lie past the source's");
    let elsewhere = whole.replace(r#""offset":0"#, r#""offset":65536"#);
    check(&elsewhere, BLOCK, "the image must be raw");
    let backed = whole.replace(r#""depth":0"#, r#""depth":1"#);
    check(&backed, BLOCK, "in a backing file: the image must be raw");
    let compressed = whole.replace(r#""offset":0"#, r#""compressed":true"#);
    check(&compressed, BLOCK, "the image must be raw");
    check(
        r#"{"start":0}"#,
        BLOCK,
        "the output of qemu-img map --output=json",
    );
    check(r#"[{"start":0}]"#, BLOCK, "missing field `length`");
    check(&whole[..whole.len() - 1], BLOCK, "EOF");
    check(&format!("{whole} []"), BLOCK, "trailing characters");
}

#[test]
fn the_map_is_believed_against_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, map) = (dir.path().join("disk"), dir.path().join("map"));
    fs::write(&disk, vec![1; 4 * BLOCK_BYTES]).unwrap();
    let text = entries(&[
        (0, BLOCK, false, true),
        (BLOCK, BLOCK, true, false),
        (2 * BLOCK, 2 * BLOCK, false, true),
    ]);
    fs::write(&map, text).unwrap();
    let open = || {
        let options = SourceOptions {
            map: Some(map.clone()),
        };
        Source::open(&SourcePath::Path(disk.clone()), &options)
    };
    let source = open().unwrap();
    let run = source.next_data(0).unwrap().unwrap();
    assert_eq!((run.start, run.count), (1, 1));
    assert_eq!(source.next_data(2).unwrap(), None);
    fs::write(&map, "[").unwrap();
    assert!(matches!(open(), Err(Error::Unfit(message)) if message.contains("does not fit")));
    fs::remove_file(&map).unwrap();
    assert!(matches!(open(), Err(Error::Io { .. })));
}

#[test]
fn a_map_of_many_entries_takes_a_bit_for_each_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("map");
    let mut file = std::io::BufWriter::new(File::create(&path).unwrap());
    let count = 200_000_u64;
    for index in 0..count {
        let (start, zero) = (index * BLOCK, index % 2 == 0);
        let comma = if index == 0 { '[' } else { ',' };
        write!(
            file,
            r#"{comma}{{"start":{start},"length":{BLOCK},"zero":{zero},"data":{}}}"#,
            !zero
        )
        .unwrap();
    }
    write!(file, "]").unwrap();
    file.into_inner().unwrap().sync_all().unwrap();
    let map = Map::read(&path, count * BLOCK).unwrap();
    assert_eq!(runs(&map).len() as u64, count / 2);
    assert_eq!(
        map.next_data(7).map(|run| (run.start, run.count)),
        Some((7, 1))
    );
}

fn qemu_img(arguments: &[&str], image: &Path) -> Option<Vec<u8>> {
    let output = Command::new("qemu-img").args(arguments).arg(image).output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            Some(output.stdout)
        }
        Err(error) => {
            eprintln!("skipped: qemu-img cannot be run: {error}");
            None
        }
    }
}

#[test]
fn qemu_img_and_the_file_system_agree() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, map) = (dir.path().join("disk"), dir.path().join("map"));
    let file = File::create(&disk).unwrap();
    for odd in [0, 1000] {
        file.set_len(40 * BLOCK + odd).unwrap();
        file.write_all_at(&[1; 5000], 3 * BLOCK - 2000).unwrap();
        file.write_all_at(&[1; 100], 20 * BLOCK + 5).unwrap();
        file.write_all_at(&[1; 1], 40 * BLOCK + odd - 1).unwrap();
        file.sync_all().unwrap();
        let arguments = ["map", "--output=json", "-f", "raw"];
        let Some(text) = qemu_img(&arguments, &disk) else {
            return;
        };
        fs::write(&map, text).unwrap();
        let found = runs(&Map::read(&map, 40 * BLOCK + odd).unwrap());
        let last = if odd == 0 { 39 } else { 40 };
        let mut expected = vec![(2, 2), (20, 1), (last, 1)];
        if odd > 0 {
            // It was written in the round before.
            expected[2] = (39, 2);
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn the_map_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    fs::write(&raw, vec![1; 4 * BLOCK_BYTES]).unwrap();
    let convert = ["convert", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap()];
    if qemu_img(&convert, &image).is_none() {
        return;
    }
    let text = qemu_img(&["map", "--output=json"], &image).unwrap();
    let refused = parse(&String::from_utf8(text).unwrap(), 4 * BLOCK);
    assert!(refused.unwrap_err().contains("the image must be raw"));
}
