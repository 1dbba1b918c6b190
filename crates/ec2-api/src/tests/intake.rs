//! What every request goes through: authentication, parameters, headers, and whatever else may arrive.

use super::{EC2, HOST_NAME, World, request};
use crate::error::{ApiError, Code};
use crate::ops::Action;
use crate::response::response;
use crate::service::Service;
use crate::{Ec2Api, Operation};
use auth::{AccessKeyId, RequestHead, RequestId};
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt, Full};
use proptest::prelude::{ProptestConfig, any};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::time::Duration;
use types::{Clock, Digest, Random};

#[tokio::test]
async fn headers_are_those_of_ec2() {
    let world = World::new().await;
    let ok = world.ec2("Action=DescribeTags").await;
    let refused = world.ec2("Action=Nothing").await;
    assert_eq!(refused.operation.0, "Unknown");
    for answer in [ok, refused] {
        for (name, value) in [
            ("content-type", "text/xml;charset=UTF-8"),
            ("cache-control", "no-cache, no-store"),
            (
                "strict-transport-security",
                "max-age=31536000; includeSubDomains",
            ),
            ("vary", "accept-encoding"),
            ("server", "AmazonEC2"),
        ] {
            assert_eq!(answer.headers[name], value);
        }
    }
}

#[tokio::test]
async fn actions_versions_and_parameters_must_be_known() {
    let world = World::new().await;
    for (form, code, message) in [
        (
            "Action=RunInstances&Version=2016-11-15",
            "InvalidAction",
            "The action RunInstances is not valid for this web service.",
        ),
        (
            "Version=2016-11-15",
            "MissingAction",
            "No action was supplied with this request",
        ),
        (
            "Action=DescribeTags",
            "MissingParameter",
            "The request must contain the parameter Version",
        ),
        (
            "Action=DescribeTags&Version=1",
            "NoSuchVersion",
            "The requested version (1) of service AmazonEC2 does not exist",
        ),
        (
            "Action=DescribeTags&Version=2016-11-15&Filters.1.Name=a",
            "UnknownParameter",
            "The parameter Filters.1.Name is not recognized",
        ),
        (
            "Action=DescribeTags&Action=DescribeTags",
            "MalformedQueryString",
            "The parameter Action is given more than once.",
        ),
        (
            "",
            "MissingAction",
            "No action was supplied with this request",
        ),
    ] {
        let answer = world.post(&world.caller, "ec2", form).await;
        assert_eq!((answer.refusal(), answer.one("Message")), (code, message));
        assert_eq!(answer.status, 400);
    }
}

#[tokio::test]
async fn a_request_by_get_is_the_same_request() {
    let world = World::new().await;
    let id = world.start(&[("k", "a+b c")]).await;
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static(HOST_NAME));
    let query =
        "Action=DescribeTags&Version=2016-11-15&Filter.1.Name=value&Filter.1.Value.1=a%2Bb%20c";
    let head = RequestHead {
        method: "GET",
        path: "/",
        query: Some(query),
        headers: &headers,
    };
    let signer = world.signer(&world.caller, "ec2");
    let query = signer
        .presign(&head, Digest::of(b""), 60, world.clock.now())
        .unwrap();
    let answer = world
        .send(request(
            Method::GET,
            &format!("/?{query}"),
            headers.clone(),
            "",
        ))
        .await;
    assert_eq!(answer.one("resourceId"), id.to_string());
    let altered = query.replace("DescribeTags", "DescribeRegions");
    let answer = world
        .send(request(
            Method::GET,
            &format!("/?{altered}"),
            headers.clone(),
            "",
        ))
        .await;
    assert_eq!(answer.refusal(), "SignatureDoesNotMatch");
    let answer = world.send(request(Method::PUT, "/", headers, "")).await;
    assert_eq!(answer.refusal(), "InvalidAction");
}

