//! Signature Version 4: nothing forged is accepted, everything that our signer makes is.

use std::sync::Arc;

use auth::{
    AccessKeyId, PayloadHash, RequestHead, SecretKey, Service, Signer, SignerOptions,
    UnsignedPayload, Verifier, VerifierOptions,
};
use http::header::{AUTHORIZATION, DATE, HOST, HeaderMap, HeaderValue};
use types::{Clock, Digest, TestClock};

use crate::input::Input;

/// 2026-09-25 11:57:20 UTC.
const NOW: i64 = 1_790_337_440_000;
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn verifier() -> Verifier {
    Verifier::new(VerifierOptions {
        region: "us-east-1".to_owned(),
        skew: VerifierOptions::SKEW_DEFAULT,
        clock: Arc::new(TestClock::at(NOW)) as Arc<dyn Clock>,
        require_signed_checksum: false,
    })
}

fn secret() -> SecretKey {
    SecretKey::new(SECRET.to_owned())
}

/// Lines: method, path, query, headers. Whatever they say, no signature comes out right by chance.
pub fn authorization(data: &[u8]) {
    let input = Input::read(data);
    let headers = input.headers(3);
    let query = input.text(2);
    let head = RequestHead {
        method: input.text(0),
        path: input.text(1),
        query: (!query.is_empty()).then_some(query),
        headers: &headers,
    };
    let verifier = verifier();
    for service in [Service::Ebs, Service::Ec2, Service::Sts] {
        for unsigned in [UnsignedPayload::Accepted, UnsignedPayload::Refused] {
            let Ok(claim) = verifier.open(&head, service, unsigned) else {
                continue;
            };
            for hash in [
                PayloadHash::Unsigned,
                PayloadHash::Digest(Digest::of(input.body())),
            ] {
                assert!(
                    claim.verify(&secret(), hash).is_err(),
                    "a signature was guessed"
                );
            }
        }
    }
}

/// Lines: method, path, query, headers; then the body. Signed and verified, both sides must agree.
pub fn canonical_request(data: &[u8]) {
    let input = Input::read(data);
    let (method, path, query) = (input.text(0), input.text(1), input.text(2));
    let mut headers: HeaderMap = input.headers(3);
    for name in ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token"] {
        headers.remove(name);
    }
    headers.remove(AUTHORIZATION);
    headers.remove(DATE);
    headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8512"));
    let query = (!query.is_empty()).then_some(query);
    let hash = if data.len() % 2 == 0 {
        PayloadHash::Unsigned
    } else {
        PayloadHash::Digest(Digest::of(input.body()))
    };
    let signer = Signer::new(SignerOptions {
        access_key_id: AccessKeyId::parse("AKIAIOSFODNN7EXAMPLE").expect("an id of the right form"),
        secret: secret(),
        session_token: None,
        region: "us-east-1".to_owned(),
        service: "ebs".to_owned(),
    });
    let unsigned_head = RequestHead {
        method,
        path,
        query,
        headers: &headers,
    };
    let Ok(signed) = signer.sign(&unsigned_head, hash, NOW) else {
        return;
    };
    let mut sent = headers.clone();
    for (name, value) in signed.headers {
        sent.insert(name, value);
    }
    let head = RequestHead {
        method,
        path,
        query,
        headers: &sent,
    };
    // Limits and the query form may refuse it before the signature is looked at.
    let Ok(claim) = verifier().open(&head, Service::Ebs, UnsignedPayload::Accepted) else {
        return;
    };
    assert!(
        claim.verify(&secret(), hash).is_ok(),
        "signer and verifier disagree"
    );
    let longer = format!("{path}x");
    let changed = RequestHead {
        path: &longer,
        ..head
    };
    if let Ok(claim) = verifier().open(&changed, Service::Ebs, UnsignedPayload::Accepted) {
        assert!(
            claim.verify(&secret(), hash).is_err(),
            "another path has the same signature"
        );
    }
}
