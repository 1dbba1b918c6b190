//! The schema, its versions, and the way from one to the next.
//!
//! ```text
//! meta            name                     store id, counters, format version
//! accounts        account                  who owns snapshots
//! access_keys     key_id                   secrets sealed under the root key
//! token_keys      key_no                   keys of block and page tokens, sealed under the root key
//! snapshots       snapshot                 one row per snapshot, from start to delete
//! tags            account, snapshot, key   what an account calls a snapshot
//! client_tokens   account, token           answers of StartSnapshot to repeat
//! put_entries     snapshot, block_index    block index -> digest, until the finisher is done
//! listed_pages    snapshot, digest         pages stored for a snapshot whose root is not committed
//! purges          snapshot                 put entries and listed pages to delete
//! chunks          domain, name             where each chunk is
//! containers      container                segments and objects; rows stay, ids are never reused
//! frees           container, frame_offset  frames to free
//! snapshot_usage  mark, snapshot           what each snapshot alone holds, as of the last mark
//! ```
//!
//! Version history: 1, the first. 2, for garbage collection: `containers.live_bytes`, which says how many bytes of a container's
//! frames records name, and `snapshot_usage`.
//!
//! Free text (descriptions, tags, client tokens) is kept as bytes: it may hold U+0000, which TEXT may not, and it is never
//! compared by the database except for equality. A BIGINT never holds a number above 2^63 - 1.

use crate::{Db, DbExt, Error, meta};
use types::UnixMillis;

/// The format version that this program writes.
pub const FORMAT_VERSION: i64 = 2;

const META: &str = "CREATE TABLE IF NOT EXISTS meta (\
    name TEXT NOT NULL PRIMARY KEY, number BIGINT, bytes BYTEA)";

/// The statements that lead from version n to n + 1, at position n.
const MIGRATIONS: [&[&str]; FORMAT_VERSION as usize] = [V1, V2];

const V1: &[&str] = &[
    "CREATE TABLE accounts (\
        account BIGINT NOT NULL PRIMARY KEY, created_at BIGINT NOT NULL)",
    "CREATE TABLE access_keys (\
        key_id TEXT NOT NULL PRIMARY KEY, account BIGINT NOT NULL, sealed_secret BYTEA NOT NULL, \
        active BIGINT NOT NULL, created_at BIGINT NOT NULL)",
    "CREATE TABLE token_keys (\
        key_no BIGINT NOT NULL PRIMARY KEY, sealed BYTEA NOT NULL, created_at BIGINT NOT NULL)",
    "CREATE TABLE snapshots (\
        snapshot BIGINT NOT NULL PRIMARY KEY, account BIGINT NOT NULL, domain BIGINT NOT NULL, \
        state BIGINT NOT NULL, volume_gib BIGINT NOT NULL, parent BIGINT, lineage BIGINT NOT NULL, \
        base_root BYTEA NOT NULL, base_count BIGINT NOT NULL, description BYTEA, \
        start_time BIGINT NOT NULL, completion_time BIGINT, \
        timeout_minutes BIGINT NOT NULL, idle_ms BIGINT NOT NULL, touched BIGINT NOT NULL, \
        progress BIGINT, expected_count BIGINT, expected_checksum BYTEA, status_message TEXT, \
        root BYTEA, own_count BIGINT, full_count BIGINT, \
        frame_container BIGINT, frame_offset BIGINT, frame_length BIGINT)",
    "CREATE INDEX snapshots_of_account ON snapshots (account, snapshot)",
    "CREATE INDEX snapshots_in_state ON snapshots (state, snapshot)",
    "CREATE TABLE tags (\
        account BIGINT NOT NULL, snapshot BIGINT NOT NULL, tag_key BYTEA NOT NULL, tag_value BYTEA NOT NULL, \
        PRIMARY KEY (account, snapshot, tag_key))",
    "CREATE TABLE client_tokens (\
        account BIGINT NOT NULL, token BYTEA NOT NULL, fingerprint BYTEA NOT NULL, \
        snapshot BIGINT NOT NULL, start_time BIGINT NOT NULL, \
        PRIMARY KEY (account, token))",
    "CREATE TABLE put_entries (\
        snapshot BIGINT NOT NULL, block_index BIGINT NOT NULL, digest BYTEA NOT NULL, \
        PRIMARY KEY (snapshot, block_index))",
    "CREATE TABLE listed_pages (\
        snapshot BIGINT NOT NULL, digest BYTEA NOT NULL, PRIMARY KEY (snapshot, digest))",
    "CREATE TABLE purges (snapshot BIGINT NOT NULL PRIMARY KEY)",
    "CREATE TABLE chunks (\
        domain BIGINT NOT NULL, name BYTEA NOT NULL, kind BIGINT NOT NULL, state BIGINT NOT NULL, \
        container BIGINT NOT NULL, frame_offset BIGINT NOT NULL, frame_length BIGINT NOT NULL, \
        stored_bytes BIGINT NOT NULL, codec BIGINT NOT NULL, data_key BIGINT NOT NULL, \
        epoch BIGINT NOT NULL, PRIMARY KEY (domain, name))",
    "CREATE TABLE containers (\
        container BIGINT NOT NULL PRIMARY KEY, kind BIGINT NOT NULL, state BIGINT NOT NULL, \
        bytes BIGINT NOT NULL)",
    "CREATE TABLE frees (\
        container BIGINT NOT NULL, frame_offset BIGINT NOT NULL, frame_length BIGINT NOT NULL, \
        PRIMARY KEY (container, frame_offset))",
];

