//! `DescribeSnapshots` and `DeleteSnapshot`.

use super::World;
use engine::CompleteSnapshot;
use std::collections::BTreeSet;
use types::BlockIndex;

#[tokio::test]
async fn a_snapshot_is_told_from_start_to_completion() {
    let world = World::new().await;
    let id = world.start(&[("Name", "a&b")]).await;
    let account = world.caller.account;
    let form = format!("Action=DescribeSnapshots&SnapshotId.1={id}");
    let pending = world.ec2(&form).await;
    let wanted = format!(
        "<snapshotSet><item><snapshotId>{id}</snapshotId><volumeId>vol-ffffffff</volumeId><status>pending</status>\
         <startTime>2026-09-25T11:57:20.000Z</startTime><progress>0%</progress><ownerId>{account}</ownerId>\
         <volumeSize>1</volumeSize><description>disk \u{fffd} &lt;a&gt;</description><encrypted>false</encrypted>\
         <tagSet><item><key>Name</key><value>a&amp;b</value></item></tagSet><storageTier>standard</storageTier>\
         <transferType>standard</transferType></item></snapshotSet>"
    );
    assert_eq!(pending.content("DescribeSnapshotsResponse"), wanted);
    assert_eq!(pending.operation.0, "DescribeSnapshots");

    let permit = world
        .engine
        .admit_put(account, id, BlockIndex::ZERO)
        .await
        .unwrap();
    let block = world._test_engine.block("text").await;
    world.engine.put_block(permit, block, None).await.unwrap();
    let complete = CompleteSnapshot {
        account,
        id,
        changed_blocks: 1,
        checksum: None,
    };
    world.engine.complete_snapshot(complete).await.unwrap();
    world._test_engine.settled(account, id).await;
    let completed = world.ec2(&form).await;
    assert_eq!(completed.one("status"), "completed");
    assert_eq!(completed.one("progress"), "100%");
    assert_eq!(completed.one("completionTime"), "2026-09-25T11:57:20.000Z");
    assert_eq!(completed.one("fullSnapshotSizeInBytes"), "524288");
}

#[tokio::test]
async fn a_failed_snapshot_says_why() {
    let world = World::new().await;
    let id = world.start(&[]).await;
    let account = world.caller.account;
    let complete = CompleteSnapshot {
        account,
        id,
        changed_blocks: 3,
        checksum: None,
    };
    world.engine.complete_snapshot(complete).await.unwrap();
    world._test_engine.settled(account, id).await;
    let answer = world
        .ec2("Action=DescribeSnapshots&Filter.1.Name=status&Filter.1.Value.1=err*")
        .await;
    assert_eq!(
        answer.one("statusMessage"),
        "Changed blocks count mismatch for snapshot"
    );
    assert_eq!(answer.one("progress"), "0%");
}

#[tokio::test]
async fn snapshots_are_named_filtered_and_private() {
    let world = World::new().await;
    let (one, two) = (
        world.start(&[("k", "one")]).await,
        world.start(&[("k", "two")]).await,
    );
    let ids = |answer: &super::Answer| answer.all("snapshotId").join(" ");
    let both = world
        .ec2(&format!(
            "Action=DescribeSnapshots&SnapshotId.1={two}&SnapshotId.2={one}"
        ))
        .await;
    assert_eq!(ids(&both), format!("{two} {one}"));
    let filtered = "Action=DescribeSnapshots&Filter.1.Name=tag:k&Filter.1.Value.1=t*&Owner.1=self&RestorableBy.1=self";
    assert_eq!(ids(&world.ec2(filtered).await), two.to_string());
    let named = format!(
        "Action=DescribeSnapshots&Filter.1.Name=snapshot-id&Filter.1.Value.1={one}&Filter.1.Value.2=snap-5e85b9bf"
    );
    assert_eq!(ids(&world.ec2(&named).await), one.to_string());
    assert_eq!(
        ids(&world.ec2("Action=DescribeSnapshots&Owner.1=amazon").await),
        ""
    );
    assert_eq!(
        ids(&world.ec2("Action=DescribeSnapshots").await)
            .split(' ')
            .count(),
        2
    );

    let form = format!("Version=2016-11-15&Action=DescribeSnapshots&SnapshotId.1={one}");
    let foreign = world.post(&world.stranger, "ec2", &form).await;
    assert_eq!(foreign.refusal(), "InvalidSnapshot.NotFound");
    assert_eq!(
        foreign.one("Message"),
        format!("The snapshot '{one}' does not exist.")
    );
    let none = world
        .post(
            &world.stranger,
            "ec2",
            "Version=2016-11-15&Action=DescribeSnapshots",
        )
        .await;
    assert_eq!(
        none.content("DescribeSnapshotsResponse"),
        "<snapshotSet></snapshotSet>"
    );
}

