//! `CreateTags`, `DeleteTags` and `DescribeTags`.

use super::World;

const DONE: &str = "<return>true</return>";

/// The tags told, as `id key=value`.
async fn told(world: &World, form: &str) -> Vec<String> {
    let answer = world.ec2(&format!("Action=DescribeTags{form}")).await;
    let items = answer.all("resourceId").len();
    assert_eq!(answer.all("resourceType"), vec!["snapshot"; items]);
    let ids = answer.all("resourceId").into_iter();
    let tags = answer.all("key").into_iter().zip(answer.all("value"));
    ids.zip(tags)
        .map(|(id, (key, value))| format!("{id} {key}={value}"))
        .collect()
}

#[tokio::test]
async fn tags_are_created_overwritten_and_deleted() {
    let world = World::new().await;
    let (one, two) = (world.start(&[("old", "x")]).await, world.start(&[]).await);
    let create = format!(
        "Action=CreateTags&ResourceId.1={one}&ResourceId.2={two}&Tag.1.Key=a&Tag.1.Value=&Tag.2.Key=k+b&Tag.2.Value=v%26"
    );
    assert_eq!(
        world.ec2(&format!("{create}&DryRun=true")).await.refusal(),
        "DryRunOperation"
    );
    assert_eq!(world.ec2(&create).await.content("CreateTagsResponse"), DONE);
    let of = |id| format!("&Filter.1.Name=resource-id&Filter.1.Value.1={id}");
    assert_eq!(
        told(&world, &of(one)).await,
        [
            format!("{one} a="),
            format!("{one} k b=v&amp;"),
            format!("{one} old=x")
        ]
    );
    let over = format!("Action=CreateTags&ResourceId.1={two}&Tag.1.Key=a&Tag.1.Value=new");
    world.ec2(&over).await.content("CreateTagsResponse");
    assert_eq!(
        told(&world, &of(two)).await,
        [format!("{two} a=new"), format!("{two} k b=v&amp;")]
    );

    let delete =
        |rest: &str| format!("Action=DeleteTags&ResourceId.1={one}&ResourceId.2={two}{rest}");
    let only_empty = delete("&Tag.1.Key=a&Tag.1.Value=&Tag.2.Key=absent");
    assert_eq!(
        world.ec2(&only_empty).await.content("DeleteTagsResponse"),
        DONE
    );
    assert_eq!(
        told(&world, "&Filter.1.Name=key&Filter.1.Value.1=a").await,
        [format!("{two} a=new")]
    );
    world
        .ec2(&delete("&Tag.1.Key=a"))
        .await
        .content("DeleteTagsResponse");
    assert_eq!(told(&world, "").await.len(), 3);
    world.ec2(&delete("")).await.content("DeleteTagsResponse");
    assert!(told(&world, "").await.is_empty());
}

#[tokio::test]
async fn a_refused_change_of_tags_changes_nothing() {
    let world = World::new().await;
    let id = world.start(&[("a", "1")]).await;
    let gone = world.start(&[]).await;
    world
        .engine
        .delete_snapshot(world.caller.account, gone)
        .await
        .unwrap();
    for (form, code) in [
        (
            format!("CreateTags&ResourceId.1={id}&ResourceId.2={gone}&Tag.1.Key=b"),
            "InvalidSnapshot.NotFound",
        ),
        (
            format!("DeleteTags&ResourceId.1={id}&ResourceId.2={gone}&Tag.1.Key=a"),
            "InvalidSnapshot.NotFound",
        ),
        (
            format!("DeleteTags&ResourceId.1={id}&ResourceId.2={gone}"),
            "InvalidSnapshot.NotFound",
        ),
        (
            format!("CreateTags&ResourceId.1={id}&ResourceId.2=i-1&Tag.1.Key=b"),
            "InvalidID",
        ),
        (
            format!("CreateTags&ResourceId.1={id}&Tag.1.Key=aws:b"),
            "InvalidParameterValue",
        ),
        (format!("CreateTags&ResourceId.1={id}"), "MissingParameter"),
        ("CreateTags&Tag.1.Key=b".to_owned(), "MissingParameter"),
        ("DeleteTags&Tag.1.Key=b".to_owned(), "MissingParameter"),
    ] {
        assert_eq!(
            world.ec2(&format!("Action={form}")).await.refusal(),
            code,
            "{form}"
        );
    }
    let many: String = (1..=50)
        .map(|tag| format!("&Tag.{tag}.Key=key{tag}"))
        .collect();
    let full = format!("Action=CreateTags&ResourceId.1={id}{many}");
    assert_eq!(world.ec2(&full).await.refusal(), "TagLimitExceeded");
    assert_eq!(told(&world, "").await, [format!("{id} a=1")]);
}

