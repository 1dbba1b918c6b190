//! The messages, word for word.

use super::*;

fn message(constraints: Constraints) -> String {
    constraints
        .finish()
        .expect_err("a constraint is broken")
        .message()
        .to_owned()
}

fn check(apply: impl Fn(&mut Constraints), expected: &str) {
    let mut constraints = Constraints::new();
    apply(&mut constraints);
    assert_eq!(message(constraints), expected);
}

#[test]
fn each_rule_has_the_words_of_the_framework() {
    check(
        |c| c.required::<i64>("volumeSize", None),
        "1 validation error detected: Value null at 'volumeSize' failed to satisfy constraint: \
         Member must not be null",
    );
    check(
        |c| c.within("maxResults", Some(99), 100, 10_000),
        "1 validation error detected: Value '99' at 'maxResults' failed to satisfy constraint: \
         Member must have value greater than or equal to 100",
    );
    check(
        |c| c.within("maxResults", Some(10_001), 100, 10_000),
        "1 validation error detected: Value '10001' at 'maxResults' failed to satisfy constraint: \
         Member must have value less than or equal to 10000",
    );
    check(
        |c| c.at_least("blockIndex", Some(-1), 0),
        "1 validation error detected: Value '-1' at 'blockIndex' failed to satisfy constraint: \
         Member must have value greater than or equal to 0",
    );
    check(
        |c| c.pattern("clientToken", Some(""), CLIENT_TOKEN),
        "1 validation error detected: Value '' at 'clientToken' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[\\S]+$",
    );
    check(
        |c| c.one_of("checksumAlgorithm", Some("SHA1"), &["SHA256"]),
        "1 validation error detected: Value 'SHA1' at 'checksumAlgorithm' failed to satisfy constraint: \
         Member must satisfy enum value set: [SHA256]",
    );
    check(
        |c| c.token("blockToken", Some("")),
        "1 validation error detected: Value '' at 'blockToken' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=_-]+$",
    );
    check(
        |c| c.checksum("checksum", Some("not-base64!")),
        "1 validation error detected: Value 'not-base64!' at 'checksum' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=]+$",
    );
    let long = "t".repeat(256);
    check(
        |c| c.length_at_most("clientToken", Some(&long), 255),
        &format!(
            "1 validation error detected: Value '{long}' at 'clientToken' failed to satisfy constraint: \
             Member must have length less than or equal to 255"
        ),
    );
}

#[test]
fn several_faults_stand_in_one_message() {
    check(
        |c| {
            c.snapshot_id("snapshotId", Some(""));
            c.within("progress", Some(101), 0, 100);
        },
        "3 validation errors detected: Value '' at 'snapshotId' failed to satisfy constraint: \
         Member must have length greater than or equal to 1; \
         Value '' at 'snapshotId' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^snap-[0-9a-f]+$; \
         Value '101' at 'progress' failed to satisfy constraint: \
         Member must have value less than or equal to 100",
    );
}

#[test]
fn allowed_values_pass() {
    let mut constraints = Constraints::new();
    constraints.required("volumeSize", Some(&1));
    constraints.within("progress", Some(0), 0, 100);
    constraints.within("progress", Some(100), 0, 100);
    constraints.within("progress", None, 0, 100);
    constraints.snapshot_id("snapshotId", Some("snap-0e2c477186c5c34b7"));
    constraints.token("pageToken", Some("AlMB_-+/="));
    constraints.pattern("description", Some("\0 line\nbreak"), NOT_EMPTY);
    constraints.length_at_most("description", Some(&"é".repeat(255)), 255);
    constraints.kms_key_arn(
        "kmsKeyArn",
        Some("arn:aws-cn:kms:cn-north-1:123456789012:key/abc"),
    );
    constraints.finish().unwrap();
}

#[test]
fn a_key_arn_is_checked_and_never_repeated() {
    check(
        |c| c.kms_key_arn("kmsKeyArn", Some("alias/secret")),
        "1 validation error detected: Value at 'kmsKeyArn' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: arn:aws[a-z\\-]*:kms:.*:[0-9]{12}:key/.*",
    );
    let refused = [
        "arn:aws:kms:us-east-1:12345678901:key/k",
        "arn:aws:kms:us-east-1:123456789012:alias/k",
        "arn:AWS:kms:us-east-1:123456789012:key/k",
        "arn:aws1:kms:us-east-1:123456789012:key/k",
    ];
    for arn in refused {
        let mut constraints = Constraints::new();
        constraints.kms_key_arn("kmsKeyArn", Some(arn));
        assert!(!message(constraints).contains(arn), "{arn}");
    }
}

#[test]
fn long_values_are_cut() {
    let mut constraints = Constraints::new();
    constraints.snapshot_id("snapshotId", Some(&"x".repeat(100_000)));
    assert!(message(constraints).len() < 3_000);
}
