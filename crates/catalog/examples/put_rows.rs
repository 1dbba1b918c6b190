//! Measures the embedded backend the way puts use it: batches of 64 rows, each a chunk record and a put entry, durable before
//! the answer, from several callers at once.
//!
//! `cargo run --release -p catalog --example put_rows -- [DIRECTORY] [CALLERS] [SECONDS]`

use catalog::db::{Sqlite, SqliteOptions};
use catalog::{Batch, DbExt, Error};
use futures_util::future::join_all;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use types::{Clock, Random, SystemClock};

const BATCH_ROWS: i64 = 64;

static PUT_CHUNKS: Batch = Batch::new(
    "INSERT INTO bench_chunks (domain, name, state, container, position, stored, stamp) VALUES ",
    1,
    "($1, ?, 1, 7, ?, 524288, 3)",
    " ON CONFLICT (domain, name) DO UPDATE SET stamp = excluded.stamp",
);

static PUT_ENTRIES: Batch = Batch::new(
    "INSERT INTO bench_entries (snapshot, block_index, digest) VALUES ",
    1,
    "($1, ?, ?)",
    " ON CONFLICT (snapshot, block_index) DO UPDATE SET digest = excluded.digest",
);

const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS bench_chunks (domain BYTEA NOT NULL, name BYTEA NOT NULL, state BIGINT NOT NULL,
     container BIGINT NOT NULL, position BIGINT NOT NULL, stored BIGINT NOT NULL, stamp BIGINT NOT NULL,
     PRIMARY KEY (domain, name))",
    "CREATE TABLE IF NOT EXISTS bench_entries (snapshot BIGINT NOT NULL, block_index BIGINT NOT NULL,
     digest BYTEA NOT NULL, PRIMARY KEY (snapshot, block_index))",
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let directory = arguments
        .next()
        .map_or(temporary.path().to_owned(), PathBuf::from);
    let callers: i64 = arguments.next().map_or(Ok(8), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let db = Arc::new(Sqlite::open(&SqliteOptions {
        path: directory.join("put_rows.db"),
        readers: NonZeroUsize::MIN,
        cache_bytes: 256 << 20,
    })?);
    for sql in TABLES {
        db.transact(move |txn| txn.execute(sql, vec![])).await?;
    }

    let clock = Arc::new(SystemClock::new());
    let random = Random::system();
    let end = clock.monotonic() + Duration::from_secs(seconds);
    let tasks = (0..callers).map(|caller| {
        let (db, clock, random) = (Arc::clone(&db), Arc::clone(&clock), random.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            for batch in 0.. {
                let begun = clock.monotonic();
                if begun >= end {
                    break;
                }
                put_batch(&db, &random, caller, batch).await?;
                latencies.push(clock.monotonic() - begun);
            }
            Ok::<_, Error>(latencies)
        })
    });
    let mut latencies = Vec::new();
    for task in join_all(tasks).await {
        latencies.extend(task??);
    }
    latencies.sort();
    let at = |part: usize| latencies[(latencies.len() * part / 1_000).min(latencies.len() - 1)];
    let counts = db.counts();
    println!(
        "{callers} callers, {} puts/s ({} commits/s, {:.1} bodies each, {} checkpoints), \
         p50 {:?}, p99 {:?}, p99.9 {:?}, worst {:?}",
        latencies.len() as i64 * BATCH_ROWS / seconds as i64,
        counts.commits / seconds,
        counts.bodies as f64 / counts.commits as f64,
        counts.checkpoints,
        at(500),
        at(990),
        at(999),
        at(1_000),
    );
    Ok(())
}

async fn put_batch(db: &Sqlite, random: &Random, caller: i64, batch: i64) -> Result<(), Error> {
    let names: Vec<[u8; 32]> = (0..BATCH_ROWS).map(|_| random.bytes()).collect();
    db.transact(move |txn| {
        let rows = names.iter().zip(batch * BATCH_ROWS..);
        let chunks = rows
            .clone()
            .map(|(name, row)| [name.into(), (row << 19).into()])
            .collect();
        let entries = rows.map(|(name, row)| [row.into(), name.into()]).collect();
        Box::pin(async move {
            PUT_CHUNKS
                .execute(txn, &[[1_u8; 16].into()], chunks)
                .await?;
            PUT_ENTRIES.execute(txn, &[caller.into()], entries).await?;
            Ok(())
        })
    })
    .await
}
