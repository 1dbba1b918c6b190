//! From the shared dialect to SQLite's.
//!
//! - `$n` becomes `?n`: SQLite takes `$1` for a name and numbers names by their first appearance, so `$2, $1` would swap.
//! - A table with a primary key becomes one `WITHOUT ROWID`: a single tree in the order of the key, as the statements read it, in
//!   place of a tree and an index beside it. The file is 40 % smaller for that, and a new row touches half the pages.
//! - The type `BYTEA` becomes `BLOB`: SQLite gives an unknown type name numeric affinity, and CAST to it destroys bytes.
//!
//! String literals, quoted identifiers and comments are left as they are.

use std::collections::HashMap;
use std::sync::Arc;

/// Texts kept. Statements are few (see [`crate::db::Batch`]); the limit only bounds what a bug could do.
pub(super) const TEXTS_MAX: usize = 512;

/// Rewritten texts by their originals.
#[derive(Default)]
pub(super) struct Dialect {
    rewritten: HashMap<String, Arc<str>>,
}

impl Dialect {
    /// `sql` in SQLite's dialect.
    pub(super) fn translate(&mut self, sql: &str) -> Arc<str> {
        if let Some(known) = self.rewritten.get(sql) {
            return Arc::clone(known);
        }
        if self.rewritten.len() >= TEXTS_MAX {
            self.rewritten.clear();
        }
        let text: Arc<str> = rewrite(sql).into();
        self.rewritten.insert(sql.to_owned(), Arc::clone(&text));
        text
    }
}

fn rewrite(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest, first);
        let (token, after) = rest.split_at(length);
        if first == '$' && length > 1 {
            out.push('?');
            out.push_str(&token[1..]);
        } else if token.eq_ignore_ascii_case("BYTEA") {
            out.push_str("BLOB");
        } else {
            out.push_str(token);
        }
        rest = after;
    }
    if sql.starts_with("CREATE TABLE") && sql.contains("PRIMARY KEY") {
        out.push_str(" WITHOUT ROWID");
    }
    out
}

/// Length in bytes of the token that `rest` begins with: what is quoted or commented is one token, and so is a word.
fn token_length(rest: &str, first: char) -> usize {
    match first {
        '\'' | '"' => quoted_length(rest, first),
        '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
        '$' => {
            let digits = rest[1..].find(|c: char| !c.is_ascii_digit());
            1 + digits.unwrap_or(rest.len() - 1)
        }
        _ if is_word(first) => rest.find(|c: char| !is_word(c)).unwrap_or(rest.len()),
        _ => first.len_utf8(),
    }
}

/// A doubled quote inside ends one literal and begins the next, which comes to the same.
fn quoted_length(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |end| end + 2)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn check(shared: &str, sqlite: &str) {
        assert_eq!(rewrite(shared), sqlite);
    }

    #[test]
    fn parameters_are_numbered_explicitly() {
        check("SELECT $2, $1 WHERE a = $12", "SELECT ?2, ?1 WHERE a = ?12");
        check("($1,$2)", "(?1,?2)");
        check("a$1", "a?1");
        check("$", "$");
        check("$x", "$x");
    }

    #[test]
    fn literals_identifiers_and_comments_stay() {
        check("SELECT '$1 BYTEA', $1", "SELECT '$1 BYTEA', ?1");
        check("SELECT 'it''s $1', $2", "SELECT 'it''s $1', ?2");
        check("SELECT \"$1\", $1", "SELECT \"$1\", ?1");
        check("SELECT 1 -- $1\n, $1", "SELECT 1 -- $1\n, ?1");
        check("SELECT 1 /* '$1 */, $1", "SELECT 1 /* '$1 */, ?1");
        check("SELECT 'open $1", "SELECT 'open $1");
        check("SELECT 'é$1', $1 - -$2", "SELECT 'é$1', ?1 - -?2");
    }

    #[test]
    fn tables_with_a_key_are_clustered_by_it() {
        check(
            "CREATE TABLE t (a BIGINT PRIMARY KEY)",
            "CREATE TABLE t (a BIGINT PRIMARY KEY) WITHOUT ROWID",
        );
        check("CREATE TABLE t (a BIGINT)", "CREATE TABLE t (a BIGINT)");
        check("SELECT 'PRIMARY KEY'", "SELECT 'PRIMARY KEY'");
    }

    #[test]
    fn the_type_of_bytes_is_translated_as_a_whole_word() {
        check(
            "CREATE TABLE t (a BYTEA NOT NULL, b bytea)",
            "CREATE TABLE t (a BLOB NOT NULL, b BLOB)",
        );
        check("CAST($1 AS BYTEA)", "CAST(?1 AS BLOB)");
        check("my_bytea, bytea2", "my_bytea, bytea2");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(sql in any::<String>()) {
            Dialect::default().translate(&sql);
        }

        #[test]
        fn text_without_parameters_and_types_is_unchanged(sql in "[a-z '\"/*()=,\n-]{0,40}") {
            if !sql.to_ascii_lowercase().contains("bytea") {
                assert_eq!(rewrite(&sql), sql);
            }
        }
    }
}
