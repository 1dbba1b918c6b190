//! `drystone key`: makes, lists, disables, enables and deletes access keys.
//!
//! The running server does it, asked over its admin socket, and it takes effect at once. When none runs, this process
//! takes the lock of the data directory and does it itself.

use super::{not_an_answer, print, print_json};
use crate::admin::{CreatedKey, DataArgs, KeyRequest, ListedKey, Owner, Reply, Request, carry_out};
use clap::{Args, Subcommand};

/// Arguments of `drystone key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    place: DataArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an access key and print its secret, this once
    Create {
        /// Account of the key; needed when there are several
        #[arg(long, value_name = "ID", conflicts_with = "new_account")]
        account: Option<String>,
        /// Make an account for the key
        #[arg(long)]
        new_account: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the access keys, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Refuse requests that are signed with a key, until it is enabled again
    Disable {
        /// Access key id
        id: String,
    },
    /// Accept requests that are signed with a key again
    Enable {
        /// Access key id
        id: String,
    },
    /// Delete a key for good
    Delete {
        /// Access key id
        id: String,
    },
}

impl Action {
    fn request(&self) -> Request {
        Request::Key(match self {
            Action::Create {
                new_account: true, ..
            } => KeyRequest::Create(Owner::NewAccount),
            Action::Create {
                account: Some(account),
                ..
            } => KeyRequest::Create(Owner::Account(account.clone())),
            Action::Create { account: None, .. } => KeyRequest::Create(Owner::OnlyAccount),
            Action::List { .. } => KeyRequest::List,
            Action::Disable { id } => KeyRequest::Disable(id.clone()),
            Action::Enable { id } => KeyRequest::Enable(id.clone()),
            Action::Delete { id } => KeyRequest::Delete(id.clone()),
        })
    }

    fn json(&self) -> bool {
        match self {
            Action::Create { json, .. } | Action::List { json } => *json,
            Action::Disable { .. } | Action::Enable { .. } | Action::Delete { .. } => false,
        }
    }
}

/// Runs the command.
pub async fn run(args: KeyArgs) -> anyhow::Result<()> {
    let request = args.action.request();
    let reply = carry_out(args.place, request, |_| Err(not_an_answer())).await?;
    let json = args.action.json();
    match reply {
        Reply::Done => Ok(()),
        Reply::Created(key) if json => print_json(&key),
        Reply::Created(key) => print(&created(&key)),
        Reply::Keys(keys) if json => print_json(&keys),
        Reply::Keys(keys) => print(&table(&keys)),
        _ => Err(not_an_answer()),
    }
}

fn created(key: &CreatedKey) -> String {
    format!(
        "# The secret is shown this once. For a profile of an AWS shared credentials file (account {}):\n\
         aws_access_key_id = {}\naws_secret_access_key = {}\n",
        key.account, key.access_key_id, *key.secret_access_key
    )
}

fn table(keys: &[ListedKey]) -> String {
    let width = keys
        .iter()
        .map(|key| key.access_key_id.len())
        .chain(["ACCESS KEY".len()])
        .max();
    let width = width.unwrap_or_default();
    let mut text = format!(
        "{:width$}  {:12}  {:8}  CREATED\n",
        "ACCESS KEY", "ACCOUNT", "STATE"
    );
    for ListedKey {
        access_key_id,
        account,
        active,
        created,
    } in keys
    {
        let state = if *active { "active" } else { "disabled" };
        text.push_str(&format!(
            "{access_key_id:width$}  {account:12}  {state:8}  {created}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up() {
        let key = |id: &str, active| ListedKey {
            access_key_id: id.to_owned(),
            account: "123456789012".to_owned(),
            active,
            created: "2026-01-02T03:04:05Z".to_owned(),
        };
        assert_eq!(
            table(&[key("AKIAIOSFODNN7EXAMPLE", true), key("AKIA2", false)]),
            "ACCESS KEY            ACCOUNT       STATE     CREATED\n\
             AKIAIOSFODNN7EXAMPLE  123456789012  active    2026-01-02T03:04:05Z\n\
             AKIA2                 123456789012  disabled  2026-01-02T03:04:05Z\n"
        );
    }
}
