//! The other calls.

use super::*;
use crate::testing::NOW;

#[tokio::test(start_paused = true)]
async fn a_start_says_only_what_was_said() {
    let answer = || {
        Answer::new(
            201,
            r#"{"SnapshotId":"snap-0a","BlockSize":524288,"Tags":null}"#,
        )
    };
    let named = answer().with("x-drystone-extensions", "put-by-digest, block-checksums");
    let server = Scripted::answering([answer(), named]);
    let api = api(&server);
    let started = api.start_snapshot(&start()).await.unwrap();
    assert_eq!(started.id.as_str(), "snap-0a");
    assert_eq!(started.extensions, Extensions::default());
    let request = StartSnapshot {
        parent: Some(id()),
        description: Some("\"quoted\"".to_owned()),
        tags: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        encrypted: Some(true),
        kms_key_arn: Some("arn".to_owned()),
        ..start()
    };
    let extensions = api.start_snapshot(&request).await.unwrap().extensions;
    assert!(extensions.put_by_digest && extensions.block_checksums && !extensions.lineage);
    let asked = server.asked();
    let body = r#"{"VolumeSize":1,"ClientToken":"token","Timeout":60}"#;
    assert_eq!(asked[0].text(), body);
    let body = r#"{"VolumeSize":1,"ParentSnapshotId":"snap-0123456789abcdef0","Tags":[{"Key":"k","Value":"v"}],"Description":"\"quoted\"","ClientToken":"token","Encrypted":true,"KmsKeyArn":"arn","Timeout":60}"#;
    assert_eq!(asked[1].text(), body);
    assert_eq!(asked[0].header("content-type"), "application/json");
    let asks = asked[0].header("x-drystone-extensions");
    assert_eq!(asks, "block-checksums, put-by-digest, lineage");
}

