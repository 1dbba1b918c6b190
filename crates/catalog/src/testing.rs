//! Fresh databases of every backend, for tests of this crate and of those above it.
//!
//! Tests of records run on each backend, which keeps the shared dialect honest: [`each_backend`]. The PostgreSQL server is
//! Debian's, started once for each test process and ended with it (`testing/postgres_server.rs`). Where none is installed those
//! halves of the tests are left out and say so, except when the environment variable CI is set.

#[cfg(feature = "postgres")]
mod postgres_server;

use crate::Db;
use crate::db::{Sqlite, SqliteOptions};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Runs `test` on an empty database of each backend in turn; the output names the one that failed.
pub async fn each_backend<F, Tested>(test: F)
where
    F: Fn(Arc<dyn Db>) -> Tested,
    Tested: Future<Output = ()>,
{
    eprintln!("backend: SQLite");
    let sqlite = FreshSqlite::new();
    test(sqlite.db()).await;
    drop(sqlite);
    if let Some(postgres) = fresh_postgres().await {
        eprintln!("backend: PostgreSQL");
        test(postgres).await;
    }
}

/// An empty SQLite database in a directory of its own, which goes when this goes.
pub struct FreshSqlite {
    db: Arc<Sqlite>,
    // After `db`, so that the files are closed when the directory is removed.
    directory: TempDir,
}

impl FreshSqlite {
    /// Creates one.
    ///
    /// # Panics
    /// When there is no place for temporary files.
    pub fn new() -> FreshSqlite {
        let directory = tempfile::tempdir().expect("a place for temporary files");
        let db = Sqlite::open(&sqlite_options(&directory.path().join("catalog.db")));
        FreshSqlite {
            db: Arc::new(db.expect("an empty directory takes a database")),
            directory,
        }
    }

    /// The database.
    pub fn db(&self) -> Arc<dyn Db> {
        Arc::clone(&self.db) as Arc<dyn Db>
    }

    /// The database as what it is.
    pub fn sqlite(&self) -> &Arc<Sqlite> {
        &self.db
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Default for FreshSqlite {
    fn default() -> Self {
        Self::new()
    }
}

/// Small and with few threads, as fits a test.
pub fn sqlite_options(path: &Path) -> SqliteOptions {
    SqliteOptions {
        path: path.to_owned(),
        readers: NonZeroUsize::new(2).expect("two is not zero"),
        cache_bytes: 8 << 20,
    }
}

/// An empty PostgreSQL database, or nothing where PostgreSQL (or its feature) is not installed.
///
/// # Panics
/// When it is installed and does not start, or is missing although CI is set.
pub async fn fresh_postgres() -> Option<Arc<dyn Db>> {
    #[cfg(feature = "postgres")]
    {
        let config = fresh_postgres_config()?;
        let options = crate::db::PostgresOptions {
            config,
            connections: NonZeroUsize::new(6).expect("six is not zero"),
            random: types::Random::seeded(0),
        };
        let postgres = crate::db::Postgres::connect(&options).await;
        Some(Arc::new(
            postgres.expect("the server for tests takes connections"),
        ))
    }
    #[cfg(not(feature = "postgres"))]
    None
}

/// The connection string of an empty PostgreSQL database; see [`fresh_postgres`].
#[cfg(feature = "postgres")]
pub fn fresh_postgres_config() -> Option<String> {
    postgres_server::fresh_database()
}
