//! Every answer of the verifier, and proof that nothing signed can be changed.

use super::*;
use crate::{Signer, SignerOptions};
use http::HeaderValue;
use proptest::prelude::{any, prop_assume, prop_oneof, proptest};
use proptest::sample::Index;
use proptest::strategy::{Just, Strategy};
use types::TestClock;

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

#[test]
fn all_three_payload_forms_are_accepted() {
    let plain = Sample::put();
    assert_eq!(plain.clone().signed(PayloadHash::Unsigned).answer(), Ok(()));
    assert_eq!(plain.clone().signed_body().answer(), Ok(()));
    let mut named = plain;
    named.set("x-amz-content-sha256", &Digest::of(BODY).to_string());
    assert_eq!(named.signed_body().answer(), Ok(()));
}

#[test]
fn no_authentication_at_all() {
    let ec2 = ("MissingAuthenticationToken", 403);
    let code = "MissingAuthenticationTokenException";
    check(
        &Sample::get().refused(),
        code,
        ec2,
        "Missing Authentication Token",
    );
    let mut blank = Sample::get();
    blank.set("authorization", "  ");
    check(&blank.refused(), code, ec2, "Missing Authentication Token");
}

#[test]
fn all_missing_parts_are_reported_together() {
    let ec2 = ("IncompleteSignature", 400);
    let mut bare = Sample::get();
    bare.set("authorization", "AWS4-HMAC-SHA256");
    let message = "Authorization header requires 'Credential' parameter. \
        Authorization header requires 'Signature' parameter. \
        Authorization header requires 'SignedHeaders' parameter. \
        Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. \
        Authorization=AWS4-HMAC-SHA256";
    check(&bare.refused(), INCOMPLETE, ec2, message);

    let header = "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=";
    bare.set("authorization", header);
    bare.set("x-amz-date", "20240522T121019Z");
    let message =
        format!("Authorization header requires 'Signature' parameter. Authorization={header}");
    check(&bare.refused(), INCOMPLETE, ec2, &message);

    let mut query = Sample::get();
    query.query = Some("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=".to_owned());
    let message = "AWS query-string parameters must include 'X-Amz-Credential'. \
        AWS query-string parameters must include 'X-Amz-Signature'. \
        AWS query-string parameters must include 'X-Amz-SignedHeaders'. \
        AWS query-string parameters must include 'X-Amz-Date'. \
        AWS query-string parameters must include 'X-Amz-Expires'. Re-examine the query-string parameters.";
    check(&query.refused(), INCOMPLETE, ec2, message);
}

#[test]
fn other_algorithms() {
    let ec2 = ("IncompleteSignature", 400);
    for (from, to) in [
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        ("AWS4-HMAC-SHA256", "AWS"),
        ("AWS4-HMAC-SHA256", "aws4-hmac-sha256"),
    ] {
        let message =
            format!("Unsupported AWS 'algorithm': '{to}' (only AWS4-HMAC-SHA256 for now). ");
        let sample = Sample::get().signed_body().replaced(from, to);
        check(&sample.refused(), INCOMPLETE, ec2, &message);
    }
    let mut query = Sample::get();
    query.query = Some("X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256".to_owned());
    let message =
        "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (only AWS4-HMAC-SHA256 for now). ";
    check(&query.refused(), INCOMPLETE, ec2, message);
}

#[test]
fn a_credential_has_five_parts() {
    let scope = "AKIDEXAMPLE/20240522/us-east-1/ebs/aws4_request";
    for wrong in [
        "AKIDEXAMPLE",
        "AKIDEXAMPLE/20240522/us-east-1/ebs",
        &format!("{scope}/more"),
        "////a/",
    ] {
        let message = format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{wrong}'"
        );
        let sample = Sample::get().signed_body().replaced(scope, wrong);
        check(&sample.refused(), INVALID, ("AuthFailure", 401), &message);
    }
}

#[test]
fn all_scope_faults_are_reported_together() {
    let ec2 = ("AuthFailure", 401);
    let signed = Sample::get().signed_body();
    let sample = signed.clone().replaced(
        "20240522/us-east-1/ebs/aws4_request",
        "20240521/eu-west-1/s3/aws5",
    );
    let message = "Credential should be scoped to a valid region, not 'eu-west-1'. \
        Credential should be scoped to correct service: 'ebs'. \
        Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5'. \
        Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
        '20240521' != '20240522', from '20240522T121019Z'.";
    check(&sample.refused(), INVALID, ec2, message);
    let message = "Credential should be scoped to a valid region, not 'us-west-2'. ";
    check(
        &signed.replaced("us-east-1", "us-west-2").refused(),
        INVALID,
        ec2,
        message,
    );
}

