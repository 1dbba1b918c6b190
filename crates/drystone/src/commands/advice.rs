//! What to do about an error of the client: a few words behind its own.

use client::{Error, Refusal};

/// The error in one line, with what to do next where that can be said.
pub fn told(error: &Error) -> String {
    let text = printable(&error.to_string());
    match what_next(error) {
        Some(advice) => format!("{}; {advice}", text.trim_end_matches('.')),
        None => text,
    }
}

/// Text of others on one line, without what terminals obey.
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn what_next(error: &Error) -> Option<&'static str> {
    match error {
        Error::Refused(refusal) => refused(refusal),
        Error::Unreachable {
            refusal: Some(refusal),
            ..
        } => Some(match refusal.status {
            500..=599 => "a server is there, but it fails: its log may say why; try again later",
            _ => "the server has too much to do: try again later, or with a smaller --in-flight",
        }),
        Error::Unreachable { refusal: None, .. } => Some(
            "is a server running there? `drystone serve` starts one, --endpoint-url or AWS_ENDPOINT_URL says where",
        ),
        Error::NotTheApi { .. } => {
            Some("is that the right endpoint? --endpoint-url or AWS_ENDPOINT_URL says where")
        }
        Error::Corrupt { .. } => Some(
            "bytes are damaged on the server or on the way: try again, and `drystone scrub` on the server",
        ),
        Error::Unreadable { .. } => Some(
            "`drystone download --keep-going` gets the rest, `drystone scrub` on the server says what else is damaged",
        ),
        Error::SnapshotFailed { .. } => Some("delete it with `drystone rm`, and upload again"),
        Error::AfterCompletion { .. } => {
            Some("it is kept: `drystone ls` tells its state, do not upload again")
        }
        Error::Config(_) | Error::Io { .. } | Error::Unfit(_) | Error::Interrupted => None,
    }
}

fn refused(refusal: &Refusal) -> Option<&'static str> {
    let names = [refusal.reason.as_deref().unwrap_or(""), &refusal.code];
    names.into_iter().find_map(|name| match name {
        "SNAPSHOT_NOT_FOUND" | "InvalidSnapshot.NotFound" => Some(
            "`drystone ls` lists those of this account and region; is it the right --endpoint-url and --region?",
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "AuthFailure"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "INVALID_CUSTOMER_KEY" => Some(
            "this server does not know the access key: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --profile, say which; `drystone key create` makes one",
        ),
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            Some("the secret access key, the region or this machine's clock is wrong")
        }
        "RequestExpired" | "RequestTimeTooSkewed" | "InvalidSignatureTime" => {
            Some("this machine's clock and the server's differ: set them")
        }
        "ExpiredToken" | "ExpiredTokenException" => {
            Some("the session has ended: get new credentials")
        }
        "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation" => {
            Some("the permissions that each command needs are in docs/client.md")
        }
        "UNRELATED_SNAPSHOTS" => {
            Some("this server compares only snapshots of which one descends from the other")
        }
        // Its other meanings, such as a snapshot that is completed, are in the message.
        "INVALID_SNAPSHOT_ID" if refusal.message.contains("is not complete") => {
            Some("`drystone wait` ends when it is")
        }
        "InvalidSnapshotID.Malformed" => {
            Some("ids look like snap-0123456789abcdef0; `drystone ls` lists them")
        }
        "InvalidSnapshot.InUse" => Some("an image is made of it: deregister that first"),
        "ConcurrentLimitExceededException" => {
            Some("too many snapshots are pending: complete some, or delete them with `drystone rm`")
        }
        "ServiceQuotaExceededException" => {
            Some("a quota is used up: delete what is not needed with `drystone rm`")
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, reason: Option<&str>) -> Error {
        Error::from(Refusal {
            operation: "ListSnapshotBlocks",
            status: 400,
            code: code.to_owned(),
            reason: reason.map(str::to_owned),
            message: "no\nno.".to_owned(),
            request_id: None,
            retry_after_ms: None,
        })
    }

    #[test]
    fn errors_are_one_line_and_say_what_next() {
        let check = |error: &Error, word: &str| {
            let text = told(error);
            assert!(text.contains(word) && !text.contains('\n'), "{text}");
        };
        check(
            &refusal("ResourceNotFoundException", Some("SNAPSHOT_NOT_FOUND")),
            "`drystone ls`",
        );
        check(&refusal("InvalidSnapshot.NotFound", None), "`drystone ls`");
        check(
            &refusal("AuthFailure", None),
            "no; this server does not know",
        );
        check(&refusal("UnauthorizedOperation", None), "docs/client.md");
        let unreachable = Error::Unreachable {
            operation: "StartSnapshot",
            endpoint: "http://127.0.0.1:9".to_owned(),
            attempts: 10,
            reason: "connection refused".to_owned(),
            refusal: None,
        };
        check(&unreachable, "http://127.0.0.1:9");
        check(&unreachable, "--endpoint-url");
    }

    #[test]
    fn a_server_that_answered_is_running() {
        let check = |status, word: &str| {
            let Error::Refused(mut refusal) = refusal("Strange", None) else {
                panic!("it is one");
            };
            refusal.status = status;
            let text = told(&Error::Unreachable {
                operation: "PutSnapshotBlock",
                endpoint: "http://127.0.0.1:9".to_owned(),
                attempts: 10,
                reason: refusal.to_string(),
                refusal: Some(refusal),
            });
            assert!(
                text.contains(word) && !text.contains("running there"),
                "{text}"
            );
        };
        check(400, "--in-flight");
        check(500, "its log");
        check(503, "its log");
    }

    #[test]
    fn snapshots_in_a_wrong_state_have_no_wrong_id() {
        let mut parent = refusal("ValidationException", Some("INVALID_SNAPSHOT_ID"));
        assert!(!told(&parent).contains("look like"));
        if let Error::Refused(refusal) = &mut parent {
            refusal.message = "Source snapshot (snap-1) is not complete.".to_owned();
        }
        assert!(told(&parent).contains("`drystone wait`"));
        let many = refusal("ConcurrentLimitExceededException", None);
        assert!(told(&many).contains("too many snapshots are pending"));
    }

    #[test]
    fn terminals_are_told_nothing_by_servers() {
        let failed = Error::SnapshotFailed {
            snapshot: "snap-1".parse().expect("an id"),
            state: "error".to_owned(),
            message: Some("\x1b]0;x\x07\u{9b}2J".to_owned()),
        };
        assert!(!told(&failed).contains(char::is_control));
    }

    #[test]
    fn what_nobody_knows_an_answer_to_gets_none() {
        assert_eq!(
            told(&refusal("Strange", None)),
            "ListSnapshotBlocks: Strange: no no."
        );
    }
}
