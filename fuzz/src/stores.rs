//! Bytes on disk: pages of block maps, frames, and whole segment files that hold anything.

use std::sync::{Arc, OnceLock};

use blockmap::Page;
use bytes::Bytes;
use chunkstore::faulty::FaultyIo;
use chunkstore::{
    ChunkId, ChunkKind, ChunkStore, CodecSetting, ContainerRegistry, LocalOptions, LocalStore,
    Location, MemoryRegistry, NewChunk, SegmentIo,
};
use tokio::runtime::{Builder, Runtime};
use types::{AccountId, BLOCK_BYTES, ChunkName, Digest, Domain, SystemClock};

/// The unit in which a disk is changed behind the store's back.
const SECTOR: u64 = 4096;

/// What decodes is canonical: encoding gives the same bytes back.
pub fn page(data: &[u8]) {
    if let Ok(page) = Page::decode(data) {
        assert_eq!(page.encode(), data);
    }
}

/// A store on a disk in memory, with one block and one page in it.
struct Bench {
    runtime: Runtime,
    disk: FaultyIo,
    registry: Arc<MemoryRegistry>,
    store: LocalStore,
    chunks: [(ChunkId, Bytes, Location); 2],
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(Bench::new)
}

fn options(disk: &FaultyIo, registry: &Arc<MemoryRegistry>) -> LocalOptions {
    LocalOptions {
        store_id: [7; 16],
        io: Arc::new(disk.clone()),
        registry: Arc::clone(registry) as Arc<dyn ContainerRegistry>,
        codec: CodecSetting::Zstd { level: 1 },
        encoders: 1,
        reserve_bytes: 0,
        segment_bytes_min: 2 << 20,
        segment_bytes_max: 4 << 20,
        clock: Arc::new(SystemClock::new()),
        metrics: Arc::default(),
    }
}

impl Bench {
    fn new() -> Bench {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime can be made");
        let disk = FaultyIo::new(1 << 40);
        let registry = Arc::new(MemoryRegistry::new());
        let opened = runtime.block_on(LocalStore::open(options(&disk, &registry)));
        let (store, _) = opened.expect("an empty disk");
        let mut chunks = Vec::new();
        for (kind, bytes) in [(ChunkKind::Block, BLOCK_BYTES), (ChunkKind::Page, 100)] {
            let data: Vec<u8> = (0..bytes).map(|at| (at * at >> 7) as u8).collect();
            let (data, digest) = (Bytes::from(data.clone()), Digest::of(&data));
            let account = AccountId::from_number(123_456_789_012).expect("twelve digits");
            let id = ChunkId {
                domain: Domain::of_account(account),
                name: ChunkName::plain(digest),
                kind,
            };
            let new = NewChunk {
                id,
                digest,
                data: data.clone(),
            };
            let stored = runtime
                .block_on(store.append(vec![new]))
                .expect("a disk without faults");
            chunks.push((id, data, stored[0].location));
        }
        let chunks = chunks.try_into().expect("two chunks");
        Bench {
            runtime,
            disk,
            registry,
            store,
            chunks,
        }
    }

    /// The segment file that holds a location, found by its content.
    fn file_of(&self, location: Location) -> String {
        let names = self.disk.list().expect("a disk without faults");
        let number = location.container.0;
        let named = |name: &&String| {
            name.split(|c: char| !c.is_ascii_hexdigit()).any(|part| {
                u64::from_str_radix(part, 16) == Ok(number) || part.parse() == Ok(number)
            })
        };
        names
            .iter()
            .find(named)
            .expect("the segment has a file")
            .clone()
    }
}

/// The first byte chooses the chunk, the next two a place in its frame, the rest is written there: the read gives
/// the content or an error, never anything else.
pub fn frame(data: &[u8]) {
    let Some((&[choice, high, low], bytes)) = data.split_first_chunk() else {
        return;
    };
    let bench = bench();
    let (id, content, location) = &bench.chunks[usize::from(choice & 1)];
    let file = bench.file_of(*location);
    let place =
        location.offset + u64::from(u16::from_be_bytes([high, low])) % u64::from(location.length);
    let first = place / SECTOR * SECTOR;
    let end = (place + bytes.len() as u64).next_multiple_of(SECTOR);
    let before = bench.disk.bytes_of(&file, first, (end - first) as usize);
    let mut changed = before.clone();
    let at = (place - first) as usize;
    for (old, new) in changed[at..].iter_mut().zip(bytes) {
        *old = *new;
    }
    bench.disk.overwrite(&file, first, &changed);
    let read = bench.runtime.block_on(bench.store.read(*location, *id));
    bench.disk.overwrite(&file, first, &before);
    if let Ok(found) = read {
        assert_eq!(found, *content, "other bytes were served");
    }
}

/// Writes the bytes over the beginning of every segment and opens the store: an error or a store, never a panic, and
/// never a chunk with other content.
pub fn segment_headers(data: &[u8]) {
    let bench = bench();
    let disk = FaultyIo::new(1 << 40);
    let registry = Arc::new(bench.registry.restored_copy());
    let shift = data.first().map_or(0, |&byte| usize::from(byte) * 16);
    for name in bench.disk.list().expect("a disk without faults") {
        let mut content = bench.disk.bytes_of(&name, 0, 2 << 20);
        for (old, new) in content.iter_mut().skip(shift).zip(data) {
            *old = *new;
        }
        disk.overwrite(&name, 0, &content);
    }
    bench.runtime.block_on(async {
        let Ok((store, _)) = LocalStore::open(options(&disk, &registry)).await else {
            return;
        };
        for (id, content, location) in &bench.chunks {
            if let Ok(found) = store.read(*location, *id).await {
                assert_eq!(found, *content, "other bytes were served");
            }
        }
        store.close().await;
    });
}
