//! Segments without a registry: what is found in them, whole and damaged.

use super::{Bench, STORE};
use crate::contract::{append_one, chunk};
use crate::faulty::FaultyIo;
use crate::frame::StoreKey;
use crate::local::scan::{Scan, Unreadable};
use crate::salvage::{FoundHeader, GapReason, Salvage, SalvagedPart, SegmentFile, survey};
use crate::{ChunkKind, ChunkStore, ContainerKind, SegmentIo, SegmentReader, Stored, layout};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

/// A store of three blocks and three pages that has ended.
async fn used() -> (FaultyIo, Vec<Stored>, Vec<Stored>) {
    let bench = Bench::new().await;
    let (mut blocks, mut pages) = (Vec::new(), Vec::new());
    for seed in 0..3 {
        let block = chunk(ChunkKind::Block, seed, 20_000);
        blocks.push(append_one(&bench.store, &block).await);
        let page = chunk(ChunkKind::Page, 10 + seed, 4_000);
        pages.push(append_one(&bench.store, &page).await);
    }
    bench.store.close().await;
    (bench.io.clone(), blocks, pages)
}

fn file(io: &FaultyIo, kind: ContainerKind) -> SegmentFile {
    let mut files = survey(io).unwrap();
    files.retain(|file| file.kind == kind);
    assert_eq!(files.len(), 1);
    files.remove(0)
}

fn whole(io: &FaultyIo, kind: ContainerKind, limit: usize) -> SalvagedPart {
    let salvage = Salvage::new(STORE, Arc::new(io.clone()));
    let file = file(io, kind);
    let mut all = salvage.part(&file, 0, limit).unwrap();
    while let Some(next) = all.next {
        let part = salvage.part(&file, next, limit).unwrap();
        assert!(part.frames.len() <= limit && part.gaps.len() <= limit);
        all.frames.extend(part.frames);
        all.gaps.extend(part.gaps);
        all.next = part.next;
    }
    all
}

fn check_found(part: &SalvagedPart, expected: &[&Stored], gaps: &[(u64, GapReason)]) {
    let found: Vec<_> = part.frames.iter().map(|frame| frame.location).collect();
    let expected: Vec<_> = expected.iter().map(|stored| stored.location).collect();
    assert_eq!(found, expected);
    let found: Vec<_> = part
        .gaps
        .iter()
        .map(|gap| (gap.location.offset, gap.reason))
        .collect();
    assert_eq!(found, gaps);
}

#[tokio::test]
async fn every_frame_is_found_in_parts_of_any_size() {
    let (io, blocks, pages) = used().await;
    let steps = io.steps();
    for limit in [1, 2, 100] {
        check_found(
            &whole(&io, ContainerKind::Blocks, limit),
            &blocks.iter().collect::<Vec<_>>(),
            &[],
        );
        check_found(
            &whole(&io, ContainerKind::Pages, limit),
            &pages.iter().collect::<Vec<_>>(),
            &[],
        );
    }
    assert_eq!(io.steps(), steps, "nothing was written");
}

#[tokio::test]
async fn a_store_is_known_by_its_frames_when_a_header_is_damaged() {
    let (io, blocks, _) = used().await;
    let name = layout::segment_name(blocks[0].location.container, ContainerKind::Blocks);
    let found = |io| file(io, ContainerKind::Blocks);
    assert_eq!(found(&io).header, FoundHeader::Whole { store_id: STORE });
    io.flip_bit(&name, 20, 0);
    let damaged = found(&io);
    assert_eq!(
        damaged.header,
        FoundHeader::Damaged {
            store_id: Some(STORE)
        }
    );
    assert_eq!(damaged.store_id(), Some(STORE));
    // The first frame's header is gone, too: the next one tells.
    io.flip_bit(&name, blocks[0].location.offset + 60, 0);
    assert_eq!(found(&io).store_id(), Some(STORE));
    for stored in &blocks {
        io.flip_bit(&name, stored.location.offset + 60, 1);
    }
    io.flip_bit(&name, blocks[0].location.offset + 60, 2);
    assert_eq!(found(&io).store_id(), None);
}

#[tokio::test]
async fn a_renamed_segment_is_told() {
    let (io, blocks, _) = used().await;
    let name = layout::segment_name(blocks[0].location.container, ContainerKind::Blocks);
    let content = io.bytes_of(&name, 0, 1 << 20);
    let other = crate::ContainerId(99);
    io.overwrite(
        &layout::segment_name(other, ContainerKind::Blocks),
        0,
        &content,
    );
    let files = survey(&io).unwrap();
    let copy = files.iter().find(|file| file.container == other).unwrap();
    assert_eq!(
        copy.header,
        FoundHeader::Misnamed {
            store_id: STORE,
            container: blocks[0].location.container
        }
    );
    let salvage = Salvage::new(STORE, Arc::new(io.clone()));
    let part = salvage.part(copy, 0, 100).unwrap();
    assert_eq!(part.frames, [], "its frames are of another place");
    assert_eq!(part.gaps[0].reason, GapReason::Misplaced);
}

