//! Answers that no operation made: requests that cannot be read as HTTP, and failures of the server itself.
//!
//! They have the form of the service framework's errors (SPEC 5.1): the exception's name in `x-amzn-ErrorType` and in
//! `__type`, both spellings of the message, the request's id and the date. Some clients can read nothing else (SPEC C.5).

use auth::RequestId;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, DATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use std::fmt::Write;
use types::UnixMillis;

const ORIGIN: &str = "http://internal.amazon.com/coral/com.amazon.coral.service/";

/// The exception's name, in the extensions of a response.
#[derive(Clone, Copy, Debug)]
pub struct Code(pub &'static str);

/// An answer outside every operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The exception's name.
    pub code: &'static str,
    /// What is wrong.
    pub message: &'static str,
}

impl Refusal {
    /// A request whose head did not arrive in time.
    pub const SLOW_HEAD: Refusal = Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        code: "RequestTimeoutException",
        message: "The head of the request did not arrive in time.",
    };

    /// A request during which the server met a bug of its own.
    pub const PANIC: Refusal = Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        code: "InternalServerException",
        message: "An internal error has occurred",
    };

    /// What to say instead of a bare answer of hyper with this status.
    pub fn instead_of(status: StatusCode) -> Refusal {
        let message = match status {
            StatusCode::URI_TOO_LONG => "The request target is too long.",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                "The headers of the request are too large or too many."
            }
            // hyper has no other answers of its own.
            _ => "The request is not valid HTTP.",
        };
        Refusal {
            status,
            code: "MalformedHttpRequestException",
            message,
        }
    }

    /// The response for the service to give.
    pub fn response(self, id: RequestId) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body()));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Code(self.code));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(RequestId::HEADER, id.header_value());
        if let Ok(kind) = HeaderValue::try_from(self.kind()) {
            headers.insert("x-amzn-errortype", kind);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// The whole response as bytes for the wire, ending the connection.
    pub fn bytes(self, id: RequestId, now: UnixMillis) -> Bytes {
        let body = self.body();
        let mut text = String::with_capacity(512);
        let reason = self.status.canonical_reason().unwrap_or("Error");
        // Writing to a string cannot fail.
        let _ = write!(text, "HTTP/1.1 {} {reason}\r\n", self.status.as_u16());
        let _ = write!(
            text,
            "{}: {id}\r\nx-amzn-errortype: {}\r\n",
            RequestId::HEADER,
            self.kind()
        );
        let _ = write!(
            text,
            "content-type: application/json\r\nconnection: close\r\n"
        );
        let _ = write!(
            text,
            "{DATE}: {}\r\ncontent-length: {}\r\n\r\n",
            http_date(now),
            body.len()
        );
        text.push_str(&body);
        Bytes::from(text)
    }

    fn kind(self) -> String {
        format!("{}:{ORIGIN}", self.code)
    }

    fn body(self) -> String {
        let Refusal { code, message, .. } = self;
        serde_json::json!({ "__type": code, "Message": message, "message": message }).to_string()
    }
}

/// A time in the form of the `Date` header.
fn http_date(now: UnixMillis) -> String {
    let timestamp = Timestamp::from_millisecond(now).unwrap_or(Timestamp::UNIX_EPOCH);
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&timestamp)
        .expect("a time after 1970 and before 10000 has such a form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Random;

    #[test]
    fn the_bytes_are_a_complete_response() {
        let id = RequestId::generate(&Random::seeded(1));
        let bytes = Refusal::instead_of(StatusCode::BAD_REQUEST).bytes(id, 784_111_777_000);
        let text = String::from_utf8(bytes.to_vec()).expect("a refusal is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(
            head.contains("\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            "{head}"
        );
        assert!(
            head.contains(&format!("\r\nx-amzn-requestid: {id}\r\n")),
            "{head}"
        );
        assert!(
            head.contains("\r\nx-amzn-errortype: MalformedHttpRequestException:http://"),
            "{head}"
        );
        assert!(
            head.ends_with(&format!("\r\ncontent-length: {}", body.len())),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(body).expect("the body is JSON");
        assert_eq!(body["__type"], "MalformedHttpRequestException");
        assert_eq!(body["message"], body["Message"]);
    }
}
