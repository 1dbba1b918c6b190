//! The keys that block and page tokens are sealed with.

use crate::{Error, Txn};
use types::UnixMillis;

const TABLE: &str = "token_keys";

/// A key of tokens, sealed under the root key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenKeyRecord {
    /// The number that tokens name it by.
    pub key_no: i64,
    /// The sealed key.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// Adds a key.
pub async fn insert_token_key(txn: &mut dyn Txn, key: &TokenKeyRecord) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO token_keys (key_no, sealed, created_at) VALUES ($1, $2, $3)",
        vec![
            key.key_no.into(),
            key.sealed.clone().into(),
            key.created_at.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Every key, by number.
pub async fn token_keys(txn: &mut dyn Txn) -> Result<Vec<TokenKeyRecord>, Error> {
    let rows = txn
        .query(
            "SELECT key_no, sealed, created_at FROM token_keys ORDER BY key_no",
            Vec::new(),
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(TokenKeyRecord {
                key_no: row.int(0, TABLE)?,
                sealed: row.bytes(1, TABLE)?.to_vec(),
                created_at: row.int(2, TABLE)?,
            })
        })
        .collect()
}

/// Deletes a key; every token made with it becomes invalid.
pub async fn delete_token_key(txn: &mut dyn Txn, key_no: i64) -> Result<(), Error> {
    txn.execute(
        "DELETE FROM token_keys WHERE key_no = $1",
        vec![key_no.into()],
    )
    .await?;
    Ok(())
}
