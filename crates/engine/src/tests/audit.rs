//! Audit: a sound store gives no finding, whatever has happened to it and goes on meanwhile; each kind of damage gives its own.

use super::damage::{change, flip, place, set_place};
use super::{account, complete, completion, put, snapshot, start, start_child};
use crate::audit::audit_with;
use crate::testing::TestEngine;
use crate::{AuditDepth, AuditOptions, AuditReport, CollectMode, StartSnapshot, Tag, audit};
use catalog::chunks::ChunkKey;
use catalog::db::{Outcome, Sqlite, SqliteOptions, Work};
use catalog::{Db, DbExt, Value};
use chunkstore::{ChunkId, ChunkKind, ChunkStore, FileIo, NewChunk, ReadOnlyStore};
use futures_util::future::BoxFuture;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use types::{ChunkName, Digest, Domain, SnapshotId};

const DEPTHS: [AuditDepth; 2] = [AuditDepth::Catalog, AuditDepth::Headers];

/// Sets the live bytes of all containers to what records say.
const RECOUNT: &str = "UPDATE containers SET live_bytes = \
    (SELECT COALESCE(SUM(frame_length), 0) FROM chunks WHERE chunks.container = containers.container) + \
    (SELECT COALESCE(SUM(frame_length), 0) FROM snapshots WHERE frame_container = containers.container)";

async fn audited(
    db: Arc<dyn Db>,
    chunks: Arc<dyn ChunkStore>,
    directory: &Path,
    depth: AuditDepth,
) -> AuditReport {
    let scratch = directory.join("audit");
    std::fs::create_dir_all(&scratch).unwrap();
    let options = AuditOptions {
        db,
        chunks,
        scratch: scratch.into(),
        depth,
    };
    // As a task: what the commands run must be able to change threads.
    tokio::spawn(audit(options)).await.unwrap().unwrap()
}

/// Audits the store of a running engine.
async fn online(test: &TestEngine, directory: &Path, depth: AuditDepth) -> AuditReport {
    let (db, chunks) = (Arc::clone(&test.db), Arc::clone(&test.store) as _);
    audited(db, chunks, directory, depth).await
}

/// Audits the store in a directory that nothing runs on.
async fn offline(directory: &Path, depth: AuditDepth) -> AuditReport {
    let options = SqliteOptions {
        path: directory.join("catalog.db"),
        readers: NonZeroUsize::new(2).unwrap(),
        cache_bytes: 1 << 20,
    };
    let db = Arc::new(Sqlite::open_read_only(&options).unwrap());
    let io = FileIo::open_to_read(&directory.join("segments")).unwrap();
    let chunks = Arc::new(ReadOnlyStore::new([7; 16], Arc::new(io)));
    audited(db, chunks, directory, depth).await
}

fn kinds(report: &AuditReport) -> Vec<(&'static str, bool, u64)> {
    let findings = report.findings.iter();
    findings
        .map(|finding| (finding.kind, finding.grave, finding.count))
        .collect()
}

fn looked_at(report: &AuditReport, what: &str) -> u64 {
    let found = report.looked_at.iter().find(|(word, _)| *word == what);
    found.unwrap_or_else(|| panic!("{what}: {report:?}")).1
}

async fn close(test: TestEngine) {
    test.store.close().await;
    drop(test);
}

async fn key(test: &TestEngine, text: &str) -> ChunkKey {
    let digest = test.block(text).await.digest();
    (Domain::of_account(account()), ChunkName::plain(digest))
}

/// A store with two snapshots, a pending one, and containers that are all complete.
struct Store {
    dir: tempfile::TempDir,
    test: TestEngine,
    first: SnapshotId,
    second: SnapshotId,
}

impl Store {
    async fn new() -> Store {
        let dir = tempfile::tempdir().unwrap();
        let test = TestEngine::open(dir.path()).await;
        let first = snapshot(&test, &[(0, "a"), (1, "b"), (200, "c")]).await;
        let second = start_child(&test.engine, first).await;
        put(&test, second, &[(1, "d"), (2, "")]).await;
        complete(&test, second, 2).await;
        let pending = start(&test.engine).await;
        put(&test, pending, &[(9, "e")]).await;
        test.engine.purge_now().await.unwrap();
        close(test).await;
        let test = TestEngine::open(dir.path()).await;
        for depth in DEPTHS {
            assert_eq!(kinds(&online(&test, dir.path(), depth).await), []);
        }
        Store {
            dir,
            test,
            first,
            second,
        }
    }

