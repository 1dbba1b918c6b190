//! Accounts and access keys, kept in memory for the requests and in the catalog for good.

use crate::{AccessKeyId, SecretKey};
use types::AccountId;

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

/// Looks keys up.
#[derive(Debug)]
pub struct KeyStore {}

impl KeyStore {
    /// The key of this id, as it is at this moment; a map read.
    pub fn lookup(&self, _id: &AccessKeyId) -> Option<Credential> {
        None
    }
}
