//! Programs that print credentials: the setting `credential_process` of a profile.
//!
//! The setting is split into words as a shell would, but no shell runs: there are no variables, no pipes and no patterns. The
//! program prints one JSON object:
//!
//! ```text
//! {"Version": 1, "AccessKeyId": "...", "SecretAccessKey": "...", "SessionToken": "...", "Expiration": "2030-01-01T00:00:00Z"}
//! ```
//!
//! Its standard input is empty, since ours may be the disk to upload; its standard error is ours, for what it has to say to
//! people. It is stopped after [`TIMEOUT`], after [`OUTPUT_BYTES_MAX`], and when whoever asked stops waiting.

use super::credentials::{Fetched, SigningKeys};
use serde::Deserialize;
use sigv4::{AccessKeyId, SecretKey};
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

/// Longest run: people may have to answer a prompt of it.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Most bytes that it may print: the longest session tokens seen are 4 KiB.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// A program and its arguments.
pub(super) struct CredentialProcess {
    words: Vec<Zeroizing<String>>,
    timeout: Duration,
}

impl CredentialProcess {
    /// Takes a setting apart.
    ///
    /// # Errors
    /// What is wrong with it; never the setting itself, which may hold secrets.
    pub(super) fn parse(setting: &str) -> Result<CredentialProcess, &'static str> {
        let words = words(setting)?;
        if words.first().is_none_or(|program| program.is_empty()) {
            return Err("names no program");
        }
        Ok(CredentialProcess {
            words,
            timeout: TIMEOUT,
        })
    }

    fn program(&self) -> &str {
        self.words.first().map_or("", |program| program.as_str())
    }

    /// Runs the program once.
    ///
    /// # Errors
    /// A message that names the program.
    pub(super) async fn run(&self) -> Result<Fetched, String> {
        let program = self.program();
        let named = |what: &str| format!("credential_process '{program}' {what}");
        let mut child = Command::new(program)
            .args(self.words.iter().skip(1).map(|word| word.as_str()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| named(&format!("cannot be run: {error}")))?;
        // Allocated once, so that growing leaves no copies behind.
        let mut output = Zeroizing::new(Vec::with_capacity(OUTPUT_BYTES_MAX + 1));
        let stdout = child.stdout.take();
        let ended = async {
            if let Some(stdout) = stdout {
                let limit = OUTPUT_BYTES_MAX as u64 + 1;
                stdout.take(limit).read_to_end(&mut output).await?;
            }
            if output.len() > OUTPUT_BYTES_MAX {
                return Ok(None);
            }
            child.wait().await.map(Some)
        };
        let status: Option<ExitStatus> = tokio::time::timeout(self.timeout, ended)
            .await
            .map_err(|_| {
                let secs = self.timeout.as_secs();
                named(&format!("did not end within {secs} seconds"))
            })?
            .map_err(|error| named(&format!("cannot be read: {error}")))?;
        match status {
            None => Err(named("printed more than 64 KiB")),
            Some(status) if !status.success() => Err(named(&format!("failed: {status}"))),
            Some(_) => read(&output).map_err(named),
        }
    }
}

impl fmt::Debug for CredentialProcess {
    /// The program; its arguments may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialProcess")
            .field("program", &self.program())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u64,
    access_key_id: Zeroizing<String>,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
    expiration: Option<String>,
}

/// What the program printed. No message repeats any of it.
fn read(output: &[u8]) -> Result<Fetched, &'static str> {
    let mut printed: Printed = serde_json::from_slice(output)
        .map_err(|_| "did not print the JSON object of version 1, with its keys")?;
    if printed.version != 1 {
        return Err("printed another version than 1");
    }
    let expires = match &printed.expiration {
        None => None,
        Some(text) => {
            let time: jiff::Timestamp = text
                .parse()
                .map_err(|_| "printed an Expiration that is no time of ISO 8601")?;
            Some(time.as_millisecond())
        }
    };
    if printed.secret_access_key.is_empty() {
        return Err("printed an empty SecretAccessKey");
    }
    Ok(Fetched {
        keys: SigningKeys {
            access_key_id: AccessKeyId::parse(&printed.access_key_id)
                .ok_or("printed an AccessKeyId that can be none")?,
            secret: SecretKey::new(std::mem::take(&mut *printed.secret_access_key)),
            session_token: printed.session_token.filter(|token| !token.is_empty()),
        },
        expires,
    })
}