    /// Checks that an audit of the running store gives this kind alone, at both depths or only where headers are read.
    async fn check(&self, depths: &[AuditDepth], kind: &'static str, grave: bool, count: u64) {
        for depth in DEPTHS {
            let report = online(&self.test, self.dir.path(), depth).await;
            let expected = match depths.contains(&depth) {
                true => vec![(kind, grave, count)],
                false => Vec::new(),
            };
            assert_eq!(kinds(&report), expected, "{depth:?}: {report:?}");
        }
    }

    /// The same for the store when nothing runs on it.
    async fn check_offline(self, kind: &'static str, grave: bool, damage: impl Fn(&Path)) {
        let Store { dir, test, .. } = self;
        close(test).await;
        assert_eq!(kinds(&offline(dir.path(), AuditDepth::Headers).await), []);
        damage(&dir.path().join("segments"));
        let report = offline(dir.path(), AuditDepth::Catalog).await;
        assert_eq!(kinds(&report), [(kind, grave, 1)], "{report:?}");
    }

    async fn key(&self, text: &str) -> ChunkKey {
        key(&self.test, text).await
    }

    async fn execute(&self, sql: &'static str, params: Vec<Value>) {
        let changed = self.test.db.transact(move |txn| {
            let params = params.clone();
            Box::pin(async move { txn.execute(sql, params).await })
        });
        assert_ne!(changed.await.unwrap(), 0, "{sql}");
    }
}

fn named(key: ChunkKey) -> Value {
    key.1.as_bytes().into()
}

/// The file of the first container of this kind.
fn segment(segments: &Path, kind: &str) -> PathBuf {
    let files = std::fs::read_dir(segments).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().unwrap() == kind);
    files.sort();
    files.swap_remove(0)
}

#[tokio::test]
async fn a_store_with_a_busy_past_gives_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    assert_eq!(
        kinds(&online(&test, dir.path(), AuditDepth::Headers).await),
        []
    );
    let request = StartSnapshot {
        tags: Some(vec![Tag {
            key: "name".to_owned(),
            value: "root".to_owned(),
        }]),
        client_token: Some("token".to_owned()),
        ..super::plain_start()
    };
    let mut last = test.engine.start_snapshot(request).await.unwrap().id;
    put(&test, last, &[(0, "zero"), (1, "one"), (5, "")]).await;
    complete(&test, last, 3).await;
    let mut all = vec![last];
    for round in 0..12_u32 {
        last = start_child(&test.engine, last).await;
        let text = format!("round {round:010} ");
        put(&test, last, &[(round * 100, &text), (1_999, &text)]).await;
        complete(&test, last, 2).await;
        all.push(last);
    }
    let failed = start(&test.engine).await;
    put(&test, failed, &[(3, "lost")]).await;
    test.engine
        .complete_snapshot(completion(failed, 7))
        .await
        .unwrap();
    test.settled(account(), failed).await;
    let pending = start_child(&test.engine, last).await;
    put(&test, pending, &[(4, "waiting"), (5, "round")]).await;
    flip(
        dir.path(),
        place(&test, key(&test, "lost").await).await,
        5_000,
    );
    for id in all.drain(..9) {
        test.engine.delete_snapshot(account(), id).await.unwrap();
        test.engine.collect(CollectMode::Cycle).await.unwrap();
    }
    for depth in DEPTHS {
        let report = online(&test, dir.path(), depth).await;
        assert_eq!(kinds(&report), [], "{report:?}");
        assert!(looked_at(&report, "snapshots") >= 5);
    }
    close(test).await;
    for depth in DEPTHS {
        let report = offline(dir.path(), depth).await;
        assert_eq!(kinds(&report), [], "{report:?}");
    }
    let report = offline(dir.path(), AuditDepth::Headers).await;
    assert_eq!(
        looked_at(&report, "headers"),
        looked_at(&report, "named frames")
    );
    assert_eq!(
        looked_at(&report, "chunk records") + 4,
        looked_at(&report, "named frames")
    );

    let test = TestEngine::open(dir.path()).await;
    let report = online(&test, dir.path(), AuditDepth::Headers).await;
    assert_eq!(kinds(&report), [], "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_on_meanwhile_is_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    let test = Arc::new(TestEngine::open(dir.path()).await);
    let base = snapshot(&test, &[(0, "base"), (1_000, "base too")]).await;
    let busy = Arc::clone(&test);
    let work = tokio::spawn(async move {
        for round in 0..25_u32 {
            let id = start_child(&busy.engine, base).await;
            let texts = [round, round % 3].map(|number| format!("text {number:011} "));
            put(
                &busy,
                id,
                &[(round + 1, &texts[0]), (300, &texts[1]), (0, "base too")],
            )
            .await;
            complete(&busy, id, 3).await;
            if round % 2 == 0 {
                busy.engine.delete_snapshot(account(), id).await.unwrap();
                busy.engine.collect(CollectMode::Cycle).await.unwrap();
            }
        }
    });
    let mut audits = 0;
    while !work.is_finished() {
        for depth in DEPTHS {
            let report = online(&test, dir.path(), depth).await;
            assert_eq!(kinds(&report), [], "{report:?}");
            audits += 1;
        }
    }
    work.await.unwrap();
    assert!(audits >= 4, "{audits}");
}

