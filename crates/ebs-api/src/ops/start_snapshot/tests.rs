//! What a document is refused for, and the answer word for word.

use super::*;
use types::SnapshotId;

fn account() -> AccountId {
    AccountId::parse("123456789012").unwrap()
}

fn request(document: &str) -> Result<StartSnapshot, ApiError> {
    let input = Input::read(document.as_bytes())?;
    input.check_constraints()?;
    input.check_combinations()?;
    input.into_request(account())
}

fn check(document: &str, expected: &str) {
    assert_eq!(
        request(document).unwrap_err().message(),
        expected,
        "{document}"
    );
}

#[test]
fn the_answer_has_every_member_in_order() {
    let parent = "snap-00e2c477186c5c34b";
    let started = Started {
        id: SnapshotId::parse("snap-00123456789abcdef").unwrap(),
        start_time: 1_790_337_542_341,
    };
    let plain = request(r#"{"VolumeSize":1}"#).unwrap();
    assert_eq!(
        String::from_utf8(answer(&plain, started)).unwrap(),
        concat!(
            r#"{"BlockSize":524288,"Description":null,"KmsKeyArn":null,"OwnerId":"123456789012","#,
            r#""ParentSnapshotId":null,"SnapshotId":"snap-00123456789abcdef","SseType":null,"#,
            r#""StartTime":1790337542.341,"Status":"pending","Tags":null,"VolumeSize":1}"#
        )
    );
    let full = format!(
        r#"{{"VolumeSize":65536,"ParentSnapshotId":"{parent}","Description":"a \"b\"\u0000é",
            "Tags":[{{"Key":"k","Value":"v"}},{{"Key":"z"}}],"ClientToken":"t","Timeout":10}}"#
    );
    assert_eq!(
        String::from_utf8(answer(&request(&full).unwrap(), started)).unwrap(),
        concat!(
            r#"{"BlockSize":524288,"Description":"a \"b\"\u0000é","KmsKeyArn":null,"#,
            r#""OwnerId":"123456789012","ParentSnapshotId":"snap-00e2c477186c5c34b","#,
            r#""SnapshotId":"snap-00123456789abcdef","SseType":null,"StartTime":1790337542.341,"#,
            r#""Status":"pending","Tags":[{"Key":"k","Value":"v"},{"Key":"z","Value":""}],"VolumeSize":65536}"#
        )
    );
    let empty = request(r#"{"VolumeSize":1,"Tags":[]}"#).unwrap();
    assert!(
        String::from_utf8(answer(&empty, started))
            .unwrap()
            .contains(r#""Tags":null"#)
    );
}

#[test]
fn numbers_may_come_from_r() {
    let request = request(r#"{"VolumeSize":1e+02,"Timeout":1e1,"Unknown":{"a":[]}}"#).unwrap();
    assert_eq!(
        (request.volume_size.gib(), request.timeout_minutes),
        (100, Some(10))
    );
}

#[test]
fn constraints_are_those_of_the_model() {
    let null = "1 validation error detected: Value null at 'volumeSize' failed to satisfy constraint: \
                Member must not be null";
    check("{}", null);
    check("", null);
    check(r#"{"VolumeSize":null}"#, null);
    check(
        r#"{"VolumeSize":0,"Timeout":9}"#,
        "2 validation errors detected: Value '0' at 'volumeSize' failed to satisfy constraint: \
         Member must have value greater than or equal to 1; Value '9' at 'timeout' failed to satisfy \
         constraint: Member must have value greater than or equal to 10",
    );
    check(
        r#"{"VolumeSize":1,"ClientToken":""}"#,
        "1 validation error detected: Value '' at 'clientToken' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[\\S]+$",
    );
    check(
        r#"{"VolumeSize":1,"Description":""}"#,
        "1 validation error detected: Value '' at 'description' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: ^[\\S\\s]+$",
    );
    let long = "t".repeat(256);
    check(
        &format!(r#"{{"VolumeSize":1,"ClientToken":"{long}"}}"#),
        &format!(
            "1 validation error detected: Value '{long}' at 'clientToken' failed to satisfy constraint: \
             Member must have length less than or equal to 255"
        ),
    );
    let key = "k".repeat(128);
    check(
        &format!(
            r#"{{"VolumeSize":1,"Tags":[{{"Key":"a","Value":"b"}},{{"Key":"{key}","Value":""}}]}}"#
        ),
        &format!(
            "1 validation error detected: Value '{key}' at 'tags.2.member.key' failed to satisfy constraint: \
             Member must have length less than or equal to 127"
        ),
    );
    assert!(
        request(&format!(
            r#"{{"VolumeSize":1,"ClientToken":"{}"}}"#,
            "t".repeat(255)
        ))
        .is_ok()
    );
}

#[test]
fn encryption_is_refused_and_never_ignored() {
    let parent = r#""ParentSnapshotId":"snap-00e2c477186c5c34b""#;
    let key = r#""KmsKeyArn":"arn:aws:kms:us-east-1:123456789012:key/k""#;
    let document = |members: &str| format!(r#"{{"VolumeSize":1,{members}}}"#);
    let both = "ParentSnapshotId and KmsKeyArn cannot be specified together";
    check(&document(&format!("{parent},{key}")), both);
    check(
        &document(&format!(r#"{parent},{key},"Encrypted":true"#)),
        both,
    );
    let encrypt = "ParentSnapshotId and Encrypt cannot be specified together";
    check(&document(&format!(r#"{parent},"Encrypted":true"#)), encrypt);
    check(
        &document(&format!(r#"{parent},"Encrypted":false"#)),
        encrypt,
    );
    check(
        &document(&format!(r#"{key},"Encrypted":false"#)),
        "Encrypt cannot be false when KmsKeyArn is specified",
    );
    for refused in [
        r#""Encrypted":true"#,
        key,
        &format!(r#"{key},"Encrypted":true"#),
    ] {
        let error = request(&document(refused)).unwrap_err();
        let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
        assert_eq!(body["Reason"], "INVALID_DEPENDENCY_REQUEST", "{refused}");
    }
    assert!(request(&document(r#""Encrypted":false"#)).is_ok());
}

#[test]
fn sizes_beyond_the_largest_volume_are_refused_by_the_service() {
    for size in ["65537", "9223372036854775807", "1e15"] {
        let error = request(&format!(r#"{{"VolumeSize":{size}}}"#)).unwrap_err();
        let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
        assert_eq!(body["Reason"], "INVALID_VOLUME_SIZE", "{size}");
    }
}

#[test]
fn tags_follow_the_rules_of_ec2() {
    let document = |tags: &str| format!(r#"{{"VolumeSize":1,"Tags":[{tags}]}}"#);
    let tag = |key: &str| format!(r#"{{"Key":"{key}","Value":"v"}}"#);
    let many = |count: usize| {
        (0..count)
            .map(|n| tag(&n.to_string()))
            .collect::<Vec<_>>()
            .join(",")
    };
    for refused in [
        format!("{},{}", tag("a"), tag("a")),
        tag("aws:x"),
        tag("AWS:x"),
        many(51),
        r#"{"Value":"v"}"#.to_owned(),
    ] {
        let error = request(&document(&refused)).unwrap_err();
        let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
        assert_eq!(body["Reason"], "INVALID_TAG", "{refused:.40}");
    }
    for allowed in [
        many(50),
        tag("aws"),
        tag("é:"),
        format!("{},{}", tag("a"), tag("A")),
        String::new(),
    ] {
        assert!(request(&document(&allowed)).is_ok(), "{allowed:.40}");
    }
}

#[test]
fn an_id_that_was_never_issued_is_not_found() {
    check(
        r#"{"VolumeSize":1,"ParentSnapshotId":"snap-abc"}"#,
        "The snapshot 'snap-abc' does not exist.",
    );
}
