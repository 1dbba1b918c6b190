//! The first start: an account, a key for it, and the file from which AWS clients read the key.
//!
//! Steps, each repeated by the next start when a crash cut it off: the account (one that exists is used); its key; the
//! file DIR/credentials. The secret stays in the catalog under the root key, so the file can be written again as long
//! as its key is the only one.

use crate::data_dir::{Layout, write_durably};
use anyhow::Context;
use auth::{KeyState, KeyStore, KeySummary};
use std::net::SocketAddr;
use std::path::Path;
use types::AccountId;
use zeroize::Zeroizing;

/// Makes what a new data directory lacks.
pub async fn complete(keys: &KeyStore, layout: &Layout) -> anyhow::Result<()> {
    let path = layout.credentials();
    if path.exists() {
        return Ok(());
    }
    let existing = keys
        .list()
        .await
        .context("the access keys cannot be read")?;
    match existing.as_slice() {
        [] => {
            let account = first_account(keys).await?;
            let key = keys
                .create_key(account)
                .await
                .context("the first access key cannot be made")?;
            write(
                &path,
                &Profile {
                    id: key.id.as_str(),
                    secret: key.secret.expose(),
                    account,
                },
            )?;
            tracing::info!(%account, key = %key.id, "made an account with an access key: {}", path.display());
        }
        [
            KeySummary {
                id,
                account,
                state: KeyState::Active,
                ..
            },
        ] => {
            // Gone between the two reads: nobody changes keys before the server serves.
            let Some(credential) = keys.lookup(id) else {
                return Ok(());
            };
            let secret = credential.secret.expose();
            write(
                &path,
                &Profile {
                    id: id.as_str(),
                    secret,
                    account: *account,
                },
            )?;
            tracing::info!(%account, key = %id, "wrote {} again", path.display());
        }
        // The operator keeps keys elsewhere.
        _ => {}
    }
    Ok(())
}

async fn first_account(keys: &KeyStore) -> anyhow::Result<AccountId> {
    let accounts = keys
        .accounts()
        .await
        .context("the accounts cannot be read")?;
    match accounts.first() {
        Some(account) => Ok(*account),
        None => keys
            .create_account()
            .await
            .context("the first account cannot be made"),
    }
}

struct Profile<'a> {
    id: &'a str,
    secret: &'a str,
    account: AccountId,
}

fn write(
    path: &Path,
    Profile {
        id,
        secret,
        account,
    }: &Profile<'_>,
) -> anyhow::Result<()> {
    let text = Zeroizing::new(format!(
        "# Account {account} of this Drystone server. Whoever can read this file can use it.\n\
         [default]\n\
         aws_access_key_id = {id}\n\
         aws_secret_access_key = {secret}\n"
    ));
    write_durably(path, &text)
}

/// The lines that make any AWS client of a shell find this server.
pub fn greeting(layout: &Layout, address: SocketAddr, region: &str) -> String {
    let mut lines = String::from(
        "# Drystone is ready. Paste these lines into a shell, and its AWS clients use it:\n",
    );
    let credentials = layout.credentials();
    if credentials.exists() {
        lines.push_str(&format!(
            "export AWS_SHARED_CREDENTIALS_FILE={}\n",
            quoted(&credentials)
        ));
    }
    lines.push_str(&format!(
        "export AWS_ENDPOINT_URL=http://{}\n",
        reachable(address)
    ));
    // boto3 and version 1 of the AWS CLI read the second name only.
    lines.push_str(&format!(
        "export AWS_REGION={region} AWS_DEFAULT_REGION={region}\n"
    ));
    lines
}

/// An address to connect to: a server that listens everywhere is reached here by loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+,:@%".contains(letter);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_is_what_a_shell_reads() {
        let layout = Layout::new(Path::new("/srv/drystone")).expect("a path");
        let address: SocketAddr = "127.0.0.1:8512".parse().expect("an address");
        assert_eq!(
            greeting(&layout, address, "us-east-1")
                .lines()
                .skip(1)
                .collect::<Vec<_>>(),
            [
                "export AWS_ENDPOINT_URL=http://127.0.0.1:8512",
                "export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1"
            ]
        );
    }

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(
            quoted(Path::new("/srv/a-b_c/credentials")),
            "/srv/a-b_c/credentials"
        );
        assert_eq!(quoted(Path::new("/my data/x")), "'/my data/x'");
        assert_eq!(quoted(Path::new("/it's")), r"'/it'\''s'");
        assert_eq!(quoted(Path::new("/$HOME")), "'/$HOME'");
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_by_loopback() {
        let check = |bound: &str, reached: &str| {
            let bound: SocketAddr = bound.parse().expect("an address");
            assert_eq!(reachable(bound).to_string(), reached);
        };
        check("0.0.0.0:8512", "127.0.0.1:8512");
        check("[::]:8512", "[::1]:8512");
        check("192.0.2.1:8512", "192.0.2.1:8512");
    }
}
