//! What an audit reads, and that damaged chunks can be made good, on each backend.

use super::*;
use crate::chunks::{ChunkRecord, ChunkState};
use crate::client_tokens::{self, ClientTokenRecord};
use crate::snapshots::{Finished, SnapshotRecord, State};
use crate::tags::{self, TagRecord};
use crate::testing::each_backend;
use crate::{Db, DbExt, chunks, containers, put_entries, schema, snapshots};
use std::sync::Arc;
use types::{ChunkName, Digest, Domain, VolumeSize};

fn id(number: u64) -> SnapshotId {
    SnapshotId::from_number(number).unwrap()
}

fn place(container: u64, offset: u64, length: u32) -> Location {
    Location {
        container,
        offset,
        length,
    }
}

fn account() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

fn snapshot() -> SnapshotRecord {
    SnapshotRecord {
        id: id(1),
        account: account(),
        domain: Domain::STORE,
        state: State::Open,
        volume_size: VolumeSize::from_gib(1).unwrap(),
        parent: None,
        lineage: id(1),
        base_root: Digest::of(b"base"),
        base_count: 0,
        description: None,
        start_time: 0,
        timeout_minutes: 60,
        idle_ms: 0,
        touched: false,
        progress: None,
        promise: None,
        status_message: None,
        finished: None,
    }
}

fn chunk(number: u8, location: Location) -> ChunkRecord {
    ChunkRecord {
        domain: Domain::STORE,
        name: ChunkName::plain(Digest::of(&[number])),
        kind: 1,
        state: ChunkState::Live,
        location,
        stored_bytes: 1,
        codec: 0,
        data_key: 0,
        epoch: 1,
    }
}

async fn check(txn: &mut dyn Txn) -> Result<(), Error> {
    snapshots::insert(txn, &snapshot()).await?;
    let finished = Finished {
        root: Digest::of(b"root"),
        own_count: 1,
        full_count: 1,
        completion_time: 1,
        frame: place(2, 0, 100),
    };
    snapshots::finish(txn, id(1), &finished).await?;
    let records = [
        chunk(1, place(1, 0, u32::MAX)),
        chunk(2, place(1, 4_096, u32::MAX)),
        chunk(3, place(2, 4_096, 10)),
        chunk(4, place(3, 0, 5)),
    ];
    chunks::put(txn, &records).await?;
    let named = named_bytes(txn, &[1, 2, 4]).await?;
    let expected = [(1, 2 * u64::from(u32::MAX)), (2, 110)];
    assert_eq!(named, HashMap::from(expected));
    assert_eq!(named_bytes(txn, &[]).await?, HashMap::new());

    let frees = [place(1, 7, 1), place(1, 9, 2), place(2, 0, 3)];
    containers::insert_frees(txn, &frees).await?;
    assert_eq!(frees_after(txn, None, 2).await?, frees[..2]);
    assert_eq!(frees_after(txn, Some((1, 7)), 9).await?, frees[1..]);
    assert_eq!(frees_after(txn, Some((2, 0)), 9).await?, []);
    assert!(is_to_be_freed(txn, place(1, 9, 2)).await?);
    assert!(!is_to_be_freed(txn, place(1, 8, 2)).await?);

    assert!(!is_to_be_purged(txn, id(1)).await?);
    put_entries::insert_purge(txn, id(1)).await?;
    assert!(is_to_be_purged(txn, id(1)).await?);

    let location = records[0].location;
    let key = records[0].key();
    assert!(
        !chunks::mark_sound(txn, key, location).await?,
        "it is not damaged"
    );
    assert!(chunks::mark_damaged(txn, key, location).await?);
    assert!(
        !chunks::mark_sound(txn, key, place(1, 1, 1)).await?,
        "it is elsewhere"
    );
    assert!(chunks::mark_sound(txn, key, location).await?);
    assert_eq!(chunks::find(txn, &[key]).await?[&key], records[0]);
    check_holders(txn).await
}

async fn check_holders(txn: &mut dyn Txn) -> Result<(), Error> {
    let tag = |key: &str| TagRecord {
        key: key.to_owned(),
        value: String::new(),
    };
    tags::put(txn, account(), id(1), &[tag("a"), tag("b\0")]).await?;
    tags::put(txn, account(), id(2), &[tag("a")]).await?;
    let held = |snapshot, key: &[u8], held| HeldTag {
        account: account(),
        snapshot: id(snapshot),
        key: key.to_vec(),
        held,
    };
    let expected = [
        held(1, b"a", true),
        held(1, b"b\0", true),
        held(2, b"a", false),
    ];
    assert_eq!(tags_after(txn, None, 2).await?, expected[..2]);
    assert_eq!(tags_after(txn, Some(&expected[1]), 2).await?, expected[2..]);
    assert_eq!(tags_after(txn, Some(&expected[2]), 2).await?, []);

    for (token, snapshot) in [("x", 2), ("y", 1)] {
        let record = ClientTokenRecord {
            account: account(),
            token: token.to_owned(),
            fingerprint: Digest::of(b""),
            snapshot: id(snapshot),
            start_time: 7,
        };
        client_tokens::insert(txn, &record).await?;
    }
    let held = |token: &[u8], snapshot, held| HeldToken {
        account: account(),
        token: token.to_vec(),
        snapshot: id(snapshot),
        start_time: 7,
        held,
    };
    let expected = [held(b"x", 2, false), held(b"y", 1, true)];
    assert_eq!(tokens_after(txn, None, 9).await?, expected);
    assert_eq!(
        tokens_after(txn, Some(&expected[0]), 9).await?,
        expected[1..]
    );
    Ok(())
}

#[tokio::test]
async fn an_audit_reads_what_is_there_on_each_backend() {
    each_backend(|db: Arc<dyn Db>| async move {
        schema::migrate(&*db, [7; 16], 1_000).await.unwrap();
        let checked = db.transact(|txn| Box::pin(check(txn)));
        checked.await.unwrap();
    })
    .await;
}