#[test]
fn host_must_be_signed() {
    let message = "'Host' must be a 'SignedHeader' in the AWS Authorization.";
    let sample = Sample::get().signed_body().replaced("host;", "");
    check(&sample.refused(), INVALID, ("AuthFailure", 401), message);
}

#[test]
fn a_signed_header_must_be_there() {
    let message =
        "'x-amz-checksum' is a 'SignedHeader' in the AWS Authorization but is not in the request.";
    let sample = Sample::put().signed_body().without("x-amz-checksum");
    check(&sample.refused(), INVALID, ("AuthFailure", 401), message);
    for list in ["host;;x-amz-date", "host;x amz date", "host; x-amz-date"] {
        let sample = Sample::get()
            .signed_body()
            .replaced("host;x-amz-date", list);
        assert!(
            matches!(sample.refused(), AuthError::SignedHeaderAbsent { .. }),
            "{list}"
        );
    }
}

#[test]
fn the_date_has_the_basic_form() {
    for date in [
        "2024-05-22T12:10:19Z",
        "yesterday",
        "20240522T126019Z",
        "20240522T121019Z,20240522T121019Z",
    ] {
        let mut sample = Sample::get().signed_body();
        sample.set("x-amz-date", date);
        let message = format!(
            "Date must be in ISO-8601 'basic format'. Got '{date}'. See http://en.wikipedia.org/wiki/ISO_8601"
        );
        check(
            &sample.refused(),
            INCOMPLETE,
            ("IncompleteSignature", 400),
            &message,
        );
    }
}

#[test]
fn the_skew_is_five_minutes_both_ways_ends_included() {
    let sample = Sample::get().signed_body();
    let at = |seconds: i64, millis: i64| sample.answer_by(options(NOW + seconds * 1000 + millis));
    assert_eq!(at(300, 0), Ok(()));
    assert_eq!(at(300, 999), Ok(()));
    assert_eq!(at(-300, 0), Ok(()));
    let message = "Signature expired: 20240522T121019Z is now earlier than 20240522T121020Z (20240522T121520Z - 5 min.)";
    check(
        &at(301, 0).expect_err("expired"),
        INVALID,
        ("RequestExpired", 400),
        message,
    );
    let message = "Signature not yet current: 20240522T121019Z is still later than 20240522T121018Z (20240522T120518Z + 5 min.)";
    check(
        &at(-301, 0).expect_err("early"),
        INVALID,
        ("RequestExpired", 400),
        message,
    );
    let wide = VerifierOptions {
        skew: Duration::from_secs(15 * 60),
        ..options(NOW + 900_000)
    };
    assert_eq!(sample.answer_by(wide), Ok(()));
    for now in [i64::MIN, i64::MAX] {
        sample
            .answer_by(options(now))
            .expect_err("a clock out of its mind");
    }
}

#[test]
fn another_secret_or_signature_does_not_match() {
    let ec2 = ("SignatureDoesNotMatch", 403);
    let sample = Sample::get().signed_body();
    let verifier = Verifier::new(options(NOW));
    let claim = verifier
        .open(&sample.head(), Service::Ebs, UnsignedPayload::Refused)
        .expect("a claim");
    let error = claim.verify(
        &SecretKey::new("other".to_owned()),
        PayloadHash::Digest(Digest::of(BODY)),
    );
    check(&error.expect_err("another secret"), INVALID, ec2, MISMATCH);
    let authorization = sample.authorization().to_owned();
    let (_, signature) = authorization.split_once("Signature=").expect("a signature");
    for wrong in [
        &signature[..63],
        &format!("{signature}0"),
        &signature.to_uppercase(),
        "zz",
        &"0".repeat(64),
    ] {
        check(
            &sample.clone().replaced(signature, wrong).refused(),
            INVALID,
            ec2,
            MISMATCH,
        );
    }
}

