//! Raw sockets against the HTTP side alone, with handlers made for each test.

mod overload;

use super::{Answer, Handler, Options, Parts, Patience, listen, serve};
use crate::metrics::{HttpMetrics, Metrics};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use types::{Random, SystemClock};

/// Nothing here takes longer, or the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    registry: Metrics,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<usize>,
}

impl Server {
    async fn start(handler: Handler, options: Options) -> Server {
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut registry = Metrics::new();
        let parts = Parts {
            handler,
            crowded: crowded(),
            metrics: Arc::new(HttpMetrics::register(registry.registry())),
            clock: Arc::new(SystemClock::new()),
            random: Random::seeded(1),
        };
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, options, parts, stopped.map(|_| ())));
        Server {
            address,
            registry,
            stop: Some(stop),
            served,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("the server listens")
    }

    /// Sends these bytes and answers everything that comes back until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.expect("the server reads");
        rest_of(&mut stream).await
    }

    fn stop(&mut self) {
        self.stop
            .take()
            .expect("stopped once")
            .send(())
            .expect("it serves");
    }

    async fn cut_off(self) -> usize {
        timeout(PATIENCE, self.served)
            .await
            .expect("it ends")
            .expect("it does not panic")
    }
}

fn options() -> Options {
    Options {
        connections_max: 100,
        idle_timeout: Duration::from_secs(30),
        stop_timeout: Duration::from_secs(30),
        patience: Patience::STANDARD,
    }
}

fn say(text: &'static str) -> Answer {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())))
}

/// Reads the body and answers its length.
fn measuring() -> Handler {
    Arc::new(|request: Request<Incoming>| {
        async move {
            let body = request
                .into_body()
                .collect()
                .await
                .expect("a body comes")
                .to_bytes();
            Response::new(Full::from(format!("{} bytes", body.len())))
        }
        .boxed()
    })
}

/// Answers without a look at the body.
fn refusing() -> Handler {
    Arc::new(|_| async { say("no") }.boxed())
}

/// What a client hears that there is no place for.
fn crowded() -> Handler {
    Arc::new(|_| async { say("come again") }.boxed())
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes")
        .expect("in order");
    String::from_utf8(bytes).expect("text")
}

async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(end.as_bytes()) {
            bytes.push(stream.read_u8().await.expect("an answer"));
        }
    };
    timeout(PATIENCE, reading).await.expect("the answer comes");
    String::from_utf8(bytes).expect("text")
}

/// A refusal has everything that clients look for.
fn check_refusal(answer: &str, status: &str, code: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect(answer);
    assert!(
        head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
        "{head}"
    );
    for header in [
        "date: ",
        "x-amzn-requestid: ",
        "content-type: application/json",
        "connection: close",
    ] {
        assert!(
            head.contains(&format!("\r\n{header}")),
            "no {header} in {head}"
        );
    }
    assert!(
        head.contains(&format!("\r\nx-amzn-errortype: {code}:http://")),
        "{head}"
    );
    assert!(
        head.contains(&format!("\r\ncontent-length: {}", body.len())),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_str(body).expect(body);
    assert_eq!(body["__type"], code);
    assert!(body["message"].is_string() && body["message"] == body["Message"]);
}

#[tokio::test]
async fn what_is_no_http_gets_a_complete_refusal() {
    let server = Server::start(measuring(), options()).await;
    let long_target = format!(
        "GET /{} HTTP/1.1\r\nconnection: close\r\n\r\n",
        "x".repeat(20 << 10)
    );
    let long_header = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(100 << 10));
    let endless_header = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(100 << 10));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    let malformed = "MalformedHttpRequestException";
    for (request, status) in [
        ("GARBAGE\r\n\r\n", "400 Bad Request"),
        ("\u{1}\u{2}\u{3}\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/9.9\r\n\r\n", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400 Bad Request"),
        (
            "PUT / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "PUT / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "400 Bad Request",
        ),
        (
            "PUT / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
            "400 Bad Request",
        ),
        (&long_header, "431 Request Header Fields Too Large"),
        (&endless_header, "431 Request Header Fields Too Large"),
        (&many_headers, "431 Request Header Fields Too Large"),
    ] {
        check_refusal(
            &server.exchange(request.as_bytes()).await,
            status,
            malformed,
        );
    }
    let answer = server.exchange(long_target.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n"),
        "a long target is no fault: {answer}"
    );
    let longest_target = format!(
        "GET /{} HTTP/1.1\r\nconnection: close\r\n\r\n",
        "x".repeat(70 << 10)
    );
    let answer = server.exchange(longest_target.as_bytes()).await;
    check_refusal(&answer, "431 Request Header Fields Too Large", malformed);
}

