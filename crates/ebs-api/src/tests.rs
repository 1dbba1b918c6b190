//! The operations through [`EbsApi::handle`], signed as clients sign, over a real engine in a temporary directory.

mod authentication;
mod completes;
mod extensions;
mod gets;
mod lists;
mod overload;
mod puts;
mod responses;
mod robustness;
mod starts;

use crate::{BodyLimits, Components, EbsApi, EbsApiOptions, ErrorCode, Operation};
use auth::accounts::KeyStoreOptions;
use auth::{
    Authenticator, KeyStore, PayloadHash, RequestHead, RequestId, RootKey, Signer, SignerOptions,
    TokenKeys, Verifier, VerifierOptions,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::testing::TestEngine;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use tempfile::TempDir;
use types::{AccountId, BLOCK_BYTES, Clock, Digest, Random, SnapshotId};

/// A server with two accounts.
struct Server {
    test: TestEngine,
    api: EbsApi,
    token_keys: Arc<TokenKeys>,
    keys: Arc<KeyStore>,
    random: Random,
    account: AccountId,
    signer: Signer,
    stranger: Signer,
    _directory: TempDir,
}

impl Server {
    async fn new() -> Server {
        let directory = TempDir::new().unwrap();
        let test = TestEngine::open(directory.path()).await;
        Server::over(test, directory).await
    }

    /// A server whose snapshots stay sealed.
    async fn without_workers() -> Server {
        let directory = TempDir::new().unwrap();
        let test = TestEngine::without_workers(directory.path()).await;
        Server::over(test, directory).await
    }

    async fn over(test: TestEngine, directory: TempDir) -> Server {
        let random = Random::seeded(1);
        let clock = Arc::clone(&test.clock) as Arc<dyn Clock>;
        let root_key =
            || RootKey::load_or_create(&directory.path().join("root.key"), &random).unwrap();
        let token_keys = TokenKeys::load(
            Arc::clone(&test.db),
            Arc::new(root_key()),
            Arc::clone(&clock),
            random.clone(),
        );
        let token_keys = Arc::new(token_keys.await.unwrap());
        let keys = KeyStore::open(KeyStoreOptions {
            db: Arc::clone(&test.db),
            root_key: root_key(),
            clock: Arc::clone(&clock),
            random: random.clone(),
        });
        let keys = Arc::new(keys.await.unwrap());
        let account = keys.create_account().await.unwrap();
        let signer = signer(&keys, account).await;
        let stranger = keys.create_account().await.unwrap();
        let stranger = self::signer(&keys, stranger).await;
        let verifier = Arc::new(Verifier::new(VerifierOptions {
            region: "us-east-1".to_owned(),
            skew: VerifierOptions::SKEW_DEFAULT,
            clock: Arc::clone(&clock),
            require_signed_checksum: false,
        }));
        let api = EbsApi::new(Components {
            engine: test.engine.clone(),
            authenticator: Authenticator::new(verifier, Arc::clone(&keys)),
            token_keys: Arc::clone(&token_keys),
            clock,
            random: random.clone(),
            options: EbsApiOptions {
                max_results_default: 10_000,
                body_limits: BodyLimits::STANDARD,
            },
        });
        Server {
            test,
            api,
            token_keys,
            keys,
            random,
            account,
            signer,
            stranger,
            _directory: directory,
        }
    }

    /// Signs a call as the account, and sends it.
    async fn send(&self, call: Call) -> Answer {
        let request = call.signed(&self.signer, self.test.clock.now());
        self.handle(request).await
    }

    /// The same as the other account.
    async fn send_as_stranger(&self, call: Call) -> Answer {
        let request = call.signed(&self.stranger, self.test.clock.now());
        self.handle(request).await
    }

    async fn handle<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let request_id = RequestId::generate(&self.random);
        let response = self.api.handle(request, request_id).await;
        let id = &response.headers()["x-amzn-requestid"];
        assert_eq!(id, request_id.to_string().as_str());
        Answer::read(response).await
    }

    /// Starts a snapshot of 1 GiB and answers its id.
    async fn start(&self) -> String {
        self.start_with(r#"{"VolumeSize":1}"#).await
    }

    async fn start_with(&self, document: &str) -> String {
        let answer = self.send(Call::post("/snapshots").body(document)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.json()["SnapshotId"].as_str().unwrap().to_owned()
    }

    async fn put(&self, id: &str, index: u32, text: &str) {
        let answer = self.send(put(id, index, &block(text))).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }

    /// Completes a snapshot and waits until it is.
    async fn complete(&self, id: &str, count: usize) {
        let answer = self.send(complete(id, count)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        self.test
            .settled(self.account, SnapshotId::parse(id).unwrap())
            .await;
    }

    /// Puts many blocks, many at a time.
    async fn put_all(&self, id: &str, blocks: impl IntoIterator<Item = (u32, &str)>) {
        let puts = blocks
            .into_iter()
            .map(|(index, text)| self.put(id, index, text));
        stream::iter(puts)
            .buffer_unordered(20)
            .collect::<()>()
            .await;
    }

    /// A completed snapshot with these blocks.
    async fn completed(&self, blocks: &[(u32, &str)]) -> String {
        let id = self.start().await;
        for (index, text) in blocks {
            self.put(&id, *index, text).await;
        }
        self.complete(&id, blocks.len()).await;
        id
    }

    /// A completed child of 1 GiB with these blocks.
    async fn completed_child(&self, parent: &str, blocks: &[(u32, &str)]) -> String {
        let id = self
            .start_with(&format!(
                r#"{{"VolumeSize":1,"ParentSnapshotId":"{parent}"}}"#
            ))
            .await;
        for (index, text) in blocks {
            self.put(&id, *index, text).await;
        }
        self.complete(&id, blocks.len()).await;
        id
    }
}

async fn signer(keys: &KeyStore, account: AccountId) -> Signer {
    let key = keys.create_key(account).await.unwrap();
    Signer::new(SignerOptions {
        access_key_id: key.id,
        secret: key.secret,
        session_token: None,
        region: "us-east-1".to_owned(),
        service: "ebs".to_owned(),
    })
}

/// How a call's payload is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// The digest stands in `x-amz-content-sha256`.
    Named,
    /// The digest is signed and stands nowhere.
    Hidden,
}

/// A request before it is signed.
#[derive(Clone)]
struct Call {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
    sign: Sign,
}

impl Call {
    fn new(method: Method, target: &str) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert("host", "127.0.0.1:8512".parse().unwrap());
        Call {
            method,
            target: target.to_owned(),
            headers,
            body: Bytes::new(),
            sign: Sign::Hidden,
        }
    }

    fn get(target: &str) -> Call {
        Call::new(Method::GET, target)
    }

    fn post(target: &str) -> Call {
        Call::new(Method::POST, target)
    }

    fn header(mut self, name: &'static str, value: &str) -> Call {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    fn without(mut self, name: &str) -> Call {
        self.headers.remove(name);
        self
    }

    fn body(mut self, body: impl AsRef<[u8]>) -> Call {
        self.body = Bytes::copy_from_slice(body.as_ref());
        self
    }

    fn sign(mut self, sign: Sign) -> Call {
        self.sign = sign;
        self
    }

    fn signed(mut self, signer: &Signer, now: i64) -> Request<Full<Bytes>> {
        let digest = Digest::of(&self.body);
        if self.sign == Sign::Named {
            self = self.header("x-amz-content-sha256", &digest.to_string());
        }
        let hash = match self.sign {
            Sign::Unsigned => PayloadHash::Unsigned,
            Sign::Named | Sign::Hidden => PayloadHash::Digest(digest),
        };
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let method = self.method.as_str();
        let head = RequestHead {
            method,
            path,
            query,
            headers: &self.headers,
        };
        let signed = signer.sign(&head, hash, now).unwrap();
        self.headers.extend(signed.headers);
        self.unsigned()
    }

    fn unsigned(self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target.parse().unwrap();
        *request.headers_mut() = self.headers;
        request
    }
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    error_code: Option<&'static str>,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// A response to its end, with what every one must have.
    async fn read(response: http::Response<Full<Bytes>>) -> Answer {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.headers["content-length"], body.len().to_string());
        assert!(head.headers.contains_key("date") && head.headers.contains_key("content-type"));
        assert!(head.extensions.get::<Operation>().is_some());
        Answer {
            status: head.status,
            error_code: head.extensions.get::<ErrorCode>().map(|code| code.0),
            headers: head.headers,
            body,
        }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Checks every part of an error's form, and answers status, code, reason and message.
    fn error(&self) -> (u16, String, String, String) {
        let body = self.json();
        let kind = self.headers["x-amzn-errortype"].to_str().unwrap();
        let code = kind.split(':').next().unwrap();
        assert_eq!(Some(code), self.error_code);
        assert_eq!(body["__type"], code);
        assert_eq!(body["message"], body["Message"]);
        assert_eq!(self.headers["content-type"], "application/json");
        let closes = self
            .headers
            .get("connection")
            .is_some_and(|value| value == "close");
        assert!(closes || code != "ValidationException");
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        (
            self.status.as_u16(),
            code.to_owned(),
            text("Reason"),
            text("Message"),
        )
    }

    #[track_caller]
    fn check(&self, status: u16, code: &str, reason: &str, message: &str) {
        let expected = (
            status,
            code.to_owned(),
            reason.to_owned(),
            message.to_owned(),
        );
        assert_eq!(self.error(), expected);
    }

    /// A broken constraint, named by what follows the count.
    #[track_caller]
    fn check_constraint(&self, fault: &str) {
        let message = format!("1 validation error detected: {fault}");
        self.check(400, "ValidationException", "", &message);
        assert_eq!(
            self.headers["x-amzn-errortype"],
            "ValidationException:http://internal.amazon.com/coral/com.amazon.coral.validate/"
        );
    }

    #[track_caller]
    fn check_not_found(&self, id: &str) {
        let message = format!("The snapshot '{id}' does not exist.");
        self.check(
            404,
            "ResourceNotFoundException",
            "SNAPSHOT_NOT_FOUND",
            &message,
        );
    }
}

/// A block that repeats this text; the empty text is zeros.
fn block(text: &str) -> Vec<u8> {
    let text = if text.is_empty() { "\0" } else { text };
    let mut data = text.repeat(BLOCK_BYTES / text.len() + 1).into_bytes();
    data.truncate(BLOCK_BYTES);
    data
}

fn checksum(data: &[u8]) -> String {
    STANDARD.encode(Digest::of(data).as_bytes())
}

/// A put as boto3 makes it.
fn put(id: &str, index: u32, data: &[u8]) -> Call {
    Call::new(Method::PUT, &format!("/snapshots/{id}/blocks/{index}"))
        .header("x-amz-data-length", "524288")
        .header("x-amz-checksum", &checksum(data))
        .header("x-amz-checksum-algorithm", "SHA256")
        .body(data)
        .sign(Sign::Unsigned)
}

fn complete(id: &str, count: usize) -> Call {
    Call::post(&format!("/snapshots/completion/{id}"))
        .header("x-amz-changedblockscount", &count.to_string())
}

/// The same request with its body in these pieces, without a length.
fn chunked(
    request: Request<Full<Bytes>>,
    piece: usize,
) -> Request<impl Body<Data = Bytes, Error = Infallible> + Unpin + Send> {
    request.map(|body| {
        let whole = futures_util::FutureExt::now_or_never(body.collect())
            .unwrap()
            .unwrap()
            .to_bytes();
        let pieces: Vec<Bytes> = whole.chunks(piece).map(Bytes::copy_from_slice).collect();
        StreamBody::new(stream::iter(
            pieces.into_iter().map(|piece| Ok(Frame::data(piece))),
        ))
    })
}

/// An id of the right form that was never issued.
const UNKNOWN: &str = "snap-00123456789abcdef";
