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

/// The key of a token: its account and its bytes.
pub type TokenKey = (AccountId, Vec<u8>);

/// Looks at `limit` tokens after `after` and forgets those given before `before` whose snapshot is gone. Answers the last one looked
/// at, to go on from; nothing at the end.
pub async fn forget_orphans(
    txn: &mut dyn Txn,
    after: Option<&TokenKey>,
    before: UnixMillis,
    limit: u32,
) -> Result<Option<TokenKey>, Error> {
    let (account, token) = match after {
        Some((account, token)) => (account.number(), token.as_slice()),
        None => (0, &[][..]),
    };
    let rows = txn
        .query(
            "SELECT account, token, snapshot, start_time FROM client_tokens \
             WHERE (account, token) > ($1, $2) ORDER BY account, token LIMIT $3",
            vec![account.try_into()?, token.into(), limit.into()],
        )
        .await?;
    let mut last = None;
    let mut old = Vec::new();
    for row in &rows {
        let key = (
            crate::accounts::account_at(row, 0, TABLE)?,
            row.bytes(1, TABLE)?.to_vec(),
        );
        if row.int(3, TABLE)? < before {
            old.push((crate::snapshots::id_at(row, 2, TABLE)?, key.clone()));
        }
        last = Some(key);
    }
    let ids: Vec<_> = old.iter().map(|(id, _)| *id).collect();
    let there = crate::snapshots::put_targets(txn, &ids).await?;
    for (id, (account, token)) in old {
        if !there.iter().any(|target| target.id == id) {
            txn.execute(
                "DELETE FROM client_tokens WHERE account = $1 AND token = $2",
                vec![account.number().try_into()?, token.into()],
            )
            .await?;
        }
    }
    Ok(last.filter(|_| rows.len() == limit as usize))
}
