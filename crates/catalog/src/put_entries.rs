//! Put entries: which digest each block put to a pending snapshot has; and the pages that its finisher stored.
//!
//! Both are references to chunks before a root is: a collection reads them first. They go away, in short
//! transactions, once the root is committed or the snapshot has failed or was deleted.

use crate::{Batch, Error, Row, Txn};
use types::{BlockIndex, Digest, SnapshotId};

const TABLE: &str = "put_entries";

/// One block of a pending snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutEntry {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The block.
    pub index: BlockIndex,
    /// Digest of its data.
    pub digest: Digest,
}

static PUT: Batch = Batch::new(
    "INSERT INTO put_entries (snapshot, block_index, digest) VALUES ",
    0,
    "(?, ?, ?)",
    " ON CONFLICT (snapshot, block_index) DO UPDATE SET digest = excluded.digest",
);

static LIST_PAGES: Batch = Batch::new(
    "INSERT INTO listed_pages (snapshot, digest) VALUES ",
    1,
    "($1, ?)",
    " ON CONFLICT (snapshot, digest) DO NOTHING",
);

/// Writes entries, new or in place of earlier ones; no (snapshot, block index) twice.
pub async fn put(txn: &mut dyn Txn, entries: &[PutEntry]) -> Result<(), Error> {
    let rows = entries
        .iter()
        .map(|entry| {
            Ok([
                entry.snapshot.number().try_into()?,
                entry.index.get().into(),
                entry.digest.as_bytes().into(),
            ])
        })
        .collect::<Result<Vec<_>, Error>>()?;
    PUT.execute(txn, &[], rows).await?;
    Ok(())
}

/// At most `limit` entries of the snapshot from the block index `from` on, in order.
pub async fn range(
    txn: &mut dyn Txn,
    snapshot: SnapshotId,
    from: BlockIndex,
    limit: u32,
) -> Result<Vec<(BlockIndex, Digest)>, Error> {
    let rows = txn
        .query(
            "SELECT block_index, digest FROM put_entries WHERE snapshot = $1 AND block_index >= $2 \
             ORDER BY block_index LIMIT $3",
            vec![
                snapshot.number().try_into()?,
                from.get().into(),
                limit.into(),
            ],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((block_index(row)?, Digest::from_bytes(row.array(1, TABLE)?))))
        .collect()
}

/// Lists pages as stored for a snapshot whose root is not committed.
pub async fn list_pages(
    txn: &mut dyn Txn,
    snapshot: SnapshotId,
    pages: &[Digest],
) -> Result<(), Error> {
    let rows = pages.iter().map(|page| [page.as_bytes().into()]).collect();
    LIST_PAGES
        .execute(txn, &[snapshot.number().try_into()?], rows)
        .await?;
    Ok(())
}

/// Notes that the entries and listed pages of a snapshot can be deleted.
pub async fn insert_purge(txn: &mut dyn Txn, snapshot: SnapshotId) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO purges (snapshot) VALUES ($1) ON CONFLICT (snapshot) DO NOTHING",
        vec![snapshot.number().try_into()?],
    )
    .await?;
    Ok(())
}

/// A snapshot whose entries can be deleted.
pub async fn next_purge(txn: &mut dyn Txn) -> Result<Option<SnapshotId>, Error> {
    let rows = txn
        .query(
            "SELECT snapshot FROM purges ORDER BY snapshot LIMIT 1",
            Vec::new(),
        )
        .await?;
    rows.first()
        .map(|row| crate::snapshots::id_at(row, 0, "purges"))
        .transpose()
}

/// Deletes about `limit` rows of a snapshot noted by [`insert_purge`]; forgets the note with the last of them.
/// Answers whether anything is left.
pub async fn purge_some(
    txn: &mut dyn Txn,
    snapshot: SnapshotId,
    limit: u32,
) -> Result<bool, Error> {
    let id = crate::Value::try_from(snapshot.number())?;
    let end = txn
        .query(
            "SELECT block_index FROM put_entries WHERE snapshot = $1 ORDER BY block_index \
             LIMIT 1 OFFSET $2",
            vec![id.clone(), limit.into()],
        )
        .await?;
    if let Some(row) = end.first() {
        txn.execute(
            "DELETE FROM put_entries WHERE snapshot = $1 AND block_index < $2",
            vec![id, row.int(0, TABLE)?.into()],
        )
        .await?;
        return Ok(true);
    }
    let end = txn
        .query(
            "SELECT digest FROM listed_pages WHERE snapshot = $1 ORDER BY digest LIMIT 1 OFFSET $2",
            vec![id.clone(), limit.into()],
        )
        .await?;
    if let Some(row) = end.first() {
        txn.execute(
            "DELETE FROM listed_pages WHERE snapshot = $1 AND digest < $2",
            vec![id, row.bytes(0, "listed_pages")?.into()],
        )
        .await?;
        return Ok(true);
    }
    txn.execute(
        "DELETE FROM put_entries WHERE snapshot = $1",
        vec![id.clone()],
    )
    .await?;
    txn.execute(
        "DELETE FROM listed_pages WHERE snapshot = $1",
        vec![id.clone()],
    )
    .await?;
    txn.execute("DELETE FROM purges WHERE snapshot = $1", vec![id])
        .await?;
    Ok(false)
}

fn block_index(row: &Row) -> Result<BlockIndex, Error> {
    let number = row.uint32(0, TABLE)?;
    BlockIndex::new(number).ok_or_else(|| Error::Corrupt {
        table: TABLE,
        reason: format!("{number} is no block index"),
    })
}
