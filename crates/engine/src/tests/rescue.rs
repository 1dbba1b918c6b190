//! A catalog that was thrown away and built again from the segments.

mod damage;
mod history;

use super::account;
use crate::rescue::{
    Incomplete, OldCatalog, RebuildDepth, RebuildOptions, RebuildReport, Survey, rebuild, survey,
};
use crate::testing::{START, TestEngine};
use crate::{AuditDepth, AuditOptions, CollectMode, audit};
use catalog::db::{Sqlite, SqliteOptions};
use catalog::{Db, DbExt};
use chunkstore::{FileIo, SegmentIo};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a store is, and how its catalog is to be rebuilt.
struct Lost {
    dir: tempfile::TempDir,
    depth: RebuildDepth,
    incomplete: Incomplete,
    /// What is left of the catalog.
    old: Option<PathBuf>,
}

impl Lost {
    /// A directory whose catalog will be lost.
    fn new() -> Lost {
        Lost {
            dir: tempfile::tempdir().unwrap(),
            depth: RebuildDepth::Headers,
            incomplete: Incomplete::LeaveOut,
            old: None,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn segments(&self) -> PathBuf {
        self.path().join("segments")
    }

    fn io(&self) -> Arc<dyn SegmentIo> {
        Arc::new(FileIo::open_to_read(&self.segments()).unwrap())
    }

    fn survey(&self) -> Survey {
        survey(&*self.io()).unwrap()
    }

    /// Throws the catalog away, or puts it aside as what is left of it, and builds another one from the segments.
    async fn rebuild(&mut self) -> RebuildReport {
        let old = self.path().join("old");
        std::fs::create_dir_all(&old).unwrap();
        for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            let _ = std::fs::rename(self.path().join(name), old.join(name));
        }
        let before = self.contents();
        let db: Arc<dyn Db> = Arc::new(Sqlite::open(&options(self.path())).unwrap());
        let survey = self.survey();
        catalog::schema::migrate(&*db, survey.store_id, START)
            .await
            .unwrap();
        let left = self.old.clone();
        let report = rebuild(RebuildOptions {
            db: Arc::clone(&db),
            io: self.io(),
            survey,
            depth: self.depth,
            incomplete: self.incomplete,
            scratch: self.path().into(),
            old: left.map(|path| OldCatalog {
                open: Arc::new(move || Ok(Arc::new(Sqlite::open_read_only(&options(&path))?))),
            }),
            now: START,
            tell: Arc::new(|_| {}),
        })
        .await
        .unwrap();
        assert_live_bytes(&*db).await;
        assert!(before == self.contents(), "segments are only read");
        report
    }

    /// Every byte of every segment.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(self.segments())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

fn options(directory: &Path) -> SqliteOptions {
    SqliteOptions {
        path: directory.join("catalog.db"),
        readers: NonZeroUsize::new(2).unwrap(),
        cache_bytes: 8 << 20,
    }
}

async fn close(test: TestEngine) {
    test.store.close().await;
    drop(test);
}

/// What an audit finds on a rescued store: kinds and counts.
async fn findings(test: &TestEngine, lost: &Lost) -> Vec<(&'static str, u64)> {
    let scratch = lost.path().join("audit");
    std::fs::create_dir_all(&scratch).unwrap();
    let options = AuditOptions {
        db: Arc::clone(&test.db),
        chunks: Arc::clone(&test.store) as _,
        scratch: scratch.into(),
        depth: AuditDepth::Headers,
    };
    let report = audit(options).await.unwrap();
    let kinds = report.findings.iter();
    kinds.map(|found| (found.kind, found.count)).collect()
}

/// Collects until nothing is left to do; the live bytes stay exact, and an audit finds nothing.
async fn collect_all(test: &TestEngine, lost: &Lost) {
    for _ in 0..3 {
        let report = test.engine.collect(CollectMode::Cycle).await.unwrap();
        assert_eq!((report.missing, report.revived), (0, 0), "{report:?}");
    }
    assert_live_bytes(&*test.db).await;
    assert_eq!(findings(test, lost).await, []);
}

/// Checks that each container's live bytes are the sum of the frames that records name.
async fn assert_live_bytes(db: &dyn Db) {
    let rows = db
        .view(|txn| {
            Box::pin(async move {
                txn.query(
                    "SELECT container, live_bytes, (SELECT CAST(COALESCE(SUM(frame_length), 0) AS BIGINT) FROM chunks \
                     WHERE chunks.container = containers.container) + \
                     (SELECT CAST(COALESCE(SUM(frame_length), 0) AS BIGINT) FROM snapshots \
                     WHERE snapshots.frame_container = containers.container) FROM containers",
                    Vec::new(),
                )
                .await
            })
        })
        .await
        .unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let number = |column| row.int(column, "containers").unwrap();
        assert_eq!(number(1), number(2), "container {}", number(0));
    }
}
