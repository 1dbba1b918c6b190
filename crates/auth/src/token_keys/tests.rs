//! Rotation against a real catalog and a clock that the tests move.

use super::*;
use catalog::db::{Sqlite, SqliteOptions};
use catalog::schema;
use std::num::NonZeroUsize;
use tempfile::TempDir;
use types::TestClock;

const START: UnixMillis = 1_790_000_000_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Fixture {
    directory: TempDir,
    db: Arc<dyn Db>,
    clock: Arc<TestClock>,
    random: Random,
}

impl Fixture {
    async fn new() -> Fixture {
        let directory = TempDir::new().unwrap();
        let options = SqliteOptions {
            path: directory.path().join("catalog.db"),
            readers: NonZeroUsize::MIN,
            cache_bytes: 1 << 20,
        };
        let db: Arc<dyn Db> = Arc::new(Sqlite::open(&options).unwrap());
        schema::migrate(db.as_ref(), [1; 16], START).await.unwrap();
        Fixture {
            directory,
            db,
            clock: Arc::new(TestClock::at(START)),
            random: Random::seeded(5),
        }
    }

    fn root_key(&self, name: &str) -> Arc<RootKey> {
        let path = self.directory.path().join(name);
        Arc::new(RootKey::load_or_create(&path, &self.random).unwrap())
    }

    async fn load(&self, root_key: &str) -> TokenKeys {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let db = Arc::clone(&self.db);
        TokenKeys::load(db, self.root_key(root_key), clock, self.random.clone())
            .await
            .unwrap()
    }

    async fn records(&self) -> Vec<TokenKeyRecord> {
        self.db
            .view(|txn| Box::pin(token_keys::token_keys(txn)))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn the_first_key_is_made_and_survives_a_restart() {
    let fixture = Fixture::new().await;
    let first = fixture.load("root.key").await.current();
    let again = fixture.load("root.key").await.current();
    assert_eq!(first.id(), again.id());
    assert_eq!(first.derive(&[b"salt"]), again.derive(&[b"salt"]));
    assert_ne!(first.derive(&[b"salt"]), first.derive(&[b"other"]));
    assert_eq!(first.derive(&[b"sa", b"lt"]), first.derive(&[b"salt"]));
    assert_eq!(fixture.records().await.len(), 1);
}

#[tokio::test]
async fn a_key_seals_for_a_day_and_opens_until_its_last_token_has_expired() {
    let fixture = Fixture::new().await;
    let keys = fixture.load("root.key").await;
    let first = keys.current().id();
    fixture.clock.advance(ROTATION - Duration::from_millis(1));
    keys.rotate_if_due().await.unwrap();
    assert_eq!(keys.current().id(), first);

    // Five days without a rotation: the old key seals on, and its life counts from the successor.
    fixture.clock.advance(5 * DAY);
    keys.rotate_if_due().await.unwrap();
    let second = keys.current().id();
    assert_ne!(second, first);

    fixture.clock.advance(BLOCK_TOKEN_LIFE + MARGIN);
    keys.rotate_if_due().await.unwrap();
    assert!(keys.by_id(first).is_some() && keys.by_id(second).is_some());
    fixture.clock.advance(Duration::from_millis(1));
    keys.rotate_if_due().await.unwrap();
    assert!(
        keys.by_id(first).is_none(),
        "every token of the first key has expired"
    );
    assert!(keys.by_id(second).is_some());
    assert!(
        fixture
            .records()
            .await
            .iter()
            .all(|record| short(record.key_no) != first)
    );
}

#[tokio::test]
async fn a_clock_that_stood_in_the_future_does_not_stop_rotation() {
    let fixture = Fixture::new().await;
    fixture.clock.step_to(START + millis(4_000 * DAY));
    let keys = fixture.load("root.key").await;
    let from_the_future = keys.current().id();
    fixture.clock.step_to(START);
    keys.rotate_if_due().await.unwrap();
    assert_ne!(keys.current().id(), from_the_future);
    assert!(
        keys.by_id(from_the_future).is_some(),
        "its tokens still open"
    );
}

#[tokio::test]
async fn a_key_of_another_root_key_is_passed_over_and_replaced() {
    let fixture = Fixture::new().await;
    let lost = fixture.load("root.key").await.current().id();
    let keys = fixture.load("other.key").await;
    assert_ne!(keys.current().id(), lost);
    assert!(keys.by_id(lost).is_none());
    assert_eq!(keys.unreadable(), 1);
}

#[tokio::test]
async fn secrets_do_not_show_in_debug_or_in_the_catalog() {
    let fixture = Fixture::new().await;
    let keys = fixture.load("root.key").await;
    let key = keys.current();
    assert_eq!(format!("{key:?}"), "TokenKey(1, hidden)");
    assert_eq!(
        format!("{keys:?}"),
        "TokenKeys { keys: [TokenKey(1, hidden)], .. }"
    );
    let sealed = &fixture.records().await[0].sealed;
    assert!(
        !sealed
            .windows(KEY_BYTES)
            .any(|window| window == key.key.as_slice())
    );
}

#[test]
fn ids_are_the_low_24_bits() {
    assert_eq!(short(1), 1);
    assert_eq!(short(0x0123_4567), 0x0023_4567);
}
