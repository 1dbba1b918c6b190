//! More clients than places, and clients that stand still in every way there is.

use super::{
    Handler, Options, PATIENCE, Patience, Server, check_refusal, measuring, options, read_until,
    rest_of, say,
};
use bytes::Bytes;
use engine::{Admission, AdmissionLimits};
use futures_util::FutureExt;
use http::Response;
use http_body_util::Full;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use types::SystemClock;

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// So few places, and no more patience than the tests change.
fn narrow(connections_max: usize) -> Options {
    Options {
        connections_max,
        ..options()
    }
}

/// The same with another patience.
fn patient(connections_max: usize, change: impl FnOnce(&mut Patience)) -> Options {
    let mut options = narrow(connections_max);
    change(&mut options.patience);
    options
}

/// Says when a request has come, and answers it when it may.
fn gated(begun: &Arc<Notify>, gate: &Arc<Semaphore>) -> Handler {
    let (begun, gate) = (Arc::clone(begun), Arc::clone(gate));
    Arc::new(move |_| {
        let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
        async move {
            begun.notify_one();
            let leave = gate.acquire().await.expect("it stays open");
            leave.forget();
            say("done")
        }
        .boxed()
    })
}

impl Server {
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.expect("the server reads");
        stream
    }

    fn check_counted(&self, line: &str) {
        let text = self.registry.text().expect("it is text");
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}

