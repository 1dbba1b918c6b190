//! From a request to the account behind it: the verifier and the keys put together, for every edge.
//!
//! 1. [`Authenticator::open`], before the body is read: all that needs no secret, and the look-up of the key.
//! 2. Where the signature does not depend on the body, [`Unproven::verify_before_body`] gives the caller at once, and
//!    [`Unproven::signed_digest`] says what its body must be.
//! 3. Otherwise the body is read first and [`Unproven::verify_with`] gives the caller.
//!
//! Nothing is looked up or changed on behalf of a request before it has a [`Caller`]. Temporary credentials do not exist
//! yet: a session token makes a request unknown.

use crate::{AccessKeyId, AuthError, Credential, KeyState, KeyStore};
use sigv4::{Claim, Payload, PayloadHash, RequestHead, Service, UnsignedPayload, Verifier};
use std::sync::Arc;
use types::{AccountId, Digest};

/// Who sent an authenticated request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The account that acts.
    pub account: AccountId,
    /// The key that signed.
    pub access_key_id: AccessKeyId,
}

/// Authenticates requests; clones share everything.
#[derive(Clone, Debug)]
pub struct Authenticator {
    verifier: Arc<Verifier>,
    keys: Arc<KeyStore>,
}

impl Authenticator {
    /// Puts a verifier and the keys together.
    pub fn new(verifier: Arc<Verifier>, keys: Arc<KeyStore>) -> Authenticator {
        Authenticator { verifier, keys }
    }

    /// Judges what can be judged before the body is read, but for the signature itself, and looks the key up.
    ///
    /// # Errors
    /// Every error of [`Verifier::open`]; [`AuthError::UnknownKey`] for a key that is unknown or disabled, and for a session
    /// token.
    pub fn open(
        &self,
        head: &RequestHead<'_>,
        service: Service,
        unsigned: UnsignedPayload,
    ) -> Result<Unproven, AuthError> {
        let claim = self.verifier.open(head, service, unsigned)?;
        if claim.session_token().is_some() {
            return Err(AuthError::UnknownKey);
        }
        match self.keys.lookup(claim.access_key_id()) {
            Some(credential) if credential.state == KeyState::Active => {
                Ok(Unproven { claim, credential })
            }
            Some(_) | None => Err(AuthError::UnknownKey),
        }
    }
}

/// A request with a known key whose signature is still to be verified.
#[derive(Debug)]
pub struct Unproven {
    claim: Claim,
    credential: Credential,
}

impl Unproven {
    /// The key that is said to have signed: good for fairness between keys, proof of nothing.
    pub fn access_key_id(&self) -> &AccessKeyId {
        self.claim.access_key_id()
    }

    /// Verifies the signature now, or answers `None` when it takes the body's own digest.
    pub fn verify_before_body(&self) -> Option<Result<Caller, AuthError>> {
        match self.claim.payload() {
            Payload::Unsigned => Some(self.verify(PayloadHash::Unsigned)),
            Payload::Signed(digest) => Some(self.verify(PayloadHash::Digest(digest))),
            Payload::Body => None,
        }
    }

    /// Verifies the signature of a request whose body has this digest, and that the body is the one signed.
    pub fn verify_with(&self, body: Digest) -> Result<Caller, AuthError> {
        match self.claim.payload() {
            Payload::Unsigned => self.verify(PayloadHash::Unsigned),
            Payload::Signed(_) | Payload::Body => self.verify(PayloadHash::Digest(body)),
        }
    }

    /// The digest that the body must have, where a header names it and the signature covers it.
    pub fn signed_digest(&self) -> Option<Digest> {
        match self.claim.payload() {
            Payload::Signed(digest) => Some(digest),
            Payload::Unsigned | Payload::Body => None,
        }
    }

    fn verify(&self, payload_hash: PayloadHash) -> Result<Caller, AuthError> {
        self.claim.verify(&self.credential.secret, payload_hash)?;
        Ok(Caller {
            account: self.credential.account,
            access_key_id: self.claim.access_key_id().clone(),
        })
    }
}
