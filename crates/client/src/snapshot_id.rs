//! Ids of snapshots as they stand on the wire.

use std::fmt;
use std::str::FromStr;

/// A snapshot id of any server: `snap-` and lower-case hex digits, at most 64 characters (SPEC 2.0).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotId {
    type Err = NotASnapshotId;

    fn from_str(text: &str) -> Result<SnapshotId, NotASnapshotId> {
        let digits = text.strip_prefix("snap-").unwrap_or_default();
        let hex = |letter: char| letter.is_ascii_digit() || ('a'..='f').contains(&letter);
        if digits.is_empty() || text.len() > 64 || !digits.chars().all(hex) {
            return Err(NotASnapshotId(text.chars().take(64).collect()));
        }
        Ok(SnapshotId(text.to_owned()))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no snapshot id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("'{0}' is no snapshot id: they look like snap-0123456789abcdef0")]
pub struct NotASnapshotId(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_published_form_parse() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<SnapshotId>().is_ok(), good, "{text}");
        };
        check("snap-0e2c477186c5c34b7", true);
        check("snap-ffffffffffffffff1", true);
        check("snap-", false);
        check("snap-0E", false);
        check("vol-01", false);
        check(&format!("snap-{}", "0".repeat(59)), true);
        check(&format!("snap-{}", "0".repeat(60)), false);
    }
}