#[tokio::test]
async fn a_refusal_follows_the_answers_before_it() {
    let server = Server::start(measuring(), options()).await;
    let good = "PUT / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
    let answer = server
        .exchange(format!("{good}{good}GARBAGE\r\n\r\n").as_bytes())
        .await;
    let parts: Vec<&str> = answer.split("3 bytes").collect();
    assert_eq!(parts.len(), 3, "{answer}");
    assert!(parts[0].starts_with("HTTP/1.1 200 OK\r\n"));
    check_refusal(parts[2], "400 Bad Request", "MalformedHttpRequestException");
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_heads() {
    let server = Server::start(measuring(), options()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .expect("sent");
        let answer = read_until(&mut stream, "0 bytes").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        stream
            .write_all(b"HEAD / HTTP/1.1\r\n\r\n")
            .await
            .expect("sent");
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("content-length: 7\r\n"), "{head}");
    }
    stream.write_all(b"GARBAGE\r\n\r\n").await.expect("sent");
    check_refusal(
        &rest_of(&mut stream).await,
        "400 Bad Request",
        "MalformedHttpRequestException",
    );
}

#[tokio::test]
async fn a_body_may_be_asked_for_and_chunked() {
    let server = Server::start(measuring(), options()).await;
    let mut stream = server.connect().await;
    let head = "PUT / HTTP/1.1\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    assert_eq!(
        read_until(&mut stream, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream
        .write_all(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        .await
        .expect("sent");
    let answer = read_until(&mut stream, "5 bytes").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // The same, by a client that does not wait to be asked.
    let at_once = format!("{head}3\r\nabc\r\n0\r\n\r\n");
    stream.write_all(at_once.as_bytes()).await.expect("sent");
    let answer = read_until(&mut stream, "3 bytes").await;
    assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Most clients send their whole request before they look for an answer. A server that closes early makes the system
/// reset the connection: sending fails, and the client never looks.
#[tokio::test]
async fn an_early_answer_does_not_cut_a_client_that_is_still_sending() {
    let server = Server::start(refusing(), options()).await;
    let mut stream = server.connect().await;
    let head = b"PUT / HTTP/1.1\r\ncontent-length: 524288\r\n\r\n";
    stream.write_all(head).await.expect("sent");
    // The answer is there before the body is: nothing tells the client to stop.
    stream.readable().await.expect("answered");
    for _ in 0..8 {
        stream
            .write_all(&vec![7; 64 << 10])
            .await
            .expect("the server reads on");
    }
    let answer = rest_of(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("no"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_has_said_all_it_will_say_is_answered() {
    let server = Server::start(measuring(), options()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"PUT / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc")
        .await
        .expect("sent");
    stream.shutdown().await.expect("half closed");
    assert!(rest_of(&mut stream).await.ends_with("3 bytes"));
}

#[tokio::test]
async fn slow_heads_are_told_and_idle_connections_just_end() {
    let hasty = Options {
        idle_timeout: Duration::from_millis(50),
        ..options()
    };
    let server = Server::start(measuring(), hasty).await;
    let answer = server.exchange(b"GET / HTTP/1.1\r\nhost").await;
    check_refusal(&answer, "408 Request Timeout", "RequestTimeoutException");
    assert_eq!(server.exchange(b"").await, "");
    let answer = server.exchange(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(answer.ends_with("0 bytes"), "{answer}");
}

#[tokio::test]
async fn more_clients_than_connections_wait_for_their_turn() {
    let narrow = Options {
        connections_max: 2,
        ..options()
    };
    let server = Arc::new(Server::start(measuring(), narrow).await);
    // Each of these keeps its connection open, so that the next one's turn comes only when it has to go.
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .expect("sent");
        let answer = read_until(&mut stream, "0 bytes").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        clients.push(stream);
    }
    for stream in &mut clients[..4] {
        assert_eq!(rest_of(stream).await, "", "it was closed between requests");
    }
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_end() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler: Handler = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        Arc::new(move |_| {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                begun.notify_one();
                go.notified().await;
                say("done")
            }
            .boxed()
        })
    };
    let mut server = Server::start(handler, options()).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    begun.notified().await;
    server.stop();
    assert_eq!(
        rest_of(&mut idle).await,
        "",
        "nobody waits for a client that says nothing"
    );
    go.notify_one();
    let answer = rest_of(&mut busy).await;
    assert!(
        answer.contains("connection: close\r\n") && answer.ends_with("done"),
        "{answer}"
    );
    assert!(TcpStream::connect(server.address).await.is_err());
    assert_eq!(server.cut_off().await, 0);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let begun = Arc::new(Notify::new());
    let handler: Handler = {
        let begun = Arc::clone(&begun);
        Arc::new(move |_| {
            begun.notify_one();
            std::future::pending().boxed()
        })
    };
    let impatient = Options {
        stop_timeout: Duration::from_millis(50),
        ..options()
    };
    let mut server = Server::start(handler, impatient).await;
    let mut stuck = server.connect().await;
    stuck
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    begun.notified().await;
    server.stop();
    assert_eq!(server.cut_off().await, 1);
}
