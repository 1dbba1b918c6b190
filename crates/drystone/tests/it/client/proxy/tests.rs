//! One test for each fault, with plain sockets at both ends.

use super::message::Message;
use super::{Fault, On, PATIENCE, Proxy, Rule};
use std::io;
use std::io::{BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A server that answers 1,000 times `x`, or the body of the request if there is one.
struct Echo {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Echo {
    fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let echo = Echo {
            address: listener.local_addr().expect("it listens"),
            bodies: Arc::default(),
        };
        let bodies = Arc::clone(&echo.bodies);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bodies = Arc::clone(&bodies);
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Ok(Some(request)) = Message::request(&mut reader) {
                        bodies.lock().expect("it works").push(request.body.clone());
                        let body = match &request.body[..] {
                            [] => vec![b'x'; 1000],
                            body => body.to_vec(),
                        };
                        let head =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                        let mut stream = reader.get_ref();
                        stream
                            .write_all(&[head.as_bytes(), &body].concat())
                            .expect("it works");
                    }
                });
            }
        });
        echo
    }

    fn requests(&self) -> usize {
        self.bodies.lock().expect("it works").len()
    }
}

struct Peer(BufReader<TcpStream>);

impl Peer {
    fn of(proxy: &Proxy) -> Peer {
        let stream = TcpStream::connect(proxy.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        Peer(BufReader::new(stream))
    }

    fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> io::Result<Message> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0
            .get_ref()
            .write_all(&[head.as_bytes(), body].concat())?;
        Message::answer(&mut self.0, method)
    }

    fn put(&mut self, body: &[u8]) -> io::Result<Message> {
        self.ask("PUT", "/snapshots/snap-1/blocks/7", body)
    }
}

/// The fault once, on the second of three puts; the others must be as without a proxy.
fn second_of_three(fault: Fault) -> (Echo, Proxy, io::Result<Message>) {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, [Rule::new(On::PUT, fault).skip(1).times(1)]);
    assert_eq!(
        Peer::of(&proxy).put(b"first").expect("it works").body,
        b"first"
    );
    let second = Peer::of(&proxy).put(b"second");
    assert_eq!(
        Peer::of(&proxy).put(b"third").expect("it works").body,
        b"third"
    );
    assert_eq!((proxy.count(fault), proxy.faults()), (1, 1));
    assert_eq!(proxy.calls(On::PUT), 3);
    (echo, proxy, second)
}

fn was_cut(answer: io::Result<Message>) {
    let kind = answer.err().expect("no whole answer").kind();
    let cut = [
        ErrorKind::InvalidData,
        ErrorKind::UnexpectedEof,
        ErrorKind::ConnectionReset,
    ];
    assert!(cut.contains(&kind), "{kind}");
}

#[test]
fn without_rules_everything_passes() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, []);
    let mut peer = Peer::of(&proxy);
    for _ in 0..3 {
        assert_eq!(peer.put(b"data").expect("it works").body, b"data");
        assert_eq!(
            peer.ask("GET", "/x?y=z", b"").expect("it works").body.len(),
            1000
        );
    }
    assert_eq!((echo.requests(), proxy.faults()), (6, 0));
    let seen = &proxy.seen(On("GET", "/x"))[0];
    assert_eq!((&*seen.target, seen.body_bytes), ("/x?y=z", 0));
}

#[test]
fn drop_before_leaves_the_server_ignorant() {
    let (echo, _proxy, answer) = second_of_three(Fault::DropBefore);
    was_cut(answer);
    assert_eq!(echo.requests(), 2);
}

#[test]
fn drop_after_leaves_the_effect() {
    let (echo, _proxy, answer) = second_of_three(Fault::DropAfter);
    was_cut(answer);
    assert_eq!(echo.requests(), 3);
}

#[test]
fn drop_in_body_cuts_the_answer() {
    let (echo, _proxy, answer) = second_of_three(Fault::DropInBody);
    was_cut(answer);
    assert_eq!(echo.requests(), 3);
}

/// Nothing arrives and the connection stays, until the proxy ends.
fn stalls(fault: Fault, requests: usize) {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, [Rule::new(On::PUT, fault)]);
    let mut peer = Peer::of(&proxy);
    let asking = thread::spawn(move || peer.put(b"data"));
    proxy.wait_for(fault, 1);
    assert!(!asking.is_finished());
    assert_eq!(echo.requests(), requests);
    drop(proxy);
    was_cut(asking.join().expect("the peer does not panic"));
}