/// A catalog in which something happens before one of the reads.
struct Meddling {
    db: Arc<dyn Db>,
    reads: AtomicU64,
    before: u64,
    act: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Db for Meddling {
    fn write(&self, work: Work) -> BoxFuture<'_, Result<Outcome, catalog::Error>> {
        self.db.write(work)
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<Outcome, catalog::Error>> {
        Box::pin(async move {
            if self.reads.fetch_add(1, Ordering::Relaxed) == self.before {
                let act = self.act.lock().unwrap().take();
                act.unwrap().await;
            }
            self.db.read(work).await
        })
    }
}

/// Deletes a snapshot, and collects what only it had, before every `step`th read of an audit.
async fn check_that_a_deletion_is_no_finding(step: usize, suspects_max: u64) {
    let Store { dir, test, .. } = Store::new().await;
    let mut snapshots = Vec::new();
    for number in 0..80 / step {
        let text = format!("own {number:012}");
        snapshots.push(snapshot(&test, &[(1_000, &text), (1_001, "all")]).await);
    }
    // So that their frames are in complete containers, from which they are freed.
    close(test).await;
    let test = TestEngine::open(dir.path()).await;
    for (gone, before) in snapshots.into_iter().zip((0..).step_by(step)) {
        let engine = test.engine.clone();
        let act = async move {
            engine.delete_snapshot(account(), gone).await.unwrap();
            engine.purge_now().await.unwrap();
            for _ in 0..3 {
                engine.collect(CollectMode::Cycle).await.unwrap();
            }
        };
        let db = Arc::new(Meddling {
            db: Arc::clone(&test.db),
            reads: AtomicU64::new(0),
            before: before as u64,
            act: Mutex::new(Some(Box::pin(act))),
        });
        let options = AuditOptions {
            db: Arc::clone(&db) as _,
            chunks: Arc::clone(&test.store) as _,
            scratch: dir.path().into(),
            depth: AuditDepth::Headers,
        };
        let report = audit_with(options, suspects_max).await.unwrap();
        assert_eq!(kinds(&report), [], "before read {before}: {report:?}");
        if db.act.lock().unwrap().is_some() {
            assert!(before > 20, "{before} reads");
            return;
        }
    }
    panic!("an audit takes more reads than there are snapshots");
}

#[tokio::test]
async fn a_deletion_between_two_reads_is_no_finding() {
    check_that_a_deletion_is_no_finding(2, 1_000).await;
}

#[tokio::test]
async fn a_deletion_of_more_than_is_walked_to_is_no_finding() {
    check_that_a_deletion_is_no_finding(5, 0).await;
}

#[tokio::test]
async fn what_is_not_walked_to_is_counted_all_the_same() {
    let store = Store::new().await;
    change(&store.test, "UPDATE chunks SET state = 2 WHERE kind = 1").await;
    for suspects_max in [0, 1, 3, 4, 5, 1_000] {
        let options = AuditOptions {
            db: Arc::clone(&store.test.db),
            chunks: Arc::clone(&store.test.store) as _,
            scratch: store.dir.path().into(),
            depth: AuditDepth::Catalog,
        };
        let report = audit_with(options, suspects_max).await.unwrap();
        assert_eq!(kinds(&report), [("chunk-condemned", true, 5)], "{report:?}");
        let examples = report.findings[0].examples.iter();
        let with_names = examples.filter(|example| example.contains("snap-")).count();
        assert_eq!(with_names as u64, suspects_max.min(5), "{report:?}");
    }
}

#[tokio::test]
async fn chunk_missing() {
    let store = Store::new().await;
    let a = store.key("a").await;
    let sql = "DELETE FROM chunks WHERE name = $1";
    store.execute(sql, vec![named(a)]).await;
    change(&store.test, RECOUNT).await;
    store.check(&DEPTHS, "chunk-missing", true, 1).await;
    let report = online(&store.test, store.dir.path(), AuditDepth::Catalog).await;
    let example = &report.findings[0].examples[0];
    for id in [store.first, store.second] {
        assert!(example.contains(&format!("block 0 of {id}")), "{example}");
    }
    assert!(example.contains(&a.1.to_string()), "{example}");
    let report = online(&store.test, store.dir.path(), AuditDepth::Headers).await;
    assert_eq!(looked_at(&report, "frames without a name"), 1);
}

#[tokio::test]
async fn chunk_missing_of_a_pending_snapshot() {
    let store = Store::new().await;
    let e = store.key("e").await;
    let sql = "DELETE FROM chunks WHERE name = $1";
    store.execute(sql, vec![named(e)]).await;
    change(&store.test, RECOUNT).await;
    store.check(&DEPTHS, "chunk-missing", true, 1).await;
}

#[tokio::test]
async fn chunk_condemned() {
    let store = Store::new().await;
    let (b, root) = (store.key("b").await, root_key(&store).await);
    let sql = "UPDATE chunks SET state = 2 WHERE name = $1 OR name = $2";
    store.execute(sql, vec![named(b), named(root)]).await;
    store.check(&DEPTHS, "chunk-condemned", true, 2).await;
}

/// The key of the first snapshot's root.
async fn root_key(store: &Store) -> ChunkKey {
    let id = store.first;
    let found = store
        .test
        .db
        .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }));
    let root = found.await.unwrap().unwrap().finished.unwrap().root;
    (Domain::of_account(account()), ChunkName::plain(root))
}

