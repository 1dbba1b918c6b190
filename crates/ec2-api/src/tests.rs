//! Tests of whole requests: signed, over a real engine, key store and catalog.

mod intake;
mod lineage;
mod regions_and_identity;
mod snapshots;
mod tags;

use crate::{Ec2Api, Ec2Options, ErrorCode, Operation};
use auth::accounts::KeyStoreOptions;
use auth::{
    AccessKeyId, Authenticator, KeyStore, PayloadHash, RequestHead, RequestId, RootKey, SecretKey,
    Signer, SignerOptions, Verifier, VerifierOptions,
};
use bytes::Bytes;
use engine::testing::TestEngine;
use engine::{Engine, StartSnapshot, Tag};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use std::sync::Arc;
use tempfile::TempDir;
use types::{AccountId, Clock, Digest, Random, SnapshotId, TestClock, VolumeSize};

const REGION: &str = "eu-test-1";
const HOST_NAME: &str = "127.0.0.1:9877";
const EC2: &str = "Version=2016-11-15&";

/// An access key and its account.
#[derive(Clone)]
struct Identity {
    account: AccountId,
    id: AccessKeyId,
    secret: SecretKey,
}

/// A server's insides, and two accounts that call it.
struct World {
    api: Ec2Api,
    engine: Engine,
    clock: Arc<TestClock>,
    random: Random,
    caller: Identity,
    stranger: Identity,
    _test_engine: TestEngine,
    _directory: TempDir,
}

/// A response, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    operation: Operation,
    error: Option<ErrorCode>,
}

impl World {
    async fn new() -> World {
        let directory = TempDir::new().unwrap();
        let test_engine = TestEngine::open(directory.path()).await;
        let random = Random::seeded(5);
        let clock = Arc::clone(&test_engine.clock);
        let root_key = RootKey::load_or_create(&directory.path().join("root.key"), &random);
        let keys = KeyStore::open(KeyStoreOptions {
            db: Arc::clone(&test_engine.db),
            root_key: root_key.unwrap(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: random.clone(),
        })
        .await
        .unwrap();
        let caller = identity(&keys).await;
        let stranger = identity(&keys).await;
        let verifier = Verifier::new(VerifierOptions {
            region: REGION.to_owned(),
            skew: VerifierOptions::SKEW_DEFAULT,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            require_signed_checksum: false,
        });
        let api = Ec2Api::new(Ec2Options {
            engine: test_engine.engine.clone(),
            authenticator: Authenticator::new(Arc::new(verifier), Arc::new(keys)),
            region: REGION.to_owned(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        });
        World {
            api,
            engine: test_engine.engine.clone(),
            clock,
            random,
            caller,
            stranger,
            _test_engine: test_engine,
            _directory: directory,
        }
    }

    /// A snapshot of the caller's, with these tags.
    async fn start(&self, tags: &[(&str, &str)]) -> SnapshotId {
        let tag = |&(key, value): &(&str, &str)| Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let request = StartSnapshot {
            account: self.caller.account,
            volume_size: VolumeSize::from_gib(1).unwrap(),
            parent: None,
            tags: Some(tags.iter().map(tag).collect()),
            description: Some("disk \u{1} <a>".to_owned()),
            client_token: None,
            timeout_minutes: None,
            encrypted: None,
        };
        self.engine.start_snapshot(request).await.unwrap().id
    }

    /// Calls an EC2 action as the caller, with a form.
    async fn ec2(&self, form: &str) -> Answer {
        self.post(&self.caller, "ec2", &format!("{EC2}{form}"))
            .await
    }

    async fn post(&self, identity: &Identity, service: &str, form: &str) -> Answer {
        self.send(self.signed(identity, service, form)).await
    }

    /// A signed form, as boto3 sends it.
    fn signed(&self, identity: &Identity, service: &str, form: &str) -> Request<Full<Bytes>> {
        let mut headers = HeaderMap::new();
        let form_type = "application/x-www-form-urlencoded; charset=utf-8";
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(form_type),
        );
        headers.insert(HOST, HeaderValue::from_static(HOST_NAME));
        let head = RequestHead {
            method: "POST",
            path: "/",
            query: None,
            headers: &headers,
        };
        let digest = PayloadHash::Digest(Digest::of(form.as_bytes()));
        let signed = self
            .signer(identity, service)
            .sign(&head, digest, self.clock.now())
            .unwrap();
        headers.extend(
            signed
                .headers
                .into_iter()
                .map(|(name, value)| (Some(name), value)),
        );
        request(Method::POST, "/", headers, form)
    }

    fn signer(&self, identity: &Identity, service: &str) -> Signer {
        Signer::new(SignerOptions {
            access_key_id: identity.id.clone(),
            secret: identity.secret.clone(),
            session_token: None,
            region: REGION.to_owned(),
            service: service.to_owned(),
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let request_id = RequestId::generate(&self.random);
        let (head, body) = self.api.handle(request, request_id).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.headers[RequestId::HEADER], request_id.to_string());
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.replace(&request_id.to_string(), "REQUEST"),
            operation: *head.extensions.get().unwrap(),
            error: head.extensions.get().copied(),
        }
    }
}

impl Answer {
    /// The texts of all elements of this name.
    fn all(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let parts = self.body.split(&open).skip(1);
        parts
            .map(|part| part.split_once(&close).unwrap().0)
            .collect()
    }

    /// The text of the one element of this name.
    fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {}", self.body);
        all[0]
    }

    /// The code of an EC2 error, after checking its form.
    fn refusal(&self) -> &str {
        let code = self.one("Code");
        let wanted = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{}</Message>\
             </Error></Errors><RequestID>REQUEST</RequestID></Response>",
            self.one("Message")
        );
        assert_eq!(self.body, wanted);
        assert!(!self.status.is_success());
        assert_eq!(self.error.map(|error| error.0), Some(code));
        code
    }

    /// The content of a successful EC2 response after its request id.
    fn content(&self, root: &str) -> &str {
        assert_eq!(
            (self.status, self.error),
            (StatusCode::OK, None),
            "{}",
            self.body
        );
        let start = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <{root} xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>REQUEST</requestId>"
        );
        let rest = self
            .body
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{}", self.body));
        rest.strip_suffix(&format!("</{root}>")).unwrap()
    }
}

async fn identity(keys: &KeyStore) -> Identity {
    let account = keys.create_account().await.unwrap();
    let key = keys.create_key(account).await.unwrap();
    Identity {
        account,
        id: key.id,
        secret: key.secret,
    }
}

fn request(method: Method, uri: &str, headers: HeaderMap, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from(body.to_owned())));
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().unwrap();
    *request.headers_mut() = headers;
    request
}
