//! The calls that set the scene, made by the bench itself: start a snapshot, complete it, and ask how far it is.

use super::connection::{Answer, Body, Connection};
use super::requests::{Ask, Heads, Key};
use anyhow::{Context, bail, ensure};
use auth::PayloadHash;
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;
use types::{Clock, Digest, SystemClock};

/// How long one call may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a snapshot may take to be completed.
const COMPLETION_TIME_MAX: Duration = Duration::from_secs(120);

/// Time between two questions whether it is: short beside what is measured.
const QUESTION_PAUSE: Duration = Duration::from_millis(2);

/// A client of the server under test.
pub struct Control<'a> {
    /// Where calls run.
    pub runtime: &'a Handle,
    /// Who signs.
    pub key: &'a Key,
    /// The server.
    pub address: SocketAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Started {
    snapshot_id: String,
}

impl Control<'_> {
    /// Starts a snapshot; answers its id.
    pub fn start(&self, volume_gib: u32, parent: Option<&str>) -> anyhow::Result<String> {
        let mut document = serde_json::json!({ "VolumeSize": volume_gib });
        if let Some(parent) = parent {
            document["ParentSnapshotId"] = parent.into();
        }
        let body = document.to_string();
        let headers = [("content-type", "application/json")];
        let answer = self.runtime.block_on(async {
            let mut connection = Connection::open(self.address).await?;
            self.call(
                &mut connection,
                "ebs",
                "POST",
                "/snapshots",
                &headers,
                &body,
            )
            .await
        })?;
        expect(&answer, 201, "start a snapshot")?;
        let started: Started =
            serde_json::from_slice(&answer.body).context("the answer to a start cannot be read")?;
        Ok(started.snapshot_id)
    }

    /// Completes a snapshot of so many blocks; answers the time until the server says that it is completed.
    pub fn complete(&self, snapshot: &str, blocks: u64) -> anyhow::Result<Duration> {
        self.runtime.block_on(async {
            let clock = SystemClock::new();
            let mut connection = Connection::open(self.address).await?;
            let target = format!("/snapshots/completion/{snapshot}");
            let count = blocks.to_string();
            let headers = [("x-amz-changedblockscount", count.as_str())];
            let answer = self
                .call(&mut connection, "ebs", "POST", &target, &headers, "")
                .await?;
            expect(&answer, 202, "complete a snapshot")?;
            while clock.monotonic() < COMPLETION_TIME_MAX {
                if self.is_completed(&mut connection, snapshot).await? {
                    return Ok(clock.monotonic());
                }
                tokio::time::sleep(QUESTION_PAUSE).await;
            }
            bail!(
                "{snapshot} is not completed after {} s",
                COMPLETION_TIME_MAX.as_secs()
            )
        })
    }

    async fn is_completed(
        &self,
        connection: &mut Connection,
        snapshot: &str,
    ) -> anyhow::Result<bool> {
        let form = format!("Action=DescribeSnapshots&Version=2016-11-15&SnapshotId.1={snapshot}");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self
            .call(connection, "ec2", "POST", "/", &headers, &form)
            .await?;
        expect(&answer, 200, "describe a snapshot")?;
        let text = String::from_utf8_lossy(&answer.body);
        if text.contains("<status>error</status>") {
            bail!("the server refused the content of {snapshot}: {text}");
        }
        Ok(text.contains("<status>completed</status>"))
    }

    async fn call(
        &self,
        connection: &mut Connection,
        service: &str,
        method: &str,
        target: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> anyhow::Result<Answer> {
        let heads = Heads::new(self.key, service, self.address, SystemClock::new().now())?;
        let head = heads.head(&Ask {
            method,
            target,
            headers,
            payload: PayloadHash::Digest(Digest::of(body.as_bytes())),
            body_bytes: body.len(),
        })?;
        let exchange = connection.exchange([&head, body.as_bytes(), &[]], Body::Keep);
        timeout(CALL_TIME_MAX, exchange)
            .await
            .with_context(|| format!("{method} {target} got no answer"))?
    }
}

fn expect(answer: &Answer, status: u16, what: &str) -> anyhow::Result<()> {
    ensure!(
        answer.status == status,
        "the server did not {what}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(())
}
