//! Whatever comes in, an answer goes out: never a panic, always the form of an error.

use super::{Call, Server, Sign, UNKNOWN};
use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_oneof, proptest};
use proptest::test_runner::Config;
use types::Clock;

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(UNKNOWN.to_owned()),
        Just("snap-0".to_owned()),
        Just("completion".to_owned()),
        Just("blocks".to_owned()),
        Just("changedblocks".to_owned()),
        "[!-~&&[^#?/\\\\<>\"`{}|^]]{0,20}",
        "-?[0-9]{1,20}",
        "[0-9]e%2B[0-9]{1,3}",
        "(%[0-9a-fA-F]{2}){1,4}",
    ]
}

fn target() -> impl Strategy<Value = String> {
    let path = prop::collection::vec(segment(), 0..4).prop_map(|parts| {
        let path: String = parts.iter().map(|part| format!("/{part}")).collect();
        format!("/snapshots{path}")
    });
    let name = prop_oneof![
        Just("pageToken"),
        Just("maxResults"),
        Just("startingBlockIndex"),
        Just("firstSnapshotId"),
        Just("blockToken"),
        Just("other"),
    ];
    let query = prop::collection::vec((name, segment()), 0..4).prop_map(|pairs| {
        pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&")
    });
    (path, query).prop_map(|(path, query)| format!("{path}?{query}"))
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    let name = prop_oneof![
        Just("x-amz-data-length"),
        Just("x-amz-checksum"),
        Just("x-amz-checksum-algorithm"),
        Just("x-amz-checksum-aggregation-method"),
        Just("x-amz-changedblockscount"),
        Just("x-amz-progress"),
        Just("x-amz-content-sha256"),
        Just("content-encoding"),
        Just("expect"),
    ];
    let value = prop_oneof![
        Just(b"524288".to_vec()),
        Just(b"SHA256".to_vec()),
        Just(b"LINEAR".to_vec()),
        prop::collection::vec(0x20..=0xff_u8, 0..50),
    ];
    prop::collection::vec((name, value), 0..6)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let member = prop_oneof![
        Just("VolumeSize"),
        Just("Tags"),
        Just("Description"),
        Just("ClientToken"),
        Just("Timeout"),
        Just("Encrypted"),
        Just("ParentSnapshotId"),
    ];
    let value = prop_oneof![
        "-?[0-9]{1,20}",
        "[0-9]e[+-]?[0-9]{1,3}",
        "\"[ -~&&[^\"\\\\]]{0,20}\"",
        "\\[\\{\"Key\":\"[a-z:]{0,9}\"\\}\\]",
        "null",
        "true"
    ];
    let document = prop::collection::vec((member, value), 0..5).prop_map(|members| {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    prop_oneof![document, prop::collection::vec(any::<u8>(), 0..2_000)]
}

#[test]
fn any_request_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::new());
    let methods = prop_oneof![
        Just(Method::GET),
        Just(Method::PUT),
        Just(Method::POST),
        Just(Method::DELETE)
    ];
    let sign = prop_oneof![
        Just(Some(Sign::Unsigned)),
        Just(Some(Sign::Named)),
        Just(Some(Sign::Hidden)),
        Just(None)
    ];
    let config = Config {
        cases: 512,
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config, |(method in methods, target in target(), headers in headers(), body in body(), sign in sign)| {
        let mut call = Call::new(method, "/").body(&body);
        if target.parse::<http::Uri>().is_err() {
            return Ok(());
        }
        call.target = target;
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                call.headers.insert(HeaderName::from_static(name), value);
            }
        }
        let request = match sign {
            Some(sign) => call.sign(sign).signed(&server.signer, server.test.clock.now()),
            None => call.unsigned(),
        };
        let answer = runtime.block_on(server.handle(request));
        if answer.status.is_success() {
            prop_assert!(answer.error_code.is_none());
        } else {
            let (_, code, _, message) = answer.error();
            prop_assert!(code != "InternalServerException" && !message.is_empty(), "{answer:?}");
        }
    });
}