#[tokio::test]
async fn tags_are_filtered() {
    let world = World::new().await;
    let id = world.start(&[("Name", "web"), ("Owner", "TeamA")]).await;
    world.start(&[("Owner", "TeamB")]).await;
    for (filter, count) in [
        ("key&Filter.1.Value.1=O*", 2),
        ("value&Filter.1.Value.1=Team?", 2),
        ("tag:Owner&Filter.1.Value.1=TeamA", 1),
        ("tag:Owner&Filter.1.Value.1=teama", 0),
        ("resource-type&Filter.1.Value.1=snapshot", 3),
        ("resource-type&Filter.1.Value.1=volume", 0),
        ("resource-id&Filter.1.Value.1=snap-*", 3),
        (
            &format!("resource-id&Filter.1.Value.1={id}&Filter.1.Value.2=vol-1"),
            2,
        ),
        ("resource-id&Filter.1.Value.1=snap-5e85b9bf", 0),
    ] {
        assert_eq!(
            told(&world, &format!("&Filter.1.Name={filter}"))
                .await
                .len(),
            count,
            "{filter}"
        );
    }
    let stranger = format!("{}Action=DescribeTags", super::EC2);
    let answer = world.post(&world.stranger, "ec2", &stranger).await;
    assert_eq!(answer.content("DescribeTagsResponse"), "<tagSet></tagSet>");
}

#[tokio::test]
async fn pages_hold_every_tag_once() {
    let world = World::new().await;
    for snapshot in 0..4 {
        let tags: Vec<(String, String)> = (0..snapshot * 3)
            .map(|tag| (format!("é{tag}"), format!("{snapshot}")))
            .collect();
        let tags: Vec<_> = tags
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        world.start(&tags).await;
    }
    let all = told(&world, "").await;
    assert_eq!(all.len(), 18);
    let (mut token, mut seen) = (String::new(), Vec::new());
    for size in [5, 5, 5, 3] {
        let form = format!("&MaxResults=5&NextToken={token}");
        let page = told(&world, &form).await;
        assert_eq!(page.len(), size);
        seen.extend(page);
        let answer = world.ec2(&format!("Action=DescribeTags{form}")).await;
        token = answer
            .all("nextToken")
            .first()
            .copied()
            .unwrap_or_default()
            .to_owned();
    }
    assert_eq!(token, "");
    assert_eq!(seen, all);
}

#[tokio::test]
async fn an_unknown_snapshot_among_many_is_found_before_anything_is_deleted() {
    let world = World::new().await;
    let mut form = "Action=DeleteTags&Tag.1.Key=a".to_owned();
    for number in 1..=25 {
        let id = world.start(&[("a", "1")]).await;
        form.push_str(&format!("&ResourceId.{number}={id}"));
    }
    let unknown = format!("{form}&ResourceId.26=snap-00000000000000001");
    assert_eq!(
        world.ec2(&unknown).await.refusal(),
        "InvalidSnapshot.NotFound"
    );
    assert_eq!(told(&world, "").await.len(), 25);
    world.ec2(&form).await.content("DeleteTagsResponse");
    assert!(told(&world, "").await.is_empty());
}
