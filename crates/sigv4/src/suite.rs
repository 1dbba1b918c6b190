//! The published Signature Version 4 test suite, and vectors of the EBS direct APIs (`testdata/`).
//!
//! Every case of the suite is verified and signed, in the header form and in the query form. Its requests are text as a
//! person would write it (folded headers, raw spaces and letters in targets), which an HTTP server never passes on: the
//! small parser here takes them in.

use crate::canonical::{self, PathRule, Scope};
use crate::timestamp::Timestamp;
use crate::{AccessKeyId, AuthError, SecretKey};
use crate::{
    PayloadHash, RequestHead, Service, Signer, SignerOptions, UnsignedPayload, Verifier,
    VerifierOptions, authorization,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use types::{Digest, TestClock};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

/// A request as the suite writes it.
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: String,
}

impl Request {
    fn parse(text: &str) -> Request {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let line = lines.next().expect("a request line");
        let (method, target) = line
            .trim_end_matches(" HTTP/1.1")
            .split_once(' ')
            .expect("a target");
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            if line.starts_with(' ') {
                let (_, value) = fields.last_mut().expect("a header before its continuation");
                value.push_str(line);
            } else {
                let (name, value) = line.split_once(':').expect("a header");
                fields.push((name.to_owned(), value.to_owned()));
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            headers.append(name, HeaderValue::from_str(&value).expect("a header value"));
        }
        let body = if body.trim().is_empty() { "" } else { body };
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query,
            headers,
            body: body.to_owned(),
        }
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }

    fn payload_hash(&self) -> PayloadHash {
        PayloadHash::Digest(Digest::of(self.body.as_bytes()))
    }
}

/// One directory of the suite.
struct Case {
    name: String,
    path: PathBuf,
    key_id: &'static str,
    region: &'static str,
    service: &'static str,
    date: &'static str,
    token: Option<String>,
    token_omitted: bool,
    sign_body: bool,
    path_rule: PathRule,
}

impl Case {
    fn load(path: PathBuf) -> Case {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        let context = fs::read_to_string(path.join("context.json")).unwrap_or_default();
        let context: Value = serde_json::from_str(&context).unwrap_or_default();
        let is = |member: &str| context[member].as_bool();
        let (region, service, date) = match name.as_str() {
            "double-url-encode" => ("us-east-2", "lambda", "20210511T154045Z"),
            _ => ("us-east-1", "service", "20150830T123600Z"),
        };
        Case {
            path,
            key_id: "AKIDEXAMPLE",
            region,
            service,
            date,
            token: context["credentials"]["token"].as_str().map(str::to_owned),
            token_omitted: is("omit_session_token").unwrap_or(false),
            sign_body: is("sign_body").unwrap_or(false),
            path_rule: if is("normalize").unwrap_or(true) {
                PathRule::Normalized
            } else {
                PathRule::AsSent
            },
            name,
        }
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path.join(file)).ok()
    }

    fn millis(&self) -> i64 {
        Timestamp::parse_basic(self.date).expect("a date").seconds() * 1000
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(VerifierOptions {
            region: self.region.to_owned(),
            skew: VerifierOptions::SKEW_DEFAULT,
            clock: Arc::new(TestClock::at(self.millis())),
            require_signed_checksum: false,
        })
    }

    fn signer(&self) -> Signer {
        Signer::new(SignerOptions {
            access_key_id: AccessKeyId::parse(self.key_id).expect("a key id"),
            secret: SecretKey::new(SECRET.to_owned()),
            session_token: self.token.clone().filter(|_| !self.token_omitted),
            region: self.region.to_owned(),
            service: self.service.to_owned(),
        })
    }

    fn verify(&self, request: &Request) -> Result<(), AuthError> {
        let claim = self.verifier().open_as(
            &request.head(),
            self.service,
            UnsignedPayload::Refused,
            self.path_rule,
        )?;
        assert_eq!(claim.access_key_id().as_str(), self.key_id);
        claim.verify(&SecretKey::new(SECRET.to_owned()), request.payload_hash())
    }

    /// Checks the canonical request and the string to sign on the way to the signature.
    fn check_texts(&self, request: &Request, signed_headers: &str, form: &str) {
        let Some(expected) = self.read(&format!("{form}-canonical-request.txt")) else {
            return;
        };
        let headers: Vec<_> = signed_headers
            .split(';')
            .map(|name| {
                (
                    name,
                    canonical::header_value(&request.headers, name).expect("signed"),
                )
            })
            .collect();
        let mut canonical_request = canonical::request_head(
            &request.method,
            &canonical::path(&request.path, self.path_rule),
            &canonical::query(
                request.query.as_deref().unwrap_or_default(),
                Some("X-Amz-Signature"),
            ),
            &headers,
            signed_headers,
        );
        let PayloadHash::Digest(body) = request.payload_hash() else {
            unreachable!()
        };
        canonical_request.update(body.to_string().as_bytes());
        let digest = canonical_request.finish();
        assert_eq!(
            digest,
            Digest::of(expected.as_bytes()),
            "{} {form}: {expected}",
            self.name
        );
        let Some(expected) = self.read(&format!("{form}-string-to-sign.txt")) else {
            return;
        };
        let scope = Scope {
            day: &self.date[..8],
            region: self.region,
            service: self.service,
        };
        let to_sign = canonical::string_to_sign(self.date, &scope, digest);
        assert_eq!(to_sign, expected.trim_end(), "{} {form}", self.name);
    }
}