const V2: &[&str] = &[
    "ALTER TABLE containers ADD COLUMN live_bytes BIGINT NOT NULL DEFAULT 0",
    "UPDATE containers SET live_bytes = counted.bytes FROM (\
        SELECT named.container AS container, CAST(SUM(named.frame_length) AS BIGINT) AS bytes FROM (\
            SELECT container, frame_length FROM chunks \
            UNION ALL SELECT frame_container AS container, frame_length FROM snapshots \
            WHERE frame_container IS NOT NULL) AS named \
        GROUP BY named.container) AS counted \
     WHERE containers.container = counted.container",
    "CREATE TABLE snapshot_usage (\
        mark BIGINT NOT NULL, snapshot BIGINT NOT NULL, account BIGINT NOT NULL, logical_bytes BIGINT NOT NULL, \
        own_blocks BIGINT NOT NULL, own_bytes BIGINT NOT NULL, PRIMARY KEY (mark, snapshot))",
];

/// Brings the database to [`FORMAT_VERSION`], in one transaction. An empty database gets `store_id` and `now`.
///
/// # Errors
/// [`Error::NewerFormat`] when a newer program wrote it; nothing is changed then.
pub async fn migrate(db: &dyn Db, store_id: [u8; 16], now: UnixMillis) -> Result<(), Error> {
    db.transact(move |txn| {
        Box::pin(async move {
            txn.execute(META, Vec::new()).await?;
            let found = match meta::number(txn, meta::FORMAT_VERSION).await? {
                Some(found) => found,
                None => {
                    meta::set_bytes(txn, meta::STORE_ID, &store_id).await?;
                    meta::set_number(txn, meta::CREATED_AT, now).await?;
                    meta::set_number(txn, meta::EPOCH, 1).await?;
                    meta::set_number(txn, meta::LAST_CONTAINER, 0).await?;
                    0
                }
            };
            let from = usize::try_from(found)
                .ok()
                .filter(|from| *from <= MIGRATIONS.len())
                .ok_or(Error::NewerFormat {
                    found,
                    known: FORMAT_VERSION,
                })?;
            for step in &MIGRATIONS[from..] {
                for statement in *step {
                    txn.execute(statement, Vec::new()).await?;
                }
            }
            if found != FORMAT_VERSION {
                meta::set_number(txn, meta::FORMAT_VERSION, FORMAT_VERSION).await?;
            }
            Ok(())
        })
    })
    .await
}
