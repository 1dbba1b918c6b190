//! Tests of what is selected and written.

use super::*;
use crate::query::Source;
use engine::Tag;
use types::VolumeSize;

const ACCOUNT: &str = "123456789012";
const ID: &str = "snap-0129a2cffb43638de";

fn account() -> AccountId {
    AccountId::parse(ACCOUNT).unwrap()
}

fn pending() -> SnapshotView {
    SnapshotView {
        id: SnapshotId::parse(ID).unwrap(),
        account: account(),
        state: SnapshotState::Pending,
        status_message: None,
        start_time: 1_790_337_440_570,
        completion_time: None,
        volume_size: VolumeSize::from_gib(16).unwrap(),
        description: None,
        parent: None,
        full_block_count: None,
        root: None,
        tags: Vec::new(),
    }
}

fn completed() -> SnapshotView {
    let tag = |key: &str, value: &str| Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    SnapshotView {
        state: SnapshotState::Completed,
        completion_time: Some(1_790_337_441_000),
        full_block_count: Some(103),
        description: Some("disk <1>".to_owned()),
        tags: vec![tag("Name", "a&b"), tag("empty", "")],
        ..pending()
    }
}

fn failed() -> SnapshotView {
    SnapshotView {
        state: SnapshotState::Error,
        status_message: Some("Checksum mismatch for snapshot".to_owned()),
        ..pending()
    }
}

fn written(snapshot: &SnapshotView) -> String {
    let mut xml = Xml::new("r", None);
    write(&mut xml, snapshot, &Lineage::Untold);
    let text = String::from_utf8(xml.finish().to_vec()).unwrap();
    text.split_once("<r>")
        .unwrap()
        .1
        .strip_suffix("</r>")
        .unwrap()
        .to_owned()
}

fn selection(form: &str) -> Result<Selection, ApiError> {
    let mut parameters = Parameters::default();
    parameters.read(form.as_bytes(), Source::Form).unwrap();
    let selection = Selection::take(account(), &mut parameters)?;
    parameters.finish().map(|()| selection)
}

/// Which of a pending, a completed and a failed snapshot are selected.
fn selected(form: &str) -> [bool; 3] {
    let selection = selection(form).unwrap();
    [pending(), completed(), failed()]
        .map(|snapshot| selection.accepts(&snapshot, &mut Work::new()))
}

#[test]
fn a_pending_snapshot_is_written() {
    let wanted = "<item><snapshotId>snap-0129a2cffb43638de</snapshotId><volumeId>vol-ffffffff</volumeId>\
        <status>pending</status><startTime>2026-09-25T11:57:20.570Z</startTime><progress>0%</progress>\
        <ownerId>123456789012</ownerId><volumeSize>16</volumeSize><description></description>\
        <encrypted>false</encrypted><storageTier>standard</storageTier><transferType>standard</transferType></item>";
    assert_eq!(written(&pending()), wanted);
}

#[test]
fn a_completed_snapshot_is_written() {
    let wanted = "<item><snapshotId>snap-0129a2cffb43638de</snapshotId><volumeId>vol-ffffffff</volumeId>\
        <status>completed</status><startTime>2026-09-25T11:57:20.570Z</startTime><progress>100%</progress>\
        <ownerId>123456789012</ownerId><volumeSize>16</volumeSize><description>disk &lt;1&gt;</description>\
        <encrypted>false</encrypted><tagSet><item><key>Name</key><value>a&amp;b</value></item>\
        <item><key>empty</key><value></value></item></tagSet><storageTier>standard</storageTier>\
        <transferType>standard</transferType><completionTime>2026-09-25T11:57:21.000Z</completionTime>\
        <fullSnapshotSizeInBytes>54001664</fullSnapshotSizeInBytes></item>";
    assert_eq!(written(&completed()), wanted);
}

#[test]
fn a_failed_snapshot_says_why() {
    let text = written(&failed());
    let wanted =
        "<status>error</status><statusMessage>Checksum mismatch for snapshot</statusMessage>";
    assert!(text.contains(wanted), "{text}");
    assert!(text.contains("<progress>0%</progress>"), "{text}");
    assert!(!text.contains("completionTime"), "{text}");
}