fn cases() -> Vec<Case> {
    let mut paths: Vec<PathBuf> = fs::read_dir(testdata("aws-sigv4-suite"))
        .expect("the suite")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 40);
    paths.into_iter().map(Case::load).collect()
}

#[test]
fn header_form_of_the_suite() {
    for case in cases() {
        let text = case
            .read("header-signed-request.txt")
            .expect("a signed request");
        let mut signed = Request::parse(&text);
        if case.name == "double-encode-path" {
            // Its signed request lacks the date, and belongs to other credentials than its canonical request.
            signed
                .headers
                .insert("x-amz-date", HeaderValue::from_static("20210511T154045Z"));
            case.check_texts(&signed, "host;x-amz-date", "header");
            continue;
        }
        let header = signed
            .headers
            .get("authorization")
            .expect("a header")
            .as_bytes();
        let parts = authorization::parse_header(header, Some(case.date.to_owned()))
            .expect("a complete header");
        case.check_texts(&signed, &parts.signed_headers, "header");
        assert_eq!(case.verify(&signed), Ok(()), "{}", case.name);
        if let Some(signature) = case.read("header-signature.txt") {
            assert_eq!(parts.signature, signature.trim_end());
        }

        let mut plain = Request::parse(&case.read("request.txt").expect("a request"));
        plain.path = signed.path.clone();
        if case.sign_body {
            let digest = Digest::of(plain.body.as_bytes()).to_string();
            let digest = HeaderValue::from_str(&digest).expect("hex");
            plain.headers.insert("x-amz-content-sha256", digest);
        }
        let made = case
            .signer()
            .sign_as(
                &plain.head(),
                plain.payload_hash(),
                case.millis(),
                case.path_rule,
            )
            .expect("a signature");
        assert_eq!(made.signature, parts.signature, "{}", case.name);
        let authorization = made
            .headers
            .iter()
            .find(|(name, _)| name == "authorization");
        let (_, authorization) = authorization.expect("an Authorization header");
        assert_eq!(
            authorization.as_bytes(),
            header.trim_ascii(),
            "{}",
            case.name
        );
    }
}

