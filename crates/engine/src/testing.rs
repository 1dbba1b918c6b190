//! An engine on a fresh directory, for the tests of this crate and of the edges.

use crate::{
    ContainerCatalog, DedupScope, Engine, EngineOptions, HashPool, HashedBlock, Workers,
    settle_recovered,
};
use catalog::db::{Sqlite, SqliteOptions};
use catalog::{Db, DbExt};
use chunkstore::{CodecSetting, FileIo, LocalOptions, LocalStore, WriteMode};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use types::{Clock, Random, TestClock};

/// When test clocks start: 2026-09-25 11:57:20 UTC.
pub const START: i64 = 1_790_337_440_000;

/// An engine with everything below it real: SQLite and segment files in a directory.
pub struct TestEngine {
    /// The engine.
    pub engine: Engine,
    /// Its clock, which stands still.
    pub clock: Arc<TestClock>,
    /// Its catalog.
    pub db: Arc<dyn Db>,
    /// Its chunk store.
    pub store: Arc<LocalStore>,
    workers: Option<Workers>,
}

impl TestEngine {
    /// An engine on this directory, empty or used before, with its workers running.
    pub async fn open(directory: &Path) -> TestEngine {
        let mut engine = TestEngine::without_workers(directory).await;
        engine.workers = Some(Workers::start(&engine.engine));
        engine
    }

    /// The same with nothing in the background: sealed snapshots stay sealed.
    pub async fn without_workers(directory: &Path) -> TestEngine {
        TestEngine::sharing(directory, DedupScope::Account).await
    }

    /// The same where these snapshots share equal blocks.
    pub async fn sharing(directory: &Path, dedup: DedupScope) -> TestEngine {
        let clock = Arc::new(TestClock::at(START));
        let options = SqliteOptions {
            path: directory.join("catalog.db"),
            readers: NonZeroUsize::new(2).expect("2 is not 0"),
            cache_bytes: 8 << 20,
        };
        let db: Arc<dyn Db> = Arc::new(Sqlite::open(&options).expect("the catalog opens"));
        catalog::schema::migrate(&*db, [7; 16], clock.now())
            .await
            .expect("the schema is made");
        let store_id = db
            .view(|txn| Box::pin(async move { catalog::meta::store_id(txn).await }))
            .await
            .expect("the store has an id");
        let segments = directory.join("segments");
        std::fs::create_dir_all(&segments).expect("the directory can be made");
        let io = FileIo::open(&segments, WriteMode::Detect).expect("segments can be written");
        let (store, recovered) = LocalStore::open(LocalOptions {
            store_id,
            io: Arc::new(io),
            registry: Arc::new(ContainerCatalog::new(Arc::clone(&db))),
            codec: CodecSetting::None,
            encoders: 1,
            reserve_bytes: 0,
            segment_bytes_min: 4 << 20,
            segment_bytes_max: 16 << 20,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: Arc::default(),
        })
        .await
        .expect("the chunk store opens");
        settle_recovered(&*db, &store, recovered)
            .await
            .expect("recovery settles");
        let store = Arc::new(store);
        let engine = Engine::new(EngineOptions {
            db: Arc::clone(&db),
            exclusive_catalog: true,
            chunks: Arc::clone(&store) as _,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Random::system(),
            dedup,
            page_cache_bytes: 8 << 20,
            buffers: 16,
            unverified_buffers: 2,
            hashing: HashPool::start(2).expect("threads can be started"),
            scratch: directory.join("scratch"),
        });
        TestEngine {
            engine,
            clock,
            db,
            store,
            workers: None,
        }
    }

    /// A block that repeats this text, hashed.
    pub async fn block(&self, text: &str) -> HashedBlock {
        let mut buffer = self.engine.buffers().take().await;
        for part in buffer.chunks_mut(text.len()) {
            part.copy_from_slice(&text.as_bytes()[..part.len()]);
        }
        self.engine
            .hash_block(buffer)
            .await
            .expect("a block can be hashed")
    }

    /// Number of rows that these tables (or tables with conditions) hold together.
    pub async fn rows(&self, tables: &'static [&'static str]) -> i64 {
        let rows = self.db.view(move |txn| {
            Box::pin(async move {
                let mut rows = 0;
                for table in tables {
                    let count = format!("SELECT COUNT(*) FROM {table}");
                    rows += txn.query(&count, Vec::new()).await?[0].int(0, "count")?;
                }
                Ok(rows)
            })
        });
        rows.await.expect("tables can be counted")
    }

    /// Waits until the snapshot is neither open nor sealed.
    pub async fn settled(
        &self,
        account: types::AccountId,
        id: types::SnapshotId,
    ) -> crate::SnapshotView {
        loop {
            let settled = self.engine.inner.settled.notified();
            let views = self.engine.snapshots_by_id(account, &[id]).await;
            let view = views.expect("the snapshot exists").remove(0);
            if view.state != crate::SnapshotState::Pending {
                return view;
            }
            settled.await;
        }
    }
}