#[tokio::test]
async fn pages_hold_every_snapshot_once() {
    let world = World::new().await;
    let mut started = BTreeSet::new();
    for number in 0..12 {
        let kind = if number % 2 == 0 { "even" } else { "odd" };
        started.insert((kind, world.start(&[("kind", kind)]).await.to_string()));
    }
    for (filter, count) in [
        ("", 12),
        ("&Filter.1.Name=tag:kind&Filter.1.Value.1=odd", 6),
    ] {
        let form = format!("Action=DescribeSnapshots&MaxResults=5{filter}");
        let (mut token, mut seen, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let answer = world.ec2(&format!("{form}&NextToken={token}")).await;
            let page = answer.all("snapshotId");
            assert!(page.len() <= 5);
            seen.extend(page.into_iter().map(str::to_owned));
            pages += 1;
            match answer.all("nextToken")[..] {
                [] => break,
                [next] => token = next.to_owned(),
                _ => panic!("{}", answer.body),
            }
        }
        assert_eq!(pages, count / 5 + 1);
        let wanted = started
            .iter()
            .filter(|(kind, _)| count == 12 || *kind == "odd");
        let mut wanted: Vec<String> = wanted.map(|(_, id)| id.clone()).collect();
        wanted.sort_unstable();
        assert_eq!(seen, wanted);
    }
    let first = world.ec2("Action=DescribeSnapshots&MaxResults=5").await;
    let elsewhere = format!(
        "Action=DescribeSnapshots&Owner.1=self&NextToken={}",
        first.one("nextToken")
    );
    assert_eq!(
        world.ec2(&elsewhere).await.refusal(),
        "InvalidPaginationToken"
    );
    let exact = world.ec2("Action=DescribeSnapshots&MaxResults=12").await;
    assert!(exact.all("nextToken").is_empty());
}

#[tokio::test]
async fn ids_and_pages_do_not_go_together() {
    let world = World::new().await;
    let id = world.start(&[]).await;
    let form = format!("Action=DescribeSnapshots&SnapshotId.1={id}&MaxResults=5");
    assert_eq!(
        world.ec2(&form).await.refusal(),
        "InvalidParameterCombination"
    );
}

#[tokio::test]
async fn a_deleted_snapshot_is_gone() {
    let world = World::new().await;
    let id = world.start(&[]).await;
    let form = format!("Action=DeleteSnapshot&SnapshotId={id}");
    let dry = world.ec2(&format!("{form}&DryRun=true")).await;
    assert_eq!(dry.refusal(), "DryRunOperation");
    assert_eq!(dry.status, 412);
    assert_eq!(
        dry.one("Message"),
        "Request would have succeeded, but DryRun flag is set."
    );
    let foreign = world
        .post(&world.stranger, "ec2", &format!("{}{form}", super::EC2))
        .await;
    assert_eq!(foreign.refusal(), "InvalidSnapshot.NotFound");
    let deleted = world.ec2(&form).await;
    assert_eq!(
        deleted.content("DeleteSnapshotResponse"),
        "<return>true</return>"
    );
    assert_eq!(world.ec2(&form).await.refusal(), "InvalidSnapshot.NotFound");
    assert_eq!(
        world.ec2("Action=DeleteSnapshot").await.refusal(),
        "MissingParameter"
    );
    assert_eq!(
        world
            .ec2("Action=DeleteSnapshot&SnapshotId=snap-1")
            .await
            .refusal(),
        "InvalidSnapshotID.Malformed"
    );
    assert_eq!(
        world
            .ec2("Action=DeleteSnapshot&SnapshotId=vol-1")
            .await
            .refusal(),
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn more_snapshots_than_one_read_takes_are_told() {
    let world = World::new().await;
    let mut wanted = BTreeSet::new();
    for _ in 0..260 {
        wanted.insert(world.start(&[]).await.to_string());
    }
    for form in ["", "&MaxResults=1000"] {
        let answer = world.ec2(&format!("Action=DescribeSnapshots{form}")).await;
        assert_eq!(answer.all("snapshotId").len(), 260);
        assert!(answer.all("snapshotId").into_iter().eq(&wanted));
        assert!(answer.all("nextToken").is_empty());
    }
}
