//! Verifies the signature of a request, in two steps with the look-up of its key between them (SPEC 4.2).
//!
//! 1. [`Verifier::open`], before the body is read: one form of authentication (else missing, or both); algorithm and parts;
//!    scope; `host` signed; date within the skew; payload hash well formed. Its answer is a [`Claim`].
//! 2. The caller looks the claim's key up and judges its session token.
//! 3. [`Claim::verify`] recomputes the signature and compares in constant time. For [`Payload::Unsigned`] and
//!    [`Payload::Signed`] that too comes before the body; [`Claim::check_body`] later holds a signed body to its digest. For
//!    [`Payload::Body`] the body must be hashed first, so its bytes are not authenticated while they are read.
//!
//! Nothing may be acknowledged before step 3 and, for a signed body, the check of its digest have both passed.

use crate::authorization::{self, Authorization};
use crate::canonical::{self, PathRule, Scope};
use crate::limits::SIGNED_HEADERS_MAX;
use crate::timestamp::Timestamp;
use crate::{AccessKeyId, AuthError, DateMismatch, ScopeFaults, SecretKey};
use crate::{RequestHead, Service, TERMINATOR, UNSIGNED_PAYLOAD, echo};
use http::{HeaderMap, HeaderName};
use ring::hmac;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use types::{Clock, Digest, DigestContext};

/// Longest life of a presigned request (SPEC 4.1).
const EXPIRES_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Headers that say what a block is; signed in strict mode (SPEC 4.5).
const CHECKSUM_HEADERS: [&str; 3] = [
    "x-amz-checksum",
    "x-amz-checksum-algorithm",
    "x-amz-data-length",
];

/// How a [`Verifier`] judges.
#[derive(Clone)]
pub struct VerifierOptions {
    /// The one region; other scopes are refused (SPEC 8.42).
    pub region: String,
    /// How far a request's date may lie from the clock, both ways; [`VerifierOptions::SKEW_DEFAULT`].
    pub skew: Duration,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Whether checksum headers must be signed when the payload is not (SPEC 4.5). AWS does not ask for it.
    pub require_signed_checksum: bool,
}

impl VerifierOptions {
    /// Five minutes (SPEC 8.15).
    pub const SKEW_DEFAULT: Duration = Duration::from_secs(5 * 60);
}

/// Whether an operation takes `UNSIGNED-PAYLOAD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnsignedPayload {
    /// Yes: block data, whose checksum stands in a header.
    Accepted,
    /// No: everything else.
    Refused,
}

/// What a request says about the hash of its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// The body is not signed.
    Unsigned,
    /// The body's digest is signed and given; the body must have it.
    Signed(Digest),
    /// The body's digest is signed but not given: hash the body to verify.
    Body,
}

/// The payload hash to verify a signature with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadHash {
    /// For [`Payload::Unsigned`].
    Unsigned,
    /// The signed digest for [`Payload::Signed`], the body's digest for either kind of signed body.
    Digest(Digest),
}

/// Judges requests.
#[derive(Clone)]
pub struct Verifier {
    options: VerifierOptions,
}

impl Verifier {
    /// A verifier that judges by these options.
    pub fn new(options: VerifierOptions) -> Verifier {
        Verifier { options }
    }

    /// Judges all that needs neither the secret nor the body.
    pub fn open(
        &self,
        head: &RequestHead<'_>,
        service: Service,
        unsigned: UnsignedPayload,
    ) -> Result<Claim, AuthError> {
        let claim = self.open_as(head, service.name(), unsigned, PathRule::Normalized)?;
        // The query form is for links, and links are fetched (SPEC 8.16).
        if claim.presigned && head.method != "GET" {
            return Err(AuthError::MissingAuthentication);
        }
        Ok(claim)
    }

    pub(crate) fn open_as(
        &self,
        head: &RequestHead<'_>,
        service: &str,
        unsigned: UnsignedPayload,
        path_rule: PathRule,
    ) -> Result<Claim, AuthError> {
        let authorization = find(head)?;
        let timestamp = match &authorization.presigned {
            None => Timestamp::parse_basic(&authorization.date)
                .or_else(|| Timestamp::parse_http(&authorization.date)),
            Some(_) => Timestamp::parse_basic(&authorization.date),
        };
        let (key_id, day) = self.check_scope(&authorization, service, timestamp.as_ref())?;
        let headers = signed_headers(&authorization.signed_headers, head.headers)?;
        let timestamp = timestamp.ok_or_else(|| AuthError::DateForm {
            date: echo(&authorization.date),
        })?;
        self.check_time(
            &timestamp,
            authorization
                .presigned
                .as_ref()
                .map(|presigned| presigned.expires.as_str()),
        )?;
        let payload = payload(head.headers, unsigned)?;
        if self.options.require_signed_checksum && payload == Payload::Unsigned {
            check_checksum_signed(&headers, head.headers)?;
        }
        let access_key_id = AccessKeyId::parse(key_id).ok_or(AuthError::UnknownKey)?;
        let skip = authorization
            .presigned
            .is_some()
            .then_some("X-Amz-Signature");
        let canonical_head = canonical::request_head(
            head.method,
            &canonical::path(head.path, path_rule),
            &canonical::query(head.query.unwrap_or_default(), skip),
            &headers,
            &authorization.signed_headers,
        );
        let day = day.to_owned();
        let presigned = authorization.presigned.is_some();
        let session_token = match authorization.presigned {
            Some(presigned) => presigned.session_token,
            None => text(head.headers, "x-amz-security-token"),
        };
        Ok(Claim {
            access_key_id,
            session_token,
            presigned,
            payload,
            canonical_head,
            timestamp: timestamp.text().to_owned(),
            day,
            region: self.options.region.clone(),
            service: service.to_owned(),
            signature: hex(&authorization.signature),
        })
    }

