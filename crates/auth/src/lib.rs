//! Who is asking: Signature Version 4, access keys and accounts.
//!
//! A request is authenticated in two steps, because block data streams (SPEC 4.2, DESIGN 4): [`Verifier::open`] judges
//! everything that needs no secret, before the body is read; the caller looks the key up in a [`KeyStore`]; then
//! [`Claim::verify`] recomputes the signature. What the signature says about the body is in [`Claim::payload`].
//!
//! Deliberately absent: a replay cache. Clients send the same signature twice within a second (SPEC 3.16), so an equal
//! signature is not a replay.

pub mod accounts;
mod authenticate;
mod request_id;
mod root_key;
pub mod token_keys;

pub use accounts::{
    Credential, KeyState, KeyStore, KeyStoreError, KeyStoreOptions, KeySummary, NewKey,
};
pub use authenticate::{Authenticator, Caller, Unproven};
pub use request_id::RequestId;
pub use root_key::{RootKey, RootKeyError, SealError};
pub use sigv4::{
    self, AccessKeyId, AuthError, Claim, DateMismatch, Form, MissingParts, Payload, PayloadHash,
    RequestHead, ScopeFaults, SecretKey, Service, SignError, Signed, Signer, SignerOptions,
    UnsignedPayload, Verifier, VerifierOptions,
};
pub use token_keys::{TokenKey, TokenKeys};
