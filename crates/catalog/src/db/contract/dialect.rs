//! The shared dialect (DESIGN 2.2): the statements and values that mean the same everywhere.

use super::{execute, number, query, rows, run};
use crate::db::GROUP_ROWS_MAX;
use crate::{Batch, Db, DbExt, Error, Value};

/// Runs everything in this file.
pub async fn check(db: &dyn Db) {
    parameters_are_taken_by_number(db).await;
    values_come_back_as_they_were(db).await;
    values_keep_their_type_whatever_they_look_like(db).await;
    null_parameters_take_the_type_of_their_cast(db).await;
    text_with_a_nul_character_is_refused(db).await;
    literals_are_not_rewritten(db).await;
    upserts_see_the_old_row_and_the_new(db).await;
    changed_rows_are_counted_and_returned(db).await;
    sums_are_cast(db).await;
    batches_of_any_size_write_and_find_their_rows(db).await;
    keys_of_bytes_are_paged_in_order(db).await;
    ranges_are_deleted_in_bounded_parts(db).await;
    wrong_statements_and_parameters_are_refused(db).await;
}

/// `$2, $1` is not `$1, $2`, and `$1` twice is one parameter.
pub async fn parameters_are_taken_by_number(db: &dyn Db) {
    let params = vec![1_i64.into(), 2_i64.into()];
    let sql = "SELECT CAST($2 AS BIGINT), CAST($1 AS BIGINT), CAST($2 AS BIGINT)";
    assert_eq!(
        rows(db, sql, params).await,
        [[Value::Int(2), Value::Int(1), Value::Int(2)]]
    );
}

/// Extremes of each type, and NULL.
pub async fn values_come_back_as_they_were(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE kept (id BIGINT PRIMARY KEY, n BIGINT, t TEXT, b BYTEA)",
        vec![],
    )
    .await;
    let block: Vec<u8> = (0..512 << 10)
        .map(|at: u32| at.to_le_bytes()[1] ^ 0xa5)
        .collect();
    let cases: [[Value; 3]; 5] = [
        [i64::MIN.into(), "".into(), Vec::new().into()],
        [
            i64::MAX.into(),
            "it's \"quoted\" \\ $1 ?1 --".into(),
            [0; 3].into(),
        ],
        [
            0_i64.into(),
            "Trockenmauer, 石垣, 🧱, e\u{301}".into(),
            [0xff, 0, 0xfe].into(),
        ],
        [Value::Null, Value::Null, Value::Null],
        [(-1_i64).into(), "\n\t\r".into(), block.into()],
    ];
    for (id, [n, t, b]) in (0_i64..).zip(cases) {
        let params = vec![id.into(), n.clone(), t.clone(), b.clone()];
        run(
            db,
            "INSERT INTO kept (id, n, t, b) VALUES ($1, $2, $3, $4)",
            params,
        )
        .await;
        let found = rows(
            db,
            "SELECT n, t, b FROM kept WHERE id = $1",
            vec![id.into()],
        )
        .await;
        assert!(found == [[n, t, b]], "row {id} came back otherwise");
    }
    let empty = "SELECT count(*) FROM kept WHERE t = '' AND b IS NOT NULL AND n IS NOT NULL";
    assert_eq!(number(db, empty).await, 1);
}

/// Digits in a text stay text; bytes that are UTF-8 stay bytes, also through a CAST.
pub async fn values_keep_their_type_whatever_they_look_like(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE alike (id BIGINT PRIMARY KEY, t TEXT, b BYTEA)",
        vec![],
    )
    .await;
    let params = vec!["0012".into(), b"0012".into()];
    run(
        db,
        "INSERT INTO alike (id, t, b) VALUES (1, $1, CAST($2 AS BYTEA))",
        params,
    )
    .await;
    let found = rows(
        db,
        "SELECT t, b FROM alike WHERE b = $1",
        vec![b"0012".into()],
    )
    .await;
    assert_eq!(found, [[Value::from("0012"), Value::from(b"0012")]]);
}

/// A parameter that may be NULL is cast, wherever it stands.
pub async fn null_parameters_take_the_type_of_their_cast(db: &dyn Db) {
    let sql = "SELECT COALESCE(CAST($1 AS BIGINT), 7), COALESCE(CAST($2 AS TEXT), 'none')";
    for _ in 0..2 {
        let nulls = rows(db, sql, vec![Value::Null, Value::Null]).await;
        assert_eq!(nulls, [[Value::Int(7), "none".into()]]);
        let some = rows(db, sql, vec![8_i64.into(), "some".into()]).await;
        assert_eq!(some, [[Value::Int(8), "some".into()]]);
    }
}