async fn served(stream: &mut TcpStream, end: &str) {
    let answer = read_until(stream, end).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_in_vain_is_told() {
    let (begun, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let hasty = patient(1, |patience| patience.place = Duration::from_millis(20));
    let server = Server::start(gated(&begun, &gate), hasty).await;
    let mut first = server.send(GET).await;
    begun.notified().await;
    let mut second = server.send(GET).await;
    let told = rest_of(&mut second).await;
    assert!(told.contains("connection: close\r\n") && told.ends_with("come again"));
    server.check_counted("drystone_connections_crowded_out_total{reason=\"told\"} 1");
    gate.add_permits(1);
    served(&mut first, "done").await;
}

/// Its whole body is taken, so that it sees the answer and no broken connection.
#[tokio::test]
async fn a_client_with_a_body_sees_that_it_is_told() {
    let (begun, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let hasty = patient(1, |patience| patience.place = Duration::ZERO);
    let server = Server::start(gated(&begun, &gate), hasty).await;
    let _first = server.send(GET).await;
    begun.notified().await;
    let mut put = b"PUT / HTTP/1.1\r\ncontent-length: 524288\r\n\r\n".to_vec();
    put.resize(put.len() + (512 << 10), 7);
    let mut second = server.send(&put).await;
    assert!(rest_of(&mut second).await.ends_with("come again"));
}

#[tokio::test]
async fn a_full_waiting_room_is_told_at_once() {
    let (begun, gate) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let patient = patient(1, |patience| patience.place = LONG);
    let server = Server::start(gated(&begun, &gate), patient).await;
    let mut first = server.send(GET).await;
    begun.notified().await;
    // One of these two waits and the other is told, whichever comes first.
    let (mut one, mut other) = (server.send(GET).await, server.send(GET).await);
    let (mut a, mut b) = ([0], [0]);
    tokio::select! {
        first = one.peek(&mut a) => assert_eq!(first.expect("an answer"), 1),
        first = other.peek(&mut b) => {
            assert_eq!(first.expect("an answer"), 1);
            std::mem::swap(&mut one, &mut other);
        }
    }
    assert!(rest_of(&mut one).await.ends_with("come again"));
    gate.add_permits(2);
    served(&mut first, "done").await;
    served(&mut other, "done").await;
}

#[tokio::test]
async fn the_connection_idle_for_longest_makes_room() {
    let server = Server::start(measuring(), narrow(2)).await;
    let mut older = server.send(GET).await;
    served(&mut older, "0 bytes").await;
    let mut newer = server.send(GET).await;
    served(&mut newer, "0 bytes").await;
    let mut third = server.send(GET).await;
    served(&mut third, "0 bytes").await;
    assert_eq!(rest_of(&mut older).await, "");
    newer.write_all(GET).await.expect("it is open");
    served(&mut newer, "0 bytes").await;
    server.check_counted("drystone_connections_cut_total{reason=\"idle_under_pressure\"} 1");
}

#[tokio::test]
async fn clients_without_a_request_make_room() {
    let hasty = patient(2, |patience| patience.first = Duration::ZERO);
    let server = Server::start(measuring(), hasty).await;
    let mut silent = server.connect().await;
    let mut half = server.send(b"GET / HTTP/1.1\r\nhost").await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = server.send(GET).await;
        served(&mut client, "0 bytes").await;
        clients.push(client);
    }
    assert_eq!(rest_of(&mut silent).await, "");
    assert_eq!(rest_of(&mut half).await, "");
}

#[tokio::test]
async fn a_head_has_a_time_of_its_own() {
    let hasty = patient(10, |patience| patience.head = Duration::from_millis(20));
    let server = Server::start(measuring(), hasty).await;
    for before in [&b""[..], GET] {
        let mut stream = server.connect().await;
        if !before.is_empty() {
            stream.write_all(before).await.expect("sent");
            served(&mut stream, "0 bytes").await;
        }
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost")
            .await
            .expect("sent");
        let answer = rest_of(&mut stream).await;
        check_refusal(&answer, "408 Request Timeout", "RequestTimeoutException");
    }
    server.check_counted("drystone_connections_cut_total{reason=\"slow_head\"} 2");
}

/// A body may take longer than a head, and so may the time between two requests.
#[tokio::test]
async fn the_time_of_a_head_ends_with_it() {
    let hasty = patient(10, |patience| patience.head = Duration::from_millis(20));
    let server = Server::start(measuring(), hasty).await;
    let mut stream = server.connect().await;
    let check_quiet = async |stream: &TcpStream, of: &str| {
        let quiet = timeout(Duration::from_millis(60), stream.peek(&mut [0])).await;
        assert!(quiet.is_err(), "nothing is said of {of}");
    };
    for _ in 0..2 {
        let head = b"PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
        stream.write_all(head).await.expect("sent");
        read_until(&mut stream, "100 Continue\r\n\r\n").await;
        check_quiet(&stream, "a body that takes its time").await;
        stream.write_all(b"abc").await.expect("sent");
        served(&mut stream, "3 bytes").await;
        check_quiet(&stream, "a client that says nothing").await;
        stream.write_all(GET).await.expect("sent");
        served(&mut stream, "0 bytes").await;
        check_quiet(&stream, "a client that had no body to send").await;
    }
}

/// A client that has just come is about to say something.
#[tokio::test]
async fn a_first_request_has_a_moment_to_come() {
    let hasty = patient(1, |patience| {
        patience.first = LONG;
        patience.place = Duration::from_millis(20);
    });
    let server = Server::start(measuring(), hasty).await;
    let mut first = server.connect().await;
    let mut second = server.send(GET).await;
    assert!(rest_of(&mut second).await.ends_with("come again"));
    first.write_all(GET).await.expect("sent");
    served(&mut first, "0 bytes").await;
}

/// More than sockets hold.
fn large() -> Bytes {
    Bytes::from(vec![7; 32 << 20])
}

/// Everything that still comes, which is not all.
async fn check_cut(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server ends it");
    assert!(bytes.len() < 32 << 20, "{} bytes came", bytes.len());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let body = large();
    let handler: Handler = Arc::new(move |_| {
        let body = body.clone();
        async move { Response::new(Full::new(body)) }.boxed()
    });
    for hasty in [
        patient(1, |patience| patience.stall = Duration::from_millis(20)),
        patient(1, |patience| patience.grace = Duration::from_millis(20)),
    ] {
        let server = Server::start(Arc::clone(&handler), hasty).await;
        let stuck = server.send(GET).await;
        // There is one place.
        let mut next = server.send(GET).await;
        read_until(&mut next, "\r\n\r\n").await;
        server.check_counted("drystone_connections_cut_total{reason=\"slow_reader\"} 1");
        check_cut(stuck).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_for_one_that_waits() {
    let limits = AdmissionLimits {
        pressure: Duration::from_millis(20),
        wait: LONG,
        ..AdmissionLimits::fair(1, 8)
    };
    let room = Admission::new(limits, Arc::new(SystemClock::new()));
    let body = large();
    let handler: Handler = Arc::new(move |_| {
        let (room, body) = (room.clone(), body.clone());
        async move {
            let room = room.admit("key", 1).await.expect("a turn comes");
            let transfer = Arc::clone(room.transfer());
            let mut answer = Response::new(Full::new(Bytes::from_owner(Held(body, room))));
            answer.extensions_mut().insert(transfer);
            answer
        }
        .boxed()
    });
    let server = Server::start(handler, options()).await;
    let mut stuck = server.send(GET).await;
    read_until(&mut stuck, "\r\n\r\n").await;
    let mut next = server.send(GET).await;
    read_until(&mut next, "\r\n\r\n").await;
    server.check_counted("{reason=\"slow_reader_under_pressure\"} 1");
    check_cut(stuck).await;
}

struct Held(Bytes, #[allow(dead_code, reason = "held")] engine::Admitted);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
