//! What SQLite alone promises: recovery, damage, group commit, a full disk, a failing disk.

use super::{Sqlite, SqliteCounts};
use crate::testing::{FreshSqlite, sqlite_options};
use crate::{Db, DbExt, Error, Row, Value, meta};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

#[test]
fn the_library_has_the_fix_of_the_wal_reset_bug() {
    assert!(
        rusqlite::version_number() >= 3_051_003,
        "{}",
        rusqlite::version()
    );
}

async fn run(db: &dyn Db, sql: &'static str, params: Vec<Value>) -> Result<u64, Error> {
    db.transact(move |txn| {
        let params = params.clone();
        Box::pin(async move { txn.execute(sql, params).await })
    })
    .await
}

async fn numbers(db: &dyn Db, sql: &'static str) -> Result<Vec<i64>, Error> {
    let found = db.view(move |txn| txn.query(sql, vec![])).await?;
    found
        .iter()
        .map(|row: &Row| row.int(0, "numbers"))
        .collect()
}

/// Writes the pairs 2n and 2n + 1, each pair in a transaction of its own.
async fn write_pairs(db: &dyn Db, pairs: std::ops::Range<i64>) {
    for pair in pairs {
        let sql = "INSERT INTO numbers (n, filling) VALUES ($1, $3), ($2, $3)";
        let params = vec![(2 * pair).into(), (2 * pair + 1).into(), [7_u8; 600].into()];
        assert_eq!(run(db, sql, params).await.unwrap(), 2);
    }
}

const CREATE: &str = "CREATE TABLE numbers (n BIGINT PRIMARY KEY, filling BYTEA)";
const ALL: &str = "SELECT n FROM numbers ORDER BY n";

/// The files as a crash would leave them now.
fn copy_files(from: &Path, to: &Path) {
    for name in ["catalog.db", "catalog.db-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn reopen(directory: &Path) -> Result<Sqlite, Error> {
    Sqlite::open(&sqlite_options(&directory.join("catalog.db")))
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let fresh = FreshSqlite::new();
    run(&*fresh.db(), CREATE, vec![]).await.unwrap();
    for round in 1..=5 {
        write_pairs(&*fresh.db(), 10 * (round - 1)..10 * round).await;
        let crashed = tempfile::tempdir().unwrap();
        copy_files(fresh.directory(), crashed.path());
        let recovered = reopen(crashed.path()).unwrap();
        let expected: Vec<i64> = (0..20 * round).collect();
        assert_eq!(numbers(&recovered, ALL).await.unwrap(), expected);
        assert_eq!(
            fs::metadata(crashed.path().join("catalog.db-wal"))
                .unwrap()
                .len(),
            0
        );
    }
}

#[tokio::test]
async fn a_torn_wal_ends_after_a_whole_transaction() {
    let fresh = FreshSqlite::new();
    run(&*fresh.db(), CREATE, vec![]).await.unwrap();
    write_pairs(&*fresh.db(), 0..12).await;
    let wal_bytes = fs::metadata(fresh.directory().join("catalog.db-wal"))
        .unwrap()
        .len();
    let mut last = 0;
    for cut_bytes in (0..wal_bytes).step_by(1_999).chain([wal_bytes]) {
        let crashed = tempfile::tempdir().unwrap();
        copy_files(fresh.directory(), crashed.path());
        cut(&crashed.path().join("catalog.db-wal"), cut_bytes);
        let recovered = reopen(crashed.path()).unwrap();
        let found = match numbers(&recovered, ALL).await {
            Ok(found) => found,
            Err(Error::Statement { .. }) if last == 0 => continue,
            Err(error) => panic!("cut at {cut_bytes}: {error}"),
        };
        assert!(
            found.len() % 2 == 0 && found.len() >= last,
            "cut at {cut_bytes}: {found:?}"
        );
        assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>());
        last = found.len();
    }
    assert_eq!(last, 24);
}