#[tokio::test]
async fn what_only_waits_to_be_collected_is_no_finding() {
    let store = Store::new().await;
    let test = &store.test;
    let gone = snapshot(test, &[(7, "gone")]).await;
    test.engine.delete_snapshot(account(), gone).await.unwrap();
    test.engine.purge_now().await.unwrap();
    let report = online(test, store.dir.path(), AuditDepth::Catalog).await;
    assert_eq!(looked_at(&report, "chunks that nothing refers to"), 5);
    let sql = "UPDATE chunks SET state = 2 WHERE name = $1";
    let gone = store.key("gone").await;
    store.execute(sql, vec![named(gone)]).await;
    assert_eq!(
        kinds(&online(test, store.dir.path(), AuditDepth::Headers).await),
        []
    );
}

#[tokio::test]
async fn chunk_damaged() {
    let store = Store::new().await;
    let b = store.key("b").await;
    let sql = "UPDATE chunks SET state = 3 WHERE name = $1";
    store.execute(sql, vec![named(b)]).await;
    store.check(&DEPTHS, "chunk-damaged", true, 1).await;
}

#[tokio::test]
async fn chunk_kind() {
    let store = Store::new().await;
    let b = store.key("b").await;
    let sql = "UPDATE chunks SET kind = 9 WHERE name = $1";
    store.execute(sql, vec![named(b)]).await;
    store.check(&DEPTHS, "chunk-kind", true, 1).await;
}

#[tokio::test]
async fn page_unreadable() {
    let store = Store::new().await;
    let root = root_key(&store).await;
    flip(store.dir.path(), place(&store.test, root).await, 280);
    store.check(&DEPTHS, "page-unreadable", true, 1).await;
    let report = online(&store.test, store.dir.path(), AuditDepth::Catalog).await;
    let example = &report.findings[0].examples[0];
    let words = format!("2048 blocks from 0 of {}", store.first);
    assert!(example.contains(&words), "{example}");
    let marked = store.test.rows(&["chunks WHERE state <> 1"]).await;
    assert_eq!(marked, 0, "an audit marks nothing");
}

