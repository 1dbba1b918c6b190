//! Responses: what every one of them carries, and how numbers of the wire are written.
//!
//! `Date` is the clock that signatures are judged by: SDKs correct their own clocks from it, on errors too (SPEC 3.16).

use crate::error::ApiError;
use auth::RequestId;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use std::io::Write;
use types::UnixMillis;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum");
const CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");
const DATA_LENGTH: HeaderName = HeaderName::from_static("x-amz-data-length");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const RETRY_AFTER: HeaderName = HeaderName::from_static("x-amz-retry-after");

/// A response without what all have in common.
pub(crate) type Reply = Response<Bytes>;

/// A JSON document.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// The data of a block, whose checksum is this base64 text.
pub(crate) fn block(data: Bytes, checksum: &str) -> Reply {
    let length = data.len();
    let mut reply = Response::new(data);
    let octets = HeaderValue::from_static("application/octet-stream");
    reply.headers_mut().insert(CONTENT_TYPE, octets);
    reply.headers_mut().insert(DATA_LENGTH, length.into());
    with_checksum(reply, checksum)
}

/// The same with the headers that tell a checksum.
pub(crate) fn with_checksum(mut reply: Reply, checksum: &str) -> Reply {
    let text = HeaderValue::try_from(checksum).expect("base64 may stand in a header");
    reply.headers_mut().insert(CHECKSUM, text);
    reply
        .headers_mut()
        .insert(CHECKSUM_ALGORITHM, HeaderValue::from_static("SHA256"));
    reply
}

/// An error; the caller says whether the connection is used up.
pub(crate) fn error(error: &ApiError, connection_used_up: bool) -> Reply {
    let mut reply = json(error.status(), error.body());
    let kind = HeaderValue::try_from(error.type_header()).expect("codes are plain ASCII");
    reply.headers_mut().insert(ERROR_TYPE, kind);
    if let Some(millis) = error.retry_after_ms() {
        reply.headers_mut().insert(RETRY_AFTER, millis.into());
    }
    if connection_used_up || error.closes_connection() {
        reply
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// Adds what every response carries.
pub(crate) fn finish(
    reply: Reply,
    request_id: RequestId,
    now: UnixMillis,
) -> Response<Full<Bytes>> {
    let (mut head, body) = reply.into_parts();
    let id = HeaderName::from_static(RequestId::HEADER);
    head.headers.insert(id, request_id.header_value());
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    if let Some(date) = http_date(now) {
        head.headers.insert(DATE, date);
    }
    Response::from_parts(head, Full::new(body))
}

/// Appends a time as seconds since 1970 with milliseconds, as a JSON number.
pub(crate) fn write_time(out: &mut Vec<u8>, time: UnixMillis) {
    let time = time.max(0);
    write(out, format_args!("{}.{:03}", time / 1000, time % 1000));
}

/// Appends text to a document in memory.
pub(crate) fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("a vector takes whatever is written to it");
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`; `None` only for years without four digits.
fn http_date(now: UnixMillis) -> Option<HeaderValue> {
    let now = jiff::Timestamp::from_millisecond(now).ok()?;
    let mut text = String::with_capacity(32);
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    printer.print_timestamp_rfc9110(&now, &mut text).ok()?;
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        let mut out = Vec::new();
        write_time(&mut out, 1_790_337_440_328);
        write_time(&mut out, 1_790_337_440_007);
        assert_eq!(out, b"1790337440.3281790337440.007");
    }

    #[test]
    fn dates_have_the_form_of_http() {
        assert_eq!(
            http_date(784_111_777_000).unwrap(),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        assert_eq!(http_date(0).unwrap(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
