//! The two places where a signature stands, taken apart: the `Authorization` header and the query (SPEC 4.1).
//!
//! ```text
//! AWS4-HMAC-SHA256 Credential=<key id>/<yyyymmdd>/<region>/<service>/aws4_request, SignedHeaders=<a;b;c>, Signature=<hex>
//! ```
//!
//! Nothing is judged here but form: which parts are there, each at most once, within the limits.

use crate::limits::{AUTHORIZATION_BYTES_MAX, QUERY_BYTES_MAX, QUERY_PARAMETERS_MAX};
use crate::{ALGORITHM, canonical, echo};
use crate::{AuthError, Form, MissingParts};

/// A complete signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Authorization {
    /// The credential: key id and scope.
    pub(crate) credential: String,
    /// The names of the signed headers, as sent.
    pub(crate) signed_headers: String,
    /// The signature, as sent.
    pub(crate) signature: String,
    /// The date, as sent.
    pub(crate) date: String,
    /// Only in the query form: the life time in seconds, as sent, and the session token.
    pub(crate) presigned: Option<Presigned>,
}

/// What only the query form has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Presigned {
    pub(crate) expires: String,
    pub(crate) session_token: Option<String>,
}

/// Reads the header form. `date` is the text of `X-Amz-Date`, or of `Date` where there is none.
pub(crate) fn parse_header(
    header: &[u8],
    date: Option<String>,
) -> Result<Authorization, AuthError> {
    if header.len() > AUTHORIZATION_BYTES_MAX {
        return Err(AuthError::TooLarge {
            what: "Authorization header",
            limit: "8 KiB",
        });
    }
    let header = String::from_utf8_lossy(header);
    let header = header.trim();
    let (algorithm, parameters) = header.split_once([' ', '\t']).unwrap_or((header, ""));
    if algorithm != ALGORITHM {
        return Err(AuthError::UnsupportedAlgorithm {
            algorithm: echo(algorithm),
        });
    }
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for parameter in parameters.split(',') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (slot, name) = match name.trim() {
            "Credential" => (&mut credential, "Credential"),
            "SignedHeaders" => (&mut signed_headers, "SignedHeaders"),
            "Signature" => (&mut signature, "Signature"),
            _ => continue,
        };
        if slot.is_some() {
            return Err(AuthError::Repeated {
                name: name.to_owned(),
            });
        }
        *slot = Some(value.trim().to_owned());
    }
    match (
        given(credential),
        given(signed_headers),
        given(signature),
        given(date),
    ) {
        (Some(credential), Some(signed_headers), Some(signature), Some(date)) => {
            Ok(Authorization {
                credential,
                signed_headers,
                signature,
                date,
                presigned: None,
            })
        }
        (credential, signed_headers, signature, date) => Err(AuthError::Incomplete(MissingParts {
            form: Form::Header(echo(header)),
            credential: credential.is_none(),
            signature: signature.is_none(),
            signed_headers: signed_headers.is_none(),
            date: date.is_none(),
            expires: false,
        })),
    }
}

/// Reads the query form; `None` when the query does not ask for it.
pub(crate) fn parse_query(raw: &str) -> Result<Option<Authorization>, AuthError> {
    if raw.len() > QUERY_BYTES_MAX {
        return Err(AuthError::TooLarge {
            what: "query",
            limit: "64 KiB",
        });
    }
    let (mut algorithm, mut credential, mut signed_headers, mut signature) =
        (None, None, None, None);
    let (mut date, mut expires, mut session_token) = (None, None, None);
    let mut repeated = None;
    for (position, (name, value)) in canonical::pairs(raw).enumerate() {
        if position == QUERY_PARAMETERS_MAX {
            return Err(AuthError::TooLarge {
                what: "query",
                limit: "1000 parameters",
            });
        }
        let (slot, name) = match name.as_ref() {
            b"X-Amz-Algorithm" => (&mut algorithm, "X-Amz-Algorithm"),
            b"X-Amz-Credential" => (&mut credential, "X-Amz-Credential"),
            b"X-Amz-SignedHeaders" => (&mut signed_headers, "X-Amz-SignedHeaders"),
            b"X-Amz-Signature" => (&mut signature, "X-Amz-Signature"),
            b"X-Amz-Date" => (&mut date, "X-Amz-Date"),
            b"X-Amz-Expires" => (&mut expires, "X-Amz-Expires"),
            b"X-Amz-Security-Token" => (&mut session_token, "X-Amz-Security-Token"),
            _ => continue,
        };
        if slot.is_some() {
            repeated = Some(name);
        }
        *slot = Some(String::from_utf8_lossy(&value).into_owned());
    }
    match algorithm {
        None => return Ok(None),
        Some(algorithm) if algorithm != ALGORITHM => {
            return Err(AuthError::UnsupportedAlgorithm {
                algorithm: echo(&algorithm),
            });
        }
        Some(_) => {}
    }
    if let Some(name) = repeated {
        return Err(AuthError::Repeated {
            name: name.to_owned(),
        });
    }
    let parts = (
        given(credential),
        given(signed_headers),
        given(signature),
        given(date),
        given(expires),
    );
    match parts {
        (Some(credential), Some(signed_headers), Some(signature), Some(date), Some(expires)) => {
            let presigned = Some(Presigned {
                expires,
                session_token,
            });
            Ok(Some(Authorization {
                credential,
                signed_headers,
                signature,
                date,
                presigned,
            }))
        }
        (credential, signed_headers, signature, date, expires) => {
            Err(AuthError::Incomplete(MissingParts {
                form: Form::Query,
                credential: credential.is_none(),
                signature: signature.is_none(),
                signed_headers: signed_headers.is_none(),
                date: date.is_none(),
                expires: expires.is_none(),
            }))
        }
    }
}

/// An empty part counts as missing.
fn given(part: Option<String>) -> Option<String> {
    part.filter(|part| !part.is_empty())
}
