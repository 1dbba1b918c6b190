//! Admin commands: what `drystone key` asks, and how the running server hears it.
//!
//! The server listens on DIR/admin.sock, for its own user only (mode 0600). A client sends one line of JSON, a
//! [`Request`], and gets one line back, a [`Reply`]; then the connection ends. When no server runs, the command takes
//! the lock of the directory and carries the request out itself: there is never a second writer.
//!
//! Invariants
//! - The socket is made under the directory's lock: one that is there before is left from a dead server.
//! - Lines, connections and time are bounded; a client that stalls is cut.
//! - Only the reply to a `create` holds a secret, and nothing logs a reply.

mod keys;
mod socket;

pub use keys::perform;
pub use socket::{AdminSocket, Unreached, ask};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Something to be done for the owner of the data directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Something about access keys.
    Key(KeyRequest),
}

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

/// What became of a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done.
    Done,
    /// A key was made.
    Created(CreatedKey),
    /// The keys there are, oldest first.
    Keys(Vec<ListedKey>),
    /// It was not done.
    Refused(String),
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
