//! Single facts about the whole store.

use crate::{Error, Txn, Value};

const TABLE: &str = "meta";

/// The version of the schema.
pub const FORMAT_VERSION: &str = "format_version";
/// Sixteen random bytes that every segment and frame carries.
pub const STORE_ID: &str = "store_id";
/// When the store was made, in Unix milliseconds.
pub const CREATED_AT: &str = "created_at";
/// The number of the current collection cycle.
pub const EPOCH: &str = "epoch";
/// The highest container id ever given out.
pub const LAST_CONTAINER: &str = "last_container";

/// Only in a copy: when it was made, in Unix milliseconds. It may be taken over from, not served.
pub const COPIED_AT: &str = "copied_at";
/// How often a process has opened the catalog to work with it.
pub const STARTS: &str = "starts";
/// When the last collection ended, in Unix milliseconds.
pub const COLLECTION_FINISHED_AT: &str = "collection_finished_at";
/// When the last scrub ended, in Unix milliseconds.
pub const SCRUB_FINISHED_AT: &str = "scrub_finished_at";
/// How many damaged chunks it found.
pub const SCRUB_FINISHED_DAMAGED: &str = "scrub_finished_damaged";
/// How far the scrub under way has come; empty when there is none.
pub const SCRUB_POSITION: &str = "scrub_position";
/// Which mark the rows of `snapshot_usage` are of.
pub const USAGE_MARK: &str = "usage_mark";
/// The totals of that mark, as `usage.rs` writes them.
pub const USAGE_TOTALS: &str = "usage_totals";

/// The current epoch, without holding it.
pub async fn epoch(txn: &mut dyn Txn) -> Result<i64, Error> {
    number(txn, EPOCH).await?.ok_or(Error::Corrupt {
        table: TABLE,
        reason: "the epoch is missing".to_owned(),
    })
}

/// The number called `name`.
pub async fn number(txn: &mut dyn Txn, name: &str) -> Result<Option<i64>, Error> {
    let rows = txn
        .query("SELECT number FROM meta WHERE name = $1", vec![name.into()])
        .await?;
    rows.first().map(|row| row.int(0, TABLE)).transpose()
}

/// The bytes called `name`.
pub async fn bytes(txn: &mut dyn Txn, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let rows = txn
        .query("SELECT bytes FROM meta WHERE name = $1", vec![name.into()])
        .await?;
    rows.first()
        .map(|row| row.bytes(0, TABLE).map(<[u8]>::to_vec))
        .transpose()
}

/// Sets the number called `$1` to `$2`.
pub(crate) const UPSERT_NUMBER: &str = "INSERT INTO meta (name, number) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET number = excluded.number";

/// Sets the number called `name`.
pub async fn set_number(txn: &mut dyn Txn, name: &str, number: i64) -> Result<(), Error> {
    txn.execute(UPSERT_NUMBER, vec![name.into(), Value::Int(number)])
        .await?;
    Ok(())
}

/// Sets the bytes called `name`.
pub async fn set_bytes(txn: &mut dyn Txn, name: &str, bytes: &[u8]) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO meta (name, bytes) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes",
        vec![name.into(), bytes.into()],
    )
    .await?;
    Ok(())
}

/// The sixteen bytes that tell this store's segments from another's.
pub async fn store_id(txn: &mut dyn Txn) -> Result<[u8; 16], Error> {
    bytes(txn, STORE_ID)
        .await?
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Error::Corrupt {
            table: TABLE,
            reason: "no store id of 16 bytes".to_owned(),
        })
}
