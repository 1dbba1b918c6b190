//! One kind of damage each: exactly what it touches is lost and named, and everything else comes back.

use super::super::{assert_holds, complete, index, listed, put, snapshot, start, start_child};
use super::{Lost, account, close, collect_all, findings};
use crate::rescue::{Incomplete, IncompleteSnapshot, RebuildDepth, RebuildReport};
use crate::testing::TestEngine;
use crate::{Error, ScrubOptions, SnapshotFrame};
use chunkstore::salvage::Salvage;
use chunkstore::{ChunkId, ChunkKind, ChunkStore, FoundFrame, Location, NewChunk};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use types::{ChunkName, Digest, SnapshotId};

const BLOCKS: [(u32, &str); 3] = [(0, "precious "), (1, "shared "), (300, "far away ")];

/// A store that has ended, with two snapshots that share a block.
struct Damaged {
    lost: Lost,
    one: SnapshotId,
    two: SnapshotId,
}

impl Damaged {
    async fn new() -> Damaged {
        let lost = Lost::new();
        let test = TestEngine::open(lost.path()).await;
        let one = snapshot(&test, &BLOCKS).await;
        let two = snapshot(&test, &[(1, "shared "), (2, "other ")]).await;
        close(test).await;
        Damaged { lost, one, two }
    }

    /// Every frame of this kind, in the order in which they were written.
    fn frames(&self, kind: ChunkKind) -> Vec<FoundFrame> {
        let survey = self.lost.survey();
        let salvage = Salvage::new(survey.store_id, self.lost.io());
        let parts = survey
            .files
            .iter()
            .map(|file| salvage.part(file, 0, usize::MAX).unwrap());
        parts
            .flat_map(|part| part.frames)
            .filter(|frame| frame.id.kind == kind)
            .collect()
    }

    /// The frame of the block of this text.
    fn block(&self, text: &str) -> Location {
        let content: Vec<u8> = text.bytes().cycle().take(types::BLOCK_BYTES).collect();
        let digest = Digest::of(&content);
        let frames = self.frames(ChunkKind::Block);
        let found = frames.iter().find(|frame| frame.digest == digest);
        found.expect("the block is stored").location
    }

    fn file(&self, container: u64) -> PathBuf {
        let files = self.lost.survey().files;
        let found = files.iter().find(|file| file.container.0 == container);
        self.lost.segments().join(&found.unwrap().name)
    }

    /// Flips a bit `distance` bytes behind the beginning of a frame.
    fn flip(&self, frame: Location, distance: u64) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.file(frame.container.0))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, frame.offset + distance)
            .unwrap();
        byte[0] ^= 4;
        file.write_all_at(&byte, frame.offset + distance).unwrap();
    }

    /// Goes on writing until what there is lies in old segments, long sealed.
    async fn age(&self) {
        for content in ["newer ", "newer still ", "newest "] {
            let test = TestEngine::open(self.lost.path()).await;
            let pending = start(&test.engine).await;
            put(&test, pending, &[(0, content)]).await;
            close(test).await;
        }
        close(TestEngine::open(self.lost.path()).await).await;
    }

    async fn rebuild(&mut self) -> (RebuildReport, TestEngine) {
        let report = self.lost.rebuild().await;
        (report, TestEngine::open(self.lost.path()).await)
    }

    async fn assert_all(&self, test: &TestEngine) {
        assert_holds(test, self.one, &BLOCKS).await;
        self.assert_two(test).await;
    }

    /// Everything is there, nothing is found, and a collection takes none of it.
    async fn assert_sound(&self, test: &TestEngine) {
        self.assert_all(test).await;
        assert_eq!(findings(test, &self.lost).await, []);
        collect_all(test, &self.lost).await;
        self.assert_all(test).await;
    }

    async fn assert_two(&self, test: &TestEngine) {
        assert_holds(test, self.two, &[(1, "shared "), (2, "other ")]).await;
    }

    /// The damage of snapshot one, and nothing else.
    #[track_caller]
    fn check_incomplete(&self, report: &RebuildReport, bad: &[(u32, u32)], kept: bool) {
        let [
            IncompleteSnapshot {
                id,
                kept: found_kept,
                bad: found,
                bad_blocks,
                ..
            },
        ] = &report.incomplete[..]
        else {
            panic!("{report:?}")
        };
        assert_eq!((*id, *found_kept), (self.one, kept));
        let found: Vec<_> = found
            .iter()
            .map(|bad| (bad.start.get(), bad.count))
            .collect();
        assert_eq!(found, bad);
        let blocks: u64 = bad.iter().map(|(_, count)| u64::from(*count)).sum();
        assert_eq!((*bad_blocks, report.incomplete_count), (blocks, 1));
        assert_eq!(report.left_out, u64::from(!kept));
    }
}

