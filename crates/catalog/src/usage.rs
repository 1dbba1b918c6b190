//! What each snapshot alone holds, as the last mark found it.
//!
//! Rows are written in short transactions under the number of a new mark and become visible together, when
//! [`crate::meta::USAGE_MARK`] names it; those of the mark before are deleted afterwards.

use crate::accounts::account_at;
use crate::snapshots::id_at;
use crate::{Batch, Error, Row, Txn, Value, meta};
use types::{AccountId, SnapshotId};

const TABLE: &str = "snapshot_usage";

/// What one snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageRecord {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Its blocks, in bytes of volume.
    pub logical_bytes: u64,
    /// Blocks that only it refers to.
    pub own_blocks: u64,
    /// Bytes of frames that only it refers to.
    pub own_bytes: u64,
}

static PUT: Batch = Batch::new(
    "INSERT INTO snapshot_usage (mark, snapshot, account, logical_bytes, own_blocks, own_bytes) VALUES ",
    1,
    "($1, ?, ?, ?, ?, ?)",
    " ON CONFLICT (mark, snapshot) DO UPDATE SET account = excluded.account, \
     logical_bytes = excluded.logical_bytes, own_blocks = excluded.own_blocks, own_bytes = excluded.own_bytes",
);

/// Writes rows of this mark; no snapshot twice.
pub async fn put(txn: &mut dyn Txn, mark: i64, records: &[UsageRecord]) -> Result<(), Error> {
    let rows = records
        .iter()
        .map(|record| {
            Ok([
                record.snapshot.number().try_into()?,
                record.account.number().try_into()?,
                record.logical_bytes.try_into()?,
                record.own_blocks.try_into()?,
                record.own_bytes.try_into()?,
            ])
        })
        .collect::<Result<Vec<[Value; 5]>, Error>>()?;
    PUT.execute(txn, &[mark.into()], rows).await?;
    Ok(())
}

/// At most `limit` rows of the last mark, of snapshots that still exist, with ids above `after`, by id.
pub async fn page(
    txn: &mut dyn Txn,
    after: Option<SnapshotId>,
    limit: u32,
) -> Result<Vec<UsageRecord>, Error> {
    let Some(mark) = meta::number(txn, meta::USAGE_MARK).await? else {
        return Ok(Vec::new());
    };
    let after = after.map_or(Ok(Value::Int(-1)), |id| id.number().try_into())?;
    let rows = txn
        .query(
            "SELECT snapshot_usage.snapshot, snapshot_usage.account, snapshot_usage.logical_bytes, \
             snapshot_usage.own_blocks, snapshot_usage.own_bytes FROM snapshot_usage \
             JOIN snapshots ON snapshots.snapshot = snapshot_usage.snapshot \
             WHERE snapshot_usage.snapshot > $1 AND snapshot_usage.mark = $2 \
             ORDER BY snapshot_usage.snapshot LIMIT $3",
            vec![after, mark.into(), limit.into()],
        )
        .await?;
    rows.iter().map(read).collect()
}

static OF_SNAPSHOTS: Batch = Batch::new(
    "SELECT snapshot, account, logical_bytes, own_blocks, own_bytes FROM snapshot_usage \
     WHERE mark = $1 AND snapshot IN (",
    1,
    "?",
    ")",
);

/// The rows of the last mark of these snapshots, in no order, as far as it knew them.
pub async fn of_snapshots(
    txn: &mut dyn Txn,
    snapshots: &[SnapshotId],
) -> Result<Vec<UsageRecord>, Error> {
    let Some(mark) = meta::number(txn, meta::USAGE_MARK).await? else {
        return Ok(Vec::new());
    };
    let ids = snapshots
        .iter()
        .map(|id| Ok([id.number().try_into()?]))
        .collect::<Result<Vec<_>, Error>>()?;
    let rows = OF_SNAPSHOTS.query(txn, &[mark.into()], ids).await?;
    rows.iter().map(read).collect()
}

/// Deletes about `limit` rows of marks before this one; answers whether any are left.
pub async fn delete_older(txn: &mut dyn Txn, mark: i64, limit: u32) -> Result<bool, Error> {
    let end = txn
        .query(
            "SELECT mark, snapshot FROM snapshot_usage WHERE mark < $1 ORDER BY mark, snapshot \
             LIMIT 1 OFFSET $2",
            vec![mark.into(), limit.into()],
        )
        .await?;
    let Some(end) = end.first() else {
        txn.execute(
            "DELETE FROM snapshot_usage WHERE mark < $1",
            vec![mark.into()],
        )
        .await?;
        return Ok(false);
    };
    txn.execute(
        "DELETE FROM snapshot_usage WHERE (mark, snapshot) < ($1, $2)",
        vec![end.int(0, TABLE)?.into(), end.int(1, TABLE)?.into()],
    )
    .await?;
    Ok(true)
}

fn read(row: &Row) -> Result<UsageRecord, Error> {
    Ok(UsageRecord {
        snapshot: id_at(row, 0, TABLE)?,
        account: account_at(row, 1, TABLE)?,
        logical_bytes: row.uint(2, TABLE)?,
        own_blocks: row.uint(3, TABLE)?,
        own_bytes: row.uint(4, TABLE)?,
    })
}
