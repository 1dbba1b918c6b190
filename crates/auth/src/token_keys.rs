//! The keys that block tokens and page tokens are sealed with (SPEC 8.31).
//!
//! Policy
//! - A new key is made when the newest is [`ROTATION`] old; only the newest seals.
//! - A key is deleted once every token sealed with it has expired: [`BLOCK_TOKEN_LIFE`] and a margin after its successor was
//!   made. How long it was in use does not matter, so a server that slept loses no token.
//! - Keys are in the catalog, sealed under the root key: tokens outlive a restart, and a copy of the catalog forges none.
//!
//! Invariants
//! - There is always a current key.
//! - A number never names two keys: numbers only grow, and the newest key is never deleted.
//!
//! Failure
//! - A key that does not open (the root key was replaced) is passed over, and replaced when it is the newest: tokens sealed
//!   with it are invalid, and their holders list again. [`TokenKeys::unreadable`] tells how many there are.
//! - A clock that stood far in the future leaves a newest key from that future; it is replaced, not waited for.

use crate::RootKey;
use catalog::token_keys::{self, TokenKeyRecord};
use catalog::{Db, DbExt, Error};
use ring::hmac;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use types::limits::BLOCK_TOKEN_LIFE;
use types::{Clock, Random, UnixMillis};
use zeroize::Zeroizing;

/// How long a key seals: short, so that one that leaks reaches back and forward about a week at most.
pub const ROTATION: Duration = Duration::from_secs(24 * 60 * 60);

/// How much longer than its last token a key is kept: responses under way, and expiries rounded up.
const MARGIN: Duration = Duration::from_secs(60 * 60);

const KEY_BYTES: usize = 32;

/// A key that tokens are sealed with; wiped when dropped.
pub struct TokenKey {
    number: i64,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl TokenKey {
    /// The key's name in tokens: the low 24 bits of its number, so unique for 40,000 years of rotation.
    pub fn id(&self) -> u32 {
        short(self.number)
    }

    /// A key of its own for `context`: HMAC-SHA256 of it. The token key itself never leaves this type.
    pub fn derive(&self, context: &[&[u8]]) -> Zeroizing<[u8; KEY_BYTES]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_slice());
        let mut derivation = hmac::Context::with_key(&key);
        context.iter().for_each(|part| derivation.update(part));
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        derived.copy_from_slice(derivation.sign().as_ref());
        derived
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, hidden)", self.number)
    }
}

/// Every key that may still open a token.
pub struct TokenKeys {
    db: Arc<dyn Db>,
    root_key: Arc<RootKey>,
    clock: Arc<dyn Clock>,
    random: Random,
    held: RwLock<Held>,
}

impl TokenKeys {
    /// Reads the keys from the catalog, rotated as [`TokenKeys::rotate_if_due`] does; the first key is made here.
    pub async fn load(
        db: Arc<dyn Db>,
        root_key: Arc<RootKey>,
        clock: Arc<dyn Clock>,
        random: Random,
    ) -> Result<TokenKeys, Error> {
        let held = rotate(db.as_ref(), &root_key, clock.now(), &random).await?;
        Ok(TokenKeys {
            db,
            root_key,
            clock,
            random,
            held: RwLock::new(held),
        })
    }

    /// The key to seal with.
    pub fn current(&self) -> Arc<TokenKey> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let newest = held
            .keys
            .last()
            .expect("a rotation ends with a readable newest key");
        Arc::clone(newest)
    }

    /// The key that a token names, unless it is gone.
    pub fn by_id(&self, id: u32) -> Option<Arc<TokenKey>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.keys
            .iter()
            .rev()
            .find(|key| key.id() == id)
            .map(Arc::clone)
    }

    /// Number of keys in the catalog that do not open with this root key.
    pub fn unreadable(&self) -> usize {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .unreadable
    }

    /// Makes a new key when the newest is old enough, and deletes those whose tokens have all expired. To be called about
    /// every hour; a failed call changes nothing and may be repeated.
    pub async fn rotate_if_due(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let fresh = rotate(self.db.as_ref(), &self.root_key, now, &self.random).await?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("TokenKeys")
            .field("keys", &held.keys)
            .finish_non_exhaustive()
    }
}

/// The keys that open, by number.
struct Held {
    keys: Vec<Arc<TokenKey>>,
    unreadable: usize,
}

async fn rotate(
    db: &dyn Db,
    root_key: &Arc<RootKey>,
    now: UnixMillis,
    random: &Random,
) -> Result<Held, Error> {
    let (root_key, random) = (Arc::clone(root_key), random.clone());
    db.transact(move |txn| {
        let (root_key, random) = (Arc::clone(&root_key), random.clone());
        Box::pin(async move {
            let mut records = token_keys::token_keys(txn).await?;
            let newest = records.last();
            if newest.is_none_or(|key| is_due(key, now) || open(&root_key, key).is_none()) {
                let key_no = newest.map_or(1, |key| key.key_no + 1);
                let key = Zeroizing::new(random.bytes::<KEY_BYTES>());
                let sealed = root_key.seal(&context(key_no), key.as_slice());
                let record = TokenKeyRecord {
                    key_no,
                    sealed,
                    created_at: now,
                };
                token_keys::insert_token_key(txn, &record).await?;
                records.push(record);
            }
            let mut kept = Vec::with_capacity(records.len());
            for (position, record) in records.iter().enumerate() {
                match records.get(position + 1) {
                    Some(successor) if is_spent(successor, now) => {
                        token_keys::delete_token_key(txn, record.key_no).await?;
                    }
                    Some(_) | None => kept.push(record),
                }
            }
            let keys: Vec<Arc<TokenKey>> = kept
                .iter()
                .filter_map(|record| open(&root_key, record))
                .map(Arc::new)
                .collect();
            Ok(Held {
                unreadable: kept.len() - keys.len(),
                keys,
            })
        })
    })
    .await
}

/// Whether a key has sealed for long enough, or comes from a future that the clock has left.
fn is_due(newest: &TokenKeyRecord, now: UnixMillis) -> bool {
    let age = now.saturating_sub(newest.created_at);
    age >= millis(ROTATION) || age < -millis(ROTATION)
}

/// Whether every token of the key before this one has expired.
fn is_spent(successor: &TokenKeyRecord, now: UnixMillis) -> bool {
    now.saturating_sub(successor.created_at) > millis(BLOCK_TOKEN_LIFE + MARGIN)
}

fn open(root_key: &RootKey, record: &TokenKeyRecord) -> Option<TokenKey> {
    let opened = root_key
        .open(&context(record.key_no), &record.sealed)
        .ok()?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if opened.len() != KEY_BYTES {
        return None;
    }
    key.copy_from_slice(&opened);
    Some(TokenKey {
        number: record.key_no,
        key,
    })
}

/// Binds sealed bytes to their number.
fn context(key_no: i64) -> Vec<u8> {
    [b"token key ".as_slice(), &key_no.to_be_bytes()].concat()
}

fn short(key_no: i64) -> u32 {
    let [.., a, b, c] = key_no.to_be_bytes();
    u32::from_be_bytes([0, a, b, c])
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
