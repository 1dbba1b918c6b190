//! `drystone copy`, from the command line.

use super::ends::{Blocks, End};
use crate::client::commands::answers::documented;
use crate::client::proxy::On;
use client::SnapshotId;
use client::api::Which;
use serde_json::Value;
use std::fs;
use std::process::{Command, Output, Stdio};

/// Runs `drystone copy` where both ends have a profile.
fn run(from: &End, to: &End, arguments: &[&str]) -> Output {
    let place = from.place.path();
    let mut config = String::new();
    let mut credentials = String::new();
    for (name, end) in [("home", from), ("away", to)] {
        let key = crate::signed::Key::of(&end.place);
        config += &format!(
            "[profile {name}]\nregion = us-east-1\nendpoint_url = {}\n",
            end.proxy.url()
        );
        credentials += &format!(
            "[{name}]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            key.id, key.secret
        );
    }
    fs::write(place.join("config"), config).expect("written");
    fs::write(place.join("secrets"), credentials).expect("written");
    Command::new(env!("CARGO_BIN_EXE_drystone"))
        .arg("copy")
        .args(arguments)
        .current_dir(place)
        .env_clear()
        .env("AWS_CONFIG_FILE", place.join("config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", place.join("secrets"))
        // What a profile says comes before it: it is the server of neither.
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn between_profiles_the_id_of_the_copy_is_printed() {
    let (from, to) = (End::start(), End::start());
    let blocks = [(0, b'a'), (9, b'b')];
    let snapshot = from.snapshot(None, &blocks).await;
    let id = snapshot.as_str();
    let sides = ["--from", "home", "--to", "away", "--wait"];
    let printed = good(run(&from, &to, &[&[id], &sides[..]].concat()));
    let copy: SnapshotId = printed.trim_end().parse().expect("an id alone");
    assert_eq!(to.blocks(&copy).await, Blocks::of(&blocks));

    let json = good(run(
        &from,
        &to,
        &[&[id, "--again", "--json"], &sides[..]].concat(),
    ));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    documented("copy SNAP", &json);
    assert_eq!(
        (&json["existed"], &json["blocks_put"]),
        (&Value::Bool(false), &2.into())
    );
    let again = json["snapshot_id"].as_str().expect("an id");

    let output = run(&from, &to, &[&[id], &sides[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--again"), "{said}");
    assert_eq!(good(output), format!("{again}\n"), "the newest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_it_takes_and_changes_nothing() {
    let (from, to) = (End::start(), End::start());
    let parent = from.snapshot(None, &[(0, b'a'), (9, b'b')]).await;
    let child = from
        .snapshot(Some(&parent), &[(9, b'0'), (10, b'c'), (11, b'd')])
        .await;
    let profile = format!("profile=away,endpoint={}", to.proxy.url());
    let sides = ["--from", "home", "--to", &profile];
    good(run(
        &from,
        &to,
        &[&[parent.as_str(), "--wait"], &sides[..]].concat(),
    ));
    let before = to.calls();

    let dry = [&[child.as_str(), "--dry-run"], &sides[..]].concat();
    let text = good(run(&from, &to, &dry));
    for expected in [
        "1.0 MiB of data, 512.0 KiB of zeros",
        "ListChangedBlocks",
        "not AWS",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let json = good(run(&from, &to, &[&dry[..], &["--json"]].concat()));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    documented("copy SNAP --dry-run", &json);
    assert_eq!(json["data_bytes"], 1 << 20);
    assert_eq!(json["source_parent_snapshot_id"], parent.as_str());
    let calls = serde_json::json!({ "ListChangedBlocks": 1, "GetSnapshotBlock": 2 });
    assert_eq!(json["source"]["calls"], calls);
    let calls = serde_json::json!({
        "StartSnapshot": 1, "PutSnapshotBlock": 3, "CompleteSnapshot": 1,
    });
    assert_eq!(json["destination"]["calls"], calls);
    let usd = json["destination"]["usd"].as_f64().expect("a sum");
    assert!((usd - 3.0 * 0.006 / 1000.0).abs() < 1e-12, "{usd}");
    assert_eq!(json["destination"]["aws"], false);

    // A counterpart with the same root needs no listing.
    assert_eq!(to.calls(), before);
    assert_eq!(from.proxy.calls(On::GET), 2);
    assert_eq!(to.described_all(&Which::Own).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_fit_are_told() {
    let (from, to) = (End::start(), End::start());
    let check = |arguments: &[&str], word: &str| {
        let output = run(&from, &to, arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(word), "{said}");
    };
    check(&["snap-01"], "--from and --to");
    check(&["snap-01", "--from", "host=x"], "`host`");
    check(&["snap-01", "--to", "away", "--parent", "vol-1"], "vol-1");
    check(
        &["snap-01", "--to", "away", "--full", "--parent", "snap-2"],
        "--full",
    );
}
