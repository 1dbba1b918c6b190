//! What the verifier refuses: every row of SPEC 4.6, word for word.

use super::{BODY, INCOMPLETE, INVALID, MISMATCH, NOW, SECRET, Sample, check, options};
use crate::{AuthError, SecretKey};
use crate::{PayloadHash, Service, UnsignedPayload, Verifier};
use types::Digest;

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
    // The body's own digest was signed, and another one put in the header afterwards.
    let mut named = Sample::put().signed_body();
    named.set("x-amz-content-sha256", &Digest::of(b"other").to_string());
    let verifier = Verifier::new(options(NOW));
    let claim = verifier.open(&named.head(), Service::Ebs, UnsignedPayload::Refused);
    let verified = claim.expect("a claim").verify(
        &SecretKey::new(SECRET.to_owned()),
        PayloadHash::Digest(Digest::of(BODY)),
    );
    assert_eq!(verified, Err(AuthError::PayloadMismatch));
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
    let message = "'HOST' must be given only once.";
    let sample = Sample::get().signed_body().replaced("host;", "host;HOST;");
    check(&sample.refused(), INCOMPLETE, ec2, message);
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
    let names: Vec<String> = (0..100).map(|number| format!("x-{number}")).collect();
    let names = names.join(";");
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
fn messages_hold_no_control_characters() {
    let mut sample = Sample::get();
    sample.query = Some(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%00%0D%0A%1B%C2%85%EF%BF%BE&X-Amz-Date=x\
         &X-Amz-Expires=1&X-Amz-SignedHeaders=host&X-Amz-Signature=0"
            .to_owned(),
    );
    let message = "Credential must have exactly 5 slash-delimited elements, \
        e.g. keyid/date/region/service/term, got 'a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}'";
    check(&sample.refused(), INVALID, ("AuthFailure", 401), message);
}

#[test]
fn query_parameters_of_other_meaning_do_not_matter() {
    let mut sample = Sample::get();
    sample.query = Some("X-Amz-Date=1&X-Amz-Date=2".to_owned());
    assert_eq!(sample.clone().signed_body().answer(), Ok(()));
    assert_eq!(sample.answer(), Err(AuthError::MissingAuthentication));
}