#[tokio::test]
async fn closing_leaves_the_files_as_a_crash_would() {
    let directory = tempfile::tempdir().unwrap();
    let db = reopen(directory.path()).unwrap();
    run(&db, CREATE, vec![]).await.unwrap();
    let before = fs::read(directory.path().join("catalog.db-wal")).unwrap();
    drop(db);
    assert_eq!(
        fs::read(directory.path().join("catalog.db-wal")).unwrap(),
        before
    );
    assert_eq!(
        numbers(&reopen(directory.path()).unwrap(), ALL)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_name() {
    let fresh = FreshSqlite::new();
    run(&*fresh.db(), CREATE, vec![]).await.unwrap();
    write_pairs(&*fresh.db(), 0..50).await;
    let check = |damage: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().unwrap();
        copy_files(fresh.directory(), directory.path());
        drop(reopen(directory.path()).unwrap());
        damage(&directory.path().join("catalog.db"));
        match reopen(directory.path()) {
            Err(Error::Corrupt { reason, .. }) => {
                assert!(reason.contains("catalog.db"), "{reason}")
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a damaged file was opened"),
        }
    };
    check(&|path| {
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(&[0; 100]).unwrap();
    });
    check(&|path| cut(path, fs::metadata(path).unwrap().len() - 4_096));
    check(&|path| cut(path, 5_000));
    check(&|path| fs::write(path, "this is no database, ".repeat(1_000)).unwrap());
}

#[test]
fn a_place_that_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for path in [
        directory.path().join("absent").join("catalog.db"),
        directory.path().to_owned(),
    ] {
        match Sqlite::open(&sqlite_options(&path)) {
            Err(Error::Unavailable { reason }) => {
                assert!(reason.contains(path.to_str().unwrap()), "{reason}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{} was opened", path.display()),
        }
    }
}

/// Occupies the writer until the returned sender is used or dropped.
fn occupy_writer(db: &Arc<Sqlite>) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let (begun, has_begun) = mpsc::channel();
    let db = Arc::clone(db);
    tokio::spawn(async move {
        let body = db.transact(move |_| {
            begun.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
            Box::pin(async { Ok(()) })
        });
        body.await.unwrap();
    });
    tokio::task::block_in_place(|| has_begun.recv()).unwrap();
    release
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_wait_are_committed_together_and_fail_alone() {
    let fresh = FreshSqlite::new();
    let db = fresh.db();
    run(&*db, CREATE, vec![]).await.unwrap();
    let before = fresh.sqlite().counts();
    let release = occupy_writer(fresh.sqlite());
    // Each tenth is a duplicate of the one before.
    let insert = |n: i64| {
        let n = if n % 10 == 9 { n - 1 } else { n };
        run(&*db, "INSERT INTO numbers (n) VALUES ($1)", vec![n.into()])
    };
    let mut waiting: Vec<_> = (0..50).map(|n| insert(n).boxed()).collect();
    for future in &mut waiting {
        assert!(future.now_or_never().is_none());
    }
    assert_eq!(fresh.sqlite().counts().waiting_writes, 50);
    release.send(()).unwrap();
    for (n, result) in join_all(waiting).await.into_iter().enumerate() {
        assert_eq!(result.is_err(), n % 10 == 9, "{n}: {result:?}");
    }
    let after = fresh.sqlite().counts();
    assert_eq!(
        after,
        SqliteCounts {
            commits: before.commits + 1,
            bodies: before.bodies + 51,
            ..after
        }
    );
    assert_eq!(numbers(&*db, ALL).await.unwrap().len(), 45);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_the_queue_is_not_served() {
    let fresh = FreshSqlite::new();
    let ran = Arc::new(AtomicUsize::new(0));
    let release = occupy_writer(fresh.sqlite());
    let count = || {
        let ran = Arc::clone(&ran);
        let db = fresh.db();
        async move {
            db.transact(move |_| {
                ran.fetch_add(1, Ordering::Relaxed);
                Box::pin(async { Ok(()) })
            })
            .await
        }
        .boxed()
    };
    let mut waiting: Vec<_> = (0..10).map(|_| count()).collect();
    for future in &mut waiting {
        assert!(future.now_or_never().is_none());
    }
    waiting.truncate(3);
    release.send(()).unwrap();
    for result in join_all(waiting).await {
        result.unwrap();
    }
    assert_eq!(ran.load(Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_keeps_its_view_while_others_write() {
    let fresh = FreshSqlite::new();
    let db = fresh.db();
    run(&*db, CREATE, vec![]).await.unwrap();
    let (begun, has_begun) = mpsc::channel();
    let (written, has_written) = mpsc::channel();
    let gate = Arc::new(Mutex::new((begun, has_written)));
    let reading = tokio::spawn({
        let db = fresh.db();
        async move {
            db.view(move |txn| {
                let gate = Arc::clone(&gate);
                Box::pin(async move {
                    let before = txn.query(ALL, vec![]).await?.len();
                    {
                        let (begun, has_written) = &*gate.lock().unwrap();
                        begun.send(()).unwrap();
                        has_written.recv().unwrap();
                    }
                    Ok((before, txn.query(ALL, vec![]).await?.len()))
                })
            })
            .await
        }
    });
    tokio::task::block_in_place(|| has_begun.recv()).unwrap();
    write_pairs(&*db, 0..3).await;
    assert_eq!(numbers(&*db, ALL).await.unwrap().len(), 6);
    written.send(()).unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), (0, 0));
}

#[tokio::test]
async fn a_body_that_waits_for_something_else_is_refused() {
    let fresh = FreshSqlite::new();
    let db = fresh.db();
    run(&*db, CREATE, vec![]).await.unwrap();
    let refused = db.transact(|txn| {
        Box::pin(async {
            txn.execute("INSERT INTO numbers (n) VALUES (1)", vec![])
                .await?;
            tokio::task::yield_now().await;
            Ok(())
        })
    });
    assert!(matches!(refused.await, Err(Error::Statement { .. })));
    assert_eq!(numbers(&*db, ALL).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_only_those_that_need_space() {
    let fresh = FreshSqlite::new();
    let db = fresh.db();
    run(&*db, CREATE, vec![]).await.unwrap();
    write_pairs(&*db, 0..10).await;
    // SQLite's own limit of pages stands in for the disk's.
    let limit = |sql: &'static str| db.transact(move |txn| txn.query(sql, vec![]));
    let pages = limit("PRAGMA page_count").await.unwrap()[0]
        .int(0, "pages")
        .unwrap();
    let limited = limit("PRAGMA max_page_count = 1").await.unwrap();
    assert_eq!(limited[0].int(0, "pages").unwrap(), pages);

    let release = occupy_writer(fresh.sqlite());
    let fill = "INSERT INTO numbers (n, filling) VALUES ($1, $2)";
    let free = "DELETE FROM numbers WHERE n = $1";
    let mut waiting = Vec::new();
    for n in 0_i64..6 {
        waiting.push(run(&*db, free, vec![n.into()]).boxed());
        waiting.push(run(&*db, fill, vec![(100 + n).into(), vec![1; 1 << 20].into()]).boxed());
    }
    for future in &mut waiting {
        assert!(future.now_or_never().is_none());
    }
    release.send(()).unwrap();
    for (place, result) in join_all(waiting).await.into_iter().enumerate() {
        match place % 2 {
            0 => assert_eq!(result.unwrap(), 1),
            _ => assert!(matches!(result, Err(Error::NoSpace)), "{result:?}"),
        }
    }
    assert_eq!(
        numbers(&*db, ALL).await.unwrap(),
        (6..20).collect::<Vec<_>>()
    );
    limit("PRAGMA max_page_count = 1000000").await.unwrap();
    run(&*db, fill, vec![100_i64.into(), vec![1; 1 << 20].into()])
        .await
        .unwrap();
}

#[tokio::test]
async fn the_wal_is_written_back_as_it_grows() {
    let fresh = FreshSqlite::new();
    let db = fresh.db();
    run(&*db, CREATE, vec![]).await.unwrap();
    for n in 0_i64..60 {
        let sql = "INSERT INTO numbers (n, filling) VALUES ($1, $2)";
        run(&*db, sql, vec![n.into(), vec![1; 1 << 20].into()])
            .await
            .unwrap();
    }
    let checkpoints = fresh.sqlite().counts().checkpoints;
    assert!(
        (2..=5).contains(&checkpoints),
        "{checkpoints} checkpoints for 60 MiB"
    );
    let wal_bytes = fs::metadata(fresh.directory().join("catalog.db-wal"))
        .unwrap()
        .len();
    assert!(wal_bytes < 24 << 20, "{wal_bytes} bytes");
}

/// Runs itself again under a limit of file size, where writing beyond it is an I/O error (EFBIG) and no full disk.
#[test]
fn an_io_error_poisons_the_backend() {
    const MARK: &str = "DRYSTONE_TEST_FILE_SIZE_LIMITED";
    #[allow(
        clippy::disallowed_methods,
        reason = "tells the inner run of this test from the outer"
    )]
    let is_inner = std::env::var_os(MARK).is_some();
    if is_inner {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        return runtime.block_on(write_until_the_disk_fails());
    }
    let test = "db::sqlite::tests::an_io_error_poisons_the_backend";
    let inner = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact \"$1\" --nocapture",
        ])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(
        inner.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&inner.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
}

async fn write_until_the_disk_fails() {
    let directory = tempfile::tempdir().unwrap();
    let db = reopen(directory.path()).unwrap();
    run(&db, CREATE, vec![]).await.unwrap();
    write_pairs(&db, 0..5).await;
    assert!(db.poisoned().now_or_never().is_none());
    let fill = "INSERT INTO numbers (n, filling) VALUES ($1, $2)";
    let failed = run(&db, fill, vec![100_i64.into(), vec![1; 8 << 20].into()]).await;
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert!(
        db.poisoned()
            .now_or_never()
            .is_some_and(|reason| !reason.is_empty())
    );
    let refused = run(&db, "DELETE FROM numbers", vec![]).await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    let refused = numbers(&db, ALL).await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");

    // A fresh start knows where things stand.
    drop(db);
    let recovered = reopen(directory.path()).unwrap();
    assert_eq!(
        numbers(&recovered, ALL).await.unwrap(),
        (0..10).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn opened_to_read_it_sees_the_wal_and_changes_no_byte() {
    let fresh = FreshSqlite::new();
    run(&*fresh.db(), CREATE, vec![]).await.unwrap();
    write_pairs(&*fresh.db(), 0..10).await;
    let crashed = tempfile::tempdir().unwrap();
    copy_files(fresh.directory(), crashed.path());
    let bytes = |name: &str| fs::read(crashed.path().join(name)).unwrap();
    let before = (bytes("catalog.db"), bytes("catalog.db-wal"));
    assert!(!before.1.is_empty(), "there is something to recover");

    let options = sqlite_options(&crashed.path().join("catalog.db"));
    let db = Sqlite::open_read_only(&options).unwrap();
    let expected: Vec<i64> = (0..20).collect();
    assert_eq!(numbers(&db, ALL).await.unwrap(), expected);
    let refused = run(&db, "DELETE FROM numbers", vec![]).await;
    assert!(
        matches!(refused, Err(Error::Statement { .. })),
        "{refused:?}"
    );
    let refused = db
        .view(|txn| txn.execute("DELETE FROM numbers", vec![]))
        .await;
    assert!(
        matches!(refused, Err(Error::Statement { .. })),
        "{refused:?}"
    );
    drop(db);
    assert!((bytes("catalog.db"), bytes("catalog.db-wal")) == before);
}

#[tokio::test]
async fn opened_to_read_it_follows_the_process_that_writes() {
    let fresh = FreshSqlite::new();
    run(&*fresh.db(), CREATE, vec![]).await.unwrap();
    let options = sqlite_options(&fresh.directory().join("catalog.db"));
    let db = Sqlite::open_read_only(&options).unwrap();
    for round in 1..=3 {
        write_pairs(&*fresh.db(), round - 1..round).await;
        let seen = numbers(&db, ALL).await.unwrap();
        assert_eq!(seen.len() as i64, 2 * round);
    }
}

#[test]
fn opened_to_read_there_must_be_something() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    let opened = Sqlite::open_read_only(&sqlite_options(&path));
    assert!(matches!(opened, Err(Error::Unavailable { .. })));
    assert!(!path.exists());
    fs::write(&path, [7; 8_192]).unwrap();
    let opened = Sqlite::open_read_only(&sqlite_options(&path));
    assert!(matches!(opened, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn a_copy_holds_what_was_committed_and_says_that_it_is_one() {
    let fresh = FreshSqlite::new();
    crate::schema::migrate(&*fresh.db(), [7; 16], 1)
        .await
        .unwrap();
    let copied_at = |db: Sqlite| async move {
        db.view(|txn| Box::pin(async move { meta::number(txn, meta::COPIED_AT).await }))
            .await
            .unwrap()
    };
    let original = fresh.directory().join("catalog.db");
    let copy = fresh.directory().join("a copy.db");
    Sqlite::copy(&original, &copy, 1_234).unwrap();
    assert!(!fresh.directory().join("a copy.db-journal").exists());
    let open = |path: &Path| Sqlite::open_read_only(&sqlite_options(path)).unwrap();
    assert_eq!(copied_at(open(&copy)).await, Some(1_234));
    assert_eq!(copied_at(open(&original)).await, None);
    let copied = open(&copy);
    let id = copied.view(|txn| Box::pin(async move { meta::store_id(txn).await }));
    assert_eq!(id.await.unwrap(), [7; 16]);

    let again = Sqlite::copy(&original, &copy, 5_678);
    assert!(again.is_err(), "a copy is never written over");
    let nowhere = Sqlite::copy(Path::new("/nowhere/catalog.db"), &copy, 1);
    assert!(matches!(nowhere, Err(Error::Unavailable { .. })));
}
