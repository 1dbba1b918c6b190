//! Reads that only an audit needs: what should not be there, and sums that must agree.

#[cfg(test)]
mod tests;

use crate::accounts::account_at;
use crate::snapshots::id_at;
use crate::{Batch, Error, Location, Txn, Value};
use std::collections::HashMap;
use types::{AccountId, SnapshotId, UnixMillis};

/// At most `limit` frames that are noted to be freed, after this container and offset, in order.
pub async fn frees_after(
    txn: &mut dyn Txn,
    after: Option<(u64, u64)>,
    limit: u32,
) -> Result<Vec<Location>, Error> {
    let (container, offset) = match after {
        Some((container, offset)) => (container.try_into()?, offset.try_into()?),
        None => (Value::Int(-1), Value::Int(-1)),
    };
    let rows = txn
        .query(
            "SELECT container, frame_offset, frame_length FROM frees \
             WHERE (container, frame_offset) > ($1, $2) ORDER BY container, frame_offset LIMIT $3",
            vec![container, offset, limit.into()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Location {
                container: row.uint(0, "frees")?,
                offset: row.uint(1, "frees")?,
                length: row.uint32(2, "frees")?,
            })
        })
        .collect()
}

/// Whether this frame is noted to be freed.
pub async fn is_to_be_freed(txn: &mut dyn Txn, frame: Location) -> Result<bool, Error> {
    let rows = txn
        .query(
            "SELECT container FROM frees WHERE container = $1 AND frame_offset = $2",
            vec![frame.container.try_into()?, frame.offset.try_into()?],
        )
        .await?;
    Ok(!rows.is_empty())
}

static OF_CHUNKS: Batch = Batch::new(
    "SELECT container, CAST(SUM(frame_length) AS BIGINT) FROM chunks WHERE container IN (",
    0,
    "?",
    ") GROUP BY container",
);

static OF_SNAPSHOTS: Batch = Batch::new(
    "SELECT frame_container, CAST(SUM(frame_length) AS BIGINT) FROM snapshots WHERE frame_container IN (",
    0,
    "?",
    ") GROUP BY frame_container",
);

/// Bytes of frames in these containers that records name; those without are left out. Reads all records.
pub async fn named_bytes(
    txn: &mut dyn Txn,
    containers: &[u64],
) -> Result<HashMap<u64, u64>, Error> {
    let mut named = HashMap::new();
    for (sum, table) in [(&OF_CHUNKS, "chunks"), (&OF_SNAPSHOTS, "snapshots")] {
        let ids = containers
            .iter()
            .map(|id| Ok([Value::try_from(*id)?]))
            .collect::<Result<Vec<_>, Error>>()?;
        for row in sum.query(txn, &[], ids).await? {
            *named.entry(row.uint(0, table)?).or_default() += row.uint(1, table)?;
        }
    }
    Ok(named)
}

/// Whether the put entries and listed pages of this snapshot are noted to be deleted.
pub async fn is_to_be_purged(txn: &mut dyn Txn, snapshot: SnapshotId) -> Result<bool, Error> {
    let rows = txn
        .query(
            "SELECT snapshot FROM purges WHERE snapshot = $1",
            vec![snapshot.number().try_into()?],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// A tag, and whether its snapshot is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldTag {
    /// Whose it is.
    pub account: AccountId,
    /// What it is on.
    pub snapshot: SnapshotId,
    /// Its key, in bytes.
    pub key: Vec<u8>,
    /// Whether the snapshot is there.
    pub held: bool,
}

/// At most `limit` tags of all accounts after this one, in order.
pub async fn tags_after(
    txn: &mut dyn Txn,
    after: Option<&HeldTag>,
    limit: u32,
) -> Result<Vec<HeldTag>, Error> {
    let (account, snapshot, key) = match after {
        Some(tag) => (
            tag.account.number().try_into()?,
            tag.snapshot.number().try_into()?,
            tag.key.as_slice().into(),
        ),
        None => (Value::Int(-1), Value::Int(-1), Value::Bytes(Vec::new())),
    };
    let rows = txn
        .query(
            "SELECT tags.account, tags.snapshot, tags.tag_key, snapshots.snapshot FROM tags \
             LEFT JOIN snapshots ON snapshots.snapshot = tags.snapshot \
             WHERE (tags.account, tags.snapshot, tags.tag_key) > ($1, $2, $3) \
             ORDER BY tags.account, tags.snapshot, tags.tag_key LIMIT $4",
            vec![account, snapshot, key, limit.into()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(HeldTag {
                account: account_at(row, 0, "tags")?,
                snapshot: id_at(row, 1, "tags")?,
                key: row.bytes(2, "tags")?.to_vec(),
                held: row.opt_int(3, "tags")?.is_some(),
            })
        })
        .collect()
}

/// A client token, and whether its snapshot is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldToken {
    /// Whose it is.
    pub account: AccountId,
    /// The token, in bytes.
    pub token: Vec<u8>,
    /// The snapshot that was started for it.
    pub snapshot: SnapshotId,
    /// When.
    pub start_time: UnixMillis,
    /// Whether the snapshot is there.
    pub held: bool,
}

/// At most `limit` client tokens of all accounts after this one, in order.
pub async fn tokens_after(
    txn: &mut dyn Txn,
    after: Option<&HeldToken>,
    limit: u32,
) -> Result<Vec<HeldToken>, Error> {
    let (account, token) = match after {
        Some(token) => (
            token.account.number().try_into()?,
            token.token.as_slice().into(),
        ),
        None => (Value::Int(-1), Value::Bytes(Vec::new())),
    };
    let rows = txn
        .query(
            "SELECT client_tokens.account, client_tokens.token, client_tokens.snapshot, \
             client_tokens.start_time, snapshots.snapshot FROM client_tokens \
             LEFT JOIN snapshots ON snapshots.snapshot = client_tokens.snapshot \
             WHERE (client_tokens.account, client_tokens.token) > ($1, $2) \
             ORDER BY client_tokens.account, client_tokens.token LIMIT $3",
            vec![account, token, limit.into()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(HeldToken {
                account: account_at(row, 0, "client_tokens")?,
                token: row.bytes(1, "client_tokens")?.to_vec(),
                snapshot: id_at(row, 2, "client_tokens")?,
                start_time: row.int(3, "client_tokens")?,
                held: row.opt_int(4, "client_tokens")?.is_some(),
            })
        })
        .collect()
}
