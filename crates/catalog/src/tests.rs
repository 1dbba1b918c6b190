//! The records, on each backend.

use crate::accounts::AccessKeyRecord;
use crate::chunks::{ChunkRecord, ChunkState};
use crate::client_tokens::ClientTokenRecord;
use crate::containers::ContainerRecord;
use crate::put_entries::PutEntry;
use crate::snapshots::{Finished, Promise, SnapshotRecord, State};
use crate::tags::TagRecord;
use crate::testing::each_backend;
use crate::token_keys::TokenKeyRecord;
use crate::usage::UsageRecord;
use crate::{
    Db, DbExt, Error, Location, Txn, accounts, chunks, client_tokens, containers, meta,
    put_entries, schema, snapshots, tags, token_keys, usage,
};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use types::{AccountId, BlockIndex, ChunkName, Digest, Domain, SnapshotId, VolumeSize};

/// Runs the body in one transaction on a migrated database of each backend.
async fn on_each<F>(body: F)
where
    F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<(), Error>> + Send + Sync + 'static,
{
    let body = Arc::new(body);
    each_backend(|db: Arc<dyn Db>| {
        let body = Arc::clone(&body);
        async move {
            schema::migrate(&*db, [7; 16], 1_000).await.unwrap();
            db.transact(move |txn| {
                let body = Arc::clone(&body);
                Box::pin(async move { body(txn).await })
            })
            .await
            .unwrap();
        }
    })
    .await;
}

fn account() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

fn id(number: u64) -> SnapshotId {
    SnapshotId::from_number(number).unwrap()
}

fn index(number: u32) -> BlockIndex {
    BlockIndex::new(number).unwrap()
}

fn location(offset: u64) -> Location {
    Location {
        container: u64::MAX >> 1,
        offset,
        length: u32::MAX,
    }
}

