//! Signs requests: for clients of this server and of AWS.

use crate::canonical::{self, PathRule, Scope};
use crate::timestamp::Timestamp;
use crate::{ALGORITHM, PayloadHash, RequestHead, TERMINATOR, UNSIGNED_PAYLOAD};
use crate::{AccessKeyId, SecretKey};
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use std::fmt;
use types::{Digest, DigestContext, UnixMillis};
use zeroize::Zeroizing;

/// Headers that are never signed: they change on the way, or say nothing that matters (SPEC 4.4).
const NEVER_SIGNED: [&str; 5] = [
    "authorization",
    "user-agent",
    "x-amzn-trace-id",
    "expect",
    "connection",
];

/// Whose signatures a [`Signer`] makes, and for what.
#[derive(Clone)]
pub struct SignerOptions {
    /// The public half of the access key.
    pub access_key_id: AccessKeyId,
    /// The secret half.
    pub secret: SecretKey,
    /// The session token of temporary credentials.
    pub session_token: Option<String>,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope, such as `ebs`.
    pub service: String,
}

/// Makes signatures with one access key.
#[derive(Clone)]
pub struct Signer {
    /// Without the session token.
    options: SignerOptions,
    /// Wiped when dropped.
    session_token: Option<Zeroizing<String>>,
}

/// What a signature adds to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The headers to set: `x-amz-date`, `authorization`, and where used `x-amz-content-sha256` and `x-amz-security-token`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The signature, in hex.
    pub signature: String,
}

impl Signer {
    /// A signer with this key.
    pub fn new(mut options: SignerOptions) -> Signer {
        Signer {
            session_token: options.session_token.take().map(Zeroizing::new),
            options,
        }
    }

    /// Signs a request with all its headers, `host` among them. The answer's headers replace those of the same names.
    ///
    /// `PayloadHash::Unsigned` adds `x-amz-content-sha256`; a digest is signed without being named, unless the caller has put
    /// that header in.
    ///
    /// # Errors
    /// The session token or the scope is no header text, or `now` lies outside the years 0 to 9999.
    pub fn sign(
        &self,
        head: &RequestHead<'_>,
        payload_hash: PayloadHash,
        now: UnixMillis,
    ) -> Result<Signed, SignError> {
        self.sign_as(head, payload_hash, now, PathRule::Normalized)
    }

    pub(crate) fn sign_as(
        &self,
        head: &RequestHead<'_>,
        payload_hash: PayloadHash,
        now: UnixMillis,
        path_rule: PathRule,
    ) -> Result<Signed, SignError> {
        let timestamp = Timestamp::from_millis(now).ok_or(SignError::Time { now })?;
        let mut added = vec![(
            HeaderName::from_static("x-amz-date"),
            value("date", timestamp.text())?,
        )];
        if let Some(token) = &self.session_token {
            let mut token = value("session token", token)?;
            token.set_sensitive(true);
            added.push((HeaderName::from_static("x-amz-security-token"), token));
        }
        if payload_hash == PayloadHash::Unsigned {
            added.push((
                HeaderName::from_static("x-amz-content-sha256"),
                HeaderValue::from_static(UNSIGNED_PAYLOAD),
            ));
        }
        let mut headers = head.headers.clone();
        for (name, value) in &added {
            headers.insert(name, value.clone());
        }
        let signed = signable(&headers);
        let names = names(&signed);
        let canonical_head = canonical::request_head(
            head.method,
            &canonical::path(head.path, path_rule),
            &canonical::query(head.query.unwrap_or_default(), None),
            &signed,
            &names,
        );
        let signature = self.signature(canonical_head, payload_hash, &timestamp);
        let credential = self.credential(&timestamp);
        let authorization = format!(
            "{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        );
        added.push((http::header::AUTHORIZATION, value("scope", &authorization)?));
        Ok(Signed {
            headers: added,
            signature,
        })
    }

    /// Signs a request in its query, valid for `expires` seconds (1 to 604800); answers the whole query. All headers given
    /// are signed, and must be sent as they are.
    ///
    /// # Errors
    /// `now` lies outside the years 0 to 9999.
    pub fn presign(
        &self,
        head: &RequestHead<'_>,
        body: Digest,
        expires: u32,
        now: UnixMillis,
    ) -> Result<String, SignError> {
        self.presign_as(head, body, expires, now, PathRule::Normalized)
    }

    pub(crate) fn presign_as(
        &self,
        head: &RequestHead<'_>,
        body: Digest,
        expires: u32,
        now: UnixMillis,
        path_rule: PathRule,
    ) -> Result<String, SignError> {
        let timestamp = Timestamp::from_millis(now).ok_or(SignError::Time { now })?;
        let signed = signable(head.headers);
        let names = names(&signed);
        let mut query = head
            .query
            .filter(|query| !query.is_empty())
            .map(|query| format!("{query}&"))
            .unwrap_or_default();
        let credential = canonical::encoded(self.credential(&timestamp).as_bytes());
        let signed_headers = canonical::encoded(names.as_bytes());
        query.push_str(&format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={}&X-Amz-Expires={expires}\
             &X-Amz-SignedHeaders={signed_headers}",
            timestamp.text()
        ));
        if let Some(token) = &self.session_token {
            query.push_str("&X-Amz-Security-Token=");
            query.push_str(&canonical::encoded(token.as_bytes()));
        }
        let canonical_head = canonical::request_head(
            head.method,
            &canonical::path(head.path, path_rule),
            &canonical::query(&query, None),
            &signed,
            &names,
        );
        let signature = self.signature(canonical_head, PayloadHash::Digest(body), &timestamp);
        Ok(format!("{query}&X-Amz-Signature={signature}"))
    }

