//! Put entries: which digest each block put to a pending snapshot has; and the pages that its finisher stored.
//!
//! Both are references to chunks before a root is: a collection reads them first. They go away, in short
//! transactions, once the root is committed or the snapshot has failed or was deleted.

use crate::snapshots::State;
use crate::{Batch, Error, Row, Txn, Value};
use types::{BlockIndex, Digest, Domain, SnapshotId};

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

/// A put entry or a listed page, with what a mark needs to know of its snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Whose it is.
    pub snapshot: SnapshotId,
    /// The block index of a put entry; 0 for a page.
    pub index: u32,
    /// What it refers to.
    pub digest: Digest,
    /// Domain and state of the snapshot; nothing when it is gone, and the row waits for its purge.
    pub held_by: Option<(Domain, State)>,
}

/// At most `limit` put entries of all snapshots after this snapshot and block index, in order.
pub async fn entries_after(
    txn: &mut dyn Txn,
    after: Option<(SnapshotId, u32)>,
    limit: u32,
) -> Result<Vec<Reference>, Error> {
    let (snapshot, index) = match after {
        Some((snapshot, index)) => (snapshot.number().try_into()?, index.into()),
        None => (Value::Int(-1), Value::Int(-1)),
    };
    let rows = txn
        .query(
            "SELECT put_entries.snapshot, put_entries.block_index, put_entries.digest, snapshots.domain, \
             snapshots.state FROM put_entries LEFT JOIN snapshots ON snapshots.snapshot = put_entries.snapshot \
             WHERE (put_entries.snapshot, put_entries.block_index) > ($1, $2) \
             ORDER BY put_entries.snapshot, put_entries.block_index LIMIT $3",
            vec![snapshot, index, limit.into()],
        )
        .await?;
    rows.iter()
        .map(|row| reference(row, row.uint32(1, TABLE)?))
        .collect()
}

/// At most `limit` listed pages of all snapshots after this snapshot and digest, in order.
pub async fn pages_after(
    txn: &mut dyn Txn,
    after: Option<(SnapshotId, Digest)>,
    limit: u32,
) -> Result<Vec<Reference>, Error> {
    let (snapshot, digest) = match after {
        Some((snapshot, digest)) => (snapshot.number().try_into()?, digest.as_bytes().into()),
        None => (Value::Int(-1), Value::Bytes(Vec::new())),
    };
    let rows = txn
        .query(
            "SELECT listed_pages.snapshot, 0, listed_pages.digest, snapshots.domain, snapshots.state \
             FROM listed_pages LEFT JOIN snapshots ON snapshots.snapshot = listed_pages.snapshot \
             WHERE (listed_pages.snapshot, listed_pages.digest) > ($1, $2) \
             ORDER BY listed_pages.snapshot, listed_pages.digest LIMIT $3",
            vec![snapshot, digest, limit.into()],
        )
        .await?;
    rows.iter().map(|row| reference(row, 0)).collect()
}

fn reference(row: &Row, index: u32) -> Result<Reference, Error> {
    let held_by = match row.opt_int(4, TABLE)? {
        Some(state) => Some((
            Domain::from_number(row.uint(3, TABLE)?),
            State::from_number(state)?,
        )),
        None => None,
    };
    Ok(Reference {
        snapshot: crate::snapshots::id_at(row, 0, TABLE)?,
        index,
        digest: Digest::from_bytes(row.array(2, TABLE)?),
        held_by,
    })
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
    let id = Value::try_from(snapshot.number())?;
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
