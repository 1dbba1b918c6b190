//! Client tokens: the answers of StartSnapshot that are repeated for the same token (SPEC 3.5, 8.1, 8.2).

use crate::{Error, Txn};
use types::{AccountId, Digest, SnapshotId, UnixMillis};

const TABLE: &str = "client_tokens";

/// A remembered answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientTokenRecord {
    /// The account; tokens of different accounts have nothing to do with each other.
    pub account: AccountId,
    /// The token.
    pub token: String,
    /// Digest of all the request's parameters.
    pub fingerprint: Digest,
    /// The snapshot that was started, which may be gone.
    pub snapshot: SnapshotId,
    /// When.
    pub start_time: UnixMillis,
}

/// Remembers an answer.
pub async fn insert(txn: &mut dyn Txn, token: &ClientTokenRecord) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO client_tokens (account, token, fingerprint, snapshot, start_time) \
         VALUES ($1, $2, $3, $4, $5)",
        vec![
            token.account.number().try_into()?,
            token.token.as_bytes().into(),
            token.fingerprint.as_bytes().into(),
            token.snapshot.number().try_into()?,
            token.start_time.into(),
        ],
    )
    .await?;
    Ok(())
}

/// The answer given for this token.
pub async fn get(
    txn: &mut dyn Txn,
    account: AccountId,
    token: &str,
) -> Result<Option<ClientTokenRecord>, Error> {
    let rows = txn
        .query(
            "SELECT fingerprint, snapshot, start_time FROM client_tokens \
             WHERE account = $1 AND token = $2",
            vec![account.number().try_into()?, token.as_bytes().into()],
        )
        .await?;
    rows.first()
        .map(|row| {
            Ok(ClientTokenRecord {
                account,
                token: token.to_owned(),
                fingerprint: Digest::from_bytes(row.array(0, TABLE)?),
                snapshot: crate::snapshots::id_at(row, 1, TABLE)?,
                start_time: row.int(2, TABLE)?,
            })
        })
        .transpose()
}

/// Forgets the tokens given before `before` whose snapshot is gone; answers how many.
pub async fn delete_orphans(txn: &mut dyn Txn, before: UnixMillis) -> Result<u64, Error> {
    txn.execute(
        "DELETE FROM client_tokens WHERE start_time < $1 AND NOT EXISTS \
         (SELECT 1 FROM snapshots WHERE snapshots.snapshot = client_tokens.snapshot)",
        vec![before.into()],
    )
    .await
}
