//! What a request says in its path, query and headers, as text and as integers.
//!
//! Percent-encoding is undone once and a plus sign is a plus sign, as signatures read it (SPEC 4.3). Repeated headers are
//! joined with commas, so that no value goes unseen; of a repeated query parameter the first counts.

use crate::constraints::echo;
use crate::error::ApiError;
use crate::numbers;
use http::HeaderMap;
use http::request::Parts;
use std::borrow::Cow;

/// A request's parameters.
pub(crate) struct Parameters<'a> {
    headers: &'a HeaderMap,
    query: Vec<(String, String)>,
}

impl<'a> Parameters<'a> {
    /// Takes the query apart.
    pub(crate) fn of(head: &'a Parts) -> Parameters<'a> {
        let query = head
            .uri
            .query()
            .map(auth::sigv4::query_parameters)
            .unwrap_or_default();
        Parameters {
            headers: &head.headers,
            query,
        }
    }

    /// A parameter of the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// An integer in the query; `member` is its name in messages.
    pub(crate) fn query_integer(&self, name: &str, member: &str) -> Result<Option<i64>, ApiError> {
        self.query(name)
            .map(|text| integer(text, member))
            .transpose()
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut values = self.headers.get_all(name).iter();
        let first = String::from_utf8_lossy(values.next()?.as_bytes());
        Some(values.fold(first, |joined, value| {
            Cow::Owned(format!(
                "{joined},{}",
                String::from_utf8_lossy(value.as_bytes())
            ))
        }))
    }

    /// An integer in a header; `member` is its name in messages.
    pub(crate) fn header_integer(&self, name: &str, member: &str) -> Result<Option<i64>, ApiError> {
        self.header(name)
            .map(|text| integer(&text, member))
            .transpose()
    }
}

/// An integer in the path, still percent-encoded.
pub(crate) fn path_integer(segment: &str, member: &str) -> Result<i64, ApiError> {
    integer(&decoded(segment), member)
}

/// A segment of the path, percent-decoded. What is no UTF-8 becomes U+FFFD, which no member allows.
pub(crate) fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn integer(text: &str, member: &str) -> Result<i64, ApiError> {
    numbers::integer(text).ok_or_else(|| {
        ApiError::serialization(format!("'{}' at '{member}' is not an integer", echo(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_once() {
        assert_eq!(decoded("snap-1"), "snap-1");
        assert_eq!(decoded("1e%2B05"), "1e+05");
        assert_eq!(decoded("1e%2b05"), "1e+05");
        assert_eq!(decoded("a%252Fb"), "a%2Fb");
        assert_eq!(decoded("%"), "%");
        assert_eq!(decoded("%4"), "%4");
        assert_eq!(decoded("%zz%41"), "%zzA");
        assert_eq!(decoded("%ff"), "\u{fffd}");
        assert_eq!(decoded("%+1"), "%+1");
    }

    #[test]
    fn integers_are_read_in_every_place() {
        let request = http::Request::get("/x?startingBlockIndex=1e%2B05&maxResults=abc&empty=")
            .header("x-amz-changedblockscount", "2e+05")
            .header("x-amz-progress", "5")
            .header("x-amz-progress", "6");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let parameters = Parameters::of(&head);
        let integer = |name| {
            parameters
                .query_integer(name, "member")
                .map_err(|error| error.code())
        };
        assert_eq!(integer("startingBlockIndex"), Ok(Some(100_000)));
        assert_eq!(integer("absent"), Ok(None));
        assert_eq!(integer("maxResults"), Err("SerializationException"));
        assert_eq!(integer("empty"), Err("SerializationException"));
        let count = parameters.header_integer("x-amz-ChangedBlocksCount", "changedBlocksCount");
        assert_eq!(count.map_err(|error| error.code()), Ok(Some(200_000)));
        let twice = parameters
            .header_integer("x-amz-progress", "progress")
            .unwrap_err();
        assert_eq!(twice.message(), "'5,6' at 'progress' is not an integer");
        assert_eq!(path_integer("1e%2B05", "blockIndex").ok(), Some(100_000));
    }
}
