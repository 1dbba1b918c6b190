//! Atomicity, isolation, visibility, and callers that leave.

use super::{execute, number, query, run};
use crate::{Db, DbExt, Error, Txn, Value};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Runs everything in this file.
pub async fn check(db: &dyn Db) {
    an_acknowledged_write_is_seen_by_whatever_follows(db).await;
    a_body_sees_its_own_changes(db).await;
    a_failing_body_leaves_nothing(db).await;
    a_body_cannot_go_on_after_an_error(db).await;
    a_panic_is_the_failure_of_its_body_alone(db).await;
    a_read_cannot_change_anything(db).await;
    a_read_sees_one_moment(db).await;
    increments_are_never_lost(db).await;
    write_skew_is_prevented(db).await;
    each_of_many_writers_stands_or_falls_alone(db).await;
    more_writers_than_can_wait_all_get_their_turn(db).await;
    callers_that_leave_harm_nobody(db).await;
    who_holds_the_epoch_is_waited_for(db).await;
}

/// By writes and reads alike.
pub async fn an_acknowledged_write_is_seen_by_whatever_follows(db: &dyn Db) {
    run(db, "CREATE TABLE seen (n BIGINT NOT NULL)", vec![]).await;
    run(db, "INSERT INTO seen (n) VALUES (0)", vec![]).await;
    for expected in 1..=50 {
        run(db, "UPDATE seen SET n = n + 1", vec![]).await;
        assert_eq!(number(db, "SELECT n FROM seen").await, expected);
    }
}

/// Before anybody else does.
pub async fn a_body_sees_its_own_changes(db: &dyn Db) {
    run(db, "CREATE TABLE own (n BIGINT NOT NULL)", vec![]).await;
    let count = db
        .transact(|txn| {
            Box::pin(async {
                txn.execute("INSERT INTO own (n) VALUES (1), (2)", vec![])
                    .await?;
                txn.execute("DELETE FROM own WHERE n = 1", vec![]).await?;
                txn.query("SELECT count(*) FROM own", vec![]).await?[0].int(0, "own")
            })
        })
        .await;
    assert_eq!(count.expect("a plain transaction"), 1);
}

/// Whether a statement failed or the body itself decided so.
pub async fn a_failing_body_leaves_nothing(db: &dyn Db) {
    run(db, "CREATE TABLE undone (n BIGINT PRIMARY KEY)", vec![]).await;
    let decided: Result<(), Error> = db
        .transact(|txn| {
            Box::pin(async {
                txn.execute("INSERT INTO undone (n) VALUES (1)", vec![])
                    .await?;
                Err(Error::Corrupt {
                    table: "undone",
                    reason: "decided".to_owned(),
                })
            })
        })
        .await;
    assert!(matches!(&decided, Err(Error::Corrupt { reason, .. }) if reason == "decided"));
    let broken = db
        .transact(|txn| {
            Box::pin(async {
                txn.execute("INSERT INTO undone (n) VALUES (2)", vec![])
                    .await?;
                txn.execute("INSERT INTO undone (n) VALUES (2)", vec![])
                    .await
            })
        })
        .await;
    assert!(matches!(broken, Err(Error::Statement { .. })), "{broken:?}");
    assert_eq!(number(db, "SELECT count(*) FROM undone").await, 0);
}

/// PostgreSQL would take its COMMIT for a rollback without a word.
pub async fn a_body_cannot_go_on_after_an_error(db: &dyn Db) {
    run(db, "CREATE TABLE onward (n BIGINT PRIMARY KEY)", vec![]).await;
    // Not asserted inside, where a panic would pass for the refusal.
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&outcomes);
    let went_on = db
        .transact(move |txn| {
            let noted = Arc::clone(&noted);
            Box::pin(async move {
                for n in [1_i64, 1, 2] {
                    let result = insert(txn, "INSERT INTO onward (n) VALUES ($1)", n).await;
                    noted.lock().expect("nobody panics").push(result);
                }
                Ok(())
            })
        })
        .await;
    {
        let outcomes = outcomes.lock().expect("nobody panics");
        let refused = |result: &Result<u64, Error>| matches!(result, Err(Error::Statement { .. }));
        let as_it_should = outcomes[0].is_ok() && refused(&outcomes[1]) && refused(&outcomes[2]);
        assert!(as_it_should, "{outcomes:?}");
    }
    assert!(
        matches!(went_on, Err(Error::Statement { .. })),
        "{went_on:?}"
    );
    assert_eq!(number(db, "SELECT count(*) FROM onward").await, 0);
}