#[tokio::test]
async fn a_damaged_frame_header_costs_that_frame_alone() {
    let (io, blocks, pages) = used().await;
    for (kind, stored) in [
        (ContainerKind::Blocks, &blocks),
        (ContainerKind::Pages, &pages),
    ] {
        let at = stored[1].location;
        io.flip_bit(&layout::segment_name(at.container, kind), at.offset + 70, 3);
        for limit in [1, 100] {
            let mut found = whole(&io, kind, limit);
            // What the payload is taken for does not matter.
            found.gaps.truncate(1);
            let gaps = [(at.offset, GapReason::DamagedHeader)];
            check_found(&found, &[&stored[0], &stored[2]], &gaps);
        }
    }
}

#[tokio::test]
async fn a_torn_frame_is_a_gap() {
    let (io, blocks, _) = used().await;
    let name = layout::segment_name(blocks[0].location.container, ContainerKind::Blocks);
    let last = blocks[2].location;
    let end = last.offset + u64::from(last.length);
    let bytes = io.bytes_of(&name, blocks[0].location.offset + 4096, 8192);
    io.overwrite(&name, end + 4096, &bytes);
    check_found(
        &whole(&io, ContainerKind::Blocks, 100),
        &blocks.iter().collect::<Vec<_>>(),
        &[(end + 4096, GapReason::NoFrame)],
    );
}

/// A file with a sector that the disk cannot read.
struct BadSector {
    file: Arc<dyn SegmentReader>,
    at: u64,
    /// What the system says: EIO through the page cache, anything else of [`is_bad_sector`] around it.
    errno: Errno,
}

impl SegmentReader for BadSector {
    fn read_at(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        if offset < self.at + 4096 && self.at < offset + bytes as u64 {
            return Err(io::Error::from_raw_os_error(self.errno.raw_os_error()));
        }
        self.file.read_at(into, bytes, offset)
    }

    fn read_cached(&self, _into: &mut [u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn read_stored(&self, into: &mut Vec<u8>, bytes: usize, offset: u64) -> io::Result<()> {
        self.read_at(into, bytes, offset)
    }

    fn read_nothing_ahead(&self) {}

    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.data_from(offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}

#[tokio::test]
async fn a_bad_sector_is_a_gap_and_the_rest_is_found() {
    let (io, blocks, pages) = used().await;
    for (kind, stored, errno) in [
        (ContainerKind::Blocks, &blocks, Errno::IO),
        (ContainerKind::Pages, &pages, Errno::IO),
        (ContainerKind::Blocks, &blocks, Errno::NODATA),
        (ContainerKind::Pages, &pages, Errno::ILSEQ),
    ] {
        let container = stored[0].location.container;
        let file = BadSector {
            errno,
            file: io
                .open_reader(&layout::segment_name(container, kind))
                .unwrap(),
            at: stored[0].location.offset,
        };
        let scan = |unreadable| {
            let scan = Scan {
                key: &StoreKey::new(STORE),
                file: &file,
                container,
                kind,
                unreadable,
            };
            scan.run(0, 100)
        };
        let found = scan(Unreadable::IsSkipped).unwrap();
        assert_eq!(found.gaps[0].reason, GapReason::Unreadable);
        assert_eq!(found.gaps[0].location.offset, stored[0].location.offset);
        let last = found.frames.last().unwrap();
        assert_eq!(last.location, stored[2].location);
        assert!(
            scan(Unreadable::Fails).is_err(),
            "a start-up does not guess"
        );
    }
}

/// A page's header that reaches over the end of a sector is found, however near before a bad one it lies.
#[tokio::test]
async fn no_page_before_a_bad_sector_is_lost() {
    let bench = Bench::new().await;
    let batch: Vec<_> = (0..400)
        .map(|seed| chunk(ChunkKind::Page, seed, 700))
        .collect();
    let stored = bench.store.append(batch).await.unwrap();
    let container = stored[0].location.container;
    let crossing = stored
        .iter()
        .filter(|stored| stored.location.offset % 4096 > 4096 - 256)
        .count();
    assert!(crossing > 5, "{crossing}");
    let at = stored[390].location.offset / 4096 * 4096;
    let name = layout::segment_name(container, ContainerKind::Pages);
    let file = BadSector {
        file: bench.io.open_reader(&name).unwrap(),
        at,
        errno: Errno::IO,
    };
    let scan = Scan {
        key: &StoreKey::new(STORE),
        file: &file,
        container,
        kind: ContainerKind::Pages,
        unreadable: Unreadable::IsSkipped,
    };
    let found = scan.run(0, 1_000).unwrap();
    let before: Vec<_> = stored
        .iter()
        .map(|stored| stored.location)
        .filter(|location| location.offset + 256 <= at)
        .collect();
    let scanned: Vec<_> = found.frames.iter().map(|frame| frame.location).collect();
    assert_eq!(scanned[..before.len()], before[..]);
}