    /// Checks the credential's scope and answers its key id and day.
    fn check_scope<'a>(
        &self,
        authorization: &'a Authorization,
        service: &str,
        timestamp: Option<&Timestamp>,
    ) -> Result<(&'a str, &'a str), AuthError> {
        let parts: Vec<&str> = authorization.credential.splitn(6, '/').collect();
        let [key_id, day, region, scope_service, terminator] = parts[..] else {
            return Err(AuthError::CredentialForm {
                credential: echo(&authorization.credential),
            });
        };
        let date = timestamp
            .filter(|timestamp| timestamp.day() != day)
            .map(|timestamp| DateMismatch {
                scope: echo(day),
                day: timestamp.day().to_owned(),
                date: echo(&authorization.date),
            });
        let faults = ScopeFaults {
            region: (region != self.options.region).then(|| echo(region)),
            service: (scope_service != service).then(|| service.to_owned()),
            terminator: (terminator != TERMINATOR).then(|| echo(terminator)),
            date,
        };
        if faults.any() {
            Err(AuthError::Scope(Box::new(faults)))
        } else {
            Ok((key_id, day))
        }
    }

    /// Holds the date against the clock, to the second and both ends included.
    fn check_time(&self, signed: &Timestamp, expires: Option<&str>) -> Result<(), AuthError> {
        let skew = self.options.skew;
        let back = match expires {
            None => skew,
            Some(expires) => life(expires).ok_or_else(|| AuthError::ExpiresForm {
                expires: echo(expires),
            })?,
        };
        let now = self.options.clock.now().div_euclid(1000);
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let (earliest, latest) = (
            now.saturating_sub(seconds(back)),
            now.saturating_add(seconds(skew)),
        );
        let shown = |seconds| {
            Timestamp::from_seconds(seconds)
                .map_or_else(|| seconds.to_string(), |at| at.text().to_owned())
        };
        if signed.seconds() < earliest {
            return Err(AuthError::Expired {
                signed: signed.text().to_owned(),
                earliest: shown(earliest),
                now: shown(now),
                allowed: back,
            });
        }
        if signed.seconds() > latest {
            return Err(AuthError::NotYetCurrent {
                signed: signed.text().to_owned(),
                latest: shown(latest),
                now: shown(now),
                allowed: skew,
            });
        }
        Ok(())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("region", &self.options.region)
            .finish_non_exhaustive()
    }
}

/// A well-formed signature that is still to be verified. It owns all that it needs.
#[derive(Clone)]
pub struct Claim {
    access_key_id: AccessKeyId,
    session_token: Option<String>,
    /// Whether it came in the query form.
    presigned: bool,
    payload: Payload,
    /// The digest of the canonical request, up to the payload hash.
    canonical_head: DigestContext,
    timestamp: String,
    day: String,
    region: String,
    service: String,
    /// `None` when it is no 64 lower-case hex digits: then no key has made it.
    signature: Option<[u8; Digest::BYTES]>,
}

impl Claim {
    /// The key that is said to have signed.
    pub fn access_key_id(&self) -> &AccessKeyId {
        &self.access_key_id
    }

    /// The session token of temporary credentials. Whoever looks the key up must judge it, and refuse one that the key does
    /// not have.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// What is said about the body.
    pub fn payload(&self) -> Payload {
        self.payload
    }

    /// Verifies the signature with the key's secret. `payload_hash` must agree with [`Claim::payload`].
    pub fn verify(&self, secret: &SecretKey, payload_hash: PayloadHash) -> Result<(), AuthError> {
        let mut canonical_request = self.canonical_head.clone();
        match (self.payload, payload_hash) {
            (Payload::Unsigned, PayloadHash::Unsigned) => {
                canonical_request.update(UNSIGNED_PAYLOAD.as_bytes())
            }
            (Payload::Body, PayloadHash::Digest(digest)) => {
                canonical_request.update(digest.to_string().as_bytes())
            }
            (Payload::Signed(signed), PayloadHash::Digest(digest)) if signed == digest => {
                canonical_request.update(digest.to_string().as_bytes());
            }
            _ => return Err(AuthError::PayloadMismatch),
        }
        let scope = Scope {
            day: &self.day,
            region: &self.region,
            service: &self.service,
        };
        let to_sign =
            canonical::string_to_sign(&self.timestamp, &scope, canonical_request.finish());
        let signature = self.signature.ok_or(AuthError::SignatureMismatch)?;
        hmac::verify(
            &canonical::signing_key(secret, &scope),
            to_sign.as_bytes(),
            &signature,
        )
        .map_err(|_| AuthError::SignatureMismatch)
    }

