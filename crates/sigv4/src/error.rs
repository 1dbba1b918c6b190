//! Every way in which a request fails to authenticate, in the words that AWS clients know.
//!
//! `Display` gives the message texts of SPEC 4.6 word for word; [`AuthError::code`] the exception of the REST/JSON services
//! and [`AuthError::ec2_code`] the error code of the Query services (SPEC 7.9). Values that came from the client are echoed,
//! cut to a bounded length; secrets never get here.

use std::fmt;
use std::time::Duration;

/// Why a request is not authenticated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// Neither an `Authorization` header nor the query form is there.
    #[error("Missing Authentication Token")]
    MissingAuthentication,
    /// The header form and the query form are both there.
    #[error(
        "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
    )]
    BothForms,
    /// Parts of the signature are missing; all of them are named.
    #[error("{0}")]
    Incomplete(MissingParts),
    /// A part of the signature, or the name of a signed header, is there more than once.
    #[error("'{name}' must be given only once.")]
    Repeated {
        /// The part.
        name: String,
    },
    /// The signature, or the query that it covers, is larger than any client makes it.
    #[error("The {what} must not exceed {limit}.")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit, with its unit.
        limit: &'static str,
    },
    /// The signature was made with another algorithm.
    #[error("Unsupported AWS 'algorithm': '{algorithm}' (only AWS4-HMAC-SHA256 for now). ")]
    UnsupportedAlgorithm {
        /// The algorithm named.
        algorithm: String,
    },
    /// The credential does not have five parts.
    #[error(
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
    )]
    CredentialForm {
        /// The credential sent.
        credential: String,
    },
    /// The credential is scoped to something else; all faults are named.
    #[error("{0}")]
    Scope(Box<ScopeFaults>),
    /// `host` is not signed.
    #[error("'Host' must be a 'SignedHeader' in the AWS Authorization.")]
    HostNotSigned,
    /// A header is named as signed but is not in the request.
    #[error("'{name}' is a 'SignedHeader' in the AWS Authorization but is not in the request.")]
    SignedHeaderAbsent {
        /// The header.
        name: String,
    },
    /// A checksum header is not signed although nothing else authenticates the block data (SPEC 4.5, strict switch).
    #[error(
        "'{name}' must be a 'SignedHeader' in the AWS Authorization when the payload is not signed."
    )]
    ChecksumNotSigned {
        /// The header.
        name: &'static str,
    },
    /// The date has no form that we read.
    #[error(
        "Date must be in ISO-8601 'basic format'. Got '{date}'. See http://en.wikipedia.org/wiki/ISO_8601"
    )]
    DateForm {
        /// The date sent.
        date: String,
    },
    /// `X-Amz-Expires` is not a number of seconds from 1 to 604800.
    #[error("X-Amz-Expires must be a number between 1 and 604800 seconds. Got '{expires}'.")]
    ExpiresForm {
        /// The value sent.
        expires: String,
    },
    /// The request was signed too long ago.
    #[error("Signature expired: {signed} is now earlier than {earliest} ({now} - {}.)", minutes(.allowed))]
    Expired {
        /// When it was signed.
        signed: String,
        /// The earliest time accepted.
        earliest: String,
        /// The server's time.
        now: String,
        /// How far back is accepted.
        allowed: Duration,
    },
    /// The request was signed too far in the future.
    #[error("Signature not yet current: {signed} is still later than {latest} ({now} + {}.)", minutes(.allowed))]
    NotYetCurrent {
        /// When it was signed.
        signed: String,
        /// The latest time accepted.
        latest: String,
        /// The server's time.
        now: String,
        /// How far ahead is accepted.
        allowed: Duration,
    },
    /// `x-amz-content-sha256` holds neither `UNSIGNED-PAYLOAD` nor 64 lower-case hex digits (streaming forms included).
    #[error(
        "The value of x-amz-content-sha256 must be a SHA-256 in lower-case hex, got '{value}'."
    )]
    PayloadForm {
        /// The value sent.
        value: String,
    },
    /// `UNSIGNED-PAYLOAD` on an operation that needs its body signed.
    #[error("UNSIGNED-PAYLOAD is not accepted for this operation.")]
    UnsignedPayload,
    /// The body is not the one whose digest was signed.
    #[error("{MISMATCH}")]
    PayloadMismatch,
    /// The access key is unknown, disabled or deleted.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The session token has expired.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// The signature is not the one that this key makes for this request.
    #[error("{MISMATCH}")]
    SignatureMismatch,
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
    Access Key and signing method. Consult the service documentation for details.";

