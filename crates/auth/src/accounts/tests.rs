//! The key store on a real catalog, and on one that fails.

use super::*;
use catalog::db::{Outcome, Sqlite, SqliteOptions, Work};
use catalog::schema;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use types::TestClock;

/// What a [`Faulty`] catalog does.
const WORKS: u8 = 0;
const WRITES_FAIL: u8 = 1;
const COMMITS_ARE_UNKNOWN: u8 = 2;
const ALL_FAILS: u8 = 3;

/// A catalog that fails on demand.
struct Faulty {
    inner: Sqlite,
    mode: AtomicU8,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Outcome, catalog::Error>> + Send + 'a>>;

impl Db for Faulty {
    fn write(&self, work: Work) -> Answer<'_> {
        Box::pin(async move {
            let reason = "a test".to_owned();
            match self.mode.load(Ordering::Relaxed) {
                WORKS => self.inner.write(work).await,
                COMMITS_ARE_UNKNOWN => {
                    self.inner.write(work).await?;
                    Err(catalog::Error::CommitUnknown { reason })
                }
                _ => Err(catalog::Error::Unavailable { reason }),
            }
        })
    }

    fn read(&self, work: Work) -> Answer<'_> {
        Box::pin(async move {
            match self.mode.load(Ordering::Relaxed) {
                ALL_FAILS => Err(catalog::Error::Unavailable {
                    reason: "a test".to_owned(),
                }),
                _ => self.inner.read(work).await,
            }
        })
    }
}

struct World {
    directory: tempfile::TempDir,
    db: Arc<Faulty>,
    clock: Arc<TestClock>,
}

impl World {
    async fn new() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = Sqlite::open(&SqliteOptions {
            path: directory.path().join("catalog.db"),
            readers: NonZeroUsize::MIN,
            cache_bytes: 1 << 20,
        })
        .expect("a catalog");
        schema::migrate(&inner, [7; 16], 0)
            .await
            .expect("the schema");
        let db = Arc::new(Faulty {
            inner,
            mode: AtomicU8::new(WORKS),
        });
        World {
            directory,
            db,
            clock: Arc::new(TestClock::at(1_000)),
        }
    }

    async fn open(&self, seed: u64) -> Result<KeyStore, KeyStoreError> {
        self.open_with("root.key", seed).await
    }

    async fn open_with(&self, root_key: &str, seed: u64) -> Result<KeyStore, KeyStoreError> {
        let random = Random::seeded(seed);
        let path = self.directory.path().join(root_key);
        let options = KeyStoreOptions {
            db: Arc::clone(&self.db) as Arc<dyn Db>,
            root_key: RootKey::load_or_create(&path, &random).expect("a root key"),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random,
        };
        KeyStore::open(options).await
    }

    fn fail(&self, mode: u8) {
        self.db.mode.store(mode, Ordering::Relaxed);
    }
}

fn state(store: &KeyStore, id: &AccessKeyId) -> Option<KeyState> {
    store.lookup(id).map(|credential| credential.state)
}

#[tokio::test]
async fn keys_survive_a_restart() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    assert!(store.is_empty());
    let account = store.create_account().await.expect("an account");
    assert_eq!(store.accounts().await.expect("accounts"), [account]);
    let one = store.create_key(account).await.expect("a key");
    world.clock.step_to(2_000);
    let two = store.create_key(account).await.expect("another key");
    store.disable(&two.id).await.expect("disabled");
    assert_ne!(one.id, two.id);

    let store = world.open(2).await.expect("the same store");
    assert!(!store.is_empty());
    let credential = store.lookup(&one.id).expect("the key");
    assert_eq!(credential.secret.expose(), one.secret.expose());
    assert_eq!(
        (credential.account, credential.state),
        (account, KeyState::Active)
    );
    assert_eq!(state(&store, &two.id), Some(KeyState::Disabled));
    let summary = |key: &NewKey, state, created_at| KeySummary {
        id: key.id.clone(),
        account,
        state,
        created_at,
    };
    let expected = [
        summary(&one, KeyState::Active, 1_000),
        summary(&two, KeyState::Disabled, 2_000),
    ];
    assert_eq!(store.list().await.expect("a list"), expected);
}

#[tokio::test]
async fn secrets_stand_sealed_in_the_catalog() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let account = store.create_account().await.expect("an account");
    let key = store.create_key(account).await.expect("a key");
    let printed = format!("{key:?} {:?} {store:?}", store.lookup(&key.id));
    assert!(!printed.contains(key.secret.expose()), "{printed}");
    drop(store);
    for entry in std::fs::read_dir(&world.directory).expect("a listing") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let secret = key.secret.expose().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[tokio::test]
async fn changes_take_effect_at_once() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let account = store.create_account().await.expect("an account");
    let id = store.create_key(account).await.expect("a key").id;
    assert_eq!(state(&store, &id), Some(KeyState::Active));
    for _ in 0..2 {
        store.disable(&id).await.expect("disabled");
        assert_eq!(state(&store, &id), Some(KeyState::Disabled));
    }
    for _ in 0..2 {
        store.enable(&id).await.expect("enabled");
        assert_eq!(state(&store, &id), Some(KeyState::Active));
    }
    store.delete(&id).await.expect("deleted");
    assert_eq!(state(&store, &id), None);
    assert_eq!(store.list().await.expect("a list"), []);
    for result in [
        store.disable(&id).await,
        store.enable(&id).await,
        store.delete(&id).await,
    ] {
        let error = result.expect_err("there is no such key");
        assert!(
            matches!(&error, KeyStoreError::UnknownKey { id: named } if *named == id),
            "{error}"
        );
    }
    assert_eq!(state(&store, &id), None);
}

