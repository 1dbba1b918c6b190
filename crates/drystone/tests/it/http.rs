//! What the server says to requests that reach no operation.

use crate::server::{Place, Response};

fn check_refusal(response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{response:?}");
    let kind = response.header("x-amzn-errortype").expect("a kind");
    assert_eq!(kind.split(':').next(), Some(code));
    assert!(
        response.header("x-amzn-requestid").is_some(),
        "{response:?}"
    );
    assert!(response.header("date").is_some(), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    let body = response.json();
    assert_eq!(body["__type"], code);
    assert!(
        body["message"].is_string() && body["message"] == body["Message"],
        "{body}"
    );
}

#[test]
fn every_refusal_has_a_json_body() {
    let place = Place::new();
    let server = place.serve(&[]);
    let malformed = "MalformedHttpRequestException";
    check_refusal(&server.exchange(b"GARBAGE\r\n\r\n"), 400, malformed);
    let large = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(100_000));
    check_refusal(&server.exchange(large.as_bytes()), 431, malformed);
    let unknown = "UnknownOperationException";
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/snapshots"),
        ("DELETE", "/snapshots/snap-0e2c477186c5c34b7"),
        ("BREW", "/snapshots"),
        ("POST", "/healthz"),
        ("OPTIONS", "*"),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        check_refusal(&server.exchange(request.as_bytes()), 404, unknown);
    }
    check_refusal(
        &server.get("/snapshots/snap-1/blocks"),
        403,
        "MissingAuthenticationTokenException",
    );
    let ec2 = server.get("/?Action=DescribeSnapshots&Version=2016-11-15");
    assert!(
        ec2.status >= 400 && ec2.text().contains("MissingAuthenticationToken"),
        "{ec2:?}"
    );
}

#[test]
fn health_and_metrics() {
    let place = Place::new();
    let server = place.serve(&[]);
    let health = server.get("/healthz");
    assert_eq!((health.status, health.text()), (200, "ok\n"));
    assert_eq!(server.get("/snapshots/x/blocks").status, 403);
    server.exchange(b"GARBAGE\r\n\r\n");

    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    for line in [
        "drystone_requests_total{operation=\"healthz\",status=\"200\",code=\"\"} 1",
        "drystone_requests_total{operation=\"ListSnapshotBlocks\",status=\"403\",code=\"MissingAuthenticationTokenException\"} 1",
        "drystone_unreadable_requests_total{code=\"MalformedHttpRequestException\"} 1",
        "drystone_requests_in_flight 1",
        "drystone_dedup_hits_total 0",
        "drystone_chunks_sync_seconds_count 0",
        "drystone_catalog_waiting_writes 0",
        "drystone_catalog_commits_total ",
        "drystone_buffers_in_use 0",
        "# EOF",
    ] {
        assert!(
            metrics.text().contains(line),
            "no `{line}` in\n{}",
            metrics.text()
        );
    }

    // A proxy on this machine passes the requests of others on.
    let passed_on =
        b"GET /metrics HTTP/1.1\r\nx-forwarded-for: 192.0.2.1\r\nconnection: close\r\n\r\n";
    check_refusal(
        &server.exchange(passed_on),
        404,
        "UnknownOperationException",
    );
}

#[test]
fn a_request_leaves_one_line_in_a_debug_log_with_the_id_of_its_answer() {
    let place = Place::new();
    let server = place.serve(&["--log", "info,drystone::http=debug", "--log-format", "json"]);
    let response = server.get("/snapshots/snap-1/blocks?pageToken=secret");
    let id = response.header("x-amzn-requestid").expect("an id");
    let log = server.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let of_request: Vec<_> = lines
        .iter()
        .filter(|line| line.to_string().contains(id))
        .collect();
    assert_eq!(of_request.len(), 1, "{log}");
    assert_eq!(of_request[0]["operation"], "ListSnapshotBlocks");
    assert_eq!(of_request[0]["status"], 403);
    assert_eq!(of_request[0]["path"], "/snapshots/snap-1/blocks");
    assert!(!log.contains("secret"), "queries hold tokens: {log}");
}