fn open_snapshot(number: u64) -> SnapshotRecord {
    SnapshotRecord {
        id: id(number),
        account: account(),
        domain: Domain::of_account(account()),
        state: State::Open,
        volume_size: VolumeSize::from_gib(65_536).unwrap(),
        parent: None,
        lineage: id(number),
        base_root: Digest::of(b"base"),
        base_count: 1 << 27,
        description: Some("with \0 and 'quotes' and ü".to_owned()),
        start_time: 1_790_337_440_328,
        timeout_minutes: 4_320,
        idle_ms: 0,
        touched: false,
        progress: None,
        promise: None,
        status_message: None,
        finished: None,
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_and_a_newer_format_is_refused_with_both_versions() {
    each_backend(|db| async move {
        schema::migrate(&*db, [7; 16], 1_000).await.unwrap();
        schema::migrate(&*db, [8; 16], 2_000).await.unwrap();
        let store_id = db
            .view(|txn| Box::pin(async move { meta::store_id(txn).await }))
            .await
            .unwrap();
        assert_eq!(store_id, [7; 16]);
        db.transact(|txn| {
            Box::pin(async move { meta::set_number(txn, meta::FORMAT_VERSION, 99).await })
        })
        .await
        .unwrap();
        let refused = schema::migrate(&*db, [7; 16], 3_000).await;
        assert!(matches!(
            refused,
            Err(Error::NewerFormat {
                found: 99,
                known: schema::FORMAT_VERSION
            })
        ));
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("99") && message.contains(&schema::FORMAT_VERSION.to_string()));
    })
    .await;
}

#[tokio::test]
async fn snapshots_come_back_as_written_through_all_their_states() {
    on_each(|txn| {
        Box::pin(async move {
            let mut record = open_snapshot(7);
            snapshots::insert(txn, &record).await?;
            let child = SnapshotRecord {
                parent: Some(id(7)),
                lineage: id(7),
                description: None,
                ..open_snapshot(8)
            };
            snapshots::insert(txn, &child).await?;
            assert_eq!(snapshots::get(txn, id(7)).await?.as_ref(), Some(&record));
            assert_eq!(snapshots::get(txn, id(8)).await?.as_ref(), Some(&child));
            assert_eq!(snapshots::get(txn, id(9)).await?, None);

            snapshots::touch(txn, &[id(7)]).await?;
            snapshots::set_progress(txn, id(7), 100).await?;
            (record.touched, record.progress) = (true, Some(100));
            assert_eq!(snapshots::get(txn, id(7)).await?.as_ref(), Some(&record));
            snapshots::set_idle(txn, id(7), 20_000).await?;
            (record.touched, record.idle_ms) = (false, 20_000);
            assert_eq!(snapshots::get(txn, id(7)).await?.as_ref(), Some(&record));

            let promise = Promise {
                count: 3,
                checksum: Some(vec![0; 40]),
            };
            snapshots::seal(txn, id(7), &promise).await?;
            (record.state, record.promise) = (State::Sealed, Some(promise));
            assert_eq!(
                snapshots::in_state(txn, State::Sealed, None, 9).await?,
                [record.clone()]
            );
            let finished = Finished {
                root: Digest::of(b"root"),
                own_count: 3,
                full_count: 1 << 27,
                completion_time: 5,
                frame: location(4_096),
            };
            snapshots::finish(txn, id(7), &finished).await?;
            (record.state, record.finished) = (State::Completed, Some(finished));
            assert_eq!(snapshots::get(txn, id(7)).await?.as_ref(), Some(&record));
            assert_eq!(snapshots::frames_in(txn, u64::MAX >> 1).await?, [4_096]);

            snapshots::fail(txn, id(8), "Snapshot timed out").await?;
            let failed = snapshots::get(txn, id(8)).await?.unwrap();
            assert_eq!(failed.state, State::Failed);
            assert_eq!(failed.status_message.as_deref(), Some("Snapshot timed out"));

            let page = snapshots::of_account(txn, account(), None, 1).await?;
            assert_eq!(page, [record]);
            let page = snapshots::of_account(txn, account(), Some(id(7)), 9).await?;
            assert_eq!(page, [failed]);
            let stranger = AccountId::parse("210987654321").unwrap();
            assert_eq!(snapshots::of_account(txn, stranger, None, 9).await?, []);

            let mut targets = snapshots::put_targets(txn, &[id(7), id(8), id(9)]).await?;
            targets.sort_by_key(|target| target.id);
            let states: Vec<_> = targets.iter().map(|target| target.state).collect();
            assert_eq!(states, [State::Completed, State::Failed]);
            snapshots::delete(txn, id(7)).await?;
            assert_eq!(snapshots::get(txn, id(7)).await?, None);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn put_entries_are_replaced_ranged_and_purged_in_short_steps() {
    on_each(|txn| {
        Box::pin(async move {
            let entry = |snapshot, at, text: &str| PutEntry {
                snapshot: id(snapshot),
                index: index(at),
                digest: Digest::of(text.as_bytes()),
            };
            let last = BlockIndex::COUNT_MAX - 1;
            let entries = [entry(1, last, "z"), entry(1, 0, "a"), entry(2, 0, "other")];
            put_entries::put(txn, &entries).await?;
            put_entries::put(txn, &[entry(1, 0, "b")]).await?;
            let found = put_entries::range(txn, id(1), BlockIndex::ZERO, 10).await?;
            assert_eq!(
                found,
                [
                    (index(0), Digest::of(b"b")),
                    (index(last), Digest::of(b"z"))
                ]
            );
            assert_eq!(
                put_entries::range(txn, id(1), index(1), 10).await?,
                found[1..]
            );
            assert_eq!(
                put_entries::range(txn, id(1), index(0), 1).await?,
                found[..1]
            );

            let many: Vec<_> = (0..300).map(|at| entry(3, at, "x")).collect();
            put_entries::put(txn, &many).await?;
            let pages: Vec<_> = (0..50_u8).map(|page| Digest::of(&[page])).collect();
            put_entries::list_pages(txn, id(3), &pages).await?;
            put_entries::list_pages(txn, id(3), &pages).await?;
            put_entries::insert_purge(txn, id(3)).await?;
            put_entries::insert_purge(txn, id(3)).await?;
            assert_eq!(put_entries::next_purge(txn).await?, Some(id(3)));
            let mut steps = 1;
            while put_entries::purge_some(txn, id(3), 40).await? {
                steps += 1;
            }
            assert_eq!(
                steps,
                7 + 1 + 1,
                "300 entries and 50 pages by 40, and the rest of both"
            );
            assert_eq!(put_entries::next_purge(txn).await?, None);
            assert_eq!(put_entries::range(txn, id(3), index(0), 10).await?, []);
            assert_eq!(put_entries::range(txn, id(2), index(0), 10).await?.len(), 1);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn chunk_records_are_found_replaced_stamped_and_marked() {
    on_each(|txn| {
        Box::pin(async move {
            let record = |number: u8, state| ChunkRecord {
                domain: Domain::from_number(u64::from(number % 2)),
                name: ChunkName::plain(Digest::of(&[number])),
                kind: 1,
                state,
                location: location(u64::from(number) * 4_096),
                stored_bytes: 524_288,
                codec: 1,
                data_key: 0,
                epoch: 1,
            };
            let records: Vec<_> = (0..200).map(|n| record(n, ChunkState::Live)).collect();
            chunks::put(txn, &records).await?;
            let keys: Vec<_> = records.iter().map(ChunkRecord::key).collect();
            let found = chunks::find(txn, &keys).await?;
            assert_eq!(found.len(), 200);
            assert!(records.iter().all(|record| found[&record.key()] == *record));
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = chunks::keys_after(txn, after, 33).await?;
                all.extend(page.iter().copied());
                after = page.last().copied();
                if page.len() < 33 {
                    break;
                }
            }
            let mut sorted = keys.clone();
            sorted.sort();
            assert_eq!(all, sorted);
            let elsewhere = (Domain::from_number(9), records[0].name);
            assert!(chunks::find(txn, &[elsewhere]).await?.is_empty());

            chunks::put(txn, &[record(4, ChunkState::Condemned)]).await?;
            chunks::stamp(txn, &[keys[4], keys[5]], 2).await?;
            let found = chunks::find(txn, &[keys[4], keys[5], keys[6]]).await?;
            let seen = |at: usize| (found[&keys[at]].state, found[&keys[at]].epoch);
            assert_eq!(seen(4), (ChunkState::Live, 2), "a stamp revives");
            assert_eq!(seen(5), (ChunkState::Live, 2));
            assert_eq!(seen(6), (ChunkState::Live, 1));

            assert!(
                !chunks::mark_damaged(txn, keys[7], location(1)).await?,
                "it has moved"
            );
            assert!(chunks::mark_damaged(txn, keys[7], records[7].location).await?);
            assert_eq!(
                chunks::find(txn, &[keys[7]]).await?[&keys[7]].state,
                ChunkState::Damaged
            );
            assert_eq!(chunks::locations_in(txn, u64::MAX >> 1).await?.len(), 200);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn container_ids_only_grow_and_frees_are_kept_until_deleted() {
    on_each(|txn| {
        Box::pin(async move {
            assert_eq!(containers::last_reserved(txn).await?, 0);
            assert_eq!(containers::reserve(txn).await?, 1);
            assert_eq!(containers::reserve(txn).await?, 2);
            assert_eq!(containers::last_reserved(txn).await?, 2);
            let record = |state| ContainerRecord {
                id: 2,
                kind: 1,
                state,
                bytes: 1 << 30,
            };
            containers::record(txn, record(1)).await?;
            assert_eq!(containers::all_except(txn, 3).await?, [record(1)]);
            containers::record(txn, record(3)).await?;
            assert_eq!(containers::all_except(txn, 3).await?, []);
            assert_eq!(
                containers::reserve(txn).await?,
                3,
                "a removed container's id stays used"
            );

            let frames: Vec<_> = (0..100).map(|n| location(n * 4_096)).collect();
            containers::insert_frees(txn, &frames).await?;
            containers::insert_frees(txn, &frames[..10]).await?;
            assert_eq!(containers::next_to_free(txn, 0).await?, Some(u64::MAX >> 1));
            assert_eq!(containers::next_to_free(txn, u64::MAX >> 1).await?, None);
            let some = containers::some_frees(txn, u64::MAX >> 1, 30).await?;
            assert_eq!(some, frames[..30]);
            containers::delete_frees(txn, &frames[..99]).await?;
            let some = containers::some_frees(txn, u64::MAX >> 1, 30).await?;
            assert_eq!(some, frames[99..]);
            assert_eq!(containers::some_frees(txn, 1, 30).await?, []);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn tags_belong_to_an_account_and_a_snapshot() {
    on_each(|txn| {
        Box::pin(async move {
            let tag = |key: &str, value: &str| TagRecord {
                key: key.to_owned(),
                value: value.to_owned(),
            };
            let stranger = AccountId::parse("210987654321").unwrap();
            tags::put(txn, account(), id(1), &[tag("b", "\0"), tag("a", "")]).await?;
            tags::put(txn, account(), id(2), &[tag("a", "2")]).await?;
            tags::put(txn, stranger, id(1), &[tag("a", "theirs")]).await?;
            tags::put(txn, account(), id(1), &[tag("a", "new")]).await?;
            let found = tags::of_snapshots(txn, account(), &[id(1), id(2), id(3)]).await?;
            let expected = [
                (id(1), tag("a", "new")),
                (id(1), tag("b", "\0")),
                (id(2), tag("a", "2")),
            ];
            assert_eq!(found, expected);
            tags::delete(txn, account(), id(1), "a", Some("other")).await?;
            tags::delete(txn, account(), id(1), "b", None).await?;
            let found = tags::of_snapshots(txn, account(), &[id(1)]).await?;
            assert_eq!(found, expected[..1]);
            tags::delete_all(txn, account(), id(1)).await?;
            assert_eq!(tags::of_snapshots(txn, account(), &[id(1)]).await?, []);
            assert_eq!(tags::of_snapshots(txn, stranger, &[id(1)]).await?.len(), 1);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn usage_is_that_of_the_last_mark_that_was_named() {
    on_each(|txn| {
        Box::pin(async move {
            let row = |number, own_bytes| UsageRecord {
                snapshot: id(number),
                account: account(),
                logical_bytes: 1 << 40,
                own_blocks: 2,
                own_bytes,
            };
            assert_eq!(usage::of_snapshots(txn, &[id(1)]).await?, []);
            usage::put(txn, 7, &[row(1, 10), row(2, 20), row(3, 30)]).await?;
            assert_eq!(usage::of_snapshots(txn, &[id(1)]).await?, []);
            meta::set_number(txn, meta::USAGE_MARK, 7).await?;
            // Written, not named yet.
            usage::put(txn, 8, &[row(1, 11), row(4, 41)]).await?;
            let ids: Vec<_> = [3, 1, 4, 9].map(id).to_vec();
            let mut found = usage::of_snapshots(txn, &ids).await?;
            found.sort_by_key(|row| row.snapshot);
            assert_eq!(found, [row(1, 10), row(3, 30)]);
            meta::set_number(txn, meta::USAGE_MARK, 8).await?;
            let mut found = usage::of_snapshots(txn, &ids).await?;
            found.sort_by_key(|row| row.snapshot);
            assert_eq!(found, [row(1, 11), row(4, 41)]);
            assert_eq!(usage::of_snapshots(txn, &[]).await?, []);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn a_client_token_outlives_its_snapshot_by_its_time_only() {
    on_each(|txn| {
        Box::pin(async move {
            snapshots::insert(txn, &open_snapshot(1)).await?;
            let token = |text: &str, snapshot, start_time| ClientTokenRecord {
                account: account(),
                token: text.to_owned(),
                fingerprint: Digest::of(text.as_bytes()),
                snapshot: id(snapshot),
                start_time,
            };
            let kept = token("kept", 1, 0);
            let orphan = token("orphan", 2, 0);
            let young = token("young", 3, 1_000);
            for token in [&kept, &orphan, &young] {
                client_tokens::insert(txn, token).await?;
            }
            let mut looked = client_tokens::forget_orphans(txn, None, 1_000, 2).await?;
            assert_eq!(
                looked,
                Some((account(), b"orphan".to_vec())),
                "two of three"
            );
            looked = client_tokens::forget_orphans(txn, looked.as_ref(), 1_000, 2).await?;
            assert_eq!(looked, None);
            for (token, left) in [(kept, true), (orphan, false), (young, true)] {
                let found = client_tokens::get(txn, account(), &token.token).await?;
                assert_eq!(found, left.then_some(token));
            }
            assert_eq!(client_tokens::get(txn, account(), "KEPT").await?, None);
            Ok(())
        })
    })
    .await;
}

#[tokio::test]
async fn accounts_keys_and_token_keys_come_back_as_written() {
    on_each(|txn| {
        Box::pin(async move {
            accounts::insert_account(txn, account(), 1).await?;
            accounts::insert_account(txn, account(), 2).await?;
            assert_eq!(accounts::accounts(txn).await?, [account()]);
            let mut key = AccessKeyRecord {
                key_id: "AKIAEXAMPLE".to_owned(),
                account: account(),
                sealed_secret: vec![0, 1, 255],
                active: true,
                created_at: 3,
            };
            accounts::insert_access_key(txn, &key).await?;
            assert_eq!(
                accounts::access_key(txn, &key.key_id).await?.as_ref(),
                Some(&key)
            );
            assert!(accounts::set_access_key_active(txn, &key.key_id, false).await?);
            key.active = false;
            assert_eq!(accounts::list_access_keys(txn).await?, [key.clone()]);
            assert!(!accounts::set_access_key_active(txn, "other", true).await?);
            assert!(accounts::delete_access_key(txn, &key.key_id).await?);
            assert!(!accounts::delete_access_key(txn, &key.key_id).await?);

            let token_key = TokenKeyRecord {
                key_no: 5,
                sealed: vec![9; 40],
                created_at: 7,
            };
            token_keys::insert_token_key(txn, &token_key).await?;
            assert_eq!(token_keys::token_keys(txn).await?, [token_key]);
            token_keys::delete_token_key(txn, 5).await?;
            assert_eq!(token_keys::token_keys(txn).await?, []);
            Ok(())
        })
    })
    .await;
}

/// A row that another program changed is damage that says where, never a wrong record.
#[tokio::test]
async fn rows_that_make_no_sense_are_corrupt() {
    on_each(|txn| {
        Box::pin(async move {
            snapshots::insert(txn, &open_snapshot(1)).await?;
            for nonsense in [
                "UPDATE snapshots SET state = 9",
                "UPDATE snapshots SET state = 1, volume_gib = 0",
                "UPDATE snapshots SET volume_gib = 1, base_root = $1",
            ] {
                let params = if nonsense.contains("$1") {
                    vec![vec![1_u8].into()]
                } else {
                    vec![]
                };
                txn.execute(nonsense, params).await?;
                let read = snapshots::get(txn, id(1)).await;
                assert!(matches!(
                    read,
                    Err(Error::Corrupt {
                        table: "snapshots",
                        ..
                    })
                ));
            }
            Ok(())
        })
    })
    .await;
}