#[tokio::test]
async fn frame_container() {
    let store = Store::new().await;
    let b = store.key("b").await;
    let mut elsewhere = place(&store.test, b).await;
    elsewhere.container = 999;
    set_place(&store.test, b, elsewhere).await;
    change(&store.test, RECOUNT).await;
    store.check(&DEPTHS, "frame-container", true, 1).await;
}

#[tokio::test]
async fn frame_container_of_one_that_was_removed() {
    let store = Store::new().await;
    change(
        &store.test,
        "UPDATE containers SET state = 3 WHERE kind = 1",
    )
    .await;
    for depth in DEPTHS {
        let report = online(&store.test, store.dir.path(), depth).await;
        let blocks = kinds(&report)[0];
        assert_eq!(blocks, ("frame-container", true, 5), "{report:?}");
        assert_eq!(kinds(&report)[1].0, "container-unknown");
    }
}

#[tokio::test]
async fn frame_container_kind() {
    let store = Store::new().await;
    let b = store.key("b").await;
    let mut elsewhere = place(&store.test, root_key(&store).await).await;
    (elsewhere.offset, elsewhere.length) = (0, 128);
    set_place(&store.test, b, elsewhere).await;
    change(&store.test, RECOUNT).await;
    store.check(&DEPTHS, "frame-container-kind", true, 1).await;
}

#[tokio::test]
async fn frame_beyond_end() {
    let store = Store::new().await;
    let b = store.key("b").await;
    let mut beyond = place(&store.test, b).await;
    beyond.offset = 1 << 40;
    set_place(&store.test, b, beyond).await;
    store.check(&DEPTHS, "frame-beyond-end", true, 1).await;
}

#[tokio::test]
async fn frames_overlap() {
    let store = Store::new().await;
    let mut beside = place(&store.test, store.key("a").await).await;
    beside.offset += 4_096;
    beside.length -= 4_096;
    let b = store.key("b").await;
    set_place(&store.test, b, beside).await;
    change(&store.test, RECOUNT).await;
    let report = online(&store.test, store.dir.path(), AuditDepth::Catalog).await;
    assert_eq!(kinds(&report), [("frames-overlap", true, 1)], "{report:?}");
    let report = online(&store.test, store.dir.path(), AuditDepth::Headers).await;
    let expected = [("frames-overlap", true, 1), ("frame-missing", true, 1)];
    assert_eq!(kinds(&report), expected, "no frame begins there");
}

#[tokio::test]
async fn frame_freed() {
    let store = Store::new().await;
    let place = place(&store.test, store.key("b").await).await;
    let sql = "INSERT INTO frees (container, frame_offset, frame_length) VALUES ($1, $2, $3)";
    let note = |offset: i64, length: i64| {
        let container = i64::try_from(place.container).unwrap();
        vec![container.into(), offset.into(), length.into()]
    };
    let offset = i64::try_from(place.offset).unwrap();
    // One beside it is no finding.
    let length = i64::from(place.length);
    store.execute(sql, note(offset + length, 0)).await;
    store.check(&[], "", true, 0).await;
    store.execute(sql, note(offset - 4_096, 8_192)).await;
    store.check(&DEPTHS, "frame-freed", true, 1).await;
}

#[tokio::test]
async fn frame_missing() {
    let store = Store::new().await;
    flip(
        store.dir.path(),
        place(&store.test, store.key("b").await).await,
        100,
    );
    store.check(&DEPTHS[1..], "frame-missing", true, 1).await;
}

#[tokio::test]
async fn frame_different() {
    let store = Store::new().await;
    let (a, b) = (store.key("a").await, store.key("b").await);
    let places = (place(&store.test, a).await, place(&store.test, b).await);
    set_place(&store.test, a, places.1).await;
    set_place(&store.test, b, places.0).await;
    store.check(&DEPTHS[1..], "frame-different", true, 2).await;
}

