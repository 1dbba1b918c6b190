//! Requests about access keys.

use super::Reply;
use auth::{AccessKeyId, KeyState, KeyStore, KeyStoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use types::{AccountId, UnixMillis};
use zeroize::Zeroizing;

/// Something to be done about access keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeyRequest {
    /// Makes a key.
    Create(Owner),
    /// Lists the keys, without secrets.
    List,
    /// Takes the right to sign away from the key of this id.
    Disable(String),
    /// Gives the key of this id its right to sign back.
    Enable(String),
    /// Deletes the key of this id for good.
    Delete(String),
}

/// Whom a new key is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The only account there is.
    OnlyAccount,
    /// The account of this number.
    Account(String),
    /// An account that is made for it.
    NewAccount,
}

/// A key with its secret, shown this once.
#[derive(Serialize, Deserialize)]
pub struct CreatedKey {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Zeroizing<String>,
    /// The account that it belongs to.
    pub account: String,
}

/// A key without its secret.
#[derive(Serialize, Deserialize)]
pub struct ListedKey {
    /// The public half.
    pub access_key_id: String,
    /// The account that it belongs to.
    pub account: String,
    /// Whether it may sign.
    pub active: bool,
    /// When it was made: ISO 8601, UTC.
    pub created: String,
}

/// Does what is asked, or says why not.
pub async fn perform(keys: &KeyStore, request: KeyRequest) -> Result<Reply, String> {
    match request {
        KeyRequest::Create(owner) => create(keys, owner).await.map(Reply::Created),
        KeyRequest::List => list(keys).await.map(Reply::Keys),
        KeyRequest::Disable(id) => done(keys.disable(&parse(&id)?).await),
        KeyRequest::Enable(id) => done(keys.enable(&parse(&id)?).await),
        KeyRequest::Delete(id) => done(keys.delete(&parse(&id)?).await),
    }
}

async fn create(keys: &KeyStore, owner: Owner) -> Result<CreatedKey, String> {
    let account = match owner {
        Owner::Account(text) => AccountId::parse(&text)
            .ok_or_else(|| format!("`{text}` is no account; an account is 12 digits"))?,
        Owner::NewAccount => keys.create_account().await.map_err(told)?,
        Owner::OnlyAccount => only_account(keys).await?,
    };
    let key = keys.create_key(account).await.map_err(told)?;
    Ok(CreatedKey {
        access_key_id: key.id.to_string(),
        secret_access_key: Zeroizing::new(key.secret.expose().to_owned()),
        account: key.account.to_string(),
    })
}

async fn only_account(keys: &KeyStore) -> Result<AccountId, String> {
    let accounts = keys.accounts().await.map_err(told)?;
    match accounts.as_slice() {
        [account] => Ok(*account),
        [] => keys.create_account().await.map_err(told),
        several => {
            let named: Vec<String> = several.iter().take(20).map(AccountId::to_string).collect();
            Err(format!(
                "there are several accounts; name one with --account: {}",
                named.join(", ")
            ))
        }
    }
}

async fn list(keys: &KeyStore) -> Result<Vec<ListedKey>, String> {
    let keys = keys.list().await.map_err(told)?;
    let listed = keys.iter().map(|key| ListedKey {
        access_key_id: key.id.to_string(),
        account: key.account.to_string(),
        active: key.state == KeyState::Active,
        created: iso_8601(key.created_at),
    });
    Ok(listed.collect())
}

fn parse(id: &str) -> Result<AccessKeyId, String> {
    AccessKeyId::parse(id)
        .ok_or_else(|| format!("`{id}` is no access key id; `drystone key list` shows all"))
}

fn done(result: Result<(), KeyStoreError>) -> Result<Reply, String> {
    result.map(|()| Reply::Done).map_err(told)
}

fn told(error: KeyStoreError) -> String {
    error.to_string()
}

/// A time for people and programs: ISO 8601, UTC, whole seconds.
pub fn iso_8601(time: UnixMillis) -> String {
    let seconds = time.div_euclid(1000);
    Timestamp::from_second(seconds)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_to_the_second() {
        assert_eq!(iso_8601(784_111_777_999), "1994-11-06T08:49:37Z");
    }
}
