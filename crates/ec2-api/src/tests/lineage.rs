//! The extension `lineage` of `DescribeSnapshots` (docs/wire.md, Extensions).

use super::{Answer, EC2, World};
use engine::{CollectMode, CompleteSnapshot, SnapshotState, StartSnapshot};
use http::HeaderValue;
use types::{AccountId, BlockIndex, SnapshotId, VolumeSize};

const HEADER: &str = "x-drystone-extensions";

/// A completed snapshot with a block of this text.
async fn completed(
    world: &World,
    account: AccountId,
    parent: Option<SnapshotId>,
    text: &str,
) -> SnapshotId {
    let request = StartSnapshot {
        account,
        volume_size: VolumeSize::from_gib(1).unwrap(),
        parent,
        tags: None,
        description: None,
        client_token: None,
        timeout_minutes: None,
        encrypted: None,
    };
    let id = world.engine.start_snapshot(request).await.unwrap().id;
    let permit = world.engine.admit_put(account, id, BlockIndex::ZERO).await;
    let block = world._test_engine.block(text).await;
    world
        .engine
        .put_block(permit.unwrap(), block, None)
        .await
        .unwrap();
    let complete = CompleteSnapshot {
        account,
        id,
        changed_blocks: 1,
        checksum: None,
    };
    world.engine.complete_snapshot(complete).await.unwrap();
    let view = world._test_engine.settled(account, id).await;
    assert_eq!(view.state, SnapshotState::Completed);
    id
}

async fn asked(world: &World, list: &'static str, form: &str) -> Answer {
    let mut request = world.signed(&world.caller, "ec2", &format!("{EC2}{form}"));
    let list = HeaderValue::from_static(list);
    request.headers_mut().insert(HEADER, list);
    world.send(request).await
}

#[tokio::test]
async fn each_member_is_told_when_it_is_known() {
    let world = World::new().await;
    let account = world.caller.account;
    let parent = completed(&world, account, None, "a").await;
    let child = completed(&world, account, Some(parent), "b").await;
    world.engine.collect(CollectMode::Cycle).await.unwrap();
    let late = completed(&world, account, Some(child), "c").await;
    let pending = world.start(&[]).await;

    let ids = [parent, child, late];
    let views = world.engine.snapshots_by_id(account, &ids).await;
    let roots: Vec<_> = views
        .unwrap()
        .iter()
        .map(|view| view.root.unwrap())
        .collect();
    let usage = world.engine.usage_by_id(&[parent, child]).await.unwrap();
    let own = |id| {
        let own = usage
            .1
            .iter()
            .find(|usage| usage.id == id)
            .unwrap()
            .own_bytes;
        // A block, the four pages above it, a frame of its own.
        assert!((524_288..800_000).contains(&own), "{own}");
        format!("<uniqueBytes>{own}</uniqueBytes><usageTime>2026-09-25T11:57:20.000Z</usageTime>")
    };
    let expected = [
        (
            parent,
            format!("<rootDigest>{}</rootDigest>{}", roots[0], own(parent)),
        ),
        (
            child,
            format!(
                "<parentSnapshotId>{parent}</parentSnapshotId><rootDigest>{}</rootDigest>{}",
                roots[1],
                own(child)
            ),
        ),
        (
            late,
            format!(
                "<parentSnapshotId>{child}</parentSnapshotId><rootDigest>{}</rootDigest>",
                roots[2]
            ),
        ),
        (pending, String::new()),
    ];
    let by_name: String = (1..)
        .zip(&expected)
        .map(|(number, (id, _))| format!("&SnapshotId.{number}={id}"))
        .collect();
    let by_filter: String = (1..)
        .zip(&expected)
        .map(|(number, (id, _))| format!("&Filter.1.Value.{number}={id}"))
        .collect();
    for selection in [
        by_name,
        format!("&Filter.1.Name=snapshot-id{by_filter}"),
        String::new(),
    ] {
        let form = format!("Action=DescribeSnapshots{selection}");
        let answer = asked(&world, "lineage", &form).await;
        assert_eq!(answer.headers[HEADER], "lineage");
        let ids = answer.all("snapshotId");
        let told = answer.all("drystone");
        assert_eq!((ids.len(), told.len()), (4, 4), "{}", answer.body);
        for (id, told) in ids.into_iter().zip(told) {
            let (_, expected) = expected
                .iter()
                .find(|(other, _)| other.to_string() == id)
                .unwrap();
            assert_eq!(told, expected);
        }
    }
}

#[tokio::test]
async fn nobody_else_is_told_anything() {
    let world = World::new().await;
    completed(&world, world.caller.account, None, "a").await;
    let form = "Action=DescribeSnapshots";
    let plain = world.ec2(form).await;
    assert!(!plain.headers.contains_key(HEADER) && !plain.body.contains("drystone"));
    let other = asked(&world, "put-by-digest", form).await;
    assert_eq!(other.headers[HEADER], "put-by-digest");
    assert_eq!(other.body, plain.body);
    let unknown = asked(&world, "lineages", form).await;
    assert!(!unknown.headers.contains_key(HEADER));
    assert_eq!(unknown.body, plain.body);
    let regions = asked(&world, "lineage", "Action=DescribeRegions").await;
    assert!(!regions.headers.contains_key(HEADER));
    let refused = asked(&world, "lineage", "Action=DescribeSnapshots&Owner.1=x").await;
    assert!(!refused.headers.contains_key(HEADER) && !refused.status.is_success());
}

/// Strangers' figures are not told, although they are read without asking whose they are.
#[tokio::test]
async fn only_the_callers_own_snapshots_are_told_of() {
    let world = World::new().await;
    let theirs = completed(&world, world.stranger.account, None, "a").await;
    world.engine.collect(CollectMode::Cycle).await.unwrap();
    let form =
        format!("Action=DescribeSnapshots&Filter.1.Name=snapshot-id&Filter.1.Value.1={theirs}");
    let answer = asked(&world, "lineage", &form).await;
    assert_eq!(
        answer.content("DescribeSnapshotsResponse"),
        "<snapshotSet></snapshotSet>"
    );
}

#[tokio::test]
async fn a_parent_that_is_gone_is_still_named() {
    let world = World::new().await;
    let account = world.caller.account;
    let parent = completed(&world, account, None, "a").await;
    let child = completed(&world, account, Some(parent), "b").await;
    world.engine.delete_snapshot(account, parent).await.unwrap();
    let answer = asked(&world, "lineage", "Action=DescribeSnapshots").await;
    assert_eq!(answer.one("snapshotId"), child.to_string());
    assert_eq!(answer.one("parentSnapshotId"), parent.to_string());
}