#[tokio::test]
async fn container_missing() {
    let store = Store::new().await;
    change(
        &store.test,
        "UPDATE meta SET number = number + 1 WHERE name = 'last_container'",
    )
    .await;
    let sql = "INSERT INTO containers (container, kind, state, bytes) \
        SELECT number, 1, 2, 8192 FROM meta WHERE name = 'last_container'";
    change(&store.test, sql).await;
    store.check(&DEPTHS, "container-missing", true, 1).await;
}

#[tokio::test]
async fn container_missing_under_a_running_store() {
    let store = Store::new().await;
    std::fs::remove_file(segment(&store.dir.path().join("segments"), "blocks")).unwrap();
    store
        .check(&DEPTHS[1..], "container-missing", true, 1)
        .await;
}

#[tokio::test]
async fn container_missing_while_nothing_runs() {
    let store = Store::new().await;
    store
        .check_offline("container-missing", true, |segments| {
            std::fs::remove_file(segment(segments, "blocks")).unwrap();
        })
        .await;
}

#[tokio::test]
async fn container_unknown() {
    let store = Store::new().await;
    let chunk = NewChunk {
        id: ChunkId {
            domain: Domain::STORE,
            name: ChunkName::plain(Digest::of(b"x")),
            kind: ChunkKind::Block,
        },
        digest: Digest::of(b"x"),
        data: b"x".as_slice().into(),
    };
    let stored = store.test.store.append(vec![chunk]).await.unwrap();
    let container = i64::try_from(stored[0].location.container.0).unwrap();
    let sql = "DELETE FROM containers WHERE container = $1";
    store.execute(sql, vec![container.into()]).await;
    let Store { dir, test, .. } = store;
    close(test).await;
    let report = offline(dir.path(), AuditDepth::Catalog).await;
    assert_eq!(
        kinds(&report),
        [("container-unknown", true, 1)],
        "{report:?}"
    );
}

#[tokio::test]
async fn container_leftover() {
    let store = Store::new().await;
    let next = "UPDATE meta SET number = 9 WHERE name = 'last_container'";
    change(&store.test, next).await;
    store
        .check_offline("container-leftover", false, |segments| {
            std::fs::write(segments.join("0000000000000009.pages"), [0; 8_192]).unwrap();
        })
        .await;
}

#[tokio::test]
async fn container_unknown_of_an_id_that_was_never_given_out() {
    let store = Store::new().await;
    store
        .check_offline("container-unknown", true, |segments| {
            std::fs::write(segments.join("0000000000000fff.pages"), [0; 8_192]).unwrap();
        })
        .await;
}

#[tokio::test]
async fn container_kind() {
    let store = Store::new().await;
    store
        .check_offline("container-kind", true, |segments| {
            let blocks = segment(segments, "blocks");
            std::fs::rename(&blocks, blocks.with_extension("pages")).unwrap();
        })
        .await;
}

#[tokio::test]
async fn container_short() {
    let store = Store::new().await;
    store
        .check_offline("container-short", true, |segments| {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(segment(segments, "blocks"))
                .unwrap();
            let bytes = file.metadata().unwrap().len();
            file.set_len(bytes - 4_096).unwrap();
        })
        .await;
}

#[tokio::test]
async fn container_id() {
    let store = Store::new().await;
    change(
        &store.test,
        "UPDATE meta SET number = 0 WHERE name = 'last_container'",
    )
    .await;
    let containers = store.test.rows(&["containers"]).await as u64;
    store.check(&DEPTHS, "container-id", true, containers).await;
}

#[tokio::test]
async fn live_bytes_low_and_high() {
    let store = Store::new().await;
    let sql =
        "UPDATE containers SET live_bytes = live_bytes - 64 WHERE kind = 2 AND live_bytes > 0";
    change(&store.test, sql).await;
    store.check(&DEPTHS, "live-bytes-low", true, 1).await;
    let sql =
        "UPDATE containers SET live_bytes = live_bytes + 128 WHERE kind = 2 AND live_bytes > 0";
    change(&store.test, sql).await;
    store.check(&DEPTHS, "live-bytes-high", false, 1).await;
}

#[tokio::test]
async fn snapshot_frame() {
    let store = Store::new().await;
    let frame = super::scrub::frame_of(&store.test, store.first).await;
    flip(store.dir.path(), frame, 300);
    store.check(&DEPTHS[1..], "snapshot-frame", true, 1).await;
}