/// Reads of the block answer the error that names it, every time; the others are read.
async fn assert_only_bad(test: &TestEngine, id: SnapshotId, bad: u32) {
    for (at, digest) in listed(&test.engine, id).await {
        for _ in 0..2 {
            let read = test
                .engine
                .get_block(account(), id, index(at), digest)
                .await;
            match read {
                Err(Error::BlockDamaged {
                    id: named,
                    index: block,
                    ..
                }) => assert_eq!((named, block.get(), at), (id, bad, bad)),
                Ok(data) => assert_eq!((Digest::of(&data), at == bad), (digest, false)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A scrub finds one damaged chunk, which touches exactly this.
async fn assert_scrubbed(test: &TestEngine, touches: &[(SnapshotId, u32, u32)]) {
    let options = ScrubOptions {
        bytes_per_second: 1 << 40,
        restart: true,
    };
    let report = test.engine.scrub(options).await.unwrap();
    assert_eq!(report.damaged_count, 1, "{report:?}");
    let found: Vec<_> = report.damaged[0]
        .touches
        .iter()
        .map(|touched| (touched.snapshot, touched.start.get(), touched.count))
        .collect();
    assert_eq!(found, touches);
}

#[tokio::test]
async fn a_torn_frame_costs_nothing() {
    let mut damaged = Damaged::new().await;
    let last = damaged
        .frames(ChunkKind::Block)
        .pop()
        .expect("a frame")
        .location;
    // The next frame got half-way: its header, and a part of its data.
    let path = damaged.file(last.container.0);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut half = vec![7; 100 * 4096];
    file.read_exact_at(&mut half[..4096], last.offset).unwrap();
    half[44] ^= 1;
    file.write_all_at(&half, last.offset + u64::from(last.length))
        .unwrap();
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.snapshots, report.incomplete_count), (2, 0));
    assert_eq!((report.gaps.count, report.gaps.bytes), (1, 100 * 4096));
    damaged.assert_sound(&test).await;
}

/// A power cut in the last write kept a header and lost its data: the client puts the block again, and it is stored anew. A segment that
/// was filled to its last byte has no tail of zeros.
#[tokio::test]
async fn a_whole_header_without_its_data_is_not_taken_for_the_block() {
    for (filled, ages) in [(false, false), (true, false), (false, true)] {
        let mut damaged = Damaged::new().await;
        let test = TestEngine::open(damaged.lost.path()).await;
        let pending = start(&test.engine).await;
        put(&test, pending, &[(7, "torn ")]).await;
        close(test).await;
        let torn = damaged.block("torn ");
        let path = damaged.file(torn.container.0);
        let open_bytes = path.metadata().unwrap().len();
        if ages {
            damaged.age().await;
        }
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let payload = vec![0; torn.length as usize - 4096];
        file.write_all_at(&payload, torn.offset + 4096).unwrap();
        if filled {
            let end = torn.offset + u64::from(torn.length);
            file.set_len(end).unwrap();
            file.write_all_at(&[7], end - 1).unwrap();
        } else {
            file.set_len(open_bytes).unwrap();
        }
        let (report, test) = damaged.rebuild().await;
        assert_eq!((report.snapshots, report.incomplete_count), (2, 0));
        let again = snapshot(&test, &[(9, "torn ")]).await;
        assert_holds(&test, again, &[(9, "torn ")]).await;
        damaged.assert_sound(&test).await;
        assert_holds(&test, again, &[(9, "torn ")]).await;
    }
}

/// What nobody refers to is garbage, torn or not.
#[tokio::test]
async fn a_torn_block_that_nobody_puts_again_is_collected() {
    let mut damaged = Damaged::new().await;
    let test = TestEngine::open(damaged.lost.path()).await;
    let pending = start(&test.engine).await;
    put(&test, pending, &[(7, "torn ")]).await;
    close(test).await;
    damaged.flip(damaged.block("torn "), 4096 + 5);
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.damaged, report.incomplete_count), (1, 0));
    collect_all(&test, &damaged.lost).await;
    damaged.assert_all(&test).await;
}

#[tokio::test]
async fn damage_that_the_old_catalog_knows_stays_known_and_is_healed_by_a_put() {
    let mut damaged = Damaged::new().await;
    damaged.lost.old = Some(damaged.lost.path().join("old"));
    damaged.age().await;
    damaged.flip(damaged.block("precious "), 4096 + 1000);
    let test = TestEngine::open(damaged.lost.path()).await;
    assert_only_bad(&test, damaged.one, 0).await;
    close(test).await;
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.snapshots, report.damaged), (2, 1));
    damaged.check_incomplete(&report, &[(0, 1)], true);
    let again = snapshot(&test, &[(9, "precious ")]).await;
    assert_holds(&test, again, &[(9, "precious ")]).await;
    damaged.assert_sound(&test).await;
}

