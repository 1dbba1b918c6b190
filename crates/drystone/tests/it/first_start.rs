//! The first start, and starting again after it was cut off anywhere.

use crate::server::{Place, Signal};
use crate::signed::{Key, who_is};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn a_new_directory_gets_an_account_and_the_lines_to_paste() {
    let place = Place::new();
    let server = place.serve(&[]);
    let data = place.data().canonicalize().expect("made");
    let (address, data) = (server.address, data.display());
    assert!(
        server.greeting[0].starts_with("# "),
        "{:?}",
        server.greeting
    );
    assert_eq!(
        server.greeting[1..],
        [
            format!("export AWS_SHARED_CREDENTIALS_FILE={data}/credentials"),
            format!("export AWS_ENDPOINT_URL=http://{address}"),
            "export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1".to_owned(),
        ]
    );
    let identity = who_is(&server, &Key::of(&place));
    assert_eq!(identity.status, 200, "{}", identity.text());
    for private in [
        "credentials",
        "root.key",
        "catalog.db",
        "VERSION",
        "lock",
        "admin.sock",
    ] {
        assert_eq!(mode(&place.data().join(private)), 0o600, "{private}");
    }
    assert_eq!(mode(&place.data()), 0o700);
    let profile = fs::read_to_string(place.data().join("credentials")).expect("readable");
    assert!(profile.contains("\n[default]\n"), "{profile}");
    assert!(
        !server.log().contains(&Key::of(&place).secret),
        "the log keeps the secret"
    );
}

#[test]
fn a_restart_keeps_the_credentials() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Terminate);
    let key = Key::of(&place);
    let server = place.serve(&[]);
    assert_eq!(Key::of(&place), key);
    assert_eq!(who_is(&server, &key).status, 200);
}

/// Every state that a crash of the first start can leave is the state after it, less the last files.
#[test]
fn a_first_start_that_was_cut_off_is_finished_by_the_next() {
    let place = Place::new();
    place.serve(&[]).end(Signal::Kill);
    let key = Key::of(&place);

    // Cut off before the credentials were in place: the key in the catalog is the one that gets written.
    fs::rename(
        place.data().join("credentials"),
        place.data().join("credentials.new"),
    )
    .expect("moved");
    let server = place.serve(&[]);
    assert_eq!(Key::of(&place), key);
    assert_eq!(who_is(&server, &key).status, 200);
    assert!(!place.data().join("credentials.new").exists());
    server.end(Signal::Kill);

    // Cut off before the catalog was there.
    for name in [
        "credentials",
        "catalog.db",
        "catalog.db-wal",
        "catalog.db-shm",
    ] {
        fs::remove_file(place.data().join(name)).expect("removed");
    }
    fs::remove_dir_all(place.data().join("segments")).expect("removed");
    let server = place.serve(&[]);
    assert_eq!(who_is(&server, &key).status, 403);
    assert_eq!(who_is(&server, &Key::of(&place)).status, 200);
    server.end(Signal::Kill);

    // Cut off before the version was there.
    fs::remove_dir_all(place.data()).expect("removed");
    fs::create_dir(place.data()).expect("made");
    fs::write(place.data().join("lock"), "").expect("written");
    let server = place.serve(&[]);
    assert_eq!(who_is(&server, &Key::of(&place)).status, 200);
}

#[test]
fn credentials_that_an_operator_removed_stay_away_when_there_are_other_keys() {
    let place = Place::new();
    let server = place.serve(&[]);
    assert!(
        place
            .run(&["key", "create", "--data", "data"])
            .status
            .success()
    );
    server.end(Signal::Terminate);
    fs::remove_file(place.data().join("credentials")).expect("removed");
    let server = place.serve(&[]);
    assert!(!place.data().join("credentials").exists());
    assert!(
        !server
            .greeting
            .iter()
            .any(|line| line.contains("CREDENTIALS")),
        "{:?}",
        server.greeting
    );
}