#[tokio::test]
async fn snapshot_count() {
    let store = Store::new().await;
    change(
        &store.test,
        "UPDATE snapshots SET base_count = base_count + 1 WHERE state = 1",
    )
    .await;
    store.check(&DEPTHS, "snapshot-count", true, 1).await;
    change(
        &store.test,
        "UPDATE snapshots SET base_count = base_count - 1 WHERE state = 1",
    )
    .await;
    change(
        &store.test,
        "UPDATE snapshots SET full_count = full_count + 1 WHERE parent IS NULL AND state = 3",
    )
    .await;
    let report = online(&store.test, store.dir.path(), AuditDepth::Catalog).await;
    assert_eq!(kinds(&report), [("snapshot-count", true, 1)], "{report:?}");
    let report = online(&store.test, store.dir.path(), AuditDepth::Headers).await;
    let expected = [("snapshot-frame", true, 1), ("snapshot-count", true, 1)];
    assert_eq!(kinds(&report), expected, "its frame says otherwise, too");
}

#[tokio::test]
async fn entries_left_and_pages_left() {
    let store = Store::new().await;
    let id: Value = store.first.number().try_into().unwrap();
    let zeros: Value = Digest::ZERO_BLOCK.as_bytes().into();
    let sql =
        "INSERT INTO put_entries (snapshot, block_index, digest) VALUES ($1, 1, $2), ($1, 2, $2)";
    store.execute(sql, vec![id.clone(), zeros]).await;
    store.check(&DEPTHS, "entries-left", false, 2).await;
    let purge = "INSERT INTO purges (snapshot) VALUES ($1)";
    store.execute(purge, vec![id.clone()]).await;
    store.check(&[], "", false, 0).await;
    store.test.engine.purge_now().await.unwrap();

    let root = named(root_key(&store).await);
    let sql = "INSERT INTO listed_pages (snapshot, digest) VALUES ($1, $2)";
    store.execute(sql, vec![id.clone(), root.clone()]).await;
    store.check(&DEPTHS, "pages-left", false, 1).await;
    store.execute(purge, vec![id]).await;
    store.test.engine.purge_now().await.unwrap();
    let nobody: Value = SnapshotId::from_random(1).number().try_into().unwrap();
    store.execute(sql, vec![nobody, root]).await;
    store.check(&DEPTHS, "pages-left", false, 1).await;
}

#[tokio::test]
async fn tags_left() {
    let store = Store::new().await;
    let nobody: Value = SnapshotId::from_random(1).number().try_into().unwrap();
    let sql = "INSERT INTO tags (account, snapshot, tag_key, tag_value) VALUES (5, $1, $2, $2)";
    store
        .execute(sql, vec![nobody, b"key".as_slice().into()])
        .await;
    store.check(&DEPTHS, "tags-left", false, 1).await;
}

#[tokio::test]
async fn tokens_left() {
    let store = Store::new().await;
    let nobody: Value = SnapshotId::from_random(1).number().try_into().unwrap();
    let sql = "INSERT INTO client_tokens (account, token, fingerprint, snapshot, start_time) \
        VALUES (5, $1, $3, $2, $4)";
    let token = |name: &str, at: i64| {
        let name: Value = name.as_bytes().into();
        vec![name, nobody.clone(), [0_u8; 32].into(), at.into()]
    };
    let day = 24 * 60 * 60 * 1_000;
    store.execute(sql, token("old", 0)).await;
    store.execute(sql, token("new", 3 * day)).await;
    store.check(&[], "", false, 0).await;
    store.execute(sql, token("newest", 30 * day)).await;
    store.check(&DEPTHS, "tokens-left", false, 2).await;
}

#[tokio::test]
async fn a_catalog_of_another_format_is_refused() {
    let store = Store::new().await;
    change(
        &store.test,
        "UPDATE meta SET number = 1 WHERE name = 'format_version'",
    )
    .await;
    let options = AuditOptions {
        db: Arc::clone(&store.test.db),
        chunks: Arc::clone(&store.test.store) as _,
        scratch: store.dir.path().into(),
        depth: AuditDepth::Catalog,
    };
    let error = audit(options).await.unwrap_err().to_string();
    assert!(error.contains("format version 1"), "{error}");
}