#[test]
fn query_form_of_the_suite() {
    let mut count = 0;
    for case in cases() {
        let Some(text) = case.read("query-signed-request.txt") else {
            assert!(case.name.starts_with("double-"), "{}", case.name);
            continue;
        };
        count += 1;
        let mut signed = Request::parse(&text);
        if case.token_omitted {
            // The token was added after signing, as a few services want it. Ours sign it, so this is refused as it stands.
            assert_eq!(case.verify(&signed), Err(AuthError::SignatureMismatch));
            let query = signed.query.take().expect("a query");
            let signed_part = |part: &&str| !part.starts_with("X-Amz-Security-Token=");
            let parts: Vec<&str> = query.split('&').filter(signed_part).collect();
            signed.query = Some(parts.join("&"));
        }
        let query = signed.query.as_deref().expect("a query");
        let parts = authorization::parse_query(query)
            .expect("complete")
            .expect("presigned");
        case.check_texts(&signed, &parts.signed_headers, "query");
        assert_eq!(case.verify(&signed), Ok(()), "{}", case.name);

        let mut plain = Request::parse(&case.read("request.txt").expect("a request"));
        plain.path = signed.path.clone();
        let body = Digest::of(plain.body.as_bytes());
        let query = case
            .signer()
            .presign_as(&plain.head(), body, 3600, case.millis(), case.path_rule)
            .expect("a query");
        let expected = case.read("query-signature.txt").expect("a signature");
        assert_eq!(
            query.rsplit('=').next(),
            Some(expected.trim_end()),
            "{}",
            case.name
        );
        plain.query = Some(query);
        assert_eq!(case.verify(&plain), Ok(()), "{}", case.name);
    }
    assert_eq!(count, 38);
}

/// The seven requests of the EBS direct APIs that an independent signer has signed.
#[test]
fn ebs_vectors() {
    let text = fs::read_to_string(testdata("sigv4-ebs-vectors.json")).expect("the vectors");
    let vectors: Value = serde_json::from_str(&text).expect("JSON");
    let date = Timestamp::parse_basic(vectors["timestamp"].as_str().expect("a date"));
    let now = date.expect("a date").seconds() * 1000;
    let clock = Arc::new(TestClock::at(now));
    clock.advance(Duration::from_secs(60));
    let verifier = Verifier::new(VerifierOptions {
        region: "us-east-1".to_owned(),
        skew: VerifierOptions::SKEW_DEFAULT,
        clock,
        require_signed_checksum: true,
    });
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 7);
    for case in cases {
        let member = |name: &str| case[name].as_str().expect("text");
        let mut headers = HeaderMap::new();
        for (name, value) in case["headers"].as_object().expect("headers") {
            let value = HeaderValue::from_str(value.as_str().expect("text")).expect("a value");
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value,
            );
        }
        let unsigned = member("payload_hash") == "UNSIGNED-PAYLOAD";
        let payload_hash = match member("body") {
            _ if unsigned => PayloadHash::Unsigned,
            body if body.starts_with("block \"a\"") => {
                let bytes = b"stackd-ebs-synthetic-a\n".iter().copied().cycle();
                let block: Vec<u8> = bytes.take(types::BLOCK_BYTES).collect();
                PayloadHash::Digest(Digest::of(&block))
            }
            body => PayloadHash::Digest(Digest::of(body.as_bytes())),
        };
        let query = Some(member("query")).filter(|query| !query.is_empty());
        let (method, path) = (member("method"), member("path"));
        let unsigned_head = RequestHead {
            method,
            path,
            query,
            headers: &headers.clone(),
        };
        let signer = Signer::new(SignerOptions {
            access_key_id: AccessKeyId::parse("AKIDEXAMPLE").expect("a key id"),
            secret: SecretKey::new(SECRET.to_owned()),
            session_token: case["headers"]["x-amz-security-token"]
                .as_str()
                .map(str::to_owned),
            region: "us-east-1".to_owned(),
            service: "ebs".to_owned(),
        });
        let made = signer
            .sign(&unsigned_head, payload_hash, now)
            .expect("a signature");
        assert_eq!(made.signature, member("signature"), "{}", member("name"));

        let value = HeaderValue::from_str(member("authorization")).expect("a value");
        headers.insert("authorization", value);
        let head = RequestHead {
            method,
            path,
            query,
            headers: &headers,
        };
        let claim = verifier
            .open(&head, Service::Ebs, UnsignedPayload::Accepted)
            .expect("a well-formed signature");
        let secret = SecretKey::new(SECRET.to_owned());
        assert_eq!(
            claim.verify(&secret, payload_hash),
            Ok(()),
            "{}",
            member("name")
        );
    }
}
