//! Tags: what an account calls a snapshot. Each account has tags of its own on a snapshot (SPEC 7.5).

use crate::{Batch, Error, Row, Txn, Value};
use types::{AccountId, SnapshotId};

const TABLE: &str = "tags";

/// One tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TagRecord {
    /// The tag's key; case sensitive.
    pub key: String,
    /// The tag's value; may be empty.
    pub value: String,
}

static PUT: Batch = Batch::new(
    "INSERT INTO tags (account, snapshot, tag_key, tag_value) VALUES ",
    2,
    "($1, $2, ?, ?)",
    " ON CONFLICT (account, snapshot, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
);

/// Writes tags, new or in place of those with the same key; no key twice.
pub async fn put(
    txn: &mut dyn Txn,
    account: AccountId,
    snapshot: SnapshotId,
    tags: &[TagRecord],
) -> Result<(), Error> {
    let rows = tags
        .iter()
        .map(|tag| [tag.key.as_bytes().into(), tag.value.as_bytes().into()]);
    PUT.execute(txn, &target(account, snapshot)?, rows.collect())
        .await?;
    Ok(())
}

/// Deletes the tag of this key; with `value`, only when it has this value.
pub async fn delete(
    txn: &mut dyn Txn,
    account: AccountId,
    snapshot: SnapshotId,
    key: &str,
    value: Option<&str>,
) -> Result<(), Error> {
    let [account, snapshot] = target(account, snapshot)?;
    match value {
        None => {
            txn.execute(
                "DELETE FROM tags WHERE account = $1 AND snapshot = $2 AND tag_key = $3",
                vec![account, snapshot, key.as_bytes().into()],
            )
            .await?
        }
        Some(value) => {
            txn.execute(
                "DELETE FROM tags WHERE account = $1 AND snapshot = $2 AND tag_key = $3 \
                 AND tag_value = $4",
                vec![
                    account,
                    snapshot,
                    key.as_bytes().into(),
                    value.as_bytes().into(),
                ],
            )
            .await?
        }
    };
    Ok(())
}

/// Deletes every tag that the account has on the snapshot.
pub async fn delete_all(
    txn: &mut dyn Txn,
    account: AccountId,
    snapshot: SnapshotId,
) -> Result<(), Error> {
    txn.execute(
        "DELETE FROM tags WHERE account = $1 AND snapshot = $2",
        target(account, snapshot)?.to_vec(),
    )
    .await?;
    Ok(())
}

static OF_SNAPSHOTS: Batch = Batch::new(
    "SELECT snapshot, tag_key, tag_value FROM tags WHERE account = $1 AND snapshot IN (",
    1,
    "?",
    ")",
);

/// The account's tags on these snapshots, by snapshot and key.
pub async fn of_snapshots(
    txn: &mut dyn Txn,
    account: AccountId,
    snapshots: &[SnapshotId],
) -> Result<Vec<(SnapshotId, TagRecord)>, Error> {
    let ids = snapshots
        .iter()
        .map(|id| Ok([id.number().try_into()?]))
        .collect::<Result<Vec<_>, Error>>()?;
    let rows = OF_SNAPSHOTS
        .query(txn, &[account.number().try_into()?], ids)
        .await?;
    let mut tags = rows
        .iter()
        .map(|row| {
            let tag = TagRecord {
                key: text(row, 1)?,
                value: text(row, 2)?,
            };
            Ok((crate::snapshots::id_at(row, 0, TABLE)?, tag))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    tags.sort();
    Ok(tags)
}

fn target(account: AccountId, snapshot: SnapshotId) -> Result<[Value; 2], Error> {
    Ok([account.number().try_into()?, snapshot.number().try_into()?])
}

fn text(row: &Row, column: usize) -> Result<String, Error> {
    String::from_utf8(row.bytes(column, TABLE)?.to_vec()).map_err(|_| Error::Corrupt {
        table: TABLE,
        reason: "a text is not UTF-8".to_owned(),
    })
}
