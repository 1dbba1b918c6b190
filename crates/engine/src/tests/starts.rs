//! Starting, describing, tagging, expiring.

use super::{account, complete, plain_start, put, snapshot, start, try_put};
use crate::testing::TestEngine;
use crate::{Error, SnapshotState, StartSnapshot, Tag, TagSelector};
use futures_util::FutureExt;
use std::time::Duration;
use types::{AccountId, SnapshotId, VolumeSize};

#[tokio::test]
async fn a_client_token_repeats_its_answer_and_refuses_other_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let request = StartSnapshot {
        client_token: Some("once".to_owned()),
        ..plain_start()
    };
    let first = test.engine.start_snapshot(request.clone()).await.unwrap();
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(
        test.engine.start_snapshot(request.clone()).await.unwrap(),
        first
    );
    complete(&test, first.id, 0).await;
    assert_eq!(
        test.engine.start_snapshot(request.clone()).await.unwrap(),
        first
    );

    let others = [
        StartSnapshot {
            volume_size: VolumeSize::from_gib(2).unwrap(),
            ..request.clone()
        },
        StartSnapshot {
            description: Some(String::new()),
            ..request.clone()
        },
        StartSnapshot {
            tags: Some(Vec::new()),
            ..request.clone()
        },
        StartSnapshot {
            timeout_minutes: Some(60),
            ..request.clone()
        },
        StartSnapshot {
            encrypted: Some(false),
            ..request.clone()
        },
        StartSnapshot {
            parent: Some(first.id),
            ..request.clone()
        },
    ];
    for other in others {
        let refused = test.engine.start_snapshot(other.clone()).await;
        assert!(
            matches!(refused, Err(Error::ClientTokenConflict)),
            "{other:?}"
        );
    }
    let someone_else = AccountId::parse("210987654321").unwrap();
    let foreign = StartSnapshot {
        account: someone_else,
        ..request.clone()
    };
    assert_ne!(
        test.engine.start_snapshot(foreign).await.unwrap().id,
        first.id
    );

    test.engine
        .delete_snapshot(account(), first.id)
        .await
        .unwrap();
    assert_eq!(
        test.engine.start_snapshot(request.clone()).await.unwrap(),
        first
    );
    test.clock.advance(Duration::from_secs(25 * 60 * 60));
    test.engine.forget_client_tokens().await.unwrap();
    assert_ne!(
        test.engine.start_snapshot(request).await.unwrap().id,
        first.id
    );
}

#[tokio::test]
async fn concurrent_starts_with_one_token_make_one_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let request = StartSnapshot {
        client_token: Some("once".to_owned()),
        ..plain_start()
    };
    let starts: Vec<_> = (0..16)
        .map(|_| {
            let (engine, request) = (test.engine.clone(), request.clone());
            tokio::spawn(async move { engine.start_snapshot(request).await.unwrap() })
        })
        .collect();
    let mut ids = Vec::new();
    for started in starts {
        ids.push(started.await.unwrap().id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(
        test.engine
            .snapshots_after(account(), None, 100)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_parent_must_be_completed_own_and_not_larger() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let with_parent = |id| StartSnapshot {
        parent: Some(id),
        ..plain_start()
    };

    let pending = start(&test.engine).await;
    let refused = test.engine.start_snapshot(with_parent(pending)).await;
    assert!(matches!(refused, Err(Error::ParentNotComplete { id }) if id == pending));

    let absent = SnapshotId::from_random(1);
    let refused = test.engine.start_snapshot(with_parent(absent)).await;
    assert!(matches!(refused, Err(Error::SnapshotNotFound { id }) if id == absent));

    test.engine
        .complete_snapshot(super::completion(pending, 9))
        .await
        .unwrap();
    assert_eq!(
        test.settled(account(), pending).await.state,
        SnapshotState::Error
    );
    let refused = test.engine.start_snapshot(with_parent(pending)).await;
    assert!(
        matches!(refused, Err(Error::SnapshotNotFound { .. })),
        "a failed parent"
    );

    let large = StartSnapshot {
        volume_size: VolumeSize::from_gib(2).unwrap(),
        ..plain_start()
    };
    let large = test.engine.start_snapshot(large).await.unwrap().id;
    complete(&test, large, 0).await;
    let refused = test.engine.start_snapshot(with_parent(large)).await;
    assert!(matches!(refused, Err(Error::ChildSmallerThanParent { .. })));

    let someone_else = AccountId::parse("210987654321").unwrap();
    let foreign = StartSnapshot {
        account: someone_else,
        ..with_parent(large)
    };
    let refused = test.engine.start_snapshot(foreign).await;
    assert!(
        matches!(refused, Err(Error::SnapshotNotFound { .. })),
        "a foreign parent"
    );
}

#[tokio::test]
async fn a_pending_snapshot_expires_after_its_timeout_without_puts_and_never_before() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let request = StartSnapshot {
        timeout_minutes: Some(10),
        ..plain_start()
    };
    let idle = test
        .engine
        .start_snapshot(request.clone())
        .await
        .unwrap()
        .id;
    let used = test.engine.start_snapshot(request).await.unwrap().id;
    let look = Duration::from_secs(20);
    for minute in 0..10 {
        for _ in 0..3 {
            test.engine.expire(look).await.unwrap();
        }
        if minute == 7 {
            put(&test, used, &[(0, "used")]).await;
        }
    }
    let state = async |id| {
        test.engine
            .snapshots_by_id(account(), &[id])
            .await
            .unwrap()
            .remove(0)
    };
    assert_eq!(
        state(idle).await.state,
        SnapshotState::Pending,
        "10 minutes are allowed"
    );
    test.engine.expire(look).await.unwrap();
    let expired = state(idle).await;
    assert_eq!(expired.state, SnapshotState::Error);
    assert_eq!(
        expired.status_message.as_deref(),
        Some("Snapshot timed out")
    );
    assert!(matches!(
        try_put(&test, idle, 0, "late").await,
        Err(Error::SnapshotNotFound { .. })
    ));

    for _ in 0..7 * 3 {
        test.engine.expire(look).await.unwrap();
    }
    assert_eq!(
        state(used).await.state,
        SnapshotState::Pending,
        "the put started the time again"
    );
    for _ in 0..3 * 3 {
        test.engine.expire(look).await.unwrap();
    }
    assert_eq!(state(used).await.state, SnapshotState::Error);
}

#[tokio::test]
async fn a_sealed_snapshot_never_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::without_workers(dir.path()).await;
    let id = start(&test.engine).await;
    test.engine
        .complete_snapshot(super::completion(id, 0))
        .await
        .unwrap();
    for _ in 0..1_000 {
        test.engine.expire(Duration::from_secs(60)).await.unwrap();
    }
    let view = test
        .engine
        .snapshots_by_id(account(), &[id])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(view.state, SnapshotState::Pending);
}

