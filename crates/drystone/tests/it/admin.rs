//! `drystone key`, beside the running server and without it.

use crate::server::{Place, Signal};
use crate::signed::{Key, who_is};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Output;

fn key(place: &Place, arguments: &[&str]) -> Output {
    place.run(&[&["key"], arguments, &["--data", "data"]].concat())
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn listed(place: &Place) -> Vec<serde_json::Value> {
    let text = said(key(place, &["list", "--json"]));
    serde_json::from_str(&text).expect("a JSON array")
}

#[test]
fn keys_change_at_once_beside_the_server() {
    let place = Place::new();
    let server = place.serve(&[]);
    let text = said(key(&place, &["create"]));
    let made = Key::in_profile(&text);
    assert_eq!(who_is(&server, &made).status, 200);

    said(key(&place, &["disable", &made.id]));
    assert_eq!(who_is(&server, &made).status, 403);
    said(key(&place, &["enable", &made.id]));
    assert_eq!(who_is(&server, &made).status, 200);
    said(key(&place, &["delete", &made.id]));
    assert_eq!(who_is(&server, &made).status, 403);
    assert_eq!(listed(&place).len(), 1);
    assert!(
        !server.log().contains(&made.secret),
        "the log keeps the secret"
    );

    let unknown = place.refused(&["key", "delete", &made.id, "--data", "data"]);
    assert!(
        unknown.contains("there is no access key") && unknown.contains("key list"),
        "{unknown}"
    );
}

#[test]
fn a_key_made_without_the_server_is_there_when_it_starts() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Kill);
    let text = said(key(&place, &["create", "--json"]));
    let made: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let field = |name: &str| made[name].as_str().expect(name).to_owned();
    let made = Key {
        id: field("access_key_id"),
        secret: field("secret_access_key"),
    };
    said(key(&place, &["disable", &Key::of(&place).id]));

    let server = place.serve(&[]);
    assert_eq!(who_is(&server, &made).status, 200);
    assert_eq!(who_is(&server, &Key::of(&place)).status, 403);
    let keys = listed(&place);
    assert_eq!(keys.len(), 2);
    assert_eq!(
        (&keys[0]["active"], &keys[1]["active"]),
        (&false.into(), &true.into())
    );
    assert!(!said(key(&place, &["list"])).contains(&made.secret));
}

#[test]
fn accounts_are_named_when_there_are_several() {
    let place = Place::new();
    let server = place.serve(&[]);
    let other = Key::in_profile(&said(key(&place, &["create", "--new-account"])));
    let keys = listed(&place);
    assert_ne!(keys[0]["account"], keys[1]["account"]);

    let refusal = place.refused(&["key", "create", "--data", "data"]);
    let account = keys[1]["account"].as_str().expect("text");
    assert!(
        refusal.contains("--account") && refusal.contains(account),
        "{refusal}"
    );
    let made = Key::in_profile(&said(key(&place, &["create", "--account", account])));
    assert!(who_is(&server, &made).text().contains(account));
    assert_eq!(who_is(&server, &other).status, 200);

    for wrong in ["12", "999999999999"] {
        let refusal = place.refused(&["key", "create", "--account", wrong, "--data", "data"]);
        assert!(refusal.contains(wrong), "{refusal}");
    }
}

#[test]
fn a_directory_without_a_store_is_left_alone() {
    let place = Place::new();
    let refusal = place.refused(&["key", "list", "--data", "data"]);
    assert!(
        refusal.contains("is no Drystone data directory"),
        "{refusal}"
    );
    assert!(!place.data().exists());
}

#[test]
fn the_admin_socket_refuses_what_it_does_not_know() {
    let place = Place::new();
    let _server = place.serve(&[]);
    let ask = |line: &[u8]| {
        let mut stream = UnixStream::connect(place.data().join("admin.sock")).expect("it listens");
        stream
            .set_read_timeout(Some(crate::server::PATIENCE))
            .expect("a time");
        stream.write_all(line).expect("it reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it answers");
        reply
    };
    assert!(ask(b"{\"key\":\"list\"}\n").starts_with("{\"keys\":["));
    for line in [
        &b"\n"[..],
        b"nonsense\n",
        b"{\"key\":\"shred\"}\n",
        b"{\"key\":\"delete\"}\n",
    ] {
        let reply = ask(line);
        assert!(reply.starts_with("{\"refused\":"), "{reply}");
    }
}