/// The backend lives on.
pub async fn a_panic_is_the_failure_of_its_body_alone(db: &dyn Db) {
    run(db, "CREATE TABLE panicked (n BIGINT PRIMARY KEY)", vec![]).await;
    for _ in 0..3 {
        let panicked: Result<(), Error> = db
            .transact(|txn| {
                Box::pin(async {
                    txn.execute("INSERT INTO panicked (n) VALUES (1)", vec![])
                        .await?;
                    panic!("on purpose");
                })
            })
            .await;
        assert!(
            matches!(panicked, Err(Error::Statement { .. })),
            "{panicked:?}"
        );
        let panicked: Result<(), Error> = db.view(|_| panic!("on purpose")).await;
        assert!(
            matches!(panicked, Err(Error::Statement { .. })),
            "{panicked:?}"
        );
    }
    assert_eq!(number(db, "SELECT count(*) FROM panicked").await, 0);
    assert_eq!(
        run(db, "INSERT INTO panicked (n) VALUES (1)", vec![]).await,
        1
    );
}

/// Rows, tables or the epoch.
pub async fn a_read_cannot_change_anything(db: &dyn Db) {
    run(db, "CREATE TABLE fixed (n BIGINT PRIMARY KEY)", vec![]).await;
    for sql in [
        "INSERT INTO fixed (n) VALUES (1)",
        "CREATE TABLE fixed_too (n BIGINT PRIMARY KEY)",
        "DROP TABLE fixed",
        "INSERT INTO fixed (n) VALUES (1) RETURNING n",
    ] {
        let refused = query(db, sql, vec![]).await;
        assert!(
            matches!(refused, Err(Error::Statement { .. })),
            "{sql}: {refused:?}"
        );
    }
    let begun = db.view(|txn| txn.begin_epoch()).await;
    assert!(matches!(begun, Err(Error::Statement { .. })), "{begun:?}");
    let held = db.view(|txn| txn.hold_epoch_shared()).await;
    assert!(matches!(held, Err(Error::Statement { .. })), "{held:?}");
    assert_eq!(number(db, "SELECT count(*) FROM fixed").await, 0);
}

/// Two statements of one read never see a transfer half done.
pub async fn a_read_sees_one_moment(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE moved (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)",
        vec![],
    )
    .await;
    run(
        db,
        "INSERT INTO moved (id, n) VALUES (1, 500), (2, 500)",
        vec![],
    )
    .await;
    let transfer = || async {
        for _ in 0..20 {
            db.transact(|txn| {
                Box::pin(async {
                    txn.execute("UPDATE moved SET n = n - 1 WHERE id = 1", vec![])
                        .await?;
                    txn.execute("UPDATE moved SET n = n + 1 WHERE id = 2", vec![])
                        .await
                })
            })
            .await
            .expect("a transfer");
        }
    };
    let look = || async {
        for _ in 0..40 {
            let one = "SELECT n FROM moved WHERE id = $1";
            let total = db.view(move |txn| {
                Box::pin(async move {
                    let left = txn.query(one, vec![1_i64.into()]).await?[0].int(0, "moved")?;
                    let right = txn.query(one, vec![2_i64.into()]).await?[0].int(0, "moved")?;
                    Ok(left + right)
                })
            });
            assert_eq!(total.await.expect("a look"), 1_000);
        }
    };
    tokio::join!(transfer(), look(), look(), transfer());
}