#[tokio::test]
async fn each_fault_of_a_signature_has_its_code_in_ec2() {
    let world = World::new().await;
    let form = format!("{EC2}Action=DescribeTags");
    let signed = || world.signed(&world.caller, "ec2", &form);

    let mut none = signed();
    none.headers_mut().remove(AUTHORIZATION);
    let mut partial = signed();
    let value = HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=a/b/c/ec2/d");
    partial.headers_mut().insert(AUTHORIZATION, value);
    let mut body = signed();
    *body.body_mut() = Full::new(Bytes::from_static(b"Action=DescribeRegions"));
    let mut unsigned = signed();
    unsigned.headers_mut().insert(
        "x-amz-content-sha256",
        HeaderValue::from_static("UNSIGNED-PAYLOAD"),
    );
    let mut unknown = world.caller.clone();
    unknown.id = AccessKeyId::generate(&world.random);
    let mut wrong = world.caller.clone();
    wrong.secret = world.stranger.secret.clone();
    for (request, code, status) in [
        (none, "MissingAuthenticationToken", 403),
        (partial, "IncompleteSignature", 400),
        (body, "SignatureDoesNotMatch", 403),
        (unsigned, "AuthFailure", 401),
        (
            world.signed(&unknown, "ec2", &form),
            "InvalidClientTokenId",
            403,
        ),
        (
            world.signed(&wrong, "ec2", &form),
            "SignatureDoesNotMatch",
            403,
        ),
        (
            world.signed(&world.caller, "ebs", &form),
            "AuthFailure",
            401,
        ),
    ] {
        let answer = world.send(request).await;
        assert_eq!(answer.refusal(), code);
        assert_eq!(answer.status, status, "{code}");
    }
    let old = signed();
    world.clock.advance(Duration::from_secs(301));
    let answer = world.send(old).await;
    assert_eq!(
        (answer.refusal(), answer.status.as_u16()),
        ("RequestExpired", 400)
    );
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let world = World::new().await;
    let form = format!("{EC2}Action=DescribeTags&a={}", "x".repeat(1024 * 1024));
    let answer = world.post(&world.caller, "ec2", &form).await;
    assert_eq!(answer.refusal(), "RequestEntityTooLarge");
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn every_code_is_answered_in_both_forms() {
    let request_id = RequestId::generate(&Random::seeded(1));
    let mut names = std::collections::HashSet::new();
    for code in Code::ALL {
        assert!(names.insert(code.name()), "{code:?}");
        for service in [Service::Ec2, Service::Sts] {
            let error = ApiError::new(code, "<why>");
            let answer = response(service, request_id, Operation("DescribeTags"), Err(error));
            assert_eq!(answer.status(), code.status());
            assert!(code.status().is_client_error() || code.status().is_server_error());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let inside = format!(
                "<Code>{}</Code><Message>&lt;why&gt;</Message></Error>",
                code.name()
            );
            assert!(body.contains(&inside), "{body}");
        }
    }
}

#[test]
fn causes_stay_inside() {
    let error = ApiError::from(engine::Error::Internal {
        reason: "page 7 at /secret".to_owned(),
    });
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::InternalError, "An internal error has occurred")
    );
    assert!(error.cause.unwrap().contains("/secret"));
}

#[test]
fn a_request_can_be_handled_on_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    fn check(api: &Ec2Api, request: http::Request<Full<Bytes>>, request_id: RequestId) {
        is_send(&api.handle(request, request_id));
    }
    let _ = check;
}

/// Values that reach far into the actions.
fn forms() -> impl Strategy<Value = String> {
    let name = "(Action|Version|SnapshotId\\.[1-3]|Filter\\.[12]\\.(Name|Value\\.[12])|Owner\\.1|RestorableBy\\.1|MaxResults\
        |NextToken|DryRun|ResourceId\\.[12]|Tag\\.[12]\\.(Key|Value)|SnapshotId|RegionName\\.1|AllRegions|[A-Za-z.0-9]{0,8})";
    let value = "(Describe(Snapshots|Tags|Regions)|(Create|Delete)Tags|DeleteSnapshot|GetCallerIdentity|2016-11-15|self|all\
        |snap-0[0-9a-f]{16}|status|tag:a|tag-key|key|value|resource-id|snapshot-id|volume-size|true|[0-9]{1,4}|%[0-9a-f]{2}|.{0,6})";
    let pair = (name, value).prop_map(|(name, value)| format!("{name}={value}"));
    let action = "Action=(Describe(Snapshots|Tags|Regions)|(Create|Delete)Tags|DeleteSnapshot)&Version=2016-11-15";
    (action, any::<bool>(), proptest::collection::vec(pair, 0..8)).prop_map(
        |(action, known, pairs)| {
            let pairs = pairs.join("&");
            if known {
                format!("{action}&{pairs}")
            } else {
                pairs
            }
        },
    )
}