#[test]
fn unknown_keys_and_expired_tokens() {
    let message = "The security token included in the request is invalid.";
    let ec2 = ("InvalidClientTokenId", 403);
    for id in ["AKIDOTHER", "no-key-at-all", "\u{e9}", ""] {
        let sample = Sample::get().signed_body().replaced("AKIDEXAMPLE", id);
        check(
            &sample.refused(),
            "UnrecognizedClientException",
            ec2,
            message,
        );
    }
    let message = "The security token included in the request is expired";
    check(
        &AuthError::ExpiredToken,
        "ExpiredTokenException",
        ("RequestExpired", 400),
        message,
    );
}

#[test]
fn payload_hashes_of_other_forms_are_refused() {
    let digest = Digest::of(BODY).to_string();
    for wrong in [
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "unsigned-payload",
        "",
        &digest[..62],
        &digest.to_uppercase(),
        &format!("{digest},{digest}"),
    ] {
        let mut sample = Sample::put();
        sample.set("x-amz-content-sha256", wrong);
        let message = format!(
            "The value of x-amz-content-sha256 must be a SHA-256 in lower-case hex, got '{wrong}'."
        );
        check(
            &sample.signed_body().refused(),
            INVALID,
            ("AuthFailure", 401),
            &message,
        );
    }
}

#[test]
fn an_unsigned_payload_needs_the_operations_consent() {
    let sample = Sample::put().signed(PayloadHash::Unsigned);
    let verifier = Verifier::new(options(NOW));
    let error = verifier.open(&sample.head(), Service::Ebs, UnsignedPayload::Refused);
    let message = "UNSIGNED-PAYLOAD is not accepted for this operation.";
    check(
        &error.expect_err("refused"),
        INVALID,
        ("AuthFailure", 401),
        message,
    );
}

#[test]
fn a_body_must_have_the_digest_that_was_signed() {
    let mut named = Sample::put();
    named.set("x-amz-content-sha256", &Digest::of(BODY).to_string());
    for signed in [named.signed_body(), Sample::put().signed_body()] {
        let changed = Sample {
            body: b"other body".to_vec(),
            ..signed
        };
        check(
            &changed.refused(),
            INVALID,
            ("SignatureDoesNotMatch", 403),
            MISMATCH,
        );
    }
    let sample = Sample::put().signed(PayloadHash::Unsigned);
    let verifier = Verifier::new(options(NOW));
    let claim = verifier
        .open(&sample.head(), Service::Ebs, UnsignedPayload::Accepted)
        .expect("a claim");
    let secret = SecretKey::new(SECRET.to_owned());
    let wrong = claim.verify(&secret, PayloadHash::Digest(Digest::of(BODY)));
    assert_eq!(wrong, Err(AuthError::PayloadMismatch));
}

#[test]
fn strict_mode_wants_checksum_headers_signed() {
    let mut sample = Sample::put()
        .without("x-amz-checksum")
        .signed(PayloadHash::Unsigned);
    sample.set(
        "x-amz-checksum",
        "Qib0wLZSCPxxAsnoZ1mqGTwYYUfxBvjcHbuEUOOwNdw=",
    );
    assert_eq!(sample.answer(), Ok(()));
    let strict = VerifierOptions {
        require_signed_checksum: true,
        ..options(NOW)
    };
    let error = sample.answer_by(strict.clone()).expect_err("not signed");
    let message = "'x-amz-checksum' must be a 'SignedHeader' in the AWS Authorization when the payload is not signed.";
    check(&error, INVALID, ("AuthFailure", 401), message);
    assert_eq!(
        Sample::put()
            .signed(PayloadHash::Unsigned)
            .answer_by(strict),
        Ok(())
    );
}

#[test]
fn both_forms_at_once_are_refused() {
    let mut sample = Sample::get().signed_body();
    sample.query = Some("X%2DAmz-Algorithm=AWS4-HMAC-SHA256".to_owned());
    let message =
        "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.";
    check(&sample.refused(), INVALID, ("AuthFailure", 401), message);
}

