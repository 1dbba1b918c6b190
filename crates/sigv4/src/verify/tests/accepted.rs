//! What the verifier accepts, and where acceptance ends.

use super::{BODY, INCOMPLETE, INVALID, NOW, SECRET, Sample, check, options, signer};
use crate::canonical::{self, Scope};
use crate::{AccessKeyId, AuthError, SecretKey};
use crate::{
    PayloadHash, Service, Signer, SignerOptions, UnsignedPayload, Verifier, VerifierOptions, signs,
};
use http::HeaderValue;
use ring::hmac;
use std::time::Duration;
use types::Digest;

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

#[test]
fn a_request_says_which_headers_its_signature_covers() {
    let mut sample = Sample::put();
    sample.set("x-drystone-put", "by-digest");
    let mut signed = sample.signed_body();
    for name in ["host", "x-amz-date", "x-amz-checksum", "x-drystone-put"] {
        assert!(signs(&signed.head(), name), "{name}");
    }
    signed.set("x-amz-progress", "5");
    for name in [
        "x-amz-progress",
        "x-amz-check",
        "x-amz-checksum-",
        "",
        "authorization",
    ] {
        assert!(!signs(&signed.head(), name), "{name}");
    }
    let text = signed.headers["authorization"].to_str().unwrap();
    let upper = text.replace("x-drystone-put", "X-Drystone-Put");
    signed.set("authorization", &upper);
    assert!(signs(&signed.head(), "x-drystone-put"));
    assert!(!signs(&Sample::put().head(), "host"));
}
