//! A request that can be changed after it was signed, for the tests of what is accepted, what is refused, and that nothing
//! signed can be changed.

use super::*;
use crate::{Signer, SignerOptions};
use http::HeaderValue;
use types::TestClock;

mod accepted;
mod refused;
mod tamper;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const BODY: &[u8] = b"some body";
/// 2024-05-22 12:10:19 UTC.
const NOW: i64 = 1_716_379_819_000;

fn options(now: i64) -> VerifierOptions {
    VerifierOptions {
        region: "us-east-1".to_owned(),
        skew: VerifierOptions::SKEW_DEFAULT,
        clock: Arc::new(TestClock::at(now)),
        require_signed_checksum: false,
    }
}

fn signer() -> Signer {
    Signer::new(SignerOptions {
        access_key_id: AccessKeyId::parse("AKIDEXAMPLE").expect("a key id"),
        secret: SecretKey::new(SECRET.to_owned()),
        session_token: None,
        region: "us-east-1".to_owned(),
        service: "ebs".to_owned(),
    })
}

/// A request that can be changed after it was signed.
#[derive(Clone)]
struct Sample {
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sample {
    fn new(
        method: &str,
        path: &str,
        query: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Sample {
        let mut sample = Sample {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers: HeaderMap::new(),
            body: BODY.to_vec(),
        };
        sample.set("host", "127.0.0.1:8512");
        for (name, value) in headers {
            sample
                .headers
                .append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        sample
    }

    fn get() -> Sample {
        Sample::new("GET", "/snapshots/snap-0123456789abcdef0/blocks", None, &[])
    }

    fn put() -> Sample {
        let headers = [
            ("x-amz-data-length", "524288"),
            (
                "x-amz-checksum",
                "Qib0wLZSCPxxAsnoZ1mqGTwYYUfxBvjcHbuEUOOwNdw=",
            ),
            ("x-amz-checksum-algorithm", "SHA256"),
        ];
        let path = "/snapshots/snap-0123456789abcdef0/blocks/0";
        Sample::new(
            "PUT",
            path,
            Some("pageToken=AA%2B%2F%3D&maxResults=100"),
            &headers,
        )
    }

    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers
            .insert(name, HeaderValue::from_str(value).expect("a value"));
    }

    /// Signs over whatever is there.
    fn signed(mut self, payload_hash: PayloadHash) -> Sample {
        for (name, value) in signer()
            .sign(&self.head(), payload_hash, NOW)
            .expect("signed")
            .headers
        {
            self.headers.insert(name, value);
        }
        self
    }

    fn signed_body(self) -> Sample {
        let digest = Digest::of(&self.body);
        self.signed(PayloadHash::Digest(digest))
    }

    fn authorization(&self) -> &str {
        self.headers["authorization"].to_str().expect("text")
    }

    /// Replaces a part of the Authorization header.
    fn replaced(mut self, from: &str, to: &str) -> Sample {
        let authorization = self.authorization().to_owned();
        assert!(authorization.contains(from), "{authorization}");
        self.set("authorization", &authorization.replace(from, to));
        self
    }

    fn without(mut self, name: &str) -> Sample {
        self.headers.remove(name).expect("the header was there");
        self
    }

    /// What a server does with it, start to end.
    fn answer_by(&self, options: VerifierOptions) -> Result<(), AuthError> {
        let verifier = Verifier::new(options);
        let claim = verifier.open(&self.head(), Service::Ebs, UnsignedPayload::Accepted)?;
        let secret = SecretKey::new(SECRET.to_owned());
        if claim.access_key_id().as_str() != "AKIDEXAMPLE" {
            return Err(AuthError::UnknownKey);
        }
        let body = Digest::of(&self.body);
        match claim.payload() {
            Payload::Unsigned => claim.verify(&secret, PayloadHash::Unsigned),
            Payload::Signed(signed) => {
                claim.verify(&secret, PayloadHash::Digest(signed))?;
                claim.check_body(body)
            }
            Payload::Body => claim.verify(&secret, PayloadHash::Digest(body)),
        }
    }

    fn answer(&self) -> Result<(), AuthError> {
        self.answer_by(options(NOW))
    }

    fn refused(&self) -> AuthError {
        self.answer().expect_err("the request is refused")
    }
}

/// Checks code and text of the REST/JSON services, code and status of the Query services.
fn check(error: &AuthError, code: &str, ec2: (&str, u16), message: &str) {
    assert_eq!(error.to_string(), message);
    assert_eq!((error.code(), error.status()), (code, 403), "{message}");
    assert_eq!((error.ec2_code(), error.ec2_status()), ec2, "{message}");
}

const INVALID: &str = "InvalidSignatureException";
const INCOMPLETE: &str = "IncompleteSignatureException";
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
    Secret Access Key and signing method. Consult the service documentation for details.";