#[test]
fn parts_must_not_be_repeated() {
    let ec2 = ("IncompleteSignature", 400);
    let sample = Sample::get().signed_body();
    let mut twice = sample.clone();
    let again = twice.headers["authorization"].clone();
    twice.headers.append("authorization", again);
    assert!(twice.answer().is_err());
    let repeated = sample.replaced(", Signature=", ", Signature=0, Signature=");
    check(
        &repeated.refused(),
        INCOMPLETE,
        ec2,
        "'Signature' must be given only once.",
    );
    let mut query = Sample::get();
    query.query = Some("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=1&X-Amz-Date=2".to_owned());
    check(
        &query.refused(),
        INCOMPLETE,
        ec2,
        "'X-Amz-Date' must be given only once.",
    );
}

#[test]
fn sizes_are_bounded() {
    let ec2 = ("IncompleteSignature", 400);
    let mut sample = Sample::get().signed_body();
    let date = sample.headers["x-amz-date"].clone();
    sample.set(
        "authorization",
        &format!("AWS4-HMAC-SHA256 Credential={}", "a".repeat(8 * 1024)),
    );
    check(
        &sample.refused(),
        INCOMPLETE,
        ec2,
        "The Authorization header must not exceed 8 KiB.",
    );
    let names = vec!["x-amz-date"; 100].join(";");
    let header = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240522/us-east-1/ebs/aws4_request, SignedHeaders=host;{names}, Signature=0"
    );
    sample.set("authorization", &header);
    sample.headers.insert("x-amz-date", date);
    check(
        &sample.refused(),
        INCOMPLETE,
        ec2,
        "The list of signed headers must not exceed 100 names.",
    );
    let mut sample = Sample::get().signed_body();
    sample.query = Some("a".repeat(64 * 1024 + 1));
    check(
        &sample.refused(),
        INCOMPLETE,
        ec2,
        "The query must not exceed 64 KiB.",
    );
    sample.query = Some("a&".repeat(1_001));
    check(
        &sample.refused(),
        INCOMPLETE,
        ec2,
        "The query must not exceed 1000 parameters.",
    );
    sample.query = None;
    sample.set("authorization", &"x".repeat(5_000));
    assert!(sample.refused().to_string().len() < 1_200);
}

#[test]
fn the_date_header_is_the_fallback() {
    let signed = Sample::get().signed_body();
    for date in ["20240522T121019Z", "Wed, 22 May 2024 12:10:19 GMT"] {
        // Signed as a client without X-Amz-Date does: over `date` as sent, with the basic form in the string to sign.
        let mut sample = signed.clone().without("x-amz-date");
        sample.set("date", date);
        let headers = [
            ("date", date.as_bytes().to_vec()),
            ("host", sample.headers["host"].as_bytes().to_vec()),
        ];
        let mut request = canonical::request_head("GET", &sample.path, "", &headers, "date;host");
        request.update(Digest::of(BODY).to_string().as_bytes());
        let scope = Scope {
            day: "20240522",
            region: "us-east-1",
            service: "ebs",
        };
        let to_sign = canonical::string_to_sign("20240522T121019Z", &scope, request.finish());
        let key = canonical::signing_key(&SecretKey::new(SECRET.to_owned()), &scope);
        let tag = hmac::sign(&key, to_sign.as_bytes());
        let signature = Digest::from_slice(tag.as_ref()).expect("32 bytes");
        sample.set(
            "authorization",
            &format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240522/us-east-1/ebs/aws4_request,\
                 SignedHeaders=date;host,Signature={signature}"
            ),
        );
        assert_eq!(sample.answer(), Ok(()), "{date}");
        sample.set("x-amz-date", "20240522T121018Z");
        assert_eq!(
            sample.answer(),
            Err(AuthError::SignatureMismatch),
            "X-Amz-Date comes first"
        );
    }
}

#[test]
fn separators_may_have_any_blanks() {
    let sample = Sample::get().signed_body();
    assert_eq!(sample.clone().replaced(", ", ",").answer(), Ok(()));
    assert_eq!(sample.clone().replaced(", ", " ,\t ").answer(), Ok(()));
    assert_eq!(
        sample
            .replaced("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256   ")
            .answer(),
        Ok(())
    );
}

#[test]
fn unsigned_extras_and_equal_signatures_are_fine() {
    let mut sample = Sample::get().signed_body();
    for name in [
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        "user-agent",
        "accept-encoding",
    ] {
        sample.set(name, "whatever");
    }
    assert_eq!(sample.answer(), Ok(()));
    assert_eq!(sample.answer(), Ok(()), "the same signature again");
}

