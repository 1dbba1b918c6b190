//! What the tests of this crate stand on: real token keys in a catalog of their own, and a clock that they move.

use auth::{RootKey, TokenKeys};
use catalog::Db;
use catalog::db::{Sqlite, SqliteOptions};
use std::num::NonZeroUsize;
use std::sync::Arc;
use tempfile::TempDir;
use types::{Clock, Random, TestClock, UnixMillis};

/// When every test begins: 2026-09-25 11:57:20.570 UTC.
pub(crate) const START: UnixMillis = 1_790_337_440_570;

/// Token keys, and what they need.
pub(crate) struct Keyring {
    pub(crate) keys: TokenKeys,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) random: Random,
    _directory: TempDir,
}

/// A keyring with one key, made at [`START`].
pub(crate) async fn keyring() -> Keyring {
    let (db, directory) = empty_catalog().await;
    let random = Random::seeded(11);
    let clock = Arc::new(TestClock::at(START));
    let path = directory.path().join("root.key");
    let root_key = Arc::new(RootKey::load_or_create(&path, &random).unwrap());
    let keys_clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let keys = TokenKeys::load(db, root_key, keys_clock, random.clone())
        .await
        .unwrap();
    Keyring {
        keys,
        clock,
        random,
        _directory: directory,
    }
}

/// A catalog with its tables and nothing in them.
pub(crate) async fn empty_catalog() -> (Arc<dyn Db>, TempDir) {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions {
        path: directory.path().join("catalog.db"),
        readers: NonZeroUsize::MIN,
        cache_bytes: 1 << 20,
    };
    let db: Arc<dyn Db> = Arc::new(Sqlite::open(&options).unwrap());
    catalog::schema::migrate(db.as_ref(), [1; 16], START)
        .await
        .unwrap();
    (db, directory)
}