/// Read, add in the program, write: with eight at once.
pub async fn increments_are_never_lost(db: &dyn Db) {
    run(db, "CREATE TABLE counter (n BIGINT NOT NULL)", vec![]).await;
    run(db, "INSERT INTO counter (n) VALUES (0)", vec![]).await;
    let increments = (0..8).map(|_| async {
        for _ in 0..5 {
            db.transact(|txn| {
                Box::pin(async {
                    let found = txn.query("SELECT n FROM counter", vec![]).await?;
                    let next = found[0].int(0, "counter")? + 1;
                    txn.execute("UPDATE counter SET n = $1", vec![next.into()])
                        .await
                })
            })
            .await
            .expect("an increment");
        }
    });
    join_all(increments).await;
    assert_eq!(number(db, "SELECT n FROM counter").await, 40);
}

/// Each of two may leave while the other stays; both at once must not find the other staying.
pub async fn write_skew_is_prevented(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE duty (id BIGINT PRIMARY KEY, present BIGINT NOT NULL)",
        vec![],
    )
    .await;
    let leave = |id: i64| {
        db.transact(move |txn| {
            Box::pin(async move {
                let sql = "SELECT count(*) FROM duty WHERE present = 1";
                if txn.query(sql, vec![]).await?[0].int(0, "duty")? > 1 {
                    let leave = "UPDATE duty SET present = 0 WHERE id = $1";
                    txn.execute(leave, vec![id.into()]).await?;
                }
                Ok(())
            })
        })
    };
    for _ in 0..20 {
        run(db, "DELETE FROM duty", vec![]).await;
        run(
            db,
            "INSERT INTO duty (id, present) VALUES (1, 1), (2, 1)",
            vec![],
        )
        .await;
        let (one, two) = tokio::join!(leave(1), leave(2));
        one.and(two)
            .expect("conflicts are resolved by running again");
        assert_eq!(
            number(db, "SELECT count(*) FROM duty WHERE present = 1").await,
            1
        );
    }
}

/// Every third fails after it has written; the others are all there.
pub async fn each_of_many_writers_stands_or_falls_alone(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE many (id BIGINT PRIMARY KEY, part BIGINT NOT NULL)",
        vec![],
    )
    .await;
    let write = |id: i64| {
        db.transact(move |txn| {
            Box::pin(async move {
                insert(txn, "INSERT INTO many (id, part) VALUES ($1, 0)", 2 * id).await?;
                if id % 3 == 1 {
                    insert(txn, "INSERT INTO many (id, part) VALUES ($1, 1)", 2 * id).await?;
                }
                if id % 3 == 2 {
                    return Err(Error::NoSpace);
                }
                insert(
                    txn,
                    "INSERT INTO many (id, part) VALUES ($1, 1)",
                    2 * id + 1,
                )
                .await
            })
        })
    };
    for (id, result) in join_all((0..90).map(write)).await.into_iter().enumerate() {
        match id % 3 {
            0 => assert_eq!(result.expect("a good body"), 1),
            1 => assert!(matches!(result, Err(Error::Statement { .. })), "{result:?}"),
            _ => assert!(matches!(result, Err(Error::NoSpace)), "{result:?}"),
        }
    }
    assert_eq!(number(db, "SELECT count(*) FROM many").await, 60);
    assert_eq!(
        number(
            db,
            "SELECT count(*) FROM many WHERE part = 0 AND id % 6 = 0"
        )
        .await,
        30
    );
}

fn insert<'t>(
    txn: &'t mut dyn Txn,
    sql: &'static str,
    id: i64,
) -> BoxFuture<'t, Result<u64, Error>> {
    txn.execute(sql, vec![id.into()])
}

/// Beyond the bound callers wait, and none is refused.
pub async fn more_writers_than_can_wait_all_get_their_turn(db: &dyn Db) {
    run(db, "CREATE TABLE crowd (id BIGINT PRIMARY KEY)", vec![]).await;
    let writers = (0_i64..1_500).map(|id| {
        execute(
            db,
            "INSERT INTO crowd (id) VALUES ($1)",
            vec![Value::Int(id)],
        )
    });
    for result in join_all(writers).await {
        assert_eq!(result.expect("a turn"), 1);
    }
    assert_eq!(number(db, "SELECT count(*) FROM crowd").await, 1_500);
}