    /// Holds a body's digest against the one that was signed; a body that is not signed, or whose digest the signature was
    /// verified with, passes.
    pub fn check_body(&self, digest: Digest) -> Result<(), AuthError> {
        match self.payload {
            Payload::Signed(signed) if signed != digest => Err(AuthError::PayloadMismatch),
            Payload::Signed(_) | Payload::Unsigned | Payload::Body => Ok(()),
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("access_key_id", &self.access_key_id)
            .field("payload", &self.payload)
            .field("timestamp", &self.timestamp)
            .finish_non_exhaustive()
    }
}

/// Whether the signature of a request says that it covers this header, whose name is in lower case. Ask of a request whose
/// signature was verified: only then it does.
pub fn signs(head: &RequestHead<'_>, header: &str) -> bool {
    find(head).is_ok_and(|authorization| {
        let mut names = authorization.signed_headers.split(';');
        names.any(|name| name.eq_ignore_ascii_case(header))
    })
}

/// Finds the one signature of a request.
fn find(head: &RequestHead<'_>) -> Result<Authorization, AuthError> {
    let header =
        canonical::header_value(head.headers, "authorization").filter(|value| !value.is_empty());
    let query = authorization::parse_query(head.query.unwrap_or_default());
    match (header, query) {
        (None, Ok(None)) => Err(AuthError::MissingAuthentication),
        (None, Ok(Some(authorization))) => Ok(authorization),
        (None, Err(error)) | (Some(_), Err(error @ AuthError::TooLarge { .. })) => Err(error),
        (Some(header), Ok(None)) => {
            let date = text(head.headers, "x-amz-date").or_else(|| text(head.headers, "date"));
            authorization::parse_header(&header, date)
        }
        (Some(_), Ok(Some(_)) | Err(_)) => Err(AuthError::BothForms),
    }
}

/// The signed headers in the order of their list, each with its canonical value.
fn signed_headers<'a>(
    list: &'a str,
    headers: &HeaderMap,
) -> Result<Vec<(&'a str, Vec<u8>)>, AuthError> {
    let mut signed: Vec<(&str, Option<HeaderName>)> = Vec::with_capacity(16);
    for name in list.split(';') {
        if signed.len() == SIGNED_HEADERS_MAX {
            return Err(AuthError::TooLarge {
                what: "list of signed headers",
                limit: "100 names",
            });
        }
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        // Repetition would make a small request head sign, and cost, a hundred times its size.
        if header.is_some() && signed.iter().any(|(_, other)| *other == header) {
            return Err(AuthError::Repeated { name: echo(name) });
        }
        signed.push((name, header));
    }
    if !signed
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        return Err(AuthError::HostNotSigned);
    }
    let value = |(name, header): (&'a str, Option<HeaderName>)| {
        let value = header.and_then(|header| canonical::header_value(headers, header.as_str()));
        value
            .map(|value| (name, value))
            .ok_or_else(|| AuthError::SignedHeaderAbsent { name: echo(name) })
    };
    signed.into_iter().map(value).collect()
}

fn payload(headers: &HeaderMap, unsigned: UnsignedPayload) -> Result<Payload, AuthError> {
    let Some(value) = text(headers, "x-amz-content-sha256") else {
        return Ok(Payload::Body);
    };
    if value == UNSIGNED_PAYLOAD {
        return match unsigned {
            UnsignedPayload::Accepted => Ok(Payload::Unsigned),
            UnsignedPayload::Refused => Err(AuthError::UnsignedPayload),
        };
    }
    match hex(&value) {
        Some(digest) => Ok(Payload::Signed(Digest::from_bytes(digest))),
        None => Err(AuthError::PayloadForm {
            value: echo(&value),
        }),
    }
}

fn check_checksum_signed(signed: &[(&str, Vec<u8>)], headers: &HeaderMap) -> Result<(), AuthError> {
    for name in CHECKSUM_HEADERS {
        if headers.contains_key(name) && !signed.iter().any(|(signed, _)| *signed == name) {
            return Err(AuthError::ChecksumNotSigned { name });
        }
    }
    Ok(())
}

/// The text of a header; repeated ones are joined, so that a second value never goes unseen.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    canonical::header_value(headers, name).map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// The life time of a presigned request: 1 second to 7 days.
fn life(expires: &str) -> Option<Duration> {
    if expires.len() > 6 || !expires.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let life = Duration::from_secs(expires.parse().ok()?);
    (life >= Duration::from_secs(1) && life <= EXPIRES_MAX).then_some(life)
}

/// Reads 64 lower-case hex digits.
fn hex(text: &str) -> Option<[u8; Digest::BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != Digest::BYTES || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; Digest::BYTES];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
