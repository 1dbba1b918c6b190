//! Errors are one line that says what to do next, and exit codes tell kinds apart.

use super::session::{Running, Session};

const NONE: &str = "snap-00000000000000000";

/// Runs a command with other variables than the greeting's; answers its code and what it says.
fn told(session: &Session, variables: &[(&str, Option<&str>)], words: &[&str]) -> (i32, String) {
    let mut command = session.command(words);
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let done = Running::start(command).end();
    assert_eq!(done.stdout, "", "{words:?}");
    (done.code.expect("a code"), done.stderr)
}

#[test]
fn errors_are_a_line_that_says_what_to_do_next() {
    let session = Session::new();
    let check = |variables: &[(&str, Option<&str>)], words: &[&str], wanted: &[&str]| {
        let (code, text) = told(&session, variables, words);
        assert_eq!(code, 1, "{words:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        for word in wanted {
            assert!(text.contains(word), "{word} is not in {text}");
        }
    };
    let region = [("AWS_REGION", None), ("AWS_DEFAULT_REGION", None)];
    check(&region, &["ls"], &["no region", "--region"]);
    let nobody = [("AWS_SHARED_CREDENTIALS_FILE", None)];
    check(&nobody, &["ls"], &["no credentials", "AWS_ACCESS_KEY_ID"]);
    check(&[], &["ls", "--profile", "x"], &["no profile 'x'"]);
    let closed = [
        "ls",
        "--attempts",
        "2",
        "--endpoint-url",
        "http://127.0.0.1:9",
    ];
    check(
        &[],
        &closed,
        &["http://127.0.0.1:9", "refused", "drystone serve"],
    );
    let stranger = [
        ("AWS_ACCESS_KEY_ID", Some("AKIA0000000000000000")),
        ("AWS_SECRET_ACCESS_KEY", Some("x")),
    ];
    check(&stranger, &["ls"], &["does not know the access key"]);
    let known = session.server.greeting.join(" ");
    assert!(known.contains("AWS_ENDPOINT_URL"));
    for words in [
        &["download", NONE, "x"][..],
        &["show", NONE],
        &["diff", NONE, NONE],
    ] {
        check(&[], words, &[NONE, "`drystone ls`"]);
    }
    session.disk("disk", 2, &[0]);
    let orphan = ["upload", "disk", "--parent", NONE];
    check(&[], &orphan, &[NONE, "`drystone ls`"]);
    check(&[], &["upload", "nothing"], &["nothing"]);
    check(
        &[],
        &[
            "ls",
            "--ca-bundle",
            "nothing",
            "--endpoint-url",
            "https://127.0.0.1:9",
        ],
        &["nothing"],
    );
}

#[test]
fn arguments_that_do_not_fit_have_a_code_of_their_own() {
    let session = Session::new();
    session.disk("disk", 2, &[0]);
    for words in [
        &["upload"][..],
        &["upload", "disk", "--volume-size", "0"],
        &["upload", "disk", "--tag", "x"],
        &["upload", "disk", "--tag", "x=1", "--tag", "x=2"],
        &["upload", "disk", "--bandwidth", "fast"],
        &["upload", "-", "--resume"],
        &["download", "vol-1", "x"],
        &["download", NONE, "x", "--base", "y"],
        &["download", NONE, "-", "--json"],
        &["diff", NONE, NONE, "--json", "--format", "table"],
        &["tag", NONE],
        &["tag", NONE, "x=1", "--remove", "x"],
        &["rm"],
    ] {
        let (code, text) = told(&session, &[], words);
        assert_eq!(code, 2, "{words:?}: {text}");
        assert!(!text.is_empty(), "{words:?}");
    }
}