#[tokio::test]
async fn a_flipped_bit_in_data_is_named_by_a_read_and_healed_by_a_put() {
    let mut damaged = Damaged::new().await;
    damaged.age().await;
    damaged.flip(damaged.block("precious "), 4096 + 1000);
    let (report, test) = damaged.rebuild().await;
    assert_eq!(
        (report.snapshots, report.damaged),
        (2, 0),
        "blocks are not read"
    );
    assert_scrubbed(&test, &[(damaged.one, 0, 1)]).await;
    assert_eq!(findings(&test, &damaged.lost).await, [("chunk-damaged", 1)]);
    assert_only_bad(&test, damaged.one, 0).await;
    damaged.assert_two(&test).await;
    let again = snapshot(&test, &[(9, "precious ")]).await;
    assert_holds(&test, again, &[(9, "precious ")]).await;
    damaged.assert_sound(&test).await;
}

#[tokio::test]
async fn a_flipped_bit_in_data_is_found_when_everything_is_read() {
    let mut damaged = Damaged::new().await;
    damaged.lost.depth = RebuildDepth::Contents;
    damaged.flip(damaged.block("precious "), 4096 + 1000);
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.snapshots, report.damaged), (1, 1));
    damaged.check_incomplete(&report, &[(0, 1)], false);
    damaged.assert_two(&test).await;
    close(test).await;

    damaged.lost.incomplete = Incomplete::Keep;
    let (report, test) = damaged.rebuild().await;
    damaged.check_incomplete(&report, &[(0, 1)], true);
    assert_eq!(findings(&test, &damaged.lost).await, [("chunk-damaged", 1)]);
    assert_only_bad(&test, damaged.one, 0).await;
    assert_scrubbed(&test, &[(damaged.one, 0, 1)]).await;
    // It is known as damaged: a put of the content brings it again at once.
    let again = snapshot(&test, &[(9, "precious ")]).await;
    assert_holds(&test, again, &[(9, "precious ")]).await;
    damaged.assert_sound(&test).await;
}

#[tokio::test]
async fn a_flipped_bit_in_a_frame_header_costs_that_block() {
    for distance in [0, 20, 60, 100, 124, 200, 250] {
        let mut damaged = Damaged::new().await;
        damaged.lost.incomplete = Incomplete::Keep;
        damaged.flip(damaged.block("far away "), distance);
        let (report, test) = damaged.rebuild().await;
        damaged.check_incomplete(&report, &[(300, 1)], true);
        assert_eq!(report.gaps.count, 1, "{:?}", report.gap_examples);
        assert_eq!(findings(&test, &damaged.lost).await, [("chunk-missing", 1)]);
        assert_only_bad(&test, damaged.one, 300).await;
        damaged.assert_two(&test).await;
        let again = snapshot(&test, &[(9, "far away ")]).await;
        assert_holds(&test, again, &[(9, "far away ")]).await;
        damaged.assert_sound(&test).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_segment_header_costs_nothing() {
    let mut damaged = Damaged::new().await;
    for file in damaged.lost.survey().files {
        let begin = Location {
            container: file.container,
            offset: 0,
            length: 4096,
        };
        damaged.flip(begin, 17);
    }
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.snapshots, report.incomplete_count), (2, 0));
    damaged.assert_sound(&test).await;
}