/// PostgreSQL cannot keep it.
pub async fn text_with_a_nul_character_is_refused(db: &dyn Db) {
    let refused = query(db, "SELECT CAST($1 AS TEXT)", vec!["a\0b".into()]).await;
    assert!(
        matches!(refused, Err(Error::Statement { .. })),
        "{refused:?}"
    );
}

/// What looks like a parameter or a type inside a literal is neither.
pub async fn literals_are_not_rewritten(db: &dyn Db) {
    let sql = "SELECT '$1 it''s BYTEA', CAST($1 AS BIGINT) -- $2";
    let found = rows(db, sql, vec![5_i64.into()]).await;
    assert_eq!(found, [[Value::from("$1 it's BYTEA"), Value::Int(5)]]);
}

/// The old row by the table's name, the new one by `excluded`.
pub async fn upserts_see_the_old_row_and_the_new(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE tally (k BYTEA PRIMARY KEY, n BIGINT NOT NULL)",
        vec![],
    )
    .await;
    let add = "INSERT INTO tally (k, n) VALUES ($1, $2), ($3, $2) \
               ON CONFLICT (k) DO UPDATE SET n = tally.n + excluded.n WHERE tally.n < 100";
    let params = || vec![b"a".into(), 60_i64.into(), b"b".into()];
    assert_eq!(run(db, add, params()).await, 2);
    assert_eq!(run(db, add, params()).await, 2);
    assert_eq!(
        run(db, add, params()).await,
        0,
        "the condition of an upsert holds rows back"
    );
    let keep = "INSERT INTO tally (k, n) VALUES ($1, 0) ON CONFLICT (k) DO NOTHING";
    assert_eq!(run(db, keep, vec![b"a".into()]).await, 0);
    assert_eq!(run(db, keep, vec![b"c".into()]).await, 1);
    let found = rows(db, "SELECT n FROM tally ORDER BY k", vec![]).await;
    assert_eq!(
        found,
        [[Value::Int(120)], [Value::Int(120)], [Value::Int(0)]]
    );
}

/// By execute, and by query with RETURNING.
pub async fn changed_rows_are_counted_and_returned(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE counted (id BIGINT PRIMARY KEY, n BIGINT)",
        vec![],
    )
    .await;
    let insert = "INSERT INTO counted (id, n) VALUES (1, 10), (2, 20), (3, 30)";
    assert_eq!(run(db, insert, vec![]).await, 3);
    let update = "UPDATE counted SET n = n + 1 WHERE id >= $1";
    assert_eq!(run(db, update, vec![2_i64.into()]).await, 2);
    assert_eq!(run(db, update, vec![9_i64.into()]).await, 0);
    let returned: Vec<Value> = db
        .transact(|txn| {
            Box::pin(async {
                let sql = "DELETE FROM counted WHERE id = 2 RETURNING n, id";
                Ok(txn.query(sql, vec![]).await?.remove(0).0)
            })
        })
        .await
        .expect("RETURNING is a query");
    assert_eq!(returned, [Value::Int(21), Value::Int(2)]);
    assert_eq!(run(db, "DELETE FROM counted", vec![]).await, 2);
}

/// PostgreSQL's SUM of BIGINT is NUMERIC, and of no rows NULL.
pub async fn sums_are_cast(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE summed (id BIGINT PRIMARY KEY, n BIGINT)",
        vec![],
    )
    .await;
    let sum = "SELECT CAST(SUM(summed.n) AS BIGINT), count(*) FROM summed";
    assert_eq!(rows(db, sum, vec![]).await, [[Value::Null, Value::Int(0)]]);
    let large = i64::from(u32::MAX) << 20;
    let params = vec![large.into(), (large + 1).into()];
    run(
        db,
        "INSERT INTO summed (id, n) VALUES (1, $1), (2, $2)",
        params,
    )
    .await;
    assert_eq!(
        rows(db, sum, vec![]).await,
        [[Value::Int(2 * large + 1), Value::Int(2)]]
    );
}

