//! `drystone usage`, and what /metrics tells of it.

use crate::server::{Place, Signal};
use crate::snapshots::Client;
use serde_json::Value;

fn usage(place: &Place, arguments: &[&str]) -> Value {
    let output = place.run(&[&["usage", "--json", "--data", "data"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn of<'a>(usage: &'a Value, snapshot: &str) -> &'a Value {
    let all = usage["snapshots"].as_array().expect("an array");
    let found = all.iter().find(|one| one["snapshot"] == snapshot);
    found.unwrap_or_else(|| panic!("no {snapshot} in {usage}"))
}

#[test]
fn own_bytes_are_what_deleting_the_snapshot_frees() {
    let place = Place::new();
    let server = place.serve(&[]);
    let client = Client::of(&place, &server);
    // 4 blocks of 8 are shared.
    let (first, second) = (client.upload(1..9), client.upload(5..13));

    let refusal = place.refused(&["usage", "--data", "data"]);
    assert!(refusal.contains("--refresh"), "{refusal}");
    let all = usage(&place, &["--refresh"]);
    let totals = all["totals"].clone();
    assert_eq!(totals["snapshots"], 2);
    assert_eq!(totals["logical_bytes"], 16 << 19);
    assert_eq!(totals["unique_bytes"], 12 << 19);
    for snapshot in [&first, &second] {
        let one = of(&all, snapshot);
        assert_eq!(
            (&one["logical_bytes"], &one["own_blocks"]),
            (&(8 << 19).into(), &4.into())
        );
    }
    let own_bytes = of(&all, &first)["own_bytes"].as_u64().expect("a number");
    let alone = usage(&place, &["--snapshot", &first]);
    assert_eq!(alone["snapshots"].as_array().map(Vec::len), Some(1));
    assert_eq!(of(&alone, &first), of(&all, &first));

    client.delete(&first);
    let after = usage(&place, &["--refresh"]);
    let bytes = |totals: &Value| totals["stored_bytes"].as_u64().expect("a number");
    assert_eq!(bytes(&totals) - bytes(&after["totals"]), own_bytes);
    assert_eq!(of(&after, &second)["own_blocks"], 8);

    let mut many = vec![];
    many.extend(["--snapshot", &second].repeat(1_000));
    let listed = usage(&place, &many);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1_000));

    // The figures stay with the store.
    server.end(Signal::Kill);
    assert_eq!(usage(&place, &[])["totals"], after["totals"]);
    let refusal = place.refused(&["usage", "--snapshot", &first, "--data", "data"]);
    assert!(
        refusal.contains(&first) && refusal.contains("--refresh"),
        "{refusal}"
    );
    let mut many = vec!["usage", "--data", "data"];
    many.extend(["--snapshot", &second].repeat(1_001));
    let refusal = place.refused(&many);
    assert!(refusal.contains("at most 1000"), "{refusal}");
    let refusal = place.refused(&["usage", "--snapshot", "snap-1", "--data", "data"]);
    assert!(refusal.contains("`snap-1` is no id"), "{refusal}");
}

#[test]
fn people_get_a_table_with_the_totals_at_its_end() {
    let place = Place::new();
    let server = place.serve(&[]);
    let snapshot = Client::of(&place, &server).upload(1..4);
    let output = place.run(&["usage", "--refresh", "--data", "data"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("SNAPSHOT "), "{text}");
    assert!(
        lines[1].starts_with(&snapshot) && lines[1].contains("1.5 MiB"),
        "{text}"
    );
    assert!(lines[3].starts_with("snapshots "), "{text}");
    assert_eq!(lines[1].len(), lines[0].len(), "{text}");
}

#[test]
fn metrics_tell_of_usage_jobs_and_space() {
    let place = Place::new();
    let server = place.serve(&[]);
    let client = Client::of(&place, &server);
    client.upload(1..4);
    let text = server.get("/metrics").text().to_owned();
    for line in [
        "drystone_usage_stored_bytes 0",
        "drystone_collection_last_timestamp_seconds 0",
        "drystone_scrub_last_timestamp_seconds 0",
        "drystone_collections_failed_total 0",
        "drystone_scrub_failures_total 0",
        "drystone_scrub_damaged_chunks 0",
        "drystone_snapshots_deleted_total 0",
        "drystone_puts_without_space_total 0",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    for name in ["drystone_disk_free_bytes ", "drystone_disk_bytes "] {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        assert!(
            value.is_some_and(|value| value.parse::<u64>().is_ok_and(|bytes| bytes > 0)),
            "{name}in\n{text}"
        );
    }
}
