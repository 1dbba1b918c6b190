//! Accounts and access keys: in memory for every request, in the catalog for good.
//!
//! Policy
//! - All changes of keys go through this process (DESIGN 4, admin commands), so a request's look-up is a map read.
//! - A disabled or deleted key fails on the next request.
//!
//! Invariants
//! - A key in memory may do no more than the catalog lets it: what restricts a key changes memory first and the catalog
//!   second, what permits changes the catalog first. A caller that stops waiting in between leaves a key too weak, never too
//!   strong; repeating the change puts both right.
//! - Changes happen one at a time.
//! - Secrets stand in the catalog only sealed, bound to key id and account.
//!
//! Failure
//! - After a catalog error the key is read again; when that fails too, memory keeps the weaker state until the next change
//!   or start.
//! - A key whose secret does not open (the root key was replaced) is passed over at the start: new keys can still be made.
//!   [`KeyStore::unreadable`] tells which.

use crate::{AccessKeyId, RootKey, SealError, SecretKey};
use catalog::accounts::{self, AccessKeyRecord};
use catalog::{Db, DbExt};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, MutexGuard};
use types::{AccountId, Clock, Random, UnixMillis};

/// Access keys of one store: they are all held in memory, at about 300 bytes each.
pub const ACCESS_KEYS_MAX: usize = 10_000;

/// Draws of an id that may hit one that exists, before something must be wrong.
const DRAWS_MAX: usize = 8;

/// Whether a key may sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// It may.
    Active,
    /// It may not, until it is enabled again.
    Disabled,
}

/// What a request's key leads to.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The account that the key belongs to.
    pub account: AccountId,
    /// The secret half of the key.
    pub secret: SecretKey,
    /// Whether the key may sign.
    pub state: KeyState,
}

/// A key that was just made: the one time that its secret is shown.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The public half.
    pub id: AccessKeyId,
    /// The secret half.
    pub secret: SecretKey,
    /// The account that it belongs to.
    pub account: AccountId,
}

/// A key as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySummary {
    /// The public half.
    pub id: AccessKeyId,
    /// The account that it belongs to.
    pub account: AccountId,
    /// Whether it may sign.
    pub state: KeyState,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// What a [`KeyStore`] is made of.
pub struct KeyStoreOptions {
    /// Where accounts and keys are kept.
    pub db: Arc<dyn Db>,
    /// What seals the secrets.
    pub root_key: RootKey,
    /// Dates new keys.
    pub clock: Arc<dyn Clock>,
    /// Makes new keys.
    pub random: Random,
}

/// Accounts and access keys.
pub struct KeyStore {
    options: KeyStoreOptions,
    keys: RwLock<HashMap<AccessKeyId, Credential>>,
    unreadable: Vec<AccessKeyId>,
    changes: Mutex<()>,
}