#[test]
fn times_outside_the_calendar_are_written() {
    assert_eq!(iso_8601(0), "1970-01-01T00:00:00.000Z");
    assert!(iso_8601(i64::MAX).starts_with("9999-"));
    assert!(iso_8601(-1).starts_with("1969-12-31T23:59:59.999Z"));
}

#[test]
fn every_filter_selects() {
    let one = |name: &str, value: &str| format!("Filter.1.Name={name}&Filter.1.Value.1={value}");
    for (name, value, wanted) in [
        ("description", "disk*", [false, true, false]),
        ("description", "", [true, false, true]),
        ("encrypted", "false", [true; 3]),
        ("encrypted", "true", [false; 3]),
        ("owner-alias", "*", [false; 3]),
        ("owner-id", ACCOUNT, [true; 3]),
        ("progress", "100%25", [false, true, false]),
        ("snapshot-id", "snap-0129*", [true; 3]),
        ("snapshot-id", "snap-00000000000000001", [false; 3]),
        ("start-time", "2026-09-25*", [true; 3]),
        ("start-time", "2026-09-25T11:57:20.570Z", [true; 3]),
        ("status", "p?nding", [true, false, false]),
        ("status", "error", [false, false, true]),
        ("storage-tier", "archive", [false; 3]),
        ("tag:Name", "a*", [false, true, false]),
        ("tag:Name", "", [false; 3]),
        ("tag:empty", "", [false, true, false]),
        ("tag:name", "*", [false; 3]),
        ("tag-key", "Na*", [false, true, false]),
        ("transfer-type", "standard", [true; 3]),
        ("volume-id", "vol-ffffffff", [true; 3]),
        ("volume-size", "16", [true; 3]),
        ("volume-size", "1", [false; 3]),
    ] {
        assert_eq!(selected(&one(name, value)), wanted, "{name}={value}");
    }
    assert_eq!(
        selection(&one("Status", "x")).unwrap_err().message,
        "The filter 'Status' is invalid"
    );
}

#[test]
fn values_are_alternatives_and_filters_all_hold() {
    let form = "Filter.1.Name=status&Filter.1.Value.1=completed&Filter.1.Value.2=pending\
        &Filter.2.Name=tag%3AName&Filter.2.Value.1=a%2A&Owner.1=self";
    assert_eq!(selected(form), [false, true, false]);
    let form = "Filter.1.Name=status&Filter.1.Value.1=completed&Filter.2.Name=status&Filter.2.Value.1=pending";
    assert_eq!(selected(form), [false; 3]);
    let form = "Filter.1.Name=status&Filter.1.Value.1=completed&Filter.1.Value.2=pending";
    assert_eq!(selected(form), [true, true, false]);
}

#[test]
fn owners_and_restorers_other_than_the_caller_select_nothing() {
    for (form, wanted) in [
        ("", true),
        ("Owner.1=self", true),
        ("Owner.1=123456789012", true),
        ("Owner.1=all", true),
        ("Owner.1=amazon", false),
        ("Owner.1=210987654321", false),
        ("Owner.1=amazon&Owner.2=self", true),
        ("RestorableBy.1=self", true),
        ("RestorableBy.1=123456789012", true),
        ("RestorableBy.1=all", false),
        ("RestorableBy.1=210987654321", false),
        ("Owner.1=self&RestorableBy.1=all", false),
    ] {
        assert_eq!(selection(form).unwrap().is_own, wanted, "{form}");
        assert_eq!(selected(form), [wanted; 3], "{form}");
    }
    for form in [
        "Owner.1=",
        "Owner.1=Self",
        "RestorableBy.1=12345",
        "Owner.1=self&Owner.2=x",
    ] {
        assert_eq!(
            selection(form).unwrap_err().code,
            Code::InvalidUserIdMalformed,
            "{form}"
        );
    }
}

#[test]
fn snapshots_named_by_a_filter_are_found_without_a_scan() {
    let named = |form| {
        selection(form)
            .unwrap()
            .named()
            .map(|names| names.join(" "))
    };
    let exact = "Filter.1.Name=snapshot-id&Filter.1.Value.1=a&Filter.1.Value.2=b";
    assert_eq!(named(exact).as_deref(), Some("a b"));
    assert_eq!(named("Filter.1.Name=snapshot-id&Filter.1.Value.1=a*"), None);
    assert_eq!(named("Filter.1.Name=status&Filter.1.Value.1=error"), None);
}