impl AuthError {
    /// The exception's name in the REST/JSON services (SPEC 4.6).
    pub fn code(&self) -> &'static str {
        match self {
            AuthError::MissingAuthentication => "MissingAuthenticationTokenException",
            AuthError::Incomplete(_)
            | AuthError::Repeated { .. }
            | AuthError::TooLarge { .. }
            | AuthError::UnsupportedAlgorithm { .. }
            | AuthError::DateForm { .. }
            | AuthError::ExpiresForm { .. } => "IncompleteSignatureException",
            AuthError::BothForms
            | AuthError::CredentialForm { .. }
            | AuthError::Scope(_)
            | AuthError::HostNotSigned
            | AuthError::SignedHeaderAbsent { .. }
            | AuthError::ChecksumNotSigned { .. }
            | AuthError::Expired { .. }
            | AuthError::NotYetCurrent { .. }
            | AuthError::PayloadForm { .. }
            | AuthError::UnsignedPayload
            | AuthError::PayloadMismatch
            | AuthError::SignatureMismatch => "InvalidSignatureException",
            AuthError::UnknownKey => "UnrecognizedClientException",
            AuthError::ExpiredToken => "ExpiredTokenException",
        }
    }

    /// The HTTP status in the REST/JSON services.
    pub fn status(&self) -> u16 {
        403
    }

    /// The error code in the Query services, EC2 and STS (SPEC 4.6, 7.9).
    pub fn ec2_code(&self) -> &'static str {
        match self {
            AuthError::MissingAuthentication => "MissingAuthenticationToken",
            AuthError::Incomplete(_)
            | AuthError::Repeated { .. }
            | AuthError::TooLarge { .. }
            | AuthError::UnsupportedAlgorithm { .. }
            | AuthError::DateForm { .. }
            | AuthError::ExpiresForm { .. } => "IncompleteSignature",
            AuthError::BothForms
            | AuthError::CredentialForm { .. }
            | AuthError::Scope(_)
            | AuthError::HostNotSigned
            | AuthError::SignedHeaderAbsent { .. }
            | AuthError::ChecksumNotSigned { .. }
            | AuthError::PayloadForm { .. }
            | AuthError::UnsignedPayload => "AuthFailure",
            AuthError::Expired { .. }
            | AuthError::NotYetCurrent { .. }
            | AuthError::ExpiredToken => "RequestExpired",
            AuthError::PayloadMismatch | AuthError::SignatureMismatch => "SignatureDoesNotMatch",
            AuthError::UnknownKey => "InvalidClientTokenId",
        }
    }

    /// The HTTP status in the Query services.
    pub fn ec2_status(&self) -> u16 {
        match self.ec2_code() {
            "AuthFailure" => 401,
            "IncompleteSignature" | "RequestExpired" => 400,
            _ => 403,
        }
    }
}

/// Where a signature stands in its request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// In the `Authorization` header, whose text this is.
    Header(String),
    /// In the query (presigned).
    Query,
}

/// The parts of a signature that are missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingParts {
    /// Where they were looked for.
    pub form: Form,
    /// No credential.
    pub credential: bool,
    /// No signature.
    pub signature: bool,
    /// No list of signed headers.
    pub signed_headers: bool,
    /// No date.
    pub date: bool,
    /// No life time (query form only).
    pub expires: bool,
}

impl MissingParts {
    /// Whether anything is missing.
    pub fn any(&self) -> bool {
        self.credential || self.signature || self.signed_headers || self.date || self.expires
    }
}

impl fmt::Display for MissingParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.credential, "Credential"),
            (self.signature, "Signature"),
            (self.signed_headers, "SignedHeaders"),
        ];
        let missing = parts
            .iter()
            .filter(|(missing, _)| *missing)
            .map(|(_, name)| name);
        match &self.form {
            Form::Header(authorization) => {
                for name in missing {
                    write!(f, "Authorization header requires '{name}' parameter. ")?;
                }
                if self.date {
                    f.write_str(
                        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
                    )?;
                }
                write!(f, "Authorization={authorization}")
            }
            Form::Query => {
                let rest = [(self.date, "Date"), (self.expires, "Expires")];
                let rest = rest
                    .iter()
                    .filter(|(missing, _)| *missing)
                    .map(|(_, name)| name);
                for name in missing.chain(rest) {
                    write!(
                        f,
                        "AWS query-string parameters must include 'X-Amz-{name}'. "
                    )?;
                }
                f.write_str("Re-examine the query-string parameters.")
            }
        }
    }
}

/// What is wrong with the scope of a credential.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScopeFaults {
    /// The region named, which is not ours.
    pub region: Option<String>,
    /// The service that it should be scoped to.
    pub service: Option<String>,
    /// The last part, which is not `aws4_request`.
    pub terminator: Option<String>,
    /// Its day is not that of the request's date.
    pub date: Option<DateMismatch>,
}

/// A credential's day that is not the day of the request's date.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DateMismatch {
    /// The day in the credential.
    pub scope: String,
    /// The day of the request.
    pub day: String,
    /// The request's date.
    pub date: String,
}

impl ScopeFaults {
    /// Whether anything is wrong.
    pub fn any(&self) -> bool {
        self.region.is_some()
            || self.service.is_some()
            || self.terminator.is_some()
            || self.date.is_some()
    }
}

impl fmt::Display for ScopeFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(region) = &self.region {
            write!(
                f,
                "Credential should be scoped to a valid region, not '{region}'. "
            )?;
        }
        if let Some(service) = &self.service {
            write!(
                f,
                "Credential should be scoped to correct service: '{service}'. "
            )?;
        }
        if let Some(terminator) = &self.terminator {
            write!(
                f,
                "Credential should be scoped with a valid terminator: 'aws4_request', not '{terminator}'. "
            )?;
        }
        if let Some(DateMismatch { scope, day, date }) = &self.date {
            write!(
                f,
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{scope}' != '{day}', from '{date}'."
            )?;
        }
        Ok(())
    }
}

/// A duration as the texts write it: `5 min`, or seconds where it is no whole number of minutes.
fn minutes(duration: &Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} sec"),
    }
}
