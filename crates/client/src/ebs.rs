//! The six operations of the EBS direct APIs: requests and answers in their wire form (SPEC 2), one file each.

pub(crate) mod complete_snapshot;
pub(crate) mod get_snapshot_block;
pub(crate) mod list_changed_blocks;
pub(crate) mod list_snapshot_blocks;
mod listing;
pub(crate) mod put_snapshot_block;
pub(crate) mod start_snapshot;

use crate::Refusal;
use crate::api::Extensions;
use crate::transport::Answer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use std::borrow::Cow;
use types::{Digest, Extension};

const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum");
const CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");
const DATA_LENGTH: HeaderName = HeaderName::from_static("x-amz-data-length");
const ERROR_TYPE: &str = "x-amzn-errortype";
const REQUEST_ID: &str = "x-amzn-requestid";
const RETRY_AFTER: &str = "x-amz-retry-after";
const EXTENSIONS: HeaderName = HeaderName::from_static(Extension::HEADER);
const SHA256: HeaderValue = HeaderValue::from_static("SHA256");

/// The largest page of a listing that the API knows.
pub(crate) const MAX_RESULTS: u32 = 10_000;

/// Characters of a message that are repeated.
const MESSAGE_CHARS_MAX: usize = 1024;

/// A digest as the wire's checksum: standard base64 with padding.
pub(crate) fn checksum(digest: &Digest) -> String {
    STANDARD.encode(digest.as_bytes())
}

/// The digest that a checksum names.
fn digest(checksum: &str) -> Option<Digest> {
    Digest::from_slice(&STANDARD.decode(checksum).ok()?)
}

fn checksum_header(digest: &Digest) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::try_from(checksum(digest)).expect("base64 may stand in a header");
    (CHECKSUM, value)
}

/// Asks for every extension.
fn asking() -> (HeaderName, HeaderValue) {
    let names = Extension::ALL.map(Extension::name).join(", ");
    let names = HeaderValue::try_from(names).expect("names are plain ASCII");
    (EXTENSIONS, names)
}

/// The extensions that an answer offers.
pub(crate) fn extensions(headers: &HeaderMap) -> Extensions {
    let named = text(headers, Extension::HEADER).unwrap_or_default();
    Extensions {
        block_checksums: Extension::BlockChecksums.is_named_in(named),
        put_by_digest: Extension::PutByDigest.is_named_in(named),
        lineage: Extension::Lineage.is_named_in(named),
    }
}

/// A header, if it is text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A path or a query value with everything but unreserved characters percent-encoded.
pub(crate) fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow, rename = "__type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Code")]
    code: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Message")]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "message")]
    other_message: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Reason")]
    reason: Option<Cow<'a, str>>,
}

/// The error that an answer is (SPEC 5.1).
///
/// # Errors
/// It is not one of this API.
pub(crate) fn refusal(operation: &'static str, answer: &Answer) -> Result<Refusal, String> {
    let body: Option<ErrorBody<'_>> = serde_json::from_slice(&answer.text).ok();
    let body = body.as_ref();
    let code = text(&answer.headers, ERROR_TYPE)
        .or_else(|| body?.kind.as_deref())
        .or_else(|| body?.code.as_deref());
    let message = body
        .and_then(|body| body.message.as_deref().or(body.other_message.as_deref()))
        .map(cut);
    let mut refusal = refusal_without_words(operation, answer)?;
    match code {
        Some(code) => {
            let code = code.split(':').next().unwrap_or_default();
            refusal.code = cut(code.rsplit('#').next().unwrap_or_default());
            refusal.reason = body.and_then(|body| body.reason.as_deref()).map(cut);
            refusal.message = message.unwrap_or_default();
            Ok(refusal)
        }
        None if passes(answer) => Ok(refusal),
        None => Err(not_an_error_of_the_api(answer)),
    }
}

/// What an error answer says without its body.
pub(crate) fn refusal_without_words(
    operation: &'static str,
    answer: &Answer,
) -> Result<Refusal, String> {
    Ok(Refusal {
        operation,
        status: answer.status.as_u16(),
        code: answer.status.as_str().to_owned(),
        reason: None,
        message: answer
            .status
            .canonical_reason()
            .unwrap_or_default()
            .to_owned(),
        request_id: text(&answer.headers, REQUEST_ID).map(cut),
        retry_after_ms: text(&answer.headers, RETRY_AFTER).and_then(|text| text.parse().ok()),
    })
}

/// Whether something between us and the service may answer so for a while.
pub(crate) fn passes(answer: &Answer) -> bool {
    answer.status.is_server_error() || matches!(answer.status.as_u16(), 408 | 429)
}

/// Says what came instead of an error of the API.
pub(crate) fn not_an_error_of_the_api(answer: &Answer) -> String {
    let kind = text(&answer.headers, "content-type").unwrap_or("nothing that it names");
    format!("status {} with {kind}", answer.status.as_u16())
}

/// The beginning of a text of the server's, without what could disturb a terminal.
pub(crate) fn cut(text: &str) -> String {
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    text.chars().take(MESSAGE_CHARS_MAX).map(shown).collect()
}

/// The JSON document that an answer is.
fn json<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T, String> {
    serde_json::from_slice(&answer.text)
        .map_err(|error| format!("a body that is not the expected JSON: {error}"))
}