/// The words of a command line: separated by blanks; quoted by `'`, or by `"` within which a backslash guards `"` and `\`; a
/// backslash elsewhere guards any character.
fn words(text: &str) -> Result<Vec<Zeroizing<String>>, &'static str> {
    const OPEN: &str = "has a quote without its end";
    let mut words = Vec::new();
    // No word is longer than the text, and a buffer that never grows leaves no copies behind.
    let mut word = Zeroizing::new(String::with_capacity(text.len()));
    let mut in_word = false;
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char.is_whitespace() {
            if in_word {
                words.push(word.clone());
                word.clear();
            }
            in_word = false;
            continue;
        }
        in_word = true;
        match char {
            '\'' => loop {
                match rest.next().ok_or(OPEN)? {
                    '\'' => break,
                    char => word.push(char),
                }
            },
            '"' => loop {
                match rest.next().ok_or(OPEN)? {
                    '"' => break,
                    '\\' => match rest.next().ok_or(OPEN)? {
                        guarded @ ('"' | '\\') => word.push(guarded),
                        other => word.extend(['\\', other]),
                    },
                    char => word.push(char),
                }
            },
            '\\' => word.push(rest.next().ok_or("ends in a backslash")?),
            char => word.push(char),
        }
    }
    if in_word {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"hush"}"#;

    #[test]
    fn words_are_split_as_by_a_shell() {
        let check = |text: &str, expected: &[&str]| {
            let found = words(text).expect("good words");
            let found: Vec<&str> = found.iter().map(|word| word.as_str()).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check(" a  b\tc\nd ", &["a", "b", "c", "d"]);
        check(r#""/opt/my tool" --x='y z'"#, &["/opt/my tool", "--x=y z"]);
        check(r#"a"b"'c'd"#, &["abcd"]);
        check(r#"'' """#, &["", ""]);
        check(r#"a\ b \" \\"#, &["a b", "\"", "\\"]);
        check(r#""a\"b\\c\d$e""#, &[r#"a"b\c\d$e"#]);
        check(r"'a\'", &[r"a\"]);
        // No shell: these are characters.
        check("a | b > $HOME *", &["a", "|", "b", ">", "$HOME", "*"]);
        for bad in ["'a", "\"a", "\"a\\", "a\\"] {
            assert!(words(bad).is_err(), "{bad}");
        }
        for bad in ["", "  ", "''", "\"\" a"] {
            assert!(CredentialProcess::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_is_read_or_refused_without_being_repeated() {
        let fetched = read(GOOD.as_bytes()).expect("good keys");
        assert_eq!(fetched.keys.access_key_id.as_str(), "AKIA");
        assert_eq!(fetched.keys.secret.expose(), "hush");
        assert!(fetched.keys.session_token.is_none() && fetched.expires.is_none());
        let full = r#"{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"hush","SessionToken":"tok\u002fen",
                       "Expiration":"1970-01-01T01:00:01+01:00","AccountId":"123456789012"}"#;
        let fetched = read(full.as_bytes()).expect("good keys");
        assert_eq!(
            fetched.keys.session_token.as_deref().map(String::as_str),
            Some("tok/en")
        );
        assert_eq!(fetched.expires, Some(1000));
        let check = |from: &str, to: &str, part: &str| {
            let what = read(GOOD.replace(from, to).as_bytes()).expect_err("no good keys");
            assert!(what.contains(part) && !what.contains("hush"), "{what}");
        };
        check("{", "", "JSON");
        check(":1", ":2", "version");
        check("\"AKIA\"", "\"AK IA\"", "AccessKeyId");
        check("\"AKIA\"", "7", "JSON");
        check("AccessKeyId", "accessKeyId", "JSON");
        check("hush", "", "SecretAccessKey");
        check("}", ",\"Expiration\":\"tomorrow\"}", "ISO 8601");
    }

    #[tokio::test]
    async fn programs_that_fail_are_named_and_their_arguments_are_not() {
        let check = async |setting: &str, part: &str| {
            let mut process = CredentialProcess::parse(setting).expect("a good setting");
            if setting.contains("sleep") {
                process.timeout = Duration::from_millis(100);
            }
            let message = process.run().await.expect_err("no keys");
            assert!(message.contains(part), "{setting}: {message}");
            assert!(!message.contains("hush"), "{message}");
        };
        check("/nowhere/program hush", "'/nowhere/program' cannot be run").await;
        check("sh -c 'exit 3' hush", "exit status: 3").await;
        check("echo hush", "JSON").await;
        check("sh -c 'exec sleep 30' hush", "within 0 seconds").await;
        check("sh -c 'exec sleep 30 >&-' hush", "within 0 seconds").await;
        check("yes hush", "more than 64 KiB").await;
    }

    #[tokio::test]
    async fn a_program_has_nothing_to_read() {
        let setting = format!("sh -c 'cat; echo '\\''{GOOD}'\\'''");
        let process = CredentialProcess::parse(&setting).expect("a good setting");
        let fetched = process.run().await.expect("keys");
        assert_eq!(fetched.keys.access_key_id.as_str(), "AKIA");
    }
}