#[tokio::test(start_paused = true)]
async fn completing_says_count_and_aggregate_and_hears_of_failure() {
    let status = |status: &str| Answer::new(202, format!(r#"{{"Status":"{status}"}}"#));
    let server = Scripted::answering([status("pending"), status("error"), status("odd")]);
    let api = api(&server);
    let aggregate = Digest::of(b"");
    let complete = async || api.complete_snapshot(&id(), 3, aggregate).await;
    complete().await.unwrap();
    let failed = complete().await;
    assert!(
        matches!(failed, Err(Error::SnapshotFailed { .. })),
        "{failed:?}"
    );
    let odd = complete().await;
    assert!(is_not_the_api(&odd), "{odd:?}");
    let asked = &server.asked()[0];
    let target = "/snapshots/completion/snap-0123456789abcdef0";
    assert_eq!(asked.target, target);
    assert_eq!(asked.header("x-amz-changedblockscount"), "3");
    assert_eq!(asked.header("x-amz-checksum-aggregation-method"), "LINEAR");
    let checksum = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(asked.header("x-amz-checksum"), checksum);
}

#[tokio::test(start_paused = true)]
async fn checksums_count_only_where_they_were_agreed_on() {
    let digest = Digest::of(b"");
    let body = format!(
        r#"{{"BlockSize":524288,"Blocks":[{{"BlockIndex":3,"BlockToken":"a-_b","Checksum":"{}"}}],"ExpiryTime":1.790922504246E9,"NextToken":"next","VolumeSize":2}}"#,
        ebs::checksum(&digest)
    );
    let agreed = Answer::new(200, body.clone()).with("x-drystone-extensions", "block-checksums");
    let server = Scripted::answering([Answer::new(200, body), agreed]);
    let api = api(&server);
    let page = list(&api).await.unwrap();
    assert_eq!(page.blocks[0].digest, None);
    assert_eq!(page.blocks[0].token, "a-_b");
    assert_eq!(page.next.as_deref(), Some("next"));
    assert_eq!(page.volume_size.map(|size| size.gib()), Some(2));
    let token = PageStart::Token("a+b".to_owned());
    let page = api.list_blocks(&id(), token).await.unwrap();
    assert_eq!(page.blocks[0].digest, Some(digest));
    let asked = server.asked();
    assert!(
        asked[0]
            .target
            .ends_with("maxResults=10000&startingBlockIndex=0")
    );
    assert!(
        asked[1]
            .target
            .ends_with("maxResults=10000&pageToken=a%2Bb")
    );
}

#[tokio::test(start_paused = true)]
async fn changed_blocks_have_one_side_or_both() {
    let body = r#"{"BlockSize":null,"ChangedBlocks":[
        {"BlockIndex":1,"FirstBlockToken":"a","SecondBlockToken":"b"},
        {"BlockIndex":2,"SecondBlockToken":"c","FirstBlockToken":null},
        {"BlockIndex":9,"FirstBlockToken":"d"}],
        "LastEvaluatedBlockIndex":null,"NextToken":null,"VolumeSize":null}"#;
    let server = Scripted::answering([Answer::new(200, body)]);
    let api = api(&server);
    let start = PageStart::Index(BlockIndex::ZERO);
    let page = api.list_changed_blocks(&id(), &id(), start).await.unwrap();
    let side = |text: &str| Some((text.to_owned(), None));
    let expected = [
        (1, side("a"), side("b")),
        (2, None, side("c")),
        (9, side("d"), None),
    ];
    let found = page.blocks.into_iter();
    let found: Vec<_> = found
        .map(|block| (block.index.get(), block.first, block.second))
        .collect();
    assert_eq!(found, expected);
    assert_eq!((page.volume_size, page.next), (None, None));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_told_with_the_endpoint() {
    let html = |status| Answer::new(status, "<html>").with("Content-Type", "text/html");
    let bodies = [
        "",
        "{}",
        "[]",
        r#"{"Blocks":null}"#,
        r#"{"Blocks":[],"BlockSize":4096}"#,
        r#"{"Blocks":[],"VolumeSize":0}"#,
        r#"{"Blocks":[{"BlockIndex":-1,"BlockToken":"a"}]}"#,
        r#"{"Blocks":[{"BlockIndex":134217728,"BlockToken":"a"}]}"#,
        r#"{"Blocks":[{"BlockIndex":1,"BlockToken":"a"},{"BlockIndex":1,"BlockToken":"b"}]}"#,
    ];
    let bodies = bodies.map(|body| Answer::new(200, body));
    for answer in [html(200), html(404), html(301)].into_iter().chain(bodies) {
        let server = Scripted::answering([answer.clone()]);
        let (result, _, reading) = listed(&server).await;
        assert!(is_not_the_api(&result), "{answer:?}: {result:?}");
        assert_eq!(reading.retries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn errors_are_read_in_every_spelling() {
    let answers = [
        Answer::error(403, "AccessDeniedException", None, "no"),
        Answer::new(
            403,
            r#"{"__type":"a.b#AccessDeniedException","message":"no"}"#,
        ),
        Answer::new(403, r#"{"message":"no"}"#).with("x-amzn-ErrorType", "AccessDeniedException:"),
    ];
    for answer in answers {
        let answer = answer.with("x-amzn-RequestId", "request-1");
        let (result, ..) = listed(&Scripted::answering([answer.clone()])).await;
        let Err(Error::Refused(refusal)) = result else {
            panic!("{answer:?}: {result:?}");
        };
        assert_eq!(refusal.operation, "ListSnapshotBlocks");
        assert_eq!(refusal.code, "AccessDeniedException");
        assert_eq!(refusal.message, "no");
        assert_eq!(refusal.request_id.as_deref(), Some("request-1"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_allowed_for() {
    let wrong = |date: &str| {
        Answer::error(403, "InvalidSignatureException", None, "Signature expired")
            .with("Date", date)
    };
    // An hour after the clock of the test.
    let late = wrong("Fri, 25 Sep 2026 13:00:00 GMT");
    let server = Scripted::answering([late, empty_page(), empty_page()]);
    let api = api(&server);
    let begun = crate::instant::now();
    list(&api).await.unwrap();
    list(&api).await.unwrap();
    assert_eq!(crate::instant::now(), begun, "nothing to wait for");
    let asked = server.asked();
    let dates: Vec<_> = asked
        .iter()
        .map(|asked| asked.header("x-amz-date"))
        .collect();
    let (ours, theirs) = ("20260925T120000Z", "20260925T130000Z");
    assert_eq!(dates, [ours, theirs, theirs]);
    assert_eq!(NOW % 1_000, 0);

    let near = wrong("Fri, 25 Sep 2026 12:03:00 GMT");
    let (result, ..) = listed(&Scripted::answering([near])).await;
    assert!(
        is_refused(&result, "InvalidSignatureException"),
        "{result:?}"
    );
    // A server whose own clock runs wild does not keep us busy for ever.
    let hours =
        (0..20).map(|number| wrong(&format!("Fri, 25 Sep 2026 {:02}:00:00 GMT", number + 1)));
    let (result, _, reading) = listed(&Scripted::answering(hours)).await;
    assert!(result.is_err());
    assert!(reading.requests <= 10);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_allowed_for_by_all_that_were_on_their_way() {
    let wrong = Answer::error(403, "InvalidSignatureException", None, "Signature expired");
    // Each is signed before the first answer comes; one of them has no time in it.
    let dated = wrong.clone().with("Date", "Fri, 25 Sep 2026 13:00:00 GMT");
    let mut answers = vec![dated; 7];
    answers.push(wrong);
    answers.extend(vec![empty_page(); 8]);
    let acts = answers.into_iter();
    let acts = acts.map(|answer| Act::Slowly(answer, 4_096, Duration::from_millis(1)));
    let server = Scripted::new(acts);
    let api = api(&server);
    let lists = (0..8).map(|_| list(&api));
    for result in futures_util::future::join_all(lists).await {
        assert!(result.is_ok(), "{result:?}");
    }
    let asked = server.asked();
    let late = |asked: &crate::testing::Asked| asked.header("x-amz-date") == "20260925T130000Z";
    let late: Vec<_> = asked.iter().map(late).collect();
    assert_eq!(late, [[false; 8], [true; 8]].concat());
}

fn xml(text: &str) -> Answer {
    Answer::new(200, text).with("Content-Type", "text/xml;charset=UTF-8")
}

fn ec2_error(status: u16, code: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
         <Message>It &lt;is&gt; so</Message></Error></Errors><RequestID>r-1</RequestID></Response>"
    );
    Answer::new(status, body)
}

const DELETED: &str = "<DeleteSnapshotResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
    <requestId>r</requestId><return>true</return></DeleteSnapshotResponse>";

#[tokio::test(start_paused = true)]
async fn a_delete_without_an_answer_may_have_been_one() {
    let gone = || Act::Answer(ec2_error(400, "InvalidSnapshot.NotFound"));
    let cases = [
        (vec![Act::Answer(xml(DELETED))], true),
        (vec![Act::Close, gone()], true),
        (vec![Act::Answer(Answer::new(502, "")), gone()], true),
        (vec![gone()], false),
        // What a connection that had waited did not answer may have been done as well.
        (vec![Act::Last(xml(DELETED)), gone()], true),
        (
            vec![Act::Answer(ec2_error(503, "RequestLimitExceeded")), gone()],
            false,
        ),
    ];
    // What was not even sent has not been done.
    let server = Scripted::new([gone()]).refusing(1);
    let result = api(&server).delete_snapshot(&id()).await;
    assert!(
        is_refused(&result, "InvalidSnapshot.NotFound"),
        "{result:?}"
    );
    for (acts, is_done) in cases {
        let server = Scripted::new(acts.clone());
        let api = api(&server);
        if matches!(acts[0], Act::Last(_)) {
            api.delete_snapshot(&id()).await.unwrap();
        }
        let result = api.delete_snapshot(&id()).await;
        match is_done {
            true => assert!(result.is_ok(), "{acts:?}: {result:?}"),
            false => assert!(
                is_refused(&result, "InvalidSnapshot.NotFound"),
                "{acts:?}: {result:?}"
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_just_started_is_deleted_once_it_is_known() {
    let started = Answer::new(201, r#"{"SnapshotId":"snap-0123456789abcdef0"}"#);
    let unknown = || ec2_error(400, "InvalidSnapshot.NotFound");
    let mut answers = vec![started];
    answers.extend(vec![unknown(); 11]);
    answers.push(xml(DELETED));
    let server = Scripted::answering(answers);
    let api = api(&server);
    api.start_snapshot(&start()).await.unwrap();
    api.delete_snapshot(&id()).await.unwrap();
    assert_eq!(server.asked().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn errors_of_ec2_and_sts_are_read() {
    let server = Scripted::answering([ec2_error(403, "UnauthorizedOperation")]);
    let result = api(&server).delete_snapshot(&id()).await;
    let Err(Error::Refused(refusal)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(refusal.code, "UnauthorizedOperation");
    assert_eq!(refusal.message, "It <is> so");
    assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>\
        <Message>no</Message></Error><RequestId>r-2</RequestId></ErrorResponse>";
    let server = Scripted::answering([Answer::new(403, body)]);
    let result = api(&server).caller_account().await.map(|_| ());
    assert!(is_refused(&result, "InvalidClientTokenId"), "{result:?}");
    let server = Scripted::answering([ec2_error(503, "RequestLimitExceeded"), xml(DELETED)]);
    let api = api(&server);
    api.delete_snapshot(&id()).await.unwrap();
    assert_eq!(api.meter().read().throttled, 1);
}

#[tokio::test(start_paused = true)]
async fn descriptions_are_read_page_by_page() {
    let item = |id: &str, more: &str| {
        format!("<item><snapshotId>{id}</snapshotId><status>completed</status>{more}</item>")
    };
    let page = |items: &str, next: &str| {
        xml(&format!(
            "<DescribeSnapshotsResponse><requestId>r</requestId><snapshotSet>{items}</snapshotSet>{next}</DescribeSnapshotsResponse>"
        ))
    };
    let whole = "<volumeId>vol-ffffffff</volumeId><startTime>2026-09-25T11:57:20.570Z</startTime>\
        <progress>100%</progress><ownerId>123456789012</ownerId><volumeSize>8</volumeSize>\
        <description>a &amp; b &#233;</description><encrypted>true</encrypted><kmsKeyId>arn</kmsKeyId>\
        <tagSet><item><key>k</key><value/></item><item><key>l</key><value>m</value></item></tagSet>\
        <fullSnapshotSizeInBytes>2097152</fullSnapshotSizeInBytes>\
        <drystone><parentSnapshotId>snap-0b</parentSnapshotId><uniqueBytes>7</uniqueBytes></drystone>";
    let first = page(&item("snap-0a", whole), "<nextToken>n/1</nextToken>")
        .with("x-drystone-extensions", "lineage");
    let second = page(&item("snap-0c", "<drystone/>"), "<nextToken/>");
    let server = Scripted::answering([first, second]);
    let api = api(&server);
    let mut found = Vec::new();
    api.describe_snapshots(&Which::Own, &mut |description| found.push(description))
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].start_time, Some(NOW - 159_430));
    assert_eq!(found[0].description, "a & b \u{e9}");
    assert!(found[0].encrypted);
    assert_eq!(found[0].tags.len(), 2);
    assert_eq!(found[0].volume_size.map(|size| size.gib()), Some(8));
    let lineage = found[0].lineage.as_ref().unwrap();
    assert_eq!(lineage.parent, Some("snap-0b".parse().unwrap()));
    assert_eq!(lineage.unique_bytes, Some(7));
    assert_eq!(found[1].lineage, None, "not agreed on");
    let asked = server.asked();
    let body =
        "Action=DescribeSnapshots&Version=2016-11-15&MaxResults=1000&NextToken=n%2F1&Owner.1=self";
    assert_eq!(asked[1].text(), body);
    assert_eq!(asked[1].header("x-drystone-extensions"), "lineage");
}

#[tokio::test(start_paused = true)]
async fn pages_of_descriptions_end() {
    let page = xml(
        "<DescribeSnapshotsResponse><snapshotSet/><nextToken>n</nextToken></DescribeSnapshotsResponse>",
    );
    let server = Scripted::answering(vec![page; 3]);
    let result = api(&server)
        .describe_snapshots(&Which::Own, &mut |_| {})
        .await;
    assert!(is_not_the_api(&result), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn xml_that_is_no_answer_is_told() {
    let deep = "<a>".repeat(100);
    let bodies = [
        "",
        "<html><body>Sign in</body></html>",
        "<DeleteSnapshotResponse><return>false</return></DeleteSnapshotResponse>",
        "<DeleteSnapshotResponse><return>true",
        "<DeleteSnapshotResponse><return>&lol;</return></DeleteSnapshotResponse>",
        "\u{feff}{}",
        deep.as_str(),
    ];
    for body in bodies {
        let server = Scripted::answering([xml(body)]);
        let result = api(&server).delete_snapshot(&id()).await;
        assert!(is_not_the_api(&result), "{body}: {result:?}");
    }
}