impl KeyStore {
    /// Reads every key of the catalog.
    pub async fn open(options: KeyStoreOptions) -> Result<KeyStore, KeyStoreError> {
        let records = options
            .db
            .view(|txn| Box::pin(accounts::list_access_keys(txn)))
            .await?;
        let mut keys = HashMap::with_capacity(records.len());
        let mut unreadable = Vec::new();
        for record in records {
            match unseal(&options.root_key, &record) {
                Ok((id, credential)) => {
                    keys.insert(id, credential);
                }
                Err(KeyStoreError::Sealed { id, .. }) => unreadable.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(KeyStore {
            options,
            keys: RwLock::new(keys),
            unreadable,
            changes: Mutex::new(()),
        })
    }

    /// The key of this id, as it is at this moment; a map read.
    pub fn lookup(&self, id: &AccessKeyId) -> Option<Credential> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Whether the catalog held no key when it was opened and none was made since, as at the first start.
    pub fn is_empty(&self) -> bool {
        self.unreadable.is_empty()
            && self
                .keys
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
    }

    /// Keys whose secrets did not open at the start: the root key was replaced, or their records are damaged. They sign
    /// nothing; whoever starts the store says so in the log.
    pub fn unreadable(&self) -> &[AccessKeyId] {
        &self.unreadable
    }

    /// Makes an account with a random number.
    pub async fn create_account(&self) -> Result<AccountId, KeyStoreError> {
        let _change = self.change().await;
        let now = self.options.clock.now();
        for _ in 0..DRAWS_MAX {
            let account = AccountId::from_random(self.options.random.bits());
            let fresh = self.options.db.transact(move |txn| {
                Box::pin(async move {
                    if accounts::accounts(txn).await?.contains(&account) {
                        return Ok(false);
                    }
                    accounts::insert_account(txn, account, now).await?;
                    Ok(true)
                })
            });
            if fresh.await? {
                return Ok(account);
            }
        }
        Err(KeyStoreError::NoFreeId)
    }

    /// Every account, by number.
    pub async fn accounts(&self) -> Result<Vec<AccountId>, KeyStoreError> {
        Ok(self
            .options
            .db
            .view(|txn| Box::pin(accounts::accounts(txn)))
            .await?)
    }

    /// Makes an active key for an account that exists.
    pub async fn create_key(&self, account: AccountId) -> Result<NewKey, KeyStoreError> {
        let _change = self.change().await;
        let count = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        if count >= ACCESS_KEYS_MAX {
            return Err(KeyStoreError::TooManyKeys {
                limit: ACCESS_KEYS_MAX,
            });
        }
        for _ in 0..DRAWS_MAX {
            let id = AccessKeyId::generate(&self.options.random);
            let secret = SecretKey::generate(&self.options.random);
            let context = seal_context(&id, account);
            let record = AccessKeyRecord {
                key_id: id.as_str().to_owned(),
                account,
                sealed_secret: self
                    .options
                    .root_key
                    .seal(&context, secret.expose().as_bytes()),
                active: true,
                created_at: self.options.clock.now(),
            };
            let added = self.options.db.transact(move |txn| {
                let record = record.clone();
                Box::pin(async move {
                    if !accounts::accounts(txn).await?.contains(&account) {
                        return Ok(Added::NoSuchAccount);
                    }
                    if accounts::access_key(txn, &record.key_id).await?.is_some() {
                        return Ok(Added::IdTaken);
                    }
                    accounts::insert_access_key(txn, &record).await?;
                    Ok(Added::Yes)
                })
            });
            match added.await? {
                Added::Yes => {
                    let credential = Credential {
                        account,
                        secret: secret.clone(),
                        state: KeyState::Active,
                    };
                    self.set(&id, Some(credential));
                    return Ok(NewKey {
                        id,
                        secret,
                        account,
                    });
                }
                Added::IdTaken => {}
                Added::NoSuchAccount => return Err(KeyStoreError::UnknownAccount { account }),
            }
        }
        Err(KeyStoreError::NoFreeId)
    }

    /// Adds a key that was made before and whose secret is known, as an active one; its account is made when there is none. A
    /// record of the same id is replaced: after a rescue its secret may be unreadable.
    pub async fn restore_key(
        &self,
        id: &AccessKeyId,
        secret: &SecretKey,
        account: AccountId,
    ) -> Result<(), KeyStoreError> {
        let _change = self.change().await;
        let now = self.options.clock.now();
        let context = seal_context(id, account);
        let record = AccessKeyRecord {
            key_id: id.as_str().to_owned(),
            account,
            sealed_secret: self
                .options
                .root_key
                .seal(&context, secret.expose().as_bytes()),
            active: true,
            created_at: now,
        };
        let restored = self.options.db.transact(move |txn| {
            let record = record.clone();
            Box::pin(async move {
                accounts::insert_account(txn, account, now).await?;
                accounts::delete_access_key(txn, &record.key_id).await?;
                accounts::insert_access_key(txn, &record).await
            })
        });
        restored.await?;
        let credential = Credential {
            account,
            secret: secret.clone(),
            state: KeyState::Active,
        };
        self.set(id, Some(credential));
        Ok(())
    }

    /// Every key, oldest first.
    pub async fn list(&self) -> Result<Vec<KeySummary>, KeyStoreError> {
        let records = self
            .options
            .db
            .view(|txn| Box::pin(accounts::list_access_keys(txn)))
            .await?;
        let mut keys = records.iter().map(summary).collect::<Result<Vec<_>, _>>()?;
        keys.sort_unstable_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(keys)
    }

    /// Takes a key's right to sign away, from the next request on.
    pub async fn disable(&self, id: &AccessKeyId) -> Result<(), KeyStoreError> {
        let _change = self.change().await;
        let disabled = |credential| Credential {
            state: KeyState::Disabled,
            ..credential
        };
        self.set(id, self.lookup(id).map(disabled));
        self.set_active(id, false).await
    }

    /// Gives a key its right to sign back.
    pub async fn enable(&self, id: &AccessKeyId) -> Result<(), KeyStoreError> {
        let _change = self.change().await;
        self.set_active(id, true).await
    }

    /// Deletes a key for good, from the next request on.
    pub async fn delete(&self, id: &AccessKeyId) -> Result<(), KeyStoreError> {
        let _change = self.change().await;
        self.set(id, None);
        let key_id = id.as_str().to_owned();
        let deleted = self.options.db.transact(move |txn| {
            let key_id = key_id.clone();
            Box::pin(async move { accounts::delete_access_key(txn, &key_id).await })
        });
        match deleted.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(KeyStoreError::UnknownKey { id: id.clone() }),
            Err(error) => {
                self.reread(id).await.ok();
                Err(error.into())
            }
        }
    }

    async fn set_active(&self, id: &AccessKeyId, active: bool) -> Result<(), KeyStoreError> {
        let key_id = id.as_str().to_owned();
        let changed = self.options.db.transact(move |txn| {
            let key_id = key_id.clone();
            Box::pin(async move { accounts::set_access_key_active(txn, &key_id, active).await })
        });
        let changed = changed.await;
        match &changed {
            Ok(_) => self.reread(id).await?,
            // The first error says what went wrong; memory keeps the weaker state.
            Err(_) => self.reread(id).await.unwrap_or_default(),
        }
        match changed? {
            true => Ok(()),
            false => Err(KeyStoreError::UnknownKey { id: id.clone() }),
        }
    }

    /// Makes memory what the catalog says about one key.
    async fn reread(&self, id: &AccessKeyId) -> Result<(), KeyStoreError> {
        let key_id = id.as_str().to_owned();
        let record = self.options.db.view(move |txn| {
            let key_id = key_id.clone();
            Box::pin(async move { accounts::access_key(txn, &key_id).await })
        });
        let credential = match record.await? {
            Some(record) => Some(unseal(&self.options.root_key, &record)?.1),
            None => None,
        };
        self.set(id, credential);
        Ok(())
    }

    fn set(&self, id: &AccessKeyId, credential: Option<Credential>) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        match credential {
            Some(credential) => keys.insert(id.clone(), credential),
            None => keys.remove(id),
        };
    }