#[tokio::test]
async fn tags_are_added_overwritten_limited_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let tag = |key: &str, value: &str| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let tags = Some(vec![tag("b", "1"), tag("a", "\0")]);
    let request = StartSnapshot {
        tags,
        ..plain_start()
    };
    let id = test.engine.start_snapshot(request).await.unwrap().id;
    let other = start(&test.engine).await;
    let tags = async |id| {
        let views = test.engine.snapshots_by_id(account(), &[id]).await.unwrap();
        views[0].tags.clone()
    };
    assert_eq!(tags(id).await, [tag("a", "\0"), tag("b", "1")]);

    test.engine
        .create_tags(account(), &[id, other], &[tag("b", "2")])
        .await
        .unwrap();
    assert_eq!(tags(id).await, [tag("a", "\0"), tag("b", "2")]);
    assert_eq!(tags(other).await, [tag("b", "2")]);

    let many: Vec<_> = (0..49)
        .map(|number| tag(&format!("k{number}"), ""))
        .collect();
    let refused = test
        .engine
        .create_tags(account(), &[other, id], &many)
        .await;
    assert!(matches!(refused, Err(Error::TooManyTags { id: full }) if full == id));
    assert_eq!(tags(other).await.len(), 1, "all or nothing");

    let absent = SnapshotId::from_random(1);
    let refused = test
        .engine
        .create_tags(account(), &[id, absent], &[tag("c", "")])
        .await;
    assert!(matches!(refused, Err(Error::SnapshotNotFound { .. })));

    let by = |key: &str, value: Option<&str>| TagSelector {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    let selected = [by("b", Some("1")), by("a", None)];
    test.engine
        .delete_tags(account(), &[id], Some(&selected))
        .await
        .unwrap();
    assert_eq!(tags(id).await, [tag("b", "2")], "b has another value");
    test.engine
        .delete_tags(account(), &[id], None)
        .await
        .unwrap();
    assert_eq!(tags(id).await, []);
}

#[tokio::test]
async fn a_deleted_snapshot_is_gone_at_once_in_every_state() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let pending = start(&test.engine).await;
    put(&test, pending, &[(0, "a")]).await;
    let completed = snapshot(&test, &[(0, "a")]).await;
    for id in [pending, completed] {
        test.engine.delete_snapshot(account(), id).await.unwrap();
        let again = test.engine.delete_snapshot(account(), id).await;
        assert!(matches!(again, Err(Error::SnapshotNotFound { .. })));
        assert!(matches!(
            try_put(&test, id, 0, "a").await,
            Err(Error::SnapshotNotFound { .. })
        ));
        let read = test.engine.readable(account(), id).await;
        assert!(matches!(read, Err(Error::SnapshotNotFound { .. })));
    }
    assert_eq!(
        test.engine
            .snapshots_after(account(), None, 10)
            .await
            .unwrap(),
        []
    );
}

/// A caller that goes away in the middle once left a deleted snapshot readable: the commit went on, what follows it did not.
#[tokio::test]
async fn verbs_go_on_to_their_end_when_the_caller_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestEngine::open(dir.path()).await;
    let deleted = snapshot(&test, &[(0, "a")]).await;
    test.engine.readable(account(), deleted).await.unwrap();
    let begun = Box::pin(test.engine.delete_snapshot(account(), deleted)).now_or_never();
    assert!(begun.is_none(), "dropped before its end");
    let mut gone = false;
    for _ in 0..100_000 {
        gone = test.engine.readable(account(), deleted).await.is_err();
        if gone {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(gone, "the record in memory is forgotten");

    let sealed = start(&test.engine).await;
    let begun =
        Box::pin(test.engine.complete_snapshot(super::completion(sealed, 0))).now_or_never();
    assert!(begun.is_none(), "dropped before its end");
    let view = test.settled(account(), sealed).await;
    assert_eq!(
        view.state,
        SnapshotState::Completed,
        "the finisher was told"
    );
}