/// A page that cannot be read takes what it covers with it: the leaf of blocks 256 to 383.
#[tokio::test]
async fn a_flipped_bit_in_a_page_costs_what_the_page_covers() {
    let mut damaged = Damaged::new().await;
    let test = TestEngine::open(damaged.lost.path()).await;
    let digest = listed(&test.engine, damaged.one).await[&300];
    close(test).await;
    let leaf = damaged.frames(ChunkKind::Page).into_iter().find(|frame| {
        let file = std::fs::File::open(damaged.file(frame.location.container.0)).unwrap();
        let mut page = vec![0; frame.stored_bytes as usize];
        file.read_exact_at(&mut page, frame.location.offset + 256)
            .unwrap();
        page.windows(32).any(|part| part == digest.as_bytes())
    });
    damaged.flip(leaf.expect("a leaf").location, 256 + 40);
    let (report, test) = damaged.rebuild().await;
    damaged.check_incomplete(&report, &[(256, 128)], false);
    assert_eq!(report.damaged, 1);
    damaged.assert_two(&test).await;
    close(test).await;

    damaged.lost.incomplete = Incomplete::Keep;
    let (report, test) = damaged.rebuild().await;
    damaged.check_incomplete(&report, &[(256, 128)], true);
    assert_eq!(findings(&test, &damaged.lost).await, [("chunk-damaged", 1)]);
    assert_scrubbed(&test, &[(damaged.one, 256, 128)]).await;
    let from = index(256);
    let answer = test
        .engine
        .list_blocks(account(), damaged.one, from, 10)
        .await;
    assert!(
        matches!(answer, Err(Error::MapDamaged { id, .. }) if id == damaged.one),
        "{answer:?}"
    );
    damaged.assert_two(&test).await;
    // The same map made again brings the page again.
    let again = snapshot(&test, &BLOCKS).await;
    assert_holds(&test, again, &BLOCKS).await;
    damaged.assert_sound(&test).await;
}

#[tokio::test]
async fn a_flipped_bit_in_a_snapshot_frame_costs_that_snapshot() {
    for distance in [60, 256 + 100] {
        let mut damaged = Damaged::new().await;
        let first = damaged.frames(ChunkKind::Snapshot)[0].location;
        damaged.flip(first, distance);
        let (report, test) = damaged.rebuild().await;
        assert_eq!((report.snapshots, report.incomplete_count), (1, 0));
        // Zeros in what is left of it make two gaps of one.
        assert!(report.gaps.count >= 1, "{report:?}");
        damaged.assert_two(&test).await;
        let gone = test.engine.readable(account(), damaged.one).await;
        assert!(matches!(gone, Err(Error::SnapshotNotFound { .. })));
    }
}

#[tokio::test]
async fn a_missing_segment_costs_what_it_held() {
    let mut damaged = Damaged::new().await;
    let shared = damaged.block("shared ").container.0;
    std::fs::remove_file(damaged.file(shared)).unwrap();
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.snapshots, report.left_out), (0, 2));
    close(test).await;
    damaged.lost.incomplete = Incomplete::Keep;
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.snapshots, report.left_out), (2, 0));
    let again = snapshot(
        &test,
        &[
            (7, "precious "),
            (8, "shared "),
            (9, "other "),
            (10, "far away "),
        ],
    )
    .await;
    listed(&test.engine, again).await;
    damaged.assert_sound(&test).await;
}

/// A block that was found damaged and put again has two frames: the whole one is taken.
#[tokio::test]
async fn of_two_frames_of_a_block_the_whole_one_is_taken() {
    for damage_second in [false, true] {
        let mut damaged = Damaged::new().await;
        let first = damaged.block("precious ");
        let path = damaged.file(first.container.0);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut whole = vec![0; first.length as usize];
        file.read_exact_at(&mut whole, first.offset).unwrap();
        damaged.flip(first, 4096 + 9);
        let test = TestEngine::open(damaged.lost.path()).await;
        assert_only_bad(&test, damaged.one, 0).await;
        let again = snapshot(&test, &[(9, "precious ")]).await;
        close(test).await;
        // What was replaced may have been freed; here it comes back, as on a disk that cannot punch holes.
        file.write_all_at(&whole, first.offset).unwrap();
        let frames = damaged.frames(ChunkKind::Block);
        let second = frames
            .iter()
            .rev()
            .find(|frame| frame.digest == Digest::of(&whole[4096..]));
        let second = second.unwrap().location;
        assert_ne!(first, second);
        damaged.flip(if damage_second { second } else { first }, 4096 + 9);
        let (report, test) = damaged.rebuild().await;
        assert_eq!(
            (report.duplicates, report.damaged, report.snapshots),
            (1, 0, 3)
        );
        damaged.assert_sound(&test).await;
        assert_holds(&test, again, &[(9, "precious ")]).await;
    }
}

