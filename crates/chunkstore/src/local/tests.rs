//! What is true of local segments beyond the contract: batching, failures, recovery, space.

mod batching;
mod faults;
mod foreign;
mod power_cut;
mod read_only;
mod salvage;
mod segments;

use super::*;
use crate::MemoryRegistry;
use crate::faulty::FaultyIo;
use types::SystemClock;

pub(super) const STORE: [u8; 16] = *b"a store of tests";

/// A store on this file system with small segments.
pub(super) fn options(io: Arc<dyn SegmentIo>, registry: &Arc<MemoryRegistry>) -> LocalOptions {
    LocalOptions {
        store_id: STORE,
        io,
        registry: Arc::clone(registry) as Arc<dyn ContainerRegistry>,
        codec: CodecSetting::None,
        encoders: 2,
        reserve_bytes: 0,
        segment_bytes_min: 4 << 20,
        segment_bytes_max: 16 << 20,
        clock: Arc::new(SystemClock::new()),
        metrics: Arc::default(),
    }
}

/// A disk, its registry and an open store.
pub(super) struct Bench {
    pub(super) io: FaultyIo,
    pub(super) registry: Arc<MemoryRegistry>,
    pub(super) store: LocalStore,
}

impl Bench {
    pub(super) async fn new() -> Bench {
        Bench::on(FaultyIo::new(1 << 40), Arc::new(MemoryRegistry::new())).await
    }

    pub(super) async fn on(io: FaultyIo, registry: Arc<MemoryRegistry>) -> Bench {
        let opened = LocalStore::open(options(Arc::new(io.clone()), &registry)).await;
        let (store, recovered) = opened.unwrap();
        assert_eq!(recovered, []);
        Bench {
            io,
            registry,
            store,
        }
    }

    /// Ends the store in an orderly way and opens it again on the same disk.
    pub(super) async fn reopen(self) -> (Bench, Vec<RecoveredSegment>) {
        self.store.close().await;
        let Bench {
            io,
            registry,
            store,
        } = self;
        drop(store);
        let opened = LocalStore::open(options(Arc::new(io.clone()), &registry)).await;
        let (store, recovered) = opened.unwrap();
        (
            Bench {
                io,
                registry,
                store,
            },
            recovered,
        )
    }
}

fn factory_on(
    make: impl Fn() -> Arc<dyn SegmentIo>,
    codec: CodecSetting,
) -> impl Fn() -> BoxFuture<'static, Arc<dyn ChunkStore>> {
    move || {
        let mut options = options(make(), &Arc::new(MemoryRegistry::new()));
        options.codec = codec;
        Box::pin(async move {
            let (store, _) = LocalStore::open(options).await.unwrap();
            Arc::new(store) as Arc<dyn ChunkStore>
        })
    }
}

async fn check_contract_on_files(mode: WriteMode, codec: CodecSetting) {
    let dir = tempfile::tempdir().unwrap();
    let made = std::sync::atomic::AtomicU64::new(0);
    let make = || {
        let number = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = dir.path().join(number.to_string());
        std::fs::create_dir(&path).unwrap();
        Arc::new(FileIo::open(&path, mode).unwrap()) as Arc<dyn SegmentIo>
    };
    let factory = factory_on(make, codec);
    crate::contract::run(&|| factory()).await;
}

#[tokio::test]
async fn keeps_the_contract_on_files_written_directly() {
    check_contract_on_files(WriteMode::Detect, CodecSetting::None).await;
}

#[tokio::test]
async fn keeps_the_contract_on_files_written_through_the_page_cache() {
    check_contract_on_files(WriteMode::Buffered, CodecSetting::None).await;
}

#[tokio::test]
async fn keeps_the_contract_with_compression() {
    check_contract_on_files(WriteMode::Detect, CodecSetting::Zstd { level: 1 }).await;
}

#[tokio::test]
async fn keeps_the_contract_on_the_faulty_disk_without_faults() {
    let factory = factory_on(
        || Arc::new(FaultyIo::new(1 << 40)) as Arc<dyn SegmentIo>,
        CodecSetting::None,
    );
    crate::contract::run(&|| factory()).await;
}

#[tokio::test]
async fn keeps_the_contract_without_threads() {
    crate::contract::run(&|| {
        let io = Arc::new(FaultyIo::new(1 << 40));
        let options = options(io, &Arc::new(MemoryRegistry::new()));
        Box::pin(async move {
            let (store, _) = LocalStore::open_without_threads(options).await.unwrap();
            Arc::new(store) as Arc<dyn ChunkStore>
        })
    })
    .await;
}