#[test]
fn encoded_paths_and_raw_pluses_verify() {
    for path in [
        "/snapshots/snap%2F1/blocks",
        "/snapshots/snap-01/blocks/1e%2B05",
        "/a//b/../c",
    ] {
        let query = "startingBlockIndex=1e+05&pageToken=AA%2B%2F%3D-_.~%20b";
        assert_eq!(
            Sample::new("GET", path, Some(query), &[])
                .signed_body()
                .answer(),
            Ok(()),
            "{path}"
        );
    }
}

#[test]
fn repeated_and_blank_header_values_verify_as_sent() {
    let mut sample = Sample::new(
        "GET",
        "/",
        None,
        &[("x-extra", "a   b"), ("x-extra", "c "), ("x-empty", "")],
    )
    .signed_body();
    assert_eq!(sample.answer(), Ok(()));
    sample
        .headers
        .append("x-extra", HeaderValue::from_static("d"));
    assert_eq!(sample.answer(), Err(AuthError::SignatureMismatch));
}

#[test]
fn presigned_gets_are_accepted_until_they_expire() {
    let presigned = |method: &str, expires: u32| {
        let mut sample = Sample {
            body: Vec::new(),
            ..Sample::get()
        };
        sample.method = method.to_owned();
        sample.query = Some("maxResults=100".to_owned());
        let query = signer().presign(&sample.head(), Digest::of(b""), expires, NOW);
        sample.query = Some(query.expect("signed"));
        sample
    };
    let sample = presigned("GET", 3_600);
    for later in [-300_000, 0, 301_000, 3_600_000] {
        assert_eq!(sample.answer_by(options(NOW + later)), Ok(()), "{later}");
    }
    let message = "Signature expired: 20240522T121019Z is now earlier than 20240522T121020Z (20240522T131020Z - 60 min.)";
    let error = sample
        .answer_by(options(NOW + 3_601_000))
        .expect_err("expired");
    check(&error, INVALID, ("RequestExpired", 400), message);
    assert!(sample.answer_by(options(NOW - 301_000)).is_err());
    assert_eq!(presigned("GET", 604_800).answer(), Ok(()));
    for expires in [0, 604_801, 999_999] {
        let message = format!(
            "X-Amz-Expires must be a number between 1 and 604800 seconds. Got '{expires}'."
        );
        check(
            &presigned("GET", expires).refused(),
            INCOMPLETE,
            ("IncompleteSignature", 400),
            &message,
        );
    }
    assert_eq!(
        presigned("PUT", 60).answer(),
        Err(AuthError::MissingAuthentication)
    );
    let mut changed = sample;
    changed.query = changed
        .query
        .map(|query| query.replace("maxResults=100", "maxResults=101"));
    assert_eq!(changed.answer(), Err(AuthError::SignatureMismatch));
}

#[test]
fn nothing_printed_holds_a_secret() {
    let token = "AQoEXAMPLESESSIONTOKEN";
    let mut sample = Sample::get();
    let signer = Signer::new(SignerOptions {
        access_key_id: AccessKeyId::parse("AKIDEXAMPLE").expect("a key id"),
        secret: SecretKey::new(SECRET.to_owned()),
        session_token: Some(token.to_owned()),
        region: "us-east-1".to_owned(),
        service: "ebs".to_owned(),
    });
    let hash = PayloadHash::Digest(Digest::of(BODY));
    let signed = signer.sign(&sample.head(), hash, NOW).expect("signed");
    let mut printed = format!("{signer:?} {signed:?}");
    sample.headers.extend(signed.headers);
    let verifier = Verifier::new(options(NOW));
    let claim = verifier
        .open(&sample.head(), Service::Ebs, UnsignedPayload::Refused)
        .expect("a claim");
    assert_eq!(claim.session_token(), Some(token));
    printed.push_str(&format!("{claim:?} {verifier:?} {:?}", sample.head()));
    assert!(printed.contains("AKIDEXAMPLE"), "{printed}");
    assert!(
        !printed.contains(SECRET) && !printed.contains(token),
        "{printed}"
    );
}

/// A part of a request to change one byte of.
#[derive(Clone, Copy, Debug)]
enum Part {
    Method,
    Path,
    Query,
    Header,
    Authorization,
    Body,
}

