//! JSON objects read by member, with an error that names what is wrong.
//!
//! Absent and `null` are the same; unknown members are ignored; a member of another type is a `SerializationException`
//! (SPEC 8.20). Integers may be written in any form that names them exactly.

use crate::error::ApiError;
use crate::numbers;
use serde_json::{Map, Value};

/// The members of an object.
pub(crate) struct Members(Map<String, Value>);

impl Members {
    /// Reads a document. An empty one has no members, as the framework sees it.
    pub(crate) fn parse(document: &[u8]) -> Result<Members, ApiError> {
        if document.iter().all(u8::is_ascii_whitespace) {
            return Ok(Members(Map::new()));
        }
        // The parser's own message repeats no content, only what it expected and where.
        let value = serde_json::from_slice(document).map_err(|error| {
            ApiError::serialization(format!("The body is not valid JSON: {error}"))
        })?;
        match value {
            Value::Object(members) => Ok(Members(members)),
            _ => Err(ApiError::serialization("The body must be a JSON object")),
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, member: &str) -> Result<Option<String>, ApiError> {
        match self.take(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(member, "a string")),
        }
    }

    /// An integer.
    pub(crate) fn integer(&mut self, member: &str) -> Result<Option<i64>, ApiError> {
        match self.take(member) {
            None => Ok(None),
            Some(Value::Number(number)) => numbers::json_integer(&number)
                .map(Some)
                .ok_or_else(|| wrong_type(member, "an integer")),
            Some(_) => Err(wrong_type(member, "an integer")),
        }
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, member: &str) -> Result<Option<bool>, ApiError> {
        match self.take(member) {
            None => Ok(None),
            Some(Value::Bool(boolean)) => Ok(Some(boolean)),
            Some(_) => Err(wrong_type(member, "a boolean")),
        }
    }

    /// A list of objects.
    pub(crate) fn objects(&mut self, member: &str) -> Result<Option<Vec<Members>>, ApiError> {
        let items = match self.take(member) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(wrong_type(member, "a list")),
        };
        let object = |item| match item {
            Value::Object(members) => Ok(Members(members)),
            _ => Err(wrong_type(member, "a list of objects")),
        };
        items
            .into_iter()
            .map(object)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn take(&mut self, member: &str) -> Option<Value> {
        self.0.remove(member).filter(|value| !value.is_null())
    }
}

fn wrong_type(member: &str, expected: &str) -> ApiError {
    ApiError::serialization(format!("{member} must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(document: &str) -> Members {
        Members::parse(document.as_bytes()).unwrap()
    }

    #[test]
    fn members_are_read_by_type() {
        let mut read = members(r#"{"a":"x","b":1e+05,"c":true,"d":[{"k":"v"}],"e":null,"z":{}}"#);
        assert_eq!(read.text("a").unwrap().as_deref(), Some("x"));
        assert_eq!(read.integer("b").unwrap(), Some(100_000));
        assert_eq!(read.boolean("c").unwrap(), Some(true));
        assert_eq!(
            read.objects("d").unwrap().unwrap()[0]
                .text("k")
                .unwrap()
                .as_deref(),
            Some("v")
        );
        assert_eq!(read.text("e").unwrap(), None);
        assert_eq!(read.text("f").unwrap(), None);
    }

    #[test]
    fn another_type_is_named() {
        let error = |document: &str, read: fn(&mut Members) -> Result<(), ApiError>| {
            let error = read(&mut members(document)).unwrap_err();
            assert_eq!(error.code(), "SerializationException");
            error.message().to_owned()
        };
        assert_eq!(
            error(r#"{"a":1}"#, |m| m.text("a").map(drop)),
            "a must be a string"
        );
        assert_eq!(
            error(r#"{"a":"1"}"#, |m| m.integer("a").map(drop)),
            "a must be an integer"
        );
        assert_eq!(
            error(r#"{"a":1.5}"#, |m| m.integer("a").map(drop)),
            "a must be an integer"
        );
        assert_eq!(
            error(r#"{"a":0}"#, |m| m.boolean("a").map(drop)),
            "a must be a boolean"
        );
        assert_eq!(
            error(r#"{"a":{}}"#, |m| m.objects("a").map(drop)),
            "a must be a list"
        );
        assert_eq!(
            error(r#"{"a":[1]}"#, |m| m.objects("a").map(drop)),
            "a must be a list of objects"
        );
    }

    #[test]
    fn documents_that_are_no_object_are_refused() {
        assert!(Members::parse(b"").is_ok());
        assert!(Members::parse(b" \n").is_ok());
        let deep = "[".repeat(100_000);
        for document in [
            "{",
            "[]",
            "null",
            "1",
            "{\"a\":}",
            "{}x",
            "\u{feff}{}",
            "{\"a\":\"\\ud800\"}",
            &deep,
        ] {
            let error = Members::parse(document.as_bytes()).err().expect(document);
            assert_eq!(error.code(), "SerializationException", "{document:.20}");
        }
        assert!(Members::parse(b"{\"a\":\"\xff\"}").is_err());
    }
}
