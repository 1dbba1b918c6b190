//! The steps of a demo. What is compared and differs ends it.

use super::image::Image;
use super::table::{Step, Table};
use crate::admin::{DataArgs, Reply, Request, UsageRequest, carry_out};
use crate::commands::figures::counted;
use crate::commands::remote::{RequestArgs, ServerArgs, connect};
use crate::commands::{Differences, not_an_answer};
use client::SnapshotId;
use client::api::Api;
use client::config::Environment;
use client::diff::diff;
use client::download::{DownloadOptions, download};
use client::source::{SourceOptions, SourcePath};
use client::target::TargetPath;
use client::upload::{UploadOptions, upload};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use types::{BLOCK_BYTES, Clock, SystemClock};

/// What a story is told with.
pub struct StoryParts {
    /// Of the server.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    /// The file with its access key.
    pub credentials: PathBuf,
    /// Where a restored image goes.
    pub restored: PathBuf,
    /// The disk.
    pub image: Image,
}

/// The story.
pub struct Story {
    parts: StoryParts,
    environment: Environment,
    clock: SystemClock,
}

impl Story {
    /// Nothing is done yet.
    pub fn new(parts: StoryParts) -> anyhow::Result<Story> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", parts.address)),
            ("AWS_REGION", "us-east-1".to_owned()),
            (
                "AWS_SHARED_CREDENTIALS_FILE",
                parts.credentials.display().to_string(),
            ),
            // Nothing of the user's own configuration.
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
        ];
        Ok(Story {
            environment: Environment::new(variables.map(|(name, value)| (name.to_owned(), value))),
            parts,
            clock: SystemClock::new(),
        })
    }

    /// Tells it.
    pub async fn tell(&self, table: &mut Table) -> anyhow::Result<()> {
        let first = self.upload("upload the image", None, table).await?;
        let changed = self.change(table).await?;
        let second = self
            .upload("upload what changed", Some(&first), table)
            .await?;
        self.diff(&first, &second, &changed, table).await?;
        self.restore("restore the second", &second, table).await?;
        self.compare(table).await?;
        self.delete(&first, table).await?;
        self.restore("restore it again", &second, table).await?;
        self.compare(table).await
    }

    async fn upload(
        &self,
        step: &str,
        parent: Option<&SnapshotId>,
        table: &mut Table,
    ) -> anyhow::Result<SnapshotId> {
        let api = self.api()?;
        let began = self.clock.monotonic();
        let options = UploadOptions {
            source: SourcePath::Path(self.parts.image.path().to_owned()),
            reading: SourceOptions { map: None },
            parent: parent.cloned(),
            volume_size: None,
            description: Some("drystone demo".to_owned()),
            tags: BTreeMap::new(),
            encrypted: None,
            kms_key_arn: None,
            client_token: None,
            digests: None,
            state: None,
            wait: true,
        };
        let report = upload(&api, &options, pending()).await?;
        let took = self.since(began);
        let reading = api.meter().read();
        table.add(Step {
            read_bytes: Some((reading.total - reading.zero) * BLOCK_BYTES as u64),
            wire_bytes: Some(reading.bytes),
            stored_bytes: Some(self.stored().await?),
            snapshot: Some(report.snapshot.to_string()),
            ..Step::of(step, took, Some(self.parts.image.bytes()))
        })?;
        Ok(report.snapshot)
    }

    async fn change(&self, table: &mut Table) -> anyhow::Result<BTreeSet<u32>> {
        let began = self.clock.monotonic();
        let changed = self.parts.image.change().await?;
        table.add(Step {
            result: Some(counted(changed.len() as u64, "block")),
            ..Step::of("change some blocks", self.since(began), None)
        })?;
        Ok(changed)
    }

    async fn diff(
        &self,
        first: &SnapshotId,
        second: &SnapshotId,
        changed: &BTreeSet<u32>,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let api = self.api()?;
        let began = self.clock.monotonic();
        let mut found = BTreeSet::new();
        diff(&api, first, second, &mut |extent| {
            found.extend(extent.start..extent.start + extent.count);
            Ok(())
        })
        .await?;
        if found != *changed {
            return Err(differ(
                "the list of changed blocks is not that of what was changed",
            ));
        }
        table.add(Step {
            result: Some("exactly those".to_owned()),
            ..Step::of("list what changed", self.since(began), None)
        })
    }

    async fn restore(
        &self,
        step: &str,
        snapshot: &SnapshotId,
        table: &mut Table,
    ) -> anyhow::Result<()> {
        let api = self.api()?;
        let began = self.clock.monotonic();
        let options = DownloadOptions {
            snapshot: snapshot.clone(),
            target: TargetPath::Path(self.parts.restored.clone()),
            bytes: Some(self.parts.image.bytes()),
            base: None,
            state: None,
            keep_going: false,
        };
        download(&api, &options, pending()).await?;
        let took = self.since(began);
        table.add(Step {
            wire_bytes: Some(api.meter().read().bytes),
            ..Step::of(step, took, Some(self.parts.image.bytes()))
        })
    }

    async fn compare(&self, table: &mut Table) -> anyhow::Result<()> {
        let began = self.clock.monotonic();
        let restored = self.parts.restored.clone();
        if let Some(offset) = self.parts.image.differs_from(restored).await? {
            return Err(differ(&format!(
                "the restored image differs at byte {offset}"
            )));
        }
        let bytes = self.parts.image.bytes();
        table.add(Step {
            read_bytes: Some(2 * bytes),
            result: Some("equal".to_owned()),
            ..Step::of("compare byte by byte", self.since(began), Some(bytes))
        })?;
        std::fs::remove_file(&self.parts.restored)?;
        Ok(())
    }

    async fn delete(&self, first: &SnapshotId, table: &mut Table) -> anyhow::Result<()> {
        let api = self.api()?;
        let began = self.clock.monotonic();
        api.delete_snapshot(first).await?;
        let took = self.since(began);
        table.add(Step {
            stored_bytes: Some(self.stored().await?),
            ..Step::of("delete the first", took, None)
        })
    }

    /// With a meter of its own, for one step.
    fn api(&self) -> anyhow::Result<Api> {
        connect(
            &ServerArgs::default(),
            &RequestArgs::default(),
            &self.environment,
        )
    }

    /// Bytes that the store takes for what its snapshots refer to.
    async fn stored(&self) -> anyhow::Result<u64> {
        let place = DataArgs {
            data: Some(self.parts.data.clone()),
            config: None,
        };
        let request = Request::Usage(UsageRequest {
            refresh: true,
            snapshots: Vec::new(),
        });
        match carry_out(place, request, |_| Ok(())).await? {
            Reply::Usage(totals) => Ok(totals.stored_bytes),
            _ => Err(not_an_answer()),
        }
    }

    fn since(&self, began: Duration) -> Duration {
        self.clock.monotonic() - began
    }
}

fn differ(what: &str) -> anyhow::Error {
    Differences(what.to_owned()).into()
}
