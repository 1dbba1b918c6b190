//! Random writes and zeros to a file, in every mode.

use super::{BLOCK, index};
use crate::source::Extent;
use crate::target::{Before, Target};
use buffers::Aligned;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use std::fs;
use std::path::Path;
use types::BLOCK_BYTES;

const BLOCKS: u32 = 12;

#[derive(Clone, Debug)]
enum Step {
    Write {
        at: u32,
        byte: u8,
        aligned: bool,
    },
    Zero {
        start: u32,
        count: u32,
    },
    /// What is open is left, and opened again as partial.
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    New,
    Replacing,
    InPlace,
    OnBase,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..BLOCKS, any::<u8>(), any::<bool>())
        .prop_map(|(at, byte, aligned)| Step::Write { at, byte, aligned });
    let zero = (0..BLOCKS, 1..BLOCKS).prop_map(|(start, count)| Step::Zero { start, count });
    proptest::collection::vec(
        prop_oneof![6 => write, 3 => zero, 1 => Just(Step::Reopen)],
        0..24,
    )
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::New),
        Just(Mode::Replacing),
        Just(Mode::InPlace),
        Just(Mode::OnBase)
    ]
}

fn open(path: &Path, bytes: u64, before: Before) -> Target {
    super::open(path, bytes, before).unwrap()
}

fn run(mode: Mode, bytes: usize, base_bytes: usize, steps: &[Step]) {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let (path, base) = (dir.path().join("disk"), dir.path().join("base"));
    let old: Vec<u8> = (0..base_bytes).map(|number| (number % 251) as u8).collect();
    let mut model = vec![0; BLOCKS as usize * BLOCK_BYTES];
    let before = match mode {
        Mode::New => Before::Nothing,
        Mode::Replacing => {
            fs::write(&path, &old).unwrap();
            Before::Nothing
        }
        Mode::InPlace => {
            fs::write(&path, &old).unwrap();
            Before::Base(path.clone())
        }
        Mode::OnBase => {
            fs::write(&base, &old).unwrap();
            Before::Base(base.clone())
        }
    };
    if matches!(before, Before::Base(_)) {
        model[..base_bytes].copy_from_slice(&old);
    }
    let mut target = open(&path, bytes as u64, before);
    let mut buffer = Aligned::zeroed(BLOCK_BYTES + 1);
    for step in steps {
        match *step {
            Step::Write { at, byte, aligned } => {
                let shift = usize::from(!aligned);
                let data = &mut buffer.as_mut_slice()[shift..shift + BLOCK_BYTES];
                let offset = at as usize * BLOCK_BYTES;
                let inside = bytes.saturating_sub(offset).min(BLOCK_BYTES);
                data[..inside].fill(byte);
                data[inside..].fill(0);
                target.write_block(index(at), data).unwrap();
                model[offset..][..BLOCK_BYTES].copy_from_slice(data);
            }
            Step::Zero { start, count } => {
                target.zero(Extent { start, count }).unwrap();
                let end = (start + count).min(BLOCKS) as usize;
                model[start as usize * BLOCK_BYTES..end * BLOCK_BYTES].fill(0);
            }
            Step::Reopen => {
                target.abandon(true);
                let again = match mode {
                    Mode::InPlace => Before::Base(path.clone()),
                    Mode::New | Mode::Replacing | Mode::OnBase => Before::Partial,
                };
                target = open(&path, bytes as u64, again);
            }
        }
    }
    check(&target, &model);
    target.finish().unwrap();
    assert!(fs::read(&path).unwrap() == model[..bytes]);
    if matches!(mode, Mode::OnBase) {
        assert!(fs::read(&base).unwrap() == old, "the base is as it was");
    }
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1 + usize::from(matches!(mode, Mode::OnBase)));
}

/// What is read back is the model, and what is said to be no data is zeros.
fn check(target: &Target, model: &[u8]) {
    let mut may_hold_data = vec![false; BLOCKS as usize];
    let mut from = 0;
    while let Some(run) = target.next_data(from).unwrap() {
        from = run.start + run.count;
        may_hold_data[run.start as usize..from as usize].fill(true);
    }
    let mut buffer = vec![0xEE; BLOCK_BYTES];
    for (at, expected) in (0..BLOCKS).zip(model.chunks(BLOCK as usize)) {
        target.read_block(index(at), &mut buffer).unwrap();
        assert!(buffer == expected, "block {at}");
        let is_zero = expected.iter().all(|byte| *byte == 0);
        assert!(
            is_zero || may_hold_data[at as usize],
            "block {at} is said to be a hole"
        );
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn a_file_is_what_was_written(
        mode in modes(),
        bytes in prop_oneof![
            Just(BLOCKS as usize * BLOCK_BYTES),
            1..BLOCKS as usize * BLOCK_BYTES,
        ],
        part in 0..=100_usize,
        steps in steps(),
    ) {
        run(mode, bytes, bytes * part / 100, &steps);
    }
}