#[tokio::test]
async fn a_key_needs_an_account() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let stranger = AccountId::from_random(9);
    let error = store
        .create_key(stranger)
        .await
        .expect_err("no such account");
    assert!(matches!(error, KeyStoreError::UnknownAccount { account } if account == stranger));
    assert!(store.is_empty());
}

#[tokio::test]
async fn ids_that_are_taken_are_drawn_again() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let account = store.create_account().await.expect("an account");
    // A seed repeats its draws, so the second store's first account and key are taken already.
    let again = world.open(1).await.expect("a store that draws the same");
    assert_ne!(again.create_account().await.expect("an account"), account);
}

#[tokio::test]
async fn keys_of_another_root_key_are_passed_over() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let account = store.create_account().await.expect("an account");
    let id = store.create_key(account).await.expect("a key").id;
    assert_eq!(store.unreadable(), []);

    let store = world
        .open_with("other.key", 2)
        .await
        .expect("a store without its keys");
    assert_eq!(store.unreadable(), std::slice::from_ref(&id));
    assert!(!store.is_empty());
    assert_eq!(state(&store, &id), None);
    let error = store
        .enable(&id)
        .await
        .expect_err("the secret does not open");
    assert!(
        matches!(&error, KeyStoreError::Sealed { id: named, .. } if *named == id),
        "{error}"
    );
    let fresh = store.create_key(account).await.expect("a new key").id;
    assert_eq!(state(&store, &fresh), Some(KeyState::Active));
    store.delete(&id).await.expect("deleted");
}

#[tokio::test]
async fn a_sealed_secret_belongs_to_its_account() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let (one, two) = (store.create_account().await, store.create_account().await);
    let (one, two) = (one.expect("an account"), two.expect("another account"));
    let id = store.create_key(one).await.expect("a key").id;
    let moved = world.db.transact(move |txn| {
        Box::pin(async move {
            let sql = "UPDATE access_keys SET account = $1";
            txn.execute(sql, vec![two.number().try_into()?]).await
        })
    });
    assert_eq!(moved.await.expect("moved"), 1);
    let store = world.open(1).await.expect("a store without this key");
    assert_eq!(store.unreadable(), [id]);
}

#[tokio::test]
async fn memory_follows_the_catalog_after_an_error() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let account = store.create_account().await.expect("an account");
    let id = store.create_key(account).await.expect("a key").id;

    world.fail(WRITES_FAIL);
    store.disable(&id).await.expect_err("not disabled");
    assert_eq!(state(&store, &id), Some(KeyState::Active));
    store.delete(&id).await.expect_err("not deleted");
    assert_eq!(state(&store, &id), Some(KeyState::Active));
    store.create_key(account).await.expect_err("not made");

    world.fail(COMMITS_ARE_UNKNOWN);
    store.disable(&id).await.expect_err("perhaps disabled");
    assert_eq!(state(&store, &id), Some(KeyState::Disabled));
    store.enable(&id).await.expect_err("perhaps enabled");
    assert_eq!(state(&store, &id), Some(KeyState::Active));

    world.fail(ALL_FAILS);
    store.disable(&id).await.expect_err("nobody knows");
    assert_eq!(
        state(&store, &id),
        Some(KeyState::Disabled),
        "the weaker state"
    );
    store.delete(&id).await.expect_err("nobody knows");
    assert_eq!(state(&store, &id), None, "the weaker state");
    store.enable(&id).await.expect_err("nobody knows");
    assert_eq!(state(&store, &id), None, "the weaker state");

    world.fail(WORKS);
    store.enable(&id).await.expect("enabled");
    assert_eq!(state(&store, &id), Some(KeyState::Active));
}

#[tokio::test]
async fn the_number_of_keys_is_bounded() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let account = store.create_account().await.expect("an account");
    let secret = SecretKey::new("secret".to_owned());
    for number in 0..ACCESS_KEYS_MAX {
        let id = AccessKeyId::parse(&format!("AKIA{number}")).expect("an id");
        let state = KeyState::Disabled;
        store.set(
            &id,
            Some(Credential {
                account,
                secret: secret.clone(),
                state,
            }),
        );
    }
    let error = store.create_key(account).await.expect_err("one too many");
    assert!(
        matches!(error, KeyStoreError::TooManyKeys { limit: 10_000 }),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_that_is_known_is_restored() {
    let world = World::new().await;
    let store = world.open(1).await.expect("a store");
    let account = store.create_account().await.expect("an account");
    let key = store.create_key(account).await.expect("a key");
    // Another root key: the record is there, and does not open.
    let store = world.open_with("other.key", 2).await.expect("a store");
    assert_eq!(store.unreadable(), std::slice::from_ref(&key.id));
    let restored = store.restore_key(&key.id, &key.secret, account).await;
    restored.expect("restored");
    let credential = store.lookup(&key.id).expect("the key");
    assert_eq!(credential.secret.expose(), key.secret.expose());

    let elsewhere = AccountId::from_random(9);
    let id = AccessKeyId::parse("AKIAELSEWHERE").expect("an id");
    let restored = store.restore_key(&id, &key.secret, elsewhere).await;
    restored.expect("restored, with its account");
    let store = world.open_with("other.key", 3).await.expect("a store");
    assert!(store.unreadable().is_empty());
    assert_eq!(state(&store, &key.id), Some(KeyState::Active));
    assert_eq!(store.lookup(&id).expect("the key").account, elsewhere);
}
