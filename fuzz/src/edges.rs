//! The HTTP edges over a real engine in a temporary directory, called by a client that signs well and asks anything.

use std::sync::{Arc, OnceLock};

use auth::accounts::KeyStoreOptions;
use auth::{
    Authenticator, KeyStore, PayloadHash, RequestHead, RequestId, RootKey, Signer, SignerOptions,
    TokenKeys, Verifier, VerifierOptions,
};
use bytes::Bytes;
use ebs_api::{Components, EbsApi, EbsApiOptions};
use ec2_api::{Ec2Api, Ec2Options};
use engine::testing::TestEngine;
use http::header::{AUTHORIZATION, DATE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use types::{BLOCK_BYTES, Clock, Digest, Random, SnapshotId};

use crate::input::Input;

/// A server without sockets, what runs it, and the tokens of a completed snapshot in it.
struct World {
    runtime: Runtime,
    edges: Edges,
    genuine: Genuine,
}

struct Edges {
    test: TestEngine,
    ebs: EbsApi,
    ec2: Ec2Api,
    signer: [Signer; 3],
    random: Random,
    _directory: TempDir,
}

/// What a client was given: one block token, one page token of each kind.
struct Genuine {
    snapshot: String,
    block: String,
    page: String,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

const BLOCKS: u32 = 130;

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> World {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime can be made");
        let directory = TempDir::new().expect("a directory can be made");
        let edges = runtime.block_on(Edges::open(directory));
        let genuine = runtime.block_on(edges.upload());
        World {
            runtime,
            edges,
            genuine,
        }
    }
}

impl Edges {
    async fn open(directory: TempDir) -> Edges {
        let test = TestEngine::open(directory.path()).await;
        let random = Random::seeded(1);
        let clock = Arc::clone(&test.clock) as Arc<dyn Clock>;
        let path = directory.path().join("root.key");
        let root_key = || RootKey::load_or_create(&path, &random).expect("a key can be made");
        let token_keys = TokenKeys::load(
            Arc::clone(&test.db),
            Arc::new(root_key()),
            Arc::clone(&clock),
            random.clone(),
        );
        let token_keys = Arc::new(token_keys.await.expect("token keys can be made"));
        let keys = KeyStore::open(KeyStoreOptions {
            db: Arc::clone(&test.db),
            root_key: root_key(),
            clock: Arc::clone(&clock),
            random: random.clone(),
        });
        let keys = Arc::new(keys.await.expect("the catalog is readable"));
        let account = keys.create_account().await.expect("an account can be made");
        let key = keys.create_key(account).await.expect("a key can be made");
        let signer = ["ebs", "ec2", "sts"].map(|service| {
            Signer::new(SignerOptions {
                access_key_id: key.id.clone(),
                secret: key.secret.clone(),
                session_token: None,
                region: "us-east-1".to_owned(),
                service: service.to_owned(),
            })
        });
        let verifier = Arc::new(Verifier::new(VerifierOptions {
            region: "us-east-1".to_owned(),
            skew: VerifierOptions::SKEW_DEFAULT,
            clock: Arc::clone(&clock),
            require_signed_checksum: false,
        }));
        let ec2 = Ec2Api::new(Ec2Options {
            engine: test.engine.clone(),
            authenticator: Authenticator::new(Arc::clone(&verifier), Arc::clone(&keys)),
            region: "us-east-1".to_owned(),
            clock: Arc::clone(&clock),
        });
        let ebs = EbsApi::new(Components {
            engine: test.engine.clone(),
            authenticator: Authenticator::new(verifier, keys),
            token_keys,
            clock,
            random: random.clone(),
            options: EbsApiOptions::STANDARD,
        });
        Edges {
            test,
            ebs,
            ec2,
            signer,
            random,
            _directory: directory,
        }
    }

    /// A completed snapshot of equal blocks, and tokens of it.
    async fn upload(&self) -> Genuine {
        let started = self
            .ebs(
                Method::POST,
                "/snapshots",
                HeaderMap::new(),
                br#"{"VolumeSize":1}"#,
            )
            .await;
        let started: Value = serde_json::from_slice(&started.body).expect("an answer in JSON");
        let snapshot = started["SnapshotId"].as_str().expect("an id").to_owned();
        let account = started["OwnerId"]
            .as_str()
            .and_then(types::AccountId::parse)
            .expect("an owner");
        let block = vec![b'x'; BLOCK_BYTES];
        let checksum = base64(Digest::of(&block).as_bytes());
        for index in 0..BLOCKS {
            let mut headers = HeaderMap::new();
            let value = |text: &str| HeaderValue::from_str(text).expect("header text");
            headers.insert("x-amz-data-length", value("524288"));
            headers.insert("x-amz-checksum", value(&checksum));
            headers.insert("x-amz-checksum-algorithm", value("SHA256"));
            let target = format!("/snapshots/{snapshot}/blocks/{index}");
            let answer = self.ebs(Method::PUT, &target, headers, &block).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-changedblockscount", HeaderValue::from(BLOCKS));
        let target = format!("/snapshots/completion/{snapshot}");
        self.ebs(Method::POST, &target, headers, b"").await;
        let id = SnapshotId::parse(&snapshot).expect("an id of ours");
        self.test.settled(account, id).await;
        let target = format!("/snapshots/{snapshot}/blocks?maxResults=100");
        let listed = self.ebs(Method::GET, &target, HeaderMap::new(), b"").await;
        let listed: Value = serde_json::from_slice(&listed.body).expect("an answer in JSON");
        let text = |value: &Value| value.as_str().expect("a token").to_owned();
        Genuine {
            block: text(&listed["Blocks"][0]["BlockToken"]),
            page: text(&listed["NextToken"]),
            snapshot,
        }
    }

    async fn ebs(&self, method: Method, target: &str, headers: HeaderMap, body: &[u8]) -> Answer {
        let Some(request) = self.signed(0, method, target, headers, body) else {
            return Answer {
                status: StatusCode::BAD_REQUEST,
                body: Bytes::new(),
            };
        };
        let answer = self
            .ebs
            .handle(request, RequestId::generate(&self.random))
            .await;
        read(answer).await
    }

    /// Nothing when HTTP itself does not allow the request.
    fn signed(
        &self,
        service: usize,
        method: Method,
        target: &str,
        mut headers: HeaderMap,
        body: &[u8],
    ) -> Option<Request<Full<Bytes>>> {
        let uri: Uri = target.parse().ok()?;
        for name in ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
            headers.remove(name);
        }
        headers.remove(AUTHORIZATION);
        headers.remove(DATE);
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8512"));
        let head = RequestHead {
            method: method.as_str(),
            path: uri.path(),
            query: uri.query(),
            headers: &headers,
        };
        let hash = PayloadHash::Digest(Digest::of(body));
        let signed = self.signer[service]
            .sign(&head, hash, self.test.clock.now())
            .ok()?;
        for (name, value) in signed.headers {
            headers.insert(name, value);
        }
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Some(request)
    }
}

async fn read(answer: Response<Full<Bytes>>) -> Answer {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body in memory").to_bytes();
    Answer {
        status: head.status,
        body,
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three
            .iter()
            .fold(0, |word, &byte| word << 8 | usize::from(byte))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[word >> (18 - 6 * place) & 63];
            text.push(if place <= three.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

/// Refusals of the EBS edge carry a message and a bare type, whatever was asked.
fn check_ebs(answer: &Answer) {
    assert_ne!(
        answer.status,
        StatusCode::INTERNAL_SERVER_ERROR,
        "{:?}",
        answer.body
    );
    if answer.status.is_client_error() && !answer.body.is_empty() {
        let body: Value = serde_json::from_slice(&answer.body).expect("a refusal in JSON");
        assert!(
            body["message"].is_string() && body["__type"].is_string(),
            "{body}"
        );
    }
}

/// Lines: method, target (`{id}` stands for the id of a snapshot that exists), headers; then the body.
pub fn ebs_request(data: &[u8]) {
    let world = world();
    let input = Input::read(data);
    let method = Method::from_bytes(input.text(0).as_bytes()).unwrap_or(Method::GET);
    let target = input.text(1).replacen("{id}", &world.genuine.snapshot, 1);
    let answer = world
        .edges
        .ebs(method, &target, input.headers(2), input.body());
    check_ebs(&world.runtime.block_on(answer));
}

/// The first byte chooses service and method; the rest is a form body, or a query.
pub fn query_body(data: &[u8]) {
    let world = world();
    let (&choice, form) = data.split_first().unwrap_or((&0, &[]));
    let service = 1 + usize::from(choice & 1);
    let query = std::str::from_utf8(form).unwrap_or_default();
    let request = if choice & 2 == 0 {
        world
            .edges
            .signed(service, Method::POST, "/", HeaderMap::new(), form)
    } else {
        world.edges.signed(
            service,
            Method::GET,
            &format!("/?{query}"),
            HeaderMap::new(),
            b"",
        )
    };
    let Some(request) = request else { return };
    let id = RequestId::generate(&world.edges.random);
    let answer = world
        .runtime
        .block_on(async { read(world.edges.ec2.handle(request, id).await).await });
    assert_ne!(
        answer.status,
        StatusCode::INTERNAL_SERVER_ERROR,
        "{:?}",
        answer.body
    );
    let text = std::str::from_utf8(&answer.body).expect("an answer in UTF-8");
    assert!(text.starts_with("<?xml"), "{text}");
    assert!(
        !text.contains('\0') && text.trim_end().ends_with('>'),
        "{text}"
    );
}

/// The first byte chooses the kind; the rest is a token, or a change to a genuine one.
pub fn tokens(data: &[u8]) {
    let world = world();
    let (&choice, rest) = data.split_first().unwrap_or((&0, &[]));
    let genuine = if choice & 1 == 0 {
        &world.genuine.block
    } else {
        &world.genuine.page
    };
    let token = if choice & 2 == 0 {
        rest.to_vec()
    } else {
        changed(genuine.as_bytes(), rest)
    };
    let encoded: String = token.iter().map(|byte| format!("%{byte:02X}")).collect();
    let snapshot = &world.genuine.snapshot;
    let target = match choice & 1 {
        0 => format!("/snapshots/{snapshot}/blocks/0?blockToken={encoded}"),
        _ => format!("/snapshots/{snapshot}/blocks?maxResults=100&pageToken={encoded}"),
    };
    let answer =
        world
            .runtime
            .block_on(world.edges.ebs(Method::GET, &target, HeaderMap::new(), b""));
    check_ebs(&answer);
    let expected = if token == genuine.as_bytes() {
        StatusCode::OK
    } else {
        StatusCode::BAD_REQUEST
    };
    assert_eq!(
        answer.status, expected,
        "token {token:?}: {:?}",
        answer.body
    );
}

/// Pairs of bytes: a place, and the letter to put there.
fn changed(token: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut token = token.to_vec();
    for change in changes.chunks_exact(2) {
        let place = usize::from(change[0]) % token.len();
        token[place] = change[1];
    }
    token
}
