//! Parameters and columns: the types of the shared dialect, and the checked way out of a row.

use crate::Error;

/// A parameter or a column: the types of the shared dialect and no others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// BIGINT.
    Int(i64),
    /// TEXT without U+0000.
    Text(String),
    /// BYTEA or BLOB.
    Bytes(Vec<u8>),
}

impl Value {
    /// The type's name in the dialect, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Int(_) => "BIGINT",
            Value::Text(_) => "TEXT",
            Value::Bytes(_) => "BYTEA",
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(value.into())
    }
}

impl From<u8> for Value {
    fn from(value: u8) -> Self {
        Value::Int(value.into())
    }
}

impl TryFrom<u64> for Value {
    type Error = Error;

    /// [`Error::Statement`] above `i64::MAX`: no column can hold it.
    fn try_from(value: u64) -> Result<Self, Error> {
        let int = i64::try_from(value).map_err(|_| Error::Statement {
            reason: format!("{value} does not fit a BIGINT"),
        })?;
        Ok(Value::Int(int))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Value::Bytes(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Value::Bytes(value)
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Value::Bytes(value.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Value::Bytes(value.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// One row of an answer. The accessors answer [`Error::Corrupt`] when a column has another type.
///
/// Each takes the number of the column, from 0, and the name of the table that a message shall blame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// A BIGINT that is not NULL.
    pub fn int(&self, column: usize, table: &'static str) -> Result<i64, Error> {
        self.opt_int(column, table)?
            .ok_or_else(|| unexpected(table, column, "BIGINT", "NULL"))
    }

    /// A BIGINT that is not NULL and not negative.
    pub fn uint(&self, column: usize, table: &'static str) -> Result<u64, Error> {
        let int = self.int(column, table)?;
        u64::try_from(int).map_err(|_| out_of_range(table, column, int))
    }

    /// A BIGINT that is not NULL and fits 32 unsigned bits.
    pub fn uint32(&self, column: usize, table: &'static str) -> Result<u32, Error> {
        let int = self.int(column, table)?;
        u32::try_from(int).map_err(|_| out_of_range(table, column, int))
    }

    /// A TEXT that is not NULL.
    pub fn text(&self, column: usize, table: &'static str) -> Result<&str, Error> {
        self.opt_text(column, table)?
            .ok_or_else(|| unexpected(table, column, "TEXT", "NULL"))
    }

    /// A BYTEA that is not NULL.
    pub fn bytes(&self, column: usize, table: &'static str) -> Result<&[u8], Error> {
        self.opt_bytes(column, table)?
            .ok_or_else(|| unexpected(table, column, "BYTEA", "NULL"))
    }

    /// A BYTEA of exactly `N` bytes.
    pub fn array<const N: usize>(
        &self,
        column: usize,
        table: &'static str,
    ) -> Result<[u8; N], Error> {
        let bytes = self.bytes(column, table)?;
        bytes
            .try_into()
            .map_err(|_| wrong_length(table, column, N, bytes.len()))
    }

    /// A BIGINT or NULL.
    pub fn opt_int(&self, column: usize, table: &'static str) -> Result<Option<i64>, Error> {
        match self.value(column, table)? {
            Value::Null => Ok(None),
            Value::Int(int) => Ok(Some(*int)),
            other => Err(unexpected(table, column, "BIGINT", other.kind())),
        }
    }

    /// A TEXT or NULL.
    pub fn opt_text(&self, column: usize, table: &'static str) -> Result<Option<&str>, Error> {
        match self.value(column, table)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            other => Err(unexpected(table, column, "TEXT", other.kind())),
        }
    }

    /// A BYTEA or NULL.
    pub fn opt_bytes(&self, column: usize, table: &'static str) -> Result<Option<&[u8]>, Error> {
        match self.value(column, table)? {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(unexpected(table, column, "BYTEA", other.kind())),
        }
    }

    /// A BYTEA of exactly `N` bytes, or NULL.
    pub fn opt_array<const N: usize>(
        &self,
        column: usize,
        table: &'static str,
    ) -> Result<Option<[u8; N]>, Error> {
        self.opt_bytes(column, table)?
            .map(|bytes| {
                bytes
                    .try_into()
                    .map_err(|_| wrong_length(table, column, N, bytes.len()))
            })
            .transpose()
    }

    fn value(&self, column: usize, table: &'static str) -> Result<&Value, Error> {
        self.0.get(column).ok_or_else(|| Error::Corrupt {
            table,
            reason: format!("column {column} of {} was asked for", self.0.len()),
        })
    }
}

fn unexpected(table: &'static str, column: usize, expected: &str, found: &str) -> Error {
    Error::Corrupt {
        table,
        reason: format!("column {column} holds {found} instead of {expected}"),
    }
}

fn out_of_range(table: &'static str, column: usize, found: i64) -> Error {
    Error::Corrupt {
        table,
        reason: format!("column {column} holds {found}, out of its range"),
    }
}

fn wrong_length(table: &'static str, column: usize, expected: usize, found: usize) -> Error {
    Error::Corrupt {
        table,
        reason: format!("column {column} holds {found} bytes instead of {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_their_own_type_only() {
        let row = Row(vec![
            7_i64.into(),
            "seven".into(),
            [7_u8; 3].into(),
            None::<i64>.into(),
        ]);
        assert_eq!(row.int(0, "t").unwrap(), 7);
        assert_eq!(row.uint(0, "t").unwrap(), 7);
        assert_eq!(row.uint32(0, "t").unwrap(), 7);
        assert_eq!(row.text(1, "t").unwrap(), "seven");
        assert_eq!(row.bytes(2, "t").unwrap(), [7; 3]);
        assert_eq!(row.array::<3>(2, "t").unwrap(), [7; 3]);
        assert_eq!(row.opt_int(3, "t").unwrap(), None);
        assert_eq!(row.opt_text(3, "t").unwrap(), None);
        assert_eq!(row.opt_array::<3>(3, "t").unwrap(), None);
        for damaged in [
            row.int(1, "t").map(drop),
            row.int(3, "t").map(drop),
            row.text(0, "t").map(drop),
            row.bytes(1, "t").map(drop),
            row.array::<4>(2, "t").map(drop),
            row.opt_array::<2>(2, "t").map(drop),
            row.int(4, "t").map(drop),
        ] {
            assert!(
                matches!(damaged, Err(Error::Corrupt { table: "t", .. })),
                "{damaged:?}"
            );
        }
    }

    #[test]
    fn numbers_outside_their_range_are_damage_or_refused() {
        let row = Row(vec![Value::Int(-1), Value::Int(1 << 32)]);
        assert!(row.uint(0, "t").is_err());
        assert!(row.uint32(1, "t").is_err());
        assert_eq!(row.uint(1, "t").unwrap(), 1 << 32);
        assert!(Value::try_from(u64::MAX).is_err());
        assert_eq!(Value::try_from(5_u64).unwrap(), Value::Int(5));
    }
}
