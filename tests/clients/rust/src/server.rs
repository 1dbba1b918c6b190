//! The built server (`DRYSTONE_BIN`) on a free port and a fresh data directory; it ends with the value.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_ebs::Client;
use aws_sdk_ebs::config::retry::RetryConfig;
use aws_sdk_ebs::config::{Builder, Credentials, Region};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const READY: Duration = Duration::from_secs(120);

/// A running server.
pub struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub async fn start() -> Result<Server> {
        let binary =
            std::env::var_os("DRYSTONE_BIN").context("set DRYSTONE_BIN to the built server")?;
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new(PathBuf::from(binary));
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("AWS_") || name.starts_with("DRYSTONE_"))
            {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut server = Server {
            child,
            port,
            folder,
        };
        let ready = timeout(READY, server.wait_until_ready()).await;
        match ready {
            Ok(outcome) => outcome?,
            Err(_) => bail!("not ready in time:\n{}", server.log()),
        }
        Ok(server)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.log());
            }
            if self.healthy().await.unwrap_or(false) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn healthy(&self) -> Result<bool> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await?;
        connection
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer.starts_with("HTTP/1.1 200 "))
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A client with the credentials that the first start wrote; it never retries.
    pub fn client(&self) -> Result<Client> {
        let path = self.folder.path().join("data/credentials");
        let text = fs::read_to_string(&path)?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            let value = line.and_then(|rest| rest.trim_start().strip_prefix('='));
            value
                .map(|value| value.trim().to_owned())
                .with_context(|| format!("no {name}"))
        };
        let (id, secret) = (value("aws_access_key_id")?, value("aws_secret_access_key")?);
        let config = Builder::new()
            .behavior_version_latest()
            .endpoint_url(format!("http://127.0.0.1:{}", self.port))
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(id, secret, None, None, "credentials file"))
            .retry_config(RetryConfig::disabled())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Ok(Client::from_conf(config))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
