//! Putting and getting blocks.

use super::*;
use std::collections::HashMap;

async fn put(server: &Scripted, data: Vec<u8>, digest: Digest) -> (Result<(), Error>, Reading) {
    let api = api(server);
    let result = api.put_block(&id(), index(7), data.into(), digest).await;
    let reading = api.meter().read();
    assert_eq!(reading.in_flight, 0);
    (result, reading)
}

async fn get(server: &Scripted, expected: Option<Digest>) -> (Result<Digest, Error>, Reading) {
    let api = api(server);
    let result = api.get_block(&id(), index(7), "to+ken=", expected).await;
    let result = result.map(|block| {
        assert_eq!(block.digest, Digest::of(&block.data));
        block.digest
    });
    let reading = api.meter().read();
    assert_eq!((reading.in_flight, api.buffers().in_use()), (0, 0));
    (result, reading)
}

fn done() -> Answer {
    Answer::new(201, "{}")
}

fn mismatch() -> Answer {
    let message = "The value passed in as x-amz-Checksum does not match the computed checksum. \
                   Computed checksum: X expected checksum: Y";
    Answer::error(403, "InvalidSignatureException", None, message)
}

#[tokio::test(start_paused = true)]
async fn a_put_is_signed_with_its_checksum_and_sent_as_it_is() {
    let server = Scripted::answering([done()]);
    let options = ApiOptions::default();
    let api = api_at(&server, "http://drystone.test:8080/some/path/", options);
    let data = data(1);
    let digest = Digest::of(&data);
    api.put_block(&id(), index(7), data.clone().into(), digest)
        .await
        .unwrap();
    let asked = &server.asked()[0];
    assert_eq!(asked.method, "PUT");
    let target = "/some/path/snapshots/snap-0123456789abcdef0/blocks/7";
    assert_eq!(asked.target, target);
    assert!(asked.body == data);
    assert_eq!(asked.header("host"), "drystone.test:8080");
    assert_eq!(asked.header("user-agent"), "drystone/0.0.0");
    assert_eq!(asked.header("x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
    assert_eq!(asked.header("x-amz-data-length"), "524288");
    assert_eq!(asked.header("content-length"), "524288");
    assert_eq!(asked.header("x-amz-checksum"), ebs::checksum(&digest));
    let signed = "SignedHeaders=host;x-amz-checksum;x-amz-checksum-algorithm;x-amz-content-sha256;\
                  x-amz-data-length;x-amz-date,";
    let authorization = asked.header("authorization");
    assert!(authorization.contains(signed), "{authorization}");
    let reading = api.meter().read();
    assert_eq!((reading.bytes, reading.requests), (524_288, 1));
    assert!(reading.p50.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_put_that_was_not_read_or_was_damaged_is_repeated() {
    let data = data(1);
    let digest = Digest::of(&data);
    let unread = Answer::error(
        400,
        "ValidationException",
        Some("INVALID_PARAMETER_VALUE"),
        "Failed to read block data",
    );
    let other = done().with("x-amz-Checksum", ebs::checksum(&Digest::of(b"other")));
    for failure in [unread, mismatch(), other, fault()] {
        let server = Scripted::answering([failure.clone(), done()]);
        let (result, reading) = put(&server, data.clone(), digest).await;
        assert!(result.is_ok(), "{failure:?}: {result:?}");
        assert_eq!((reading.requests, reading.retries), (2, 1), "{failure:?}");
        assert_eq!(reading.bytes, 2 * 524_288, "{failure:?}");
        assert!(server.asked()[1].body == data);
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_is_always_damaged_is_corrupt() {
    let data = data(1);
    let digest = Digest::of(&data);
    let server = Scripted::answering(vec![mismatch(); 10]);
    let (result, reading) = put(&server, data, digest).await;
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    assert_eq!(reading.requests, 10);
}

#[tokio::test(start_paused = true)]
async fn data_that_changed_in_memory_is_not_sent_again() {
    let server = Scripted::answering([mismatch(), done()]);
    let (result, reading) = put(&server, data(1), Digest::of(&data(2))).await;
    assert!(
        matches!(&result, Err(Error::Unfit(text)) if text.contains("memory")),
        "{result:?}"
    );
    assert_eq!(reading.requests, 1);
}

#[tokio::test(start_paused = true)]
async fn other_refusals_of_a_put_are_final_also_early_ones() {
    let data = data(1);
    let digest = Digest::of(&data);
    let sealed = Answer::error(
        400,
        "ValidationException",
        Some("INVALID_SNAPSHOT_ID"),
        "Snapshot is already completed",
    );
    let early = sealed.clone().with("Connection", "close");
    for act in [Act::Answer(sealed), Act::Early(early)] {
        let server = Scripted::new([act.clone(), Act::Answer(done())]);
        let (result, reading) = put(&server, data.clone(), digest).await;
        assert!(
            is_refused(&result, "ValidationException"),
            "{act:?}: {result:?}"
        );
        assert_eq!(reading.requests, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_just_started_may_be_unknown_for_a_while() {
    let unknown = || {
        Answer::error(
            404,
            "ResourceNotFoundException",
            Some("SNAPSHOT_NOT_FOUND"),
            "The snapshot does not exist.",
        )
    };
    let started = || Answer::new(201, r#"{"SnapshotId":"snap-0123456789abcdef0"}"#);
    let data = data(1);
    let digest = Digest::of(&data);
    let put = async |api: &Api| {
        api.put_block(&id(), index(0), data.clone().into(), digest)
            .await
    };
    let mut answers = vec![started()];
    answers.extend(vec![unknown(); 11]);
    answers.push(done());
    let server = Scripted::answering(answers);
    let known_late = api(&server);
    known_late.start_snapshot(&start()).await.unwrap();
    put(&known_late).await.unwrap();
    assert_eq!(known_late.meter().read().retries, 11);

    // One without blocks is completed right after its start.
    let completed = Answer::new(202, r#"{"Status":"pending"}"#);
    let server = Scripted::answering([started(), unknown(), completed]);
    let empty = api(&server);
    empty.start_snapshot(&start()).await.unwrap();
    empty
        .complete_snapshot(&id(), 0, Digest::of(b""))
        .await
        .unwrap();

    let mut answers = vec![started()];
    answers.extend(vec![unknown(); 100]);
    let server = Scripted::answering(answers);
    let never_known = api(&server);
    never_known.start_snapshot(&start()).await.unwrap();
    let begun = crate::instant::now();
    let result = put(&never_known).await;
    assert!(
        is_refused(&result, "ResourceNotFoundException"),
        "{result:?}"
    );
    let took = crate::instant::now().duration_since(begun);
    assert!((130.0..151.0).contains(&took.as_secs_f64()), "{took:?}");

    // A server of ours knows at once what it has started.
    let ours = started().with("x-drystone-extensions", "lineage");
    let server = Scripted::answering([ours, unknown(), done()]);
    let ours = api(&server);
    ours.start_snapshot(&start()).await.unwrap();
    let result = put(&ours).await;
    assert!(
        is_refused(&result, "ResourceNotFoundException"),
        "{result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_put_by_digest_sends_no_data_and_takes_no_for_an_answer() {
    let required = Answer::error(412, "BlockDataRequired", None, "Send its data.");
    let server = Scripted::answering([done(), required]);
    let api = api(&server);
    let digest = Digest::of(&data(1));
    let put = async || api.put_by_digest(&id(), index(7), digest).await.unwrap();
    assert_eq!(put().await, PutByDigest::Done);
    assert_eq!(put().await, PutByDigest::DataRequired);
    let asked = &server.asked()[0];
    assert_eq!(asked.header("x-drystone-put"), "by-digest");
    assert_eq!(asked.header("content-length"), "0");
    assert_eq!(asked.header("x-amz-data-length"), "524288");
    let signed =
        "x-amz-checksum;x-amz-checksum-algorithm;x-amz-data-length;x-amz-date;x-drystone-put";
    assert!(asked.header("authorization").contains(signed));
    assert_eq!(api.meter().read().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_block_comes_with_its_checksum_verified() {
    let data = data(1);
    let digest = Digest::of(&data);
    let server = Scripted::answering([Answer::block(&data)]);
    let (result, reading) = get(&server, Some(digest)).await;
    assert_eq!(result.unwrap(), digest);
    assert_eq!((reading.bytes, reading.requests), (524_288, 1));
    assert!(reading.p50.is_some());
    let target = "/snapshots/snap-0123456789abcdef0/blocks/7?blockToken=to%2Bken%3D";
    assert_eq!(server.asked()[0].target, target);
}

#[tokio::test(start_paused = true)]
async fn damaged_blocks_are_got_again() {
    let data = data(1);
    let digest = Digest::of(&data);
    let mut damaged = data.clone();
    damaged[400_000] ^= 1;
    let announced = |data: &[u8]| {
        Answer::new(200, data)
            .with("x-amz-Data-Length", 524_288)
            .with("x-amz-Checksum-Algorithm", "SHA256")
            .with("x-amz-Checksum", ebs::checksum(&digest))
    };
    let cases = [
        Act::Answer(announced(&damaged)),
        Act::Answer(announced(&data[..BLOCK_BYTES - 1])),
        Act::Part(announced(&data), 300_000),
        Act::Stall(announced(&data), 300_000),
        Act::Answer(Answer::block(&damaged)),
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let server = Scripted::new([case, Act::Answer(Answer::block(&data))]);
        let (result, reading) = get(&server, Some(digest)).await;
        assert_eq!(result.unwrap(), digest, "case {number}");
        assert_eq!(reading.retries, 1, "case {number}");
    }
    let server = Scripted::answering(vec![announced(&damaged); 10]);
    let (result, reading) = get(&server, None).await;
    assert!(
        matches!(result, Err(Error::Corrupt { index, .. }) if index.get() == 7),
        "{result:?}"
    );
    assert_eq!(reading.requests, 10);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_block_is_none_of_this_api() {
    let data = data(1);
    let bare = Answer::new(200, data.clone());
    let odd = Answer::new(200, &data[..100])
        .with("x-amz-Data-Length", 100)
        .with("x-amz-Checksum-Algorithm", "SHA256")
        .with("x-amz-Checksum", ebs::checksum(&Digest::of(&data[..100])));
    let mut long = data.clone();
    long.push(0);
    for answer in [bare, odd, Answer::block(&long)] {
        let server = Scripted::answering([answer]);
        let (result, _) = get(&server, None).await;
        assert!(is_not_the_api(&result), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_does_not_fit_is_told() {
    let invalid = Answer::error(
        400,
        "ValidationException",
        Some("INVALID_BLOCK_TOKEN"),
        "The block token X is invalid.",
    );
    let (result, reading) = get(&Scripted::answering([invalid]), None).await;
    assert!(
        matches!(&result, Err(Error::Refused(refusal)) if refusal.reason.as_deref() == Some("INVALID_BLOCK_TOKEN")),
        "{result:?}"
    );
    assert_eq!(reading.retries, 0);
}

/// How getting block 7 ends, how often it was asked for, and how long that took. Others come every so often, if any do.
async fn failing(
    answers: HashMap<&'static str, Vec<Answer>>,
    others: Option<Duration>,
) -> (Result<GotBlock, Error>, usize, Duration) {
    let server = Scripted::by_target(answers);
    let api = api(&server);
    let id = id();
    let begun = crate::instant::now();
    let coming = async {
        match others {
            None => std::future::pending().await,
            Some(pause) => loop {
                api.get_block(&id, index(8), "other", None).await.unwrap();
                tokio::time::sleep(pause).await;
            },
        }
    };
    let result = tokio::select! {
        result = api.get_block(&id, index(7), "token", None) => result,
        () = coming => unreachable!(),
    };
    let took = crate::instant::now().duration_since(begun);
    let asked = server.asked();
    let count = asked.iter().filter(|asked| asked.target.contains("/7?"));
    (result, count.count(), took)
}

fn is_lost(result: &Result<GotBlock, Error>) -> bool {
    matches!(result, Err(Error::Unreadable { index, refusal, .. }) if index.get() == 7 && refusal.status == 500)
}

#[tokio::test(start_paused = true)]
async fn a_block_that_fails_for_long_while_others_come_is_lost() {
    let good = Answer::block(&data(1));
    let others = || ("/8?", vec![good.clone()]);
    let often = Some(Duration::from_millis(300));
    let answers = HashMap::from([("/7?", vec![fault()]), others()]);
    let (result, _, took) = failing(answers, often).await;
    assert!(is_lost(&result), "{result:?}");
    assert!((15.0..60.0).contains(&took.as_secs_f64()), "{took:?}");

    // A server that fails now and then for a while.
    let mut passing = vec![fault(); 8];
    passing.push(good.clone());
    let answers = HashMap::from([("/7?", passing), others()]);
    let (result, attempts, _) = failing(answers, often).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(attempts, 9);

    let unavailable = Answer::error(503, "ServiceUnavailable", None, "later");
    let answers = HashMap::from([("/7?", vec![unavailable]), others()]);
    let (result, attempts, _) = failing(answers, often).await;
    assert!(
        matches!(&result, Err(Error::Unreachable { .. })),
        "{result:?}"
    );
    assert_eq!(attempts, 10);
}

#[tokio::test(start_paused = true)]
async fn while_a_server_gives_nothing_no_block_is_lost() {
    // Each of many, and one alone whose server does not list either.
    let server = Scripted::answering(vec![fault(); 200]);
    let api = api(&server);
    let id = id();
    let gets = (0..4).map(|number| api.get_block(&id, index(number), "token", None));
    let results = futures_util::future::join_all(gets).await;
    let is_unreachable = |result: &Result<GotBlock, Error>| matches!(result, Err(Error::Unreachable { refusal: Some(refusal), .. }) if refusal.status == 500);
    assert!(results.iter().all(is_unreachable), "{results:?}");
    let (result, ..) = failing(
        HashMap::from([("/7?", vec![fault()]), ("/blocks?", vec![fault()])]),
        None,
    )
    .await;
    assert!(is_unreachable(&result), "{result:?}");
    let listing = HashMap::from([("/7?", vec![fault()]), ("/blocks?", vec![empty_page()])]);
    let (result, _, took) = failing(listing, None).await;
    assert!(is_lost(&result), "{result:?}");
    assert!((15.0..60.0).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_block_that_a_server_of_ours_names_as_damaged_is_lost() {
    let named = |index: u32| {
        let text = format!("Block {index} of the snapshot '{}' is damaged.", id());
        Answer::error(500, "InternalServerException", None, &text)
    };
    let (result, attempts, took) = failing(HashMap::from([("/7?", vec![named(7)])]), None).await;
    assert!(is_lost(&result), "{result:?}");
    assert_eq!(attempts, 2);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (result, attempts, _) = failing(HashMap::from([("/7?", vec![named(8)])]), None).await;
    assert!(!is_lost(&result), "{result:?}");
    assert!(attempts >= 5);
}

#[tokio::test(start_paused = true)]
async fn throttled_blocks_make_room() {
    let data = data(1);
    let throttled = Answer::error(
        400,
        "RequestThrottledException",
        Some("RESOURCE_LEVEL_THROTTLE"),
        "Rate exceeded",
    );
    let server = Scripted::answering([throttled, Answer::block(&data)]);
    let (result, reading) = get(&server, None).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((reading.throttled, reading.in_flight_limit), (1, 4));
}
