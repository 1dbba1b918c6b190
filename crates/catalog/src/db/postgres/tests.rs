//! What PostgreSQL alone does: conflicts, connections that break, commits with an unknown outcome.

use super::{Postgres, PostgresOptions};
use crate::testing::fresh_postgres_config;
use crate::{Db, DbExt, Error, Value};
use futures_util::future::join_all;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Barrier, Notify};
use tokio_postgres::config::Host;
use types::Random;

/// A pool of `connections` on an empty database; nothing where PostgreSQL is not installed.
async fn connect(connections: usize) -> Option<Postgres> {
    let options = PostgresOptions {
        config: fresh_postgres_config()?,
        connections: NonZeroUsize::new(connections).unwrap(),
        random: Random::seeded(7),
    };
    Some(Postgres::connect(&options).await.unwrap())
}

async fn run(db: &dyn Db, sql: &'static str) -> Result<u64, Error> {
    db.transact(move |txn| txn.execute(sql, vec![])).await
}

async fn count(db: &dyn Db, sql: &'static str) -> i64 {
    db.view(move |txn| txn.query(sql, vec![])).await.unwrap()[0]
        .int(0, "count")
        .unwrap()
}

/// Fails `failures` times with `sql` after writing, then succeeds. Answers how often the body ran.
async fn fail_first(db: &Postgres, failures: u32, sql: &'static str) -> (Result<u64, Error>, u32) {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let result = db.transact(move |txn| {
        let run = counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let written = txn
                .execute("INSERT INTO ran (n) VALUES (1)", vec![])
                .await?;
            if run < failures {
                txn.execute(sql, vec![]).await?;
            }
            Ok(written)
        })
    });
    (result.await, runs.load(Ordering::Relaxed))
}

const CONFLICT: &str = "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '40001'; END $$";
const DEADLOCK: &str = "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '40P01'; END $$";
const BREAK: &str = "SELECT pg_terminate_backend(pg_backend_pid())";

#[tokio::test]
async fn a_body_runs_again_until_it_meets_no_conflict() {
    let Some(mut db) = connect(1).await else {
        return;
    };
    run(&db, "CREATE TABLE ran (n BIGINT NOT NULL)")
        .await
        .unwrap();
    for (done, sql) in [(1, CONFLICT), (2, DEADLOCK), (3, BREAK)] {
        let (result, runs) = fail_first(&db, 3, sql).await;
        assert_eq!((result.unwrap(), runs), (1, 4), "{sql}");
        assert_eq!(count(&db, "SELECT count(*) FROM ran").await, done);
    }
    db.attempts_max = 4;
    let (result, runs) = fail_first(&db, u32::MAX, CONFLICT).await;
    assert!(matches!(&result, Err(Error::Unavailable { reason }) if reason.contains("on purpose")));
    assert_eq!(runs, 4);
    assert_eq!(count(&db, "SELECT count(*) FROM ran").await, 3);
}

#[tokio::test]
async fn a_connection_that_breaks_in_commit_leaves_the_outcome_unknown() {
    let Some(db) = connect(1).await else { return };
    for sql in [
        "CREATE TABLE breaking (n BIGINT NOT NULL)",
        "CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER breaks AFTER INSERT ON breaking \
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION break()",
    ] {
        run(&db, sql).await.unwrap();
    }
    let unknown = run(&db, "INSERT INTO breaking (n) VALUES (1)").await;
    assert!(
        matches!(unknown, Err(Error::CommitUnknown { .. })),
        "{unknown:?}"
    );
    // Reading tells, on a new connection.
    assert_eq!(count(&db, "SELECT count(*) FROM breaking").await, 0);
}

/// Passes bytes between one client and the server at `socket`, but keeps back the server's answer to COMMIT and hangs up.
async fn cut_at_commit(listener: UnixListener, socket: PathBuf) {
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = UnixStream::connect(socket).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 8_192], vec![0; 8_192]);
    let mut committing = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let part = &asked[..read.unwrap()];
                committing |= part.windows(6).any(|word| word == b"COMMIT");
                server.write_all(part).await.unwrap();
            }
            read = server.read(&mut answered) => {
                if committing {
                    return;
                }
                client.write_all(&answered[..read.unwrap()]).await.unwrap();
            }
        }
    }
}

/// Running the body again would do its work twice.
#[tokio::test]
async fn a_connection_cut_in_commit_is_not_tried_again() {
    let Some(direct) = fresh_postgres_config() else {
        return;
    };
    let parsed: tokio_postgres::Config = direct.parse().unwrap();
    let Host::Unix(server) = &parsed.get_hosts()[0] else {
        panic!("{direct}")
    };
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
    tokio::spawn(cut_at_commit(listener, server.join(".s.PGSQL.5432")));
    let proxied = direct.replace(server.to_str().unwrap(), directory.path().to_str().unwrap());
    let options = |config: String| PostgresOptions {
        config,
        connections: NonZeroUsize::MIN,
        random: Random::seeded(7),
    };
    let db = Postgres::connect(&options(direct)).await.unwrap();
    run(&db, "CREATE TABLE cut (n BIGINT NOT NULL)")
        .await
        .unwrap();
    let through = Postgres::connect(&options(proxied)).await.unwrap();
    let unknown = run(&through, "INSERT INTO cut (n) VALUES (1)").await;
    assert!(
        matches!(unknown, Err(Error::CommitUnknown { .. })),
        "{unknown:?}"
    );
    assert_eq!(count(&db, "SELECT count(*) FROM cut").await, 1);
}