    async fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().await
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStore").finish_non_exhaustive()
    }
}

/// Why accounts or keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// A secret does not open.
    #[error(
        "the secret of access key {id} does not open: {source}; restore the root key that this catalog was made with"
    )]
    Sealed {
        /// The key.
        id: AccessKeyId,
        /// Why.
        source: SealError,
    },
    /// There is no such key.
    #[error("there is no access key {id}; `drystone key list` shows all")]
    UnknownKey {
        /// The key asked for.
        id: AccessKeyId,
    },
    /// There is no such account.
    #[error("there is no account {account}")]
    UnknownAccount {
        /// The account asked for.
        account: AccountId,
    },
    /// There are as many keys as a store can have.
    #[error("there are {limit} access keys already; delete some that are not in use")]
    TooManyKeys {
        /// The limit.
        limit: usize,
    },
    /// Random ids were all taken: the source of randomness repeats itself.
    #[error("found no free id in {DRAWS_MAX} random draws")]
    NoFreeId,
}

/// What became of a new key's record.
enum Added {
    Yes,
    IdTaken,
    NoSuchAccount,
}

/// Binds a sealed secret to its key and account; neither text holds a slash.
fn seal_context(id: &AccessKeyId, account: AccountId) -> Vec<u8> {
    format!("access key/{id}/{account}").into_bytes()
}

fn unseal(
    root_key: &RootKey,
    record: &AccessKeyRecord,
) -> Result<(AccessKeyId, Credential), KeyStoreError> {
    let KeySummary {
        id, account, state, ..
    } = summary(record)?;
    let sealed = |source| KeyStoreError::Sealed {
        id: id.clone(),
        source,
    };
    let secret = root_key
        .open(&seal_context(&id, account), &record.sealed_secret)
        .map_err(sealed)?;
    let secret = str::from_utf8(&secret).map_err(|_| sealed(SealError::Damaged))?;
    let secret = SecretKey::new(secret.to_owned());
    Ok((
        id,
        Credential {
            account,
            secret,
            state,
        },
    ))
}

fn summary(record: &AccessKeyRecord) -> Result<KeySummary, KeyStoreError> {
    let id = AccessKeyId::parse(&record.key_id).ok_or_else(|| catalog::Error::Corrupt {
        table: "access_keys",
        reason: "a key id holds more than letters and digits".to_owned(),
    })?;
    Ok(KeySummary {
        id,
        account: record.account,
        state: if record.active {
            KeyState::Active
        } else {
            KeyState::Disabled
        },
        created_at: record.created_at,
    })
}

#[cfg(test)]
mod tests;