#[test]
fn stall_moves_nothing() {
    stalls(Fault::Stall, 0);
}

#[test]
fn stall_in_body_moves_half_of_the_answer() {
    stalls(Fault::StallInBody, 1);
}

#[test]
fn canned_answers_are_those_of_a_server_in_trouble() {
    let check = |fault, status: &str, code: &str, retry_after: Option<&str>| {
        let (echo, proxy, answer) = second_of_three(fault);
        let answer = answer.expect("it works");
        assert_eq!(answer.word(1), status);
        assert_eq!(
            answer.header("x-amzn-errortype"),
            Some(code.to_ascii_lowercase())
        );
        assert_eq!(answer.header("x-amz-retry-after").as_deref(), retry_after);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("it works");
        assert_eq!(body["__type"], code);
        assert_eq!(echo.requests(), 2);

        proxy.set([Rule::new(On::QUERY, fault)]);
        let answer = Peer::of(&proxy)
            .ask("POST", "/", b"Action=X")
            .expect("it works");
        assert!(answer.body.starts_with(b"<?xml"));
    };
    check(Fault::InternalError, "500", "InternalServerException", None);
    check(Fault::Unavailable, "503", "ServiceUnavailable", None);
    check(Fault::Throttled, "400", "ThrottlingException", Some("20"));
    check(
        Fault::SnapshotThrottled,
        "400",
        "RequestThrottledException",
        Some("20"),
    );
    check(Fault::BodyNotRead, "400", "ValidationException", None);
    check(Fault::TokenExpired, "400", "ValidationException", None);
}

#[test]
fn corrupt_request_reaches_the_server_with_another_bit() {
    let (echo, _proxy, answer) = second_of_three(Fault::CorruptRequest);
    assert_eq!(answer.expect("it works").body, b"secnnd");
    assert_eq!(echo.bodies.lock().expect("it works")[1], b"secnnd");
}

#[test]
fn corrupt_answer_reaches_the_client_with_another_bit() {
    let (echo, _proxy, answer) = second_of_three(Fault::CorruptAnswer);
    assert_eq!(answer.expect("it works").body, b"secnnd");
    assert_eq!(echo.bodies.lock().expect("it works")[1], b"second");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the proxy moves in real time")]
fn slow_moves_at_its_speed() {
    let echo = Echo::start();
    let proxy = Proxy::start(echo.address, [Rule::new(On::PUT, Fault::Slow(20_000))]);
    let began = Instant::now();
    let answer = Peer::of(&proxy).put(&[7; 2_000]).expect("it works");
    // 4,000 bytes and two heads.
    assert!(began.elapsed() > Duration::from_millis(200));
    assert_eq!(answer.body, [7; 2_000]);
    assert_eq!(proxy.count(Fault::Slow(20_000)), 1);
}

#[test]
fn chance_draws_from_a_seed() {
    let of = |chance: f64| {
        let echo = Echo::start();
        let rule = Rule::new(On::PUT, Fault::Throttled).chance(chance);
        let proxy = Proxy::start(echo.address, [rule]);
        let mut peer = Peer::of(&proxy);
        let throttled = |_: &u64| peer.put(b"data").expect("it works").word(1) == "400";
        let throttled = (0..200).filter(throttled).count() as u64;
        proxy.wait_for(Fault::Throttled, throttled);
        throttled
    };
    let quarter = of(0.25);
    assert!((30..70).contains(&quarter), "{quarter}");
    assert_eq!(of(0.25), quarter);
    assert_eq!((of(0.0), of(1.0)), (0, 200));
}

#[test]
fn patterns_are_paths() {
    let check = |on: On, method: &str, target: &str, expected: bool| {
        assert_eq!(on.matches(method, target), expected, "{on:?} {target}");
    };
    check(On::PUT, "PUT", "/snapshots/snap-1/blocks/1", true);
    check(On::PUT, "GET", "/snapshots/snap-1/blocks/1", false);
    check(On::GET, "GET", "/snapshots/snap-1/blocks", false);
    check(
        On::LIST,
        "GET",
        "/snapshots/snap-1/blocks?maxResults=9",
        true,
    );
    check(On::START, "POST", "/snapshots", true);
    check(On::START, "POST", "/snapshots/completion/snap-1", false);
    check(On::COMPLETE, "POST", "/snapshots/completion/snap-1", true);
    check(On::QUERY, "POST", "/", true);
    check(On::QUERY, "POST", "/snapshots", false);
    check(On::ANY, "POST", "/", true);
    check(On::ANY, "GET", "/snapshots/a/b/c", true);
}