fn flip(text: &str, at: Index, bit: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let at = at.index(bytes.len());
    bytes[at] ^= 1 << bit;
    String::from_utf8(bytes).ok()
}

/// The sample with one bit changed, or `None` when the change makes no request, or one that means the same.
fn tampered(sample: &Sample, part: Part, which: Index, at: Index, bit: u8) -> Option<Sample> {
    let mut changed = sample.clone();
    match part {
        Part::Method => changed.method = flip(&sample.method, at, bit)?,
        Part::Path => changed.path = flip(&sample.path, at, bit)?,
        Part::Query => {
            let query = sample.query.as_deref()?;
            let flipped = flip(query, at, bit)?;
            let meaning = |query| {
                let mut parameters = canonical::query_parameters(query);
                parameters.sort();
                parameters
            };
            if meaning(&flipped) == meaning(query) {
                return None;
            }
            changed.query = Some(flipped);
        }
        Part::Header => {
            let names: Vec<_> = sample
                .headers
                .keys()
                .filter(|name| *name != "authorization")
                .collect();
            let name = which.get(&names);
            let value = flip(sample.headers[*name].to_str().ok()?, at, bit)?;
            changed
                .headers
                .insert((*name).clone(), HeaderValue::from_str(&value).ok()?);
        }
        Part::Authorization => {
            let header = flip(sample.authorization(), at, bit)?;
            let parsed =
                |header: &str| authorization::parse_header(header.as_bytes(), Some("d".to_owned()));
            if parsed(&header) == parsed(sample.authorization()) {
                return None;
            }
            changed
                .headers
                .insert("authorization", HeaderValue::from_str(&header).ok()?);
        }
        Part::Body => {
            let at = at.index(changed.body.len());
            changed.body[at] ^= 1 << bit;
        }
    }
    Some(changed)
}

/// Text that looks like an Authorization header from afar.
fn header_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"AWS4-HMAC-SHA256".to_vec()),
        Just(b" ".to_vec()),
        Just(b"Credential=AKIDEXAMPLE/20240522/us-east-1/ebs/aws4_request".to_vec()),
        Just(b"SignedHeaders=host;x-amz-date".to_vec()),
        Just(b"Signature=".to_vec()),
        Just(b"0123456789abcdef".to_vec()),
        Just(b",".to_vec()),
        Just(b";/=%".to_vec()),
        any::<Vec<u8>>(),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bit_of_a_signed_request_can_change(
        part in prop_oneof![
            Just(Part::Method), Just(Part::Path), Just(Part::Query), Just(Part::Header), Just(Part::Authorization),
            Just(Part::Body),
        ],
        which in any::<Index>(),
        at in any::<Index>(),
        bit in 0u8..8,
        form in 0..3,
    ) {
        let mut sample = Sample::put();
        let sample = match form {
            0 => sample.signed(PayloadHash::Unsigned),
            1 => sample.signed_body(),
            _ => {
                sample.set("x-amz-content-sha256", &Digest::of(BODY).to_string());
                sample.signed_body()
            }
        };
        // An unsigned body is the one thing that a signature leaves open.
        prop_assume!(!(form == 0 && matches!(part, Part::Body)));
        assert_eq!(sample.answer(), Ok(()));
        if let Some(changed) = tampered(&sample, part, which, at, bit) {
            changed.answer().expect_err("a changed request is refused");
        }
    }

    #[test]
    fn no_header_makes_it_panic(header in header_like(), date in any::<String>(), hash in any::<String>()) {
        let mut sample = Sample::get();
        if let Ok(value) = HeaderValue::from_bytes(&header) {
            sample.headers.insert("authorization", value);
        }
        for (name, text) in [("x-amz-date", date), ("x-amz-content-sha256", hash)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                sample.headers.insert(name, value);
            }
        }
        sample.answer().expect_err("noise has no valid signature");
    }

    #[test]
    fn no_target_makes_it_panic(path in any::<String>(), query in any::<String>(), presigned in any::<bool>()) {
        let mut sample = Sample::get().signed_body();
        sample.path = format!("/{path}/x");
        sample.query = Some(query.clone());
        if presigned {
            sample.headers.remove("authorization");
            sample.query = Some(format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={query}&X-Amz-{query}"));
        }
        sample.answer().expect_err("noise has no valid signature");
    }
}
