//! Connections that break, stall and are slow, and servers that fail for a while.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_passes_is_repeated() {
    let html = Answer::new(502, "<html>").with("Content-Type", "text/html");
    let cases = [
        Act::Answer(fault()),
        Act::Answer(html),
        Act::Answer(Answer::new(503, "")),
        Act::Answer(Answer::error(408, "RequestTimeoutException", None, "slow")),
        Act::Close,
        Act::Part(empty_page(), 10),
        Act::Part(empty_page(), empty_page_bytes() - 1),
        Act::Stall(empty_page(), 0),
        Act::Stall(empty_page(), 30),
    ];
    for case in cases {
        let server = Scripted::new([case.clone(), Act::Answer(empty_page())]);
        let (result, _, reading) = listed(&server).await;
        assert!(result.is_ok(), "{case:?}: {result:?}");
        assert_eq!((reading.requests, reading.retries), (2, 1), "{case:?}");
        assert_eq!(reading.throttled, 0, "{case:?}");
    }
}

/// Head and body, as the scripted server writes them.
fn empty_page_bytes() -> usize {
    let body = r#"{"Blocks":[],"BlockSize":524288,"VolumeSize":1}"#;
    "HTTP/1.1 200 Thus\r\nContent-Length: 47\r\n\r\n".len() + body.len()
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_given_up_after_so_many_attempts() {
    let server = Scripted::new(vec![Act::Answer(fault()); 20]);
    let (result, took, reading) = listed(&server).await;
    assert!(is_unreachable(&result, 10), "{result:?}");
    assert_eq!((reading.requests, reading.retries), (10, 9));
    assert!(took < Duration::from_secs(26), "{took:?}");
    let text = result.unwrap_err().to_string();
    assert!(text.contains("InternalServerException"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_for_a_moment_is_waited_for() {
    let server = Scripted::answering([empty_page()]).refusing(3);
    let (result, _, reading) = listed(&server).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(reading.retries, 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_moving_is_noticed_after_just_that_long() {
    let server = Scripted::new([Act::Stall(empty_page(), 40), Act::Answer(empty_page())]);
    let (result, took, _) = listed(&server).await;
    assert!(result.is_ok(), "{result:?}");
    assert!((20.0..20.2).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_is_not_stalled_but_has_its_limit() {
    let slowly = |bytes| Act::Slowly(empty_page(), bytes, Duration::from_secs(15));
    let (result, took, reading) = listed(&Scripted::new([slowly(20)])).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(reading.retries, 0);
    assert!(took > Duration::from_secs(45), "{took:?}");
    let server = Scripted::new([slowly(2), Act::Answer(empty_page())]);
    let (result, took, reading) = listed(&server).await;
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(reading.retries, 1);
    assert!((120.0..120.2).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_stand_in_time_is_given_up() {
    let server = Scripted::default();
    let never: crate::transport::Dial = Arc::new(|_| Box::pin(std::future::pending()));
    let options = ApiOptions {
        attempts_max: 1,
        ..ApiOptions::default()
    };
    let api = crate::testing::api_over(never, "http://drystone.test:8080", options);
    let begun = crate::instant::now();
    let result = list(&api).await.map(|_| ());
    let took = crate::instant::now().duration_since(begun);
    assert!(is_unreachable(&result, 1), "{result:?}");
    assert_eq!(took.as_secs(), 5);
    assert_eq!(server.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out_as_long_as_the_server_asks_up_to_a_minute() {
    let throttled = |millis: u64| {
        Answer::error(400, "ThrottlingException", None, "Rate exceeded")
            .with("x-amz-retry-after", millis)
    };
    for (asked, waited) in [(5_000, 5), (600_000, 60)] {
        let server = Scripted::answering([throttled(asked), empty_page()]);
        let (result, took, reading) = listed(&server).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!((reading.retries, reading.throttled), (1, 1));
        assert_eq!(took.as_secs(), waited);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_used_again_one_request_after_the_other() {
    let server = Scripted::answering([empty_page(), empty_page(), empty_page()]);
    let api = api(&server);
    for _ in 0..3 {
        list(&api).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    let (one, two) = (list(&api), list(&api));
    let _ = tokio::join!(one, two);
    assert_eq!(server.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closed_while_it_waited_costs_nothing() {
    for first in [
        Act::Last(empty_page()),
        Act::Answer(empty_page().with("Connection", "close")),
    ] {
        let server = Scripted::new([first, Act::Answer(empty_page())]);
        let api = api(&server);
        list(&api).await.unwrap();
        list(&api).await.unwrap();
        assert_eq!(server.connections(), 2);
        let reading = api.meter().read();
        assert_eq!((reading.requests, reading.retries), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_too_long_is_closed() {
    let server = Scripted::answering([empty_page(), empty_page()]);
    let api = api(&server);
    list(&api).await.unwrap();
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(server.ended(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.ended(), 1);
    list(&api).await.unwrap();
    assert_eq!(server.connections(), 2);
    drop(api);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(server.ended(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_closes_its_connection() {
    let server = Scripted::new([Act::Stall(empty_page(), 40)]);
    let api = api(&server);
    let waited = tokio::time::timeout(Duration::from_secs(1), list(&api)).await;
    assert!(waited.is_err());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(server.ended(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_none_of_this_api() {
    let server = Scripted::answering([Answer::new(200, vec![b' '; 17 * 1024 * 1024])]);
    let (result, _, reading) = listed(&server).await;
    assert!(is_not_the_api(&result), "{result:?}");
    assert_eq!(reading.retries, 0);
}