#[tokio::test]
async fn whatever_arrives_is_answered() {
    let world = World::new().await;
    world.start(&[("a", "b")]).await;
    let mut runner = TestRunner::new(ProptestConfig::default());
    for _ in 0..300 {
        let form = forms().new_tree(&mut runner).unwrap().current();
        let answer = world.post(&world.caller, "ec2", &form).await;
        assert!(!answer.status.is_server_error(), "{form}: {}", answer.body);
        let raw = any::<Vec<u8>>().new_tree(&mut runner).unwrap().current();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(HOST_NAME));
        if let Ok(value) = HeaderValue::from_bytes(&raw) {
            headers.insert(AUTHORIZATION, value);
        }
        let answer = world.send(request(Method::POST, "/", headers, &form)).await;
        assert!(answer.status.is_client_error());
    }
}

/// SPEC 7.1: SDKs retry both, and wait as long as they are told.
#[tokio::test]
async fn there_is_an_answer_without_room_for_the_request() {
    let world = World::new().await;
    for (service, status, code) in [
        ("ec2", 503, "<Code>RequestLimitExceeded</Code>"),
        ("sts", 400, "<Code>Throttling</Code>"),
    ] {
        let request = world.signed(&world.caller, service, "");
        let id = RequestId::generate(&world.random);
        let response = world.api.throttle(request.headers(), None, id);
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-amz-retry-after"], "1000");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(code), "{body}");
    }
}

#[tokio::test]
async fn answers_hold_memory_until_they_are_sent_and_calls_beyond_it_are_throttled() {
    let world = World::new().await;
    let in_use = || {
        world
            .api
            .admissions()
            .map(|(_, admission)| admission.counts().in_use)
    };
    let send = async |form: &str| {
        let request = world.signed(&world.caller, "ec2", &format!("{EC2}{form}"));
        let id = RequestId::generate(&world.random);
        world.api.handle(request, id).await
    };
    let sent = send("Action=DescribeSnapshots").await;
    assert!(sent.extensions().get::<Arc<engine::Transfer>>().is_some());
    assert_eq!(in_use(), [0, 1], "a short answer, once it is made");
    let mut others = Vec::new();
    for key in ["AKONE", "AKTWO", "AKTHREE", "AKFOUR"] {
        let key = AccessKeyId::parse(key).unwrap();
        let room = world.api.admissions.answer(&key, Action::DescribeTags);
        others.extend(room.now_or_never());
    }
    assert_eq!(others.len(), 3, "one answer of ours is being sent");
    tokio::time::pause();
    let throttled = send("Action=DescribeTags").await;
    tokio::time::resume();
    assert_eq!(throttled.status(), 503);
    others.pop();
    assert_eq!(send("Action=DescribeTags").await.status(), 200);
    drop(sent);
    assert_eq!(in_use()[1], 2 * 256);
}

#[tokio::test]
async fn large_bodies_are_few_at_a_time() {
    let world = World::new().await;
    let form = format!("Action=DescribeTags&Unknown={}", "x".repeat(20_000));
    let send = async || world.ec2(&form).await.status.as_u16();
    assert_eq!(send().await, 400);
    let mut places = Vec::new();
    for key in [
        "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT",
    ] {
        places.push(world.api.admissions.bodies.admit(key, 1).await);
    }
    tokio::time::pause();
    assert_eq!(send().await, 503);
    tokio::time::resume();
    assert_eq!(world.ec2("Action=DescribeTags").await.status, 200);
    drop(places);
    assert_eq!(send().await, 400);
}