    fn scope<'a>(&'a self, timestamp: &'a Timestamp) -> Scope<'a> {
        Scope {
            day: timestamp.day(),
            region: &self.options.region,
            service: &self.options.service,
        }
    }

    fn credential(&self, timestamp: &Timestamp) -> String {
        let Scope {
            day,
            region,
            service,
        } = self.scope(timestamp);
        format!(
            "{}/{day}/{region}/{service}/{TERMINATOR}",
            self.options.access_key_id
        )
    }

    fn signature(
        &self,
        mut canonical_request: DigestContext,
        payload_hash: PayloadHash,
        timestamp: &Timestamp,
    ) -> String {
        match payload_hash {
            PayloadHash::Unsigned => canonical_request.update(UNSIGNED_PAYLOAD.as_bytes()),
            PayloadHash::Digest(digest) => canonical_request.update(digest.to_string().as_bytes()),
        }
        let scope = self.scope(timestamp);
        let to_sign =
            canonical::string_to_sign(timestamp.text(), &scope, canonical_request.finish());
        let tag = hmac::sign(
            &canonical::signing_key(&self.options.secret, &scope),
            to_sign.as_bytes(),
        );
        Digest::from_slice(tag.as_ref())
            .expect("HMAC-SHA256 gives 32 bytes")
            .to_string()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("access_key_id", &self.options.access_key_id)
            .field("region", &self.options.region)
            .field("service", &self.options.service)
            .finish_non_exhaustive()
    }
}

/// Why a request cannot be signed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignError {
    /// Something configured cannot stand in a header.
    #[error("the {what} cannot stand in a header")]
    NoHeaderText {
        /// What it is.
        what: &'static str,
    },
    /// The clock shows no year of four digits.
    #[error("the time {now} (ms since 1970) cannot be written in a signature")]
    Time {
        /// The time.
        now: UnixMillis,
    },
}

fn value(what: &'static str, text: &str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_| SignError::NoHeaderText { what })
}

/// The headers to sign, sorted by name, with their canonical values.
fn signable(headers: &HeaderMap) -> Vec<(&str, Vec<u8>)> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.retain(|name| !NEVER_SIGNED.contains(name));
    names.sort_unstable();
    let value = |name| {
        (
            name,
            canonical::header_value(headers, name).unwrap_or_default(),
        )
    };
    names.into_iter().map(value).collect()
}

fn names(signed: &[(&str, Vec<u8>)]) -> String {
    signed
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(";")
}
