//! Accounts and their access keys.

use crate::{Error, Row, Txn};
use types::{AccountId, UnixMillis};

const ACCOUNTS: &str = "accounts";
const ACCESS_KEYS: &str = "access_keys";

/// An access key; its secret is sealed under the root key and useless without it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessKeyRecord {
    /// The public name of the key.
    pub key_id: String,
    /// The account that it acts for.
    pub account: AccountId,
    /// The sealed secret.
    pub sealed_secret: Vec<u8>,
    /// Whether requests signed with it are accepted.
    pub active: bool,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// Adds an account; one that exists stays as it is.
pub async fn insert_account(
    txn: &mut dyn Txn,
    account: AccountId,
    created_at: UnixMillis,
) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO accounts (account, created_at) VALUES ($1, $2) ON CONFLICT (account) DO NOTHING",
        vec![account.number().try_into()?, created_at.into()],
    )
    .await?;
    Ok(())
}

/// Every account, by number.
pub async fn accounts(txn: &mut dyn Txn) -> Result<Vec<AccountId>, Error> {
    let rows = txn
        .query("SELECT account FROM accounts ORDER BY account", Vec::new())
        .await?;
    rows.iter()
        .map(|row| account_at(row, 0, ACCOUNTS))
        .collect()
}

/// Adds an access key.
pub async fn insert_access_key(txn: &mut dyn Txn, key: &AccessKeyRecord) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO access_keys (key_id, account, sealed_secret, active, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
        vec![
            key.key_id.as_str().into(),
            key.account.number().try_into()?,
            key.sealed_secret.clone().into(),
            i64::from(key.active).into(),
            key.created_at.into(),
        ],
    )
    .await?;
    Ok(())
}

/// The key of this name.
pub async fn access_key(txn: &mut dyn Txn, key_id: &str) -> Result<Option<AccessKeyRecord>, Error> {
    let rows = txn
        .query(
            "SELECT key_id, account, sealed_secret, active, created_at FROM access_keys \
             WHERE key_id = $1",
            vec![key_id.into()],
        )
        .await?;
    rows.first().map(read_access_key).transpose()
}

/// Every key, oldest first.
pub async fn list_access_keys(txn: &mut dyn Txn) -> Result<Vec<AccessKeyRecord>, Error> {
    let rows = txn
        .query(
            "SELECT key_id, account, sealed_secret, active, created_at FROM access_keys \
             ORDER BY created_at",
            Vec::new(),
        )
        .await?;
    rows.iter().map(read_access_key).collect()
}

/// Switches a key on or off; answers whether it exists.
pub async fn set_access_key_active(
    txn: &mut dyn Txn,
    key_id: &str,
    active: bool,
) -> Result<bool, Error> {
    let changed = txn
        .execute(
            "UPDATE access_keys SET active = $2 WHERE key_id = $1",
            vec![key_id.into(), i64::from(active).into()],
        )
        .await?;
    Ok(changed == 1)
}

/// Deletes a key; answers whether it existed.
pub async fn delete_access_key(txn: &mut dyn Txn, key_id: &str) -> Result<bool, Error> {
    let changed = txn
        .execute(
            "DELETE FROM access_keys WHERE key_id = $1",
            vec![key_id.into()],
        )
        .await?;
    Ok(changed == 1)
}

/// The account in a column.
pub(crate) fn account_at(
    row: &Row,
    column: usize,
    table: &'static str,
) -> Result<AccountId, Error> {
    let number = row.uint(column, table)?;
    AccountId::from_number(number).ok_or_else(|| Error::Corrupt {
        table,
        reason: format!("{number} is no account"),
    })
}

fn read_access_key(row: &Row) -> Result<AccessKeyRecord, Error> {
    Ok(AccessKeyRecord {
        key_id: row.text(0, ACCESS_KEYS)?.to_owned(),
        account: account_at(row, 1, ACCESS_KEYS)?,
        sealed_secret: row.bytes(2, ACCESS_KEYS)?.to_vec(),
        active: row.int(3, ACCESS_KEYS)? != 0,
        created_at: row.int(4, ACCESS_KEYS)?,
    })
}