/// A caller may drop its future at any moment: its transaction is there as a whole or not at all.
pub async fn callers_that_leave_harm_nobody(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE left_behind (id BIGINT PRIMARY KEY)",
        vec![],
    )
    .await;
    let ran = Arc::new(AtomicUsize::new(0));
    let write = |id: i64| {
        let ran = Arc::clone(&ran);
        db.transact(move |txn| {
            ran.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                let sql = "INSERT INTO left_behind (id) VALUES ($1)";
                txn.execute(sql, vec![(2 * id).into()]).await?;
                txn.execute(sql, vec![(2 * id + 1).into()]).await
            })
        })
        .boxed()
    };
    for id in 0..60 {
        let mut leaving = write(3 * id);
        let mut staying = write(3 * id + 1);
        let mut left = (&mut leaving).now_or_never();
        let stayed = (&mut staying).now_or_never();
        // The later the round, the deeper in its transaction the caller is when it leaves, unless it is served by then.
        for _ in 0..id / 2 {
            if left.is_some() {
                break;
            }
            tokio::task::yield_now().await;
            left = (&mut leaving).now_or_never();
        }
        drop(leaving);
        let served = match stayed {
            Some(served) => served,
            None => staying.await,
        };
        assert_eq!(served.expect("who stays is served"), 1);
    }
    assert!(ran.load(Ordering::Relaxed) >= 60);
    let halves = "SELECT count(*) FROM left_behind l WHERE NOT EXISTS \
                  (SELECT 1 FROM left_behind o WHERE o.id = l.id + 1 - 2 * (l.id % 2))";
    assert_eq!(number(db, halves).await, 0);
    assert!(number(db, "SELECT count(*) FROM left_behind").await >= 120);
}

/// Once a new epoch is acknowledged, no transaction that read the old one is still to commit.
pub async fn who_holds_the_epoch_is_waited_for(db: &dyn Db) {
    let create = "CREATE TABLE meta (name TEXT PRIMARY KEY, number BIGINT, bytes BYTEA)";
    run(db, create, vec![]).await;
    let held = db.transact(|txn| txn.hold_epoch_shared()).await;
    assert!(
        matches!(held, Err(Error::Corrupt { table: "meta", .. })),
        "{held:?}"
    );
    run(
        db,
        "INSERT INTO meta (name, number) VALUES ('epoch', 0)",
        vec![],
    )
    .await;
    run(
        db,
        "CREATE TABLE stamped (id BIGINT PRIMARY KEY, epoch BIGINT NOT NULL)",
        vec![],
    )
    .await;

    let stamp = &|id: i64| {
        db.transact(move |txn| {
            Box::pin(async move {
                let epoch = txn.hold_epoch_shared().await?;
                let sql = "INSERT INTO stamped (id, epoch) VALUES ($1, $2)";
                txn.execute(sql, vec![id.into(), epoch.into()]).await
            })
        })
    };
    // Five at a time, so that new epochs come between them.
    let stamps = join_all((0..5).map(|part| async move {
        let mut stamped = Vec::new();
        for id in 30 * part..30 * (part + 1) {
            stamped.push(stamp(id).await);
        }
        stamped
    }));
    let begin_cycles = async {
        let mut older_rows = Vec::new();
        for expected in 1_i64..=15 {
            let epoch = db
                .transact(|txn| txn.begin_epoch())
                .await
                .expect("an epoch");
            assert_eq!(epoch, expected);
            let older = "SELECT count(*) FROM stamped WHERE epoch < $1";
            let found = query(db, older, vec![epoch.into()]).await.expect("a count");
            older_rows.push((epoch, found[0].int(0, "stamped").expect("a count")));
        }
        older_rows
    };
    let (stamped, older_rows) = tokio::join!(stamps, begin_cycles);
    for result in stamped.into_iter().flatten() {
        assert_eq!(result.expect("a stamp"), 1);
    }
    for (epoch, then) in older_rows {
        let older = "SELECT count(*) FROM stamped WHERE epoch < $1";
        let now = query(db, older, vec![epoch.into()]).await.expect("a count");
        assert_eq!(
            now[0].int(0, "stamped").expect("a count"),
            then,
            "epoch {epoch}"
        );
    }
}