/// Multi-row statements through [`Batch`].
pub async fn batches_of_any_size_write_and_find_their_rows(db: &dyn Db) {
    static PUT: Batch = Batch::new(
        "INSERT INTO batched (owner, id, name) VALUES ",
        1,
        "($1, ?, ?)",
        " ON CONFLICT (owner, id) DO UPDATE SET name = excluded.name",
    );
    static FIND: Batch = Batch::new(
        "SELECT b.id FROM batched b WHERE b.owner = $1 AND b.id IN (",
        1,
        "?",
        ")",
    );
    static FIND_BOTH: Batch = Batch::any_of(
        "SELECT b.id FROM batched b WHERE ",
        0,
        "(b.id = ? AND b.name = ?)",
        "",
    );
    let create = "CREATE TABLE batched (owner TEXT NOT NULL, id BIGINT NOT NULL, name BYTEA, \
                  PRIMARY KEY (owner, id))";
    run(db, create, vec![]).await;
    for size in [0, 1, 2, 3, 31, GROUP_ROWS_MAX, 2 * GROUP_ROWS_MAX + 5] {
        let (written, found, found_both) = db
            .transact(move |txn| {
                Box::pin(async move {
                    let owner = [Value::from(format!("owner {size}"))];
                    let entries = (0_i64..).take(size);
                    let named = |id: i64| [Value::Int(id), id.to_be_bytes().into()];
                    let written = PUT.execute(txn, &owner, entries.clone().map(named).collect());
                    let written = written.await?;
                    let ids = entries.clone().map(|id| [Value::Int(2 * id)]).collect();
                    let found = FIND.query(txn, &owner, ids).await?.len();
                    let pairs = entries.filter(|id| id % 3 == 0).map(named).collect();
                    Ok((
                        written,
                        found,
                        FIND_BOTH.query(txn, &[], pairs).await?.len(),
                    ))
                })
            })
            .await
            .expect("batches are statements of the dialect");
        assert_eq!(written, size as u64);
        assert_eq!(found, size.div_ceil(2), "of {size}");
        assert!(found_both >= size.div_ceil(3), "of {size}");
    }
}

/// Bytes are ordered as unsigned, a prefix before what it begins.
pub async fn keys_of_bytes_are_paged_in_order(db: &dyn Db) {
    run(db, "CREATE TABLE paged (k BYTEA PRIMARY KEY)", vec![]).await;
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|first| vec![first, 7]).collect();
    keys.extend([
        vec![],
        vec![0],
        vec![128],
        vec![255],
        vec![128, 0],
        vec![128, 255, 255],
    ]);
    for key in &keys {
        run(
            db,
            "INSERT INTO paged (k) VALUES ($1)",
            vec![key.clone().into()],
        )
        .await;
    }
    keys.sort();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let after: Option<Vec<u8>> = seen.last().cloned();
        let sql = "SELECT p.k FROM paged p WHERE CAST($1 AS BYTEA) IS NULL OR p.k > $1 \
                   ORDER BY p.k LIMIT $2";
        let page = query(db, sql, vec![after.into(), 100_i64.into()])
            .await
            .expect("a page");
        if page.is_empty() {
            break;
        }
        seen.extend(
            page.iter()
                .map(|row| row.bytes(0, "paged").expect("a key").to_vec()),
        );
    }
    assert_eq!(seen, keys);
}

/// Instead of DELETE with LIMIT, which PostgreSQL does not have.
pub async fn ranges_are_deleted_in_bounded_parts(db: &dyn Db) {
    let create = "CREATE TABLE ranged (a BIGINT NOT NULL, b BIGINT NOT NULL, PRIMARY KEY (a, b))";
    run(db, create, vec![]).await;
    for b in 0_i64..10 {
        let params = vec![b.into()];
        run(
            db,
            "INSERT INTO ranged (a, b) VALUES (1, $1), (2, $1)",
            params,
        )
        .await;
    }
    let delete = "DELETE FROM ranged WHERE ranged.a = $1 AND ranged.b IN \
                  (SELECT r.b FROM ranged r WHERE r.a = $1 ORDER BY r.b LIMIT $2)";
    for expected in [4, 4, 2, 0] {
        assert_eq!(
            run(db, delete, vec![1_i64.into(), 4_i64.into()]).await,
            expected
        );
    }
    assert_eq!(number(db, "SELECT count(*) FROM ranged").await, 10);
}

/// Bugs are told apart from failures, and nothing of them stays.
pub async fn wrong_statements_and_parameters_are_refused(db: &dyn Db) {
    run(
        db,
        "CREATE TABLE strict (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)",
        vec![],
    )
    .await;
    let insert = "INSERT INTO strict (id, n) VALUES ($1, $2)";
    run(db, insert, vec![1_i64.into(), 1_i64.into()]).await;
    for (sql, params) in [
        ("SELECT FROM WHERE", vec![]),
        ("INSERT INTO no_such_table (id) VALUES (1)", vec![]),
        (insert, vec![2_i64.into()]),
        (insert, vec![2_i64.into(), 2_i64.into(), 2_i64.into()]),
        (insert, vec![1_i64.into(), 2_i64.into()]),
        (insert, vec![2_i64.into(), Value::Null]),
    ] {
        let refused = execute(db, sql, params).await;
        assert!(
            matches!(refused, Err(Error::Statement { .. })),
            "{sql}: {refused:?}"
        );
    }
    assert_eq!(
        number(db, "SELECT CAST(SUM(s.id + s.n) AS BIGINT) FROM strict s").await,
        2
    );
}
