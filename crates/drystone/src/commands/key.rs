//! `drystone key`: makes, lists, disables, enables and deletes access keys.
//!
//! The running server does it, asked over its admin socket, and it takes effect at once. When none runs, this process
//! takes the lock of the data directory and does it itself.

use crate::admin::{self, CreatedKey, KeyRequest, ListedKey, Owner, Reply, Request, Unreached};
use crate::data_dir::{DataDir, InUse, Layout};
use crate::open;
use crate::settings::{Overrides, Settings};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `drystone key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: Action,

    /// Data directory of the server [default: drystone-data]
    #[arg(long, value_name = "DIR", env = "DRYSTONE_DATA", global = true)]
    data: Option<PathBuf>,

    /// Settings file that names the data directory
    #[arg(long, value_name = "FILE", env = "DRYSTONE_CONFIG", global = true)]
    config: Option<PathBuf>,
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
    let KeyArgs {
        action,
        data,
        config,
    } = args;
    let settings = Settings::load(Overrides {
        data,
        config,
        ..Overrides::default()
    })?;
    let layout = Layout::new(&settings.data)?;
    let reply = match admin::ask(&layout.admin_socket(), &action.request()).await {
        Ok(reply) => reply,
        Err(Unreached::Failed(error)) => return Err(error),
        Err(Unreached::NoServer) => perform_here(layout, &settings, action.request()).await?,
    };
    print(reply, action.json())
}

async fn perform_here(
    layout: Layout,
    settings: &Settings,
    request: Request,
) -> anyhow::Result<Reply> {
    let data = DataDir::open(layout).map_err(|error| match error.downcast_ref::<InUse>() {
        Some(_) => error.context("the server is starting or stopping, try again in a moment"),
        None => error,
    })?;
    let catalog = open::catalog(&data, settings, &open::Ambient::new()).await?;
    let keys = open::keys(&data, &catalog, &open::Ambient::new()).await?;
    Ok(admin::perform(&keys, request).await)
}

fn print(reply: Reply, json: bool) -> anyhow::Result<()> {
    let text = match reply {
        Reply::Refused(reason) => bail!(reason),
        Reply::Done => return Ok(()),
        Reply::Created(key) if json => serde_json::to_string_pretty(&key)? + "\n",
        Reply::Created(key) => created(&key),
        Reply::Keys(keys) if json => serde_json::to_string_pretty(&keys)? + "\n",
        Reply::Keys(keys) => table(&keys),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("the answer cannot be printed")
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
