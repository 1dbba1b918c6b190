//! Statements over many rows: few texts, whatever the number of rows.
//!
//! Backends prepare each text once and keep it. A text for every possible number of rows would fill that cache with
//! statements used once; so rows go out in groups whose sizes are powers of two, largest first (100 rows are 64 + 32 + 4).

use crate::{Error, Row, Txn, Value};
use std::fmt::Write;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows in one statement at most. Larger groups gain nothing measurable; with 16 columns this stays far below the 32,766
/// parameters of SQLite and the 65,535 of PostgreSQL.
pub const GROUP_ROWS_MAX: usize = 128;

const SIZES: usize = GROUP_ROWS_MAX.ilog2() as usize + 1;

/// One statement with a list of rows in it, meant to be a `static` beside its record.
///
/// ```text
/// static PUT: Batch = Batch::new(
///     "INSERT INTO put_entries (snapshot, block_index, digest) VALUES ", 1, "($1, ?, ?)",
///     " ON CONFLICT (snapshot, block_index) DO UPDATE SET digest = excluded.digest");
/// static FIND: Batch = Batch::new("SELECT … FROM chunks WHERE domain = $1 AND name IN (", 1, "?", ")");
/// ```
pub struct Batch {
    head: &'static str,
    shared: usize,
    row: &'static str,
    joint: &'static str,
    tail: &'static str,
    texts: [OnceLock<String>; SIZES],
}

impl Batch {
    /// A statement that reads `head`, then `row` once for each row with commas between, then `tail`. `$1` to
    /// `$shared` mean the same everywhere; each `?` of `row` stands for the row's next own parameter.
    pub const fn new(
        head: &'static str,
        shared: usize,
        row: &'static str,
        tail: &'static str,
    ) -> Batch {
        Batch::joined(head, shared, row, ", ", tail)
    }

    /// The same with OR between the rows, for conditions on several columns: `"(c.domain = ? AND c.name = ?)"`.
    pub const fn any_of(
        head: &'static str,
        shared: usize,
        row: &'static str,
        tail: &'static str,
    ) -> Batch {
        Batch::joined(head, shared, row, " OR ", tail)
    }

    const fn joined(
        head: &'static str,
        shared: usize,
        row: &'static str,
        joint: &'static str,
        tail: &'static str,
    ) -> Batch {
        Batch {
            head,
            shared,
            row,
            joint,
            tail,
            texts: [const { OnceLock::new() }; SIZES],
        }
    }

    /// Runs the statement for all `rows` and answers how many rows of the table it changed. `shared` holds the values
    /// of `$1` to `$shared`. The rows of one call must have different keys (an upsert may not meet a row twice).
    pub async fn execute<const N: usize>(
        &self,
        txn: &mut dyn Txn,
        shared: &[Value],
        rows: Vec<[Value; N]>,
    ) -> Result<u64, Error> {
        let mut changed = 0;
        let mut rows = rows.into_iter();
        for group in groups(rows.len()) {
            let params = self.params(shared, rows.by_ref().take(group.len()));
            changed += txn.execute(self.text(group.len()), params).await?;
        }
        Ok(changed)
    }

    /// Runs the query for all `rows` and answers what it finds, in no order that holds across groups.
    pub async fn query<const N: usize>(
        &self,
        txn: &mut dyn Txn,
        shared: &[Value],
        rows: Vec<[Value; N]>,
    ) -> Result<Vec<Row>, Error> {
        let mut found = Vec::new();
        let mut rows = rows.into_iter();
        for group in groups(rows.len()) {
            let params = self.params(shared, rows.by_ref().take(group.len()));
            found.extend(txn.query(self.text(group.len()), params).await?);
        }
        Ok(found)
    }

    /// The text for a group of `rows` rows.
    ///
    /// # Panics
    /// When `rows` is not a size that [`groups`] yields.
    pub fn text(&self, rows: usize) -> &str {
        assert!(
            rows.is_power_of_two() && rows <= GROUP_ROWS_MAX,
            "{rows} is no size of a group"
        );
        self.texts[rows.ilog2() as usize].get_or_init(|| self.write_text(rows))
    }

    fn write_text(&self, rows: usize) -> String {
        let mut text = String::from(self.head);
        let mut number = self.shared;
        for row in 0..rows {
            if row > 0 {
                text.push_str(self.joint);
            }
            let mut parts = self.row.split('?');
            text.push_str(parts.next().unwrap_or_default());
            for part in parts {
                number += 1;
                write!(text, "${number}{part}").expect("a String takes whatever is written to it");
            }
        }
        text.push_str(self.tail);
        text
    }

    fn params<const N: usize>(
        &self,
        shared: &[Value],
        rows: impl Iterator<Item = [Value; N]>,
    ) -> Vec<Value> {
        debug_assert_eq!(
            shared.len(),
            self.shared,
            "as many shared values as the text names"
        );
        debug_assert_eq!(
            self.row.matches('?').count(),
            N,
            "as many values as the row names"
        );
        shared.iter().cloned().chain(rows.flatten()).collect()
    }
}

/// Splits `rows` rows into groups of a power of two each, largest first.
pub fn groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = rows - start;
        let size = 1 << left.min(GROUP_ROWS_MAX).checked_ilog2()?;
        let group = start..start + size;
        start = group.end;
        Some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_after_the_shared_parameters() {
        let put = Batch::new("INSERT INTO t (a, b) VALUES ", 1, "($1, ?)", " RETURNING a");
        assert_eq!(
            put.text(1),
            "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING a"
        );
        assert_eq!(
            put.text(2),
            "INSERT INTO t (a, b) VALUES ($1, $2), ($1, $3) RETURNING a"
        );
        let find = Batch::any_of("SELECT 1 FROM t WHERE ", 0, "(t.a = ? AND t.b = ?)", "");
        assert_eq!(
            find.text(2),
            "SELECT 1 FROM t WHERE (t.a = $1 AND t.b = $2) OR (t.a = $3 AND t.b = $4)"
        );
    }

    #[test]
    fn groups_cover_every_row_once_in_few_sizes() {
        for rows in 0..1_000 {
            let mut next = 0;
            for group in groups(rows) {
                assert_eq!(group.start, next);
                assert!(group.len().is_power_of_two() && group.len() <= GROUP_ROWS_MAX);
                next = group.end;
            }
            assert_eq!(next, rows);
        }
        assert_eq!(
            groups(100).map(|g| g.len()).collect::<Vec<_>>(),
            [64, 32, 4]
        );
    }
}