/// The contract lets chance bring the two together; here each waits until the other has read.
#[tokio::test]
async fn bodies_that_read_what_the_other_writes_do_not_both_commit() {
    let Some(db) = connect(2).await else { return };
    run(
        &db,
        "CREATE TABLE duty (id BIGINT PRIMARY KEY, present BIGINT NOT NULL)",
    )
    .await
    .unwrap();
    run(&db, "INSERT INTO duty (id, present) VALUES (1, 1), (2, 1)")
        .await
        .unwrap();
    let both_have_read = Arc::new(Barrier::new(2));
    let leave = |id: i64| {
        let (both_have_read, first) = (Arc::clone(&both_have_read), Arc::new(Once::new()));
        db.transact(move |txn| {
            let (both_have_read, first) = (Arc::clone(&both_have_read), Arc::clone(&first));
            Box::pin(async move {
                let sql = "SELECT count(*) FROM duty WHERE present = 1";
                let present = txn.query(sql, vec![]).await?[0].int(0, "duty")?;
                if !first.is_completed() {
                    first.call_once(|| ());
                    both_have_read.wait().await;
                }
                if present > 1 {
                    let leave = "UPDATE duty SET present = 0 WHERE id = $1";
                    txn.execute(leave, vec![id.into()]).await?;
                }
                Ok(())
            })
        })
    };
    let (one, two) = tokio::join!(leave(1), leave(2));
    one.and(two).unwrap();
    assert_eq!(
        count(&db, "SELECT count(*) FROM duty WHERE present = 1").await,
        1
    );
}

#[tokio::test]
async fn a_new_epoch_waits_for_those_who_hold_the_old_one() {
    let Some(db) = connect(3).await else { return };
    let create = "CREATE TABLE meta (name TEXT PRIMARY KEY, number BIGINT, bytes BYTEA)";
    run(&db, create).await.unwrap();
    run(&db, "INSERT INTO meta (name, number) VALUES ('epoch', 1)")
        .await
        .unwrap();
    let (holds, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let holder = {
        let (holds, released) = (Arc::clone(&holds), Arc::clone(&released));
        db.transact(move |txn| {
            let (holds, released) = (Arc::clone(&holds), Arc::clone(&released));
            Box::pin(async move {
                let epoch = txn.hold_epoch_shared().await?;
                holds.notify_one();
                released.notified().await;
                Ok(epoch)
            })
        })
    };
    let begin_cycle = async {
        holds.notified().await;
        let began = run(&db, "UPDATE meta SET number = 2 WHERE name = 'epoch'").await;
        assert!(began.is_ok_and(|changed| changed == 1));
    };
    let watch = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database()";
        while count(&db, waiting).await == 0 {
            let epoch = count(&db, "SELECT number FROM meta").await;
            assert_eq!(epoch, 1, "the new epoch did not wait");
        }
        released.notify_one();
    };
    let (held, (), ()) = tokio::join!(holder, begin_cycle, watch);
    assert_eq!(held.unwrap(), 1);
    assert_eq!(count(&db, "SELECT number FROM meta").await, 2);
}

#[tokio::test]
async fn idle_connections_that_have_broken_are_replaced() {
    let Some(db) = connect(3).await else { return };
    run(&db, "CREATE TABLE pooled (n BIGINT NOT NULL)")
        .await
        .unwrap();
    let insert = || run(&db, "INSERT INTO pooled (n) VALUES (1)");
    for done in join_all((0..12).map(|_| insert())).await {
        assert_eq!(done.unwrap(), 1);
    }
    assert!((1..=3).contains(&db.idle.lock().unwrap().len()));
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    count(&db, others).await;
    for done in join_all((0..12).map(|_| insert())).await {
        assert_eq!(done.unwrap(), 1);
    }
    assert_eq!(count(&db, "SELECT count(*) FROM pooled").await, 24);
}

#[tokio::test]
async fn a_commit_is_durable_even_where_the_server_would_not_insist() {
    let Some(config) = fresh_postgres_config() else {
        return;
    };
    for (server, session) in [("off", "on"), ("remote_write", "remote_write")] {
        let options = PostgresOptions {
            config: format!("{config} options='-c synchronous_commit={server}'"),
            connections: NonZeroUsize::MIN,
            random: Random::seeded(7),
        };
        let db = Postgres::connect(&options).await.unwrap();
        let shown = db
            .view(|txn| txn.query("SHOW synchronous_commit", vec![]))
            .await
            .unwrap();
        assert_eq!(shown[0].text(0, "setting").unwrap(), session);
    }
}

#[tokio::test]
async fn types_outside_the_dialect_are_refused_and_the_connection_lives_on() {
    let Some(db) = connect(1).await else { return };
    for sql in [
        "SELECT true",
        "SELECT 1.5",
        "SELECT now()",
        "SELECT SUM(n) FROM (VALUES ($1)) v (n)",
    ] {
        let params = vec![Value::Int(1); sql.matches('$').count()];
        let refused = db.view(move |txn| txn.query(sql, params.clone())).await;
        assert!(
            matches!(refused, Err(Error::Statement { .. })),
            "{sql}: {refused:?}"
        );
    }
    assert_eq!(count(&db, "SELECT 7").await, 7);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable() {
    for config in [
        "host=/no/such/place user=drystone",
        "no connection string",
        "host=127.0.0.1 port=1",
    ] {
        let options = PostgresOptions {
            config: config.to_owned(),
            connections: NonZeroUsize::MIN,
            random: Random::seeded(7),
        };
        let refused = Postgres::connect(&options).await;
        assert!(
            matches!(refused, Err(Error::Unavailable { .. })),
            "{config}"
        );
    }
}
