//! Signature Version 4, for one service at a time, on both sides of the wire.
//!
//! ```text
//! verify.rs         judge a request, then its signature            <- servers start here
//! signer.rs         sign a request                                 <- clients start here
//! authorization.rs  the Authorization header and the query form, taken apart
//! canonical.rs      the text that is signed; shared by both sides
//! keys.rs           access keys
//! error.rs          why a request is not authenticated
//! timestamp.rs      dates in the two forms that requests carry
//! suite.rs          the published test suite, and vectors of the EBS direct APIs
//! ```
//!
//! Invariants
//! - What the server acts on is what was signed: the canonical request covers method, path, query and every signed header.
//!   Two paths with equal canonical forms (dot segments, doubled slashes) share a signature, so route on exact segments.
//! - Parsers here are total and bounded ([`limits`]): any bytes give a value or an [`AuthError`].

mod authorization;
mod canonical;
mod error;
mod keys;
mod signer;
mod timestamp;
mod verify;

#[cfg(test)]
mod suite;

pub use canonical::query_parameters;
pub use error::{AuthError, DateMismatch, Form, MissingParts, ScopeFaults};
pub use keys::{AccessKeyId, SecretKey};
pub use signer::{SignError, Signed, Signer, SignerOptions};
pub use verify::{Claim, Payload, PayloadHash, UnsignedPayload, Verifier, VerifierOptions, signs};

use std::fmt;

/// The only algorithm: SigV4 with SHA-256. SigV4a is answered as unsupported (SPEC 4.8).
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The last part of every credential scope.
const TERMINATOR: &str = "aws4_request";

/// The payload hash of a request whose body is not signed.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Limits on what a client can make the parsers do.
pub mod limits {
    /// Bytes of an `Authorization` header: the longest seen is 600.
    pub const AUTHORIZATION_BYTES_MAX: usize = 8 * 1024;

    /// Names in `SignedHeaders`: the most seen is 20.
    pub const SIGNED_HEADERS_MAX: usize = 100;

    /// Bytes of a raw query: 64 KiB are more than an HTTP head may have.
    pub const QUERY_BYTES_MAX: usize = 64 * 1024;

    /// Parameters of a query.
    pub const QUERY_PARAMETERS_MAX: usize = 1_000;

    /// Characters of a client's value that a message repeats.
    pub const ECHO_MAX: usize = 1_024;
}

/// What a signature covers, as it came over the wire.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The path exactly as sent, still percent-encoded.
    pub path: &'a str,
    /// The query exactly as sent, without its question mark.
    pub query: Option<&'a str>,
    /// The headers. Over HTTP/2 the caller adds `host` from the authority.
    pub headers: &'a http::HeaderMap,
}

impl fmt::Debug for RequestHead<'_> {
    /// Leaves the headers out: a session token may be among them; the query too, where it may stand as well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The services that this server speaks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// The EBS direct APIs.
    Ebs,
    /// EC2.
    Ec2,
    /// The security token service.
    Sts,
}

impl Service {
    /// The name in a credential scope.
    pub fn name(self) -> &'static str {
        match self {
            Service::Ebs => "ebs",
            Service::Ec2 => "ec2",
            Service::Sts => "sts",
        }
    }
}

/// A client's value as a message may repeat it: cut, and without characters that XML or a log line cannot hold.
fn echo(value: &str) -> String {
    let shown = |char: char| match char {
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        char if char.is_control() => char::REPLACEMENT_CHARACTER,
        char => char,
    };
    value.chars().take(limits::ECHO_MAX).map(shown).collect()
}