/// An attempt to complete that was cut off leaves a frame of its own; whichever is newer counts.
#[tokio::test]
async fn of_several_frames_of_a_snapshot_the_newest_is_taken() {
    let mut damaged = Damaged::new().await;
    let test = TestEngine::open(damaged.lost.path()).await;
    let view = test.engine.snapshots_by_id(account(), &[damaged.one]).await;
    let view = view.unwrap().remove(0);
    for (later, description) in [(-1_000, "older"), (5_000, "newest"), (2_000, "newer")] {
        append_frame(&damaged, &test, &view, later, description).await;
    }
    close(test).await;
    let (report, test) = damaged.rebuild().await;
    assert_eq!((report.snapshots, report.incomplete_count), (2, 0));
    damaged.assert_sound(&test).await;
    let again = test.engine.snapshots_by_id(account(), &[damaged.one]).await;
    assert_eq!(again.unwrap()[0].description.as_deref(), Some("newest"));
}

async fn append_frame(
    damaged: &Damaged,
    test: &TestEngine,
    view: &crate::SnapshotView,
    later: i64,
    description: &str,
) {
    let frames = damaged.frames(ChunkKind::Snapshot);
    let mut found = Vec::new();
    for frame in frames {
        let bytes = test.store.read(frame.location, frame.id).await.unwrap();
        found.push(SnapshotFrame::decode(&bytes).unwrap());
    }
    let frame = found.iter().find(|frame| frame.id == damaged.one).unwrap();
    let frame = SnapshotFrame {
        completion_time: view.completion_time.unwrap() + later,
        description: Some(description.to_owned()),
        ..frame.clone()
    };
    let bytes = frame.encode();
    let digest = Digest::of(&bytes);
    let chunk = NewChunk {
        id: ChunkId {
            domain: frame.domain,
            name: ChunkName::plain(digest),
            kind: ChunkKind::Snapshot,
        },
        digest,
        data: bytes.into(),
    };
    test.store.append(vec![chunk]).await.unwrap();
}

#[tokio::test]
async fn a_deleted_snapshot_comes_back_and_can_be_deleted_again() {
    let mut damaged = Damaged::new().await;
    let test = TestEngine::open(damaged.lost.path()).await;
    test.engine
        .delete_snapshot(account(), damaged.one)
        .await
        .unwrap();
    close(test).await;
    damaged.lost.old = Some(damaged.lost.path().join("old"));
    let (report, test) = damaged.rebuild().await;
    assert_eq!(report.unknown_before.as_deref(), Some(&[damaged.one][..]));
    damaged.assert_sound(&test).await;
    test.engine
        .delete_snapshot(account(), damaged.one)
        .await
        .unwrap();
    damaged.assert_two(&test).await;
}

/// What the old catalog names as completed is kept, however incomplete.
#[tokio::test]
async fn what_the_old_catalog_names_is_kept() {
    let mut damaged = Damaged::new().await;
    damaged.lost.old = Some(damaged.lost.path().join("old"));
    damaged.flip(damaged.block("precious "), 60);
    let (report, test) = damaged.rebuild().await;
    damaged.check_incomplete(&report, &[(0, 1)], true);
    assert_eq!(report.unknown_before.as_deref(), Some(&[][..]));
    assert_only_bad(&test, damaged.one, 0).await;
}

#[tokio::test]
async fn a_child_goes_on_from_a_rescued_parent() {
    let mut damaged = Damaged::new().await;
    let (_, test) = damaged.rebuild().await;
    let child = start_child(&test.engine, damaged.one).await;
    put(&test, child, &[(1, "changed ")]).await;
    complete(&test, child, 1).await;
    let expected = [(0, "precious "), (1, "changed "), (300, "far away ")];
    assert_holds(&test, child, &expected).await;
}

/// A page that two maps share is walked once when all below it is whole, and told for both when it is not.
#[tokio::test]
async fn what_two_maps_share_is_missing_in_both() {
    let mut damaged = Damaged::new().await;
    let test = TestEngine::open(damaged.lost.path()).await;
    let child = start_child(&test.engine, damaged.one).await;
    put(&test, child, &[(1_000, "new ")]).await;
    complete(&test, child, 1).await;
    close(test).await;
    damaged.flip(damaged.block("precious "), 60);
    let (report, test) = damaged.rebuild().await;
    let mut found: Vec<_> = report
        .incomplete
        .iter()
        .map(|snapshot| {
            (
                snapshot.id,
                snapshot.bad[0].start.get(),
                snapshot.bad_blocks,
            )
        })
        .collect();
    found.sort_unstable();
    let mut expected = [(damaged.one, 0, 1), (child, 0, 1)];
    expected.sort_unstable();
    assert_eq!(found, expected);
    damaged.assert_two(&test).await;
}
