//! Gives every account of a rebuilt catalog a key that works.
//!
//! Keys that came over from the old catalog and open under the root key are left as they are, and so is an account that had none there.
//! Otherwise the key in DIR/credentials is restored, since clients have it; an account that is then still without one gets
//! a new key, which goes to a new credentials file.

use crate::data_dir::Layout;
use anyhow::Context;
use auth::{AccessKeyId, KeyState, KeyStore, SecretKey};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use types::AccountId;
use zeroize::Zeroizing;

/// What became of the keys.
#[derive(Default)]
pub struct Keys {
    /// Active keys from the old catalog.
    pub kept: u64,
    /// Keys whose secret cannot be opened any more; they were left out.
    pub lost: u64,
    /// The key of the credentials file, restored.
    pub restored: Option<String>,
    /// New keys, by account.
    pub made: BTreeMap<AccountId, String>,
}

/// A profile of a credentials file.
struct Profile {
    id: AccessKeyId,
    secret: SecretKey,
    account: Option<AccountId>,
}

/// Makes sure of it. `whole` says that the old catalog's keys all came over. New credentials are written to `directory`.
pub async fn complete(
    keys: &KeyStore,
    layout: &Layout,
    directory: &Path,
    whole: bool,
) -> anyhow::Result<Keys> {
    let failed = "the access keys of the new catalog cannot be written";
    let mut done = Keys {
        lost: keys.unreadable().len() as u64,
        ..Keys::default()
    };
    for id in keys.unreadable() {
        keys.delete(id).await.context(failed)?;
    }
    let mut served = BTreeMap::new();
    for key in keys.list().await.context(failed)? {
        if key.state == KeyState::Active {
            done.kept += 1;
            served.insert(key.account, key.id);
        }
    }
    if whole && done.lost == 0 {
        return Ok(done);
    }
    let mut accounts = keys.accounts().await.context(failed)?;
    let profile = read(layout)?;
    if let Some(profile) = &profile {
        let only = match accounts.as_slice() {
            [account] => Some(*account),
            _ => None,
        };
        let account = profile.account.or(only);
        if let Some(account) = account.filter(|account| !served.contains_key(account)) {
            let restored = keys
                .restore_key(&profile.id, &profile.secret, account)
                .await;
            restored.context(failed)?;
            done.restored = Some(profile.id.to_string());
            served.insert(account, profile.id.clone());
            accounts.retain(|other| *other != account);
        }
    }
    let mut made = Vec::new();
    for account in accounts {
        if !served.contains_key(&account) {
            let key = keys.create_key(account).await.context(failed)?;
            done.made.insert(account, key.id.to_string());
            made.push(key);
        }
    }
    if made.is_empty() {
        return Ok(done);
    }
    let mut text = Zeroizing::new(String::from(
        "# Keys of this Drystone server, made by a rescue. Whoever can read this file can use them.\n",
    ));
    let restored = profile.filter(|_| done.restored.is_some());
    let restored = restored
        .as_ref()
        .and_then(|profile| Some((profile.account?, &profile.id, &profile.secret)));
    let made = made.iter().map(|key| (key.account, &key.id, &key.secret));
    for (number, (account, id, secret)) in restored.into_iter().chain(made).enumerate() {
        let name = match number {
            0 => "default".to_owned(),
            _ => format!("account-{account}"),
        };
        text.push_str(&format!(
            "# Account {account}\n[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {}\n",
            secret.expose()
        ));
    }
    crate::data_dir::write_durably(&directory.join("credentials"), &text)?;
    Ok(done)
}

/// The first profile of DIR/credentials, if there is a whole one.
fn read(layout: &Layout) -> anyhow::Result<Option<Profile>> {
    let path = layout.credentials();
    let text = match fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", path.display()));
        }
    };
    Ok(parse(&text))
}

fn parse(text: &str) -> Option<Profile> {
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    let account = text
        .lines()
        .filter_map(|line| line.strip_prefix("# Account "))
        .find_map(|rest| AccountId::parse(rest.get(..12)?));
    Some(Profile {
        id: AccessKeyId::parse(value("aws_access_key_id")?)?,
        secret: SecretKey::new(value("aws_secret_access_key")?.to_owned()),
        account,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_read_as_it_was_written() {
        let text = "# Account 123456789012 of this Drystone server. Whoever can read this file can use it.\n\
                    [default]\naws_access_key_id = AKIA2\naws_secret_access_key = se+cr/et==\n";
        let profile = parse(text).expect("a profile");
        assert_eq!(profile.id.as_str(), "AKIA2");
        assert_eq!(profile.secret.expose(), "se+cr/et==");
        assert_eq!(profile.account, AccountId::parse("123456789012"));
        let bare = "[default]\naws_access_key_id=AKIA2\naws_secret_access_key=x\n";
        assert_eq!(parse(bare).expect("a profile").account, None);
        assert!(parse("").is_none());
        assert!(parse("aws_access_key_id = AKIA2\n").is_none());
    }
}
