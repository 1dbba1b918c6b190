//! A server behind a proxy, and snapshots on it.

use super::super::proxy::{On, Proxy};
use crate::server::{Place, Server};
use crate::signed::Key;
use bytes::Bytes;
use client::api::{Api, ApiParts, Description, PageStart, StartSnapshot, Which};
use client::config::{ApiOptions, Config, ConfigOptions, Environment};
use client::copy::{CopyBase, CopyOptions};
use client::wait::wait_until_completed;
use client::{Meter, SnapshotId};
use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use types::{BLOCK_BYTES, BlockIndex, Digest, DigestContext, Random, SystemClock, VolumeSize};

/// Operations that a copy uses, by name.
const OPERATIONS: [(&str, On); 6] = [
    ("StartSnapshot", On::START),
    ("PutSnapshotBlock", On::PUT),
    ("CompleteSnapshot", On::COMPLETE),
    ("GetSnapshotBlock", On::GET),
    ("ListSnapshotBlocks", On::LIST),
    ("ListChangedBlocks", On::LIST_CHANGED),
];

/// One end of a copy.
pub struct End {
    pub api: Api,
    pub proxy: Proxy,
    pub place: Place,
    _server: Server,
}

/// The digests of a snapshot's blocks, those that are zeros left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blocks(BTreeMap<u32, Digest>);

impl Blocks {
    pub fn of(blocks: &[(u32, u8)]) -> Blocks {
        let digests = blocks
            .iter()
            .map(|(index, letter)| (*index, Digest::of(&data(*letter))));
        Blocks(
            digests
                .filter(|(_, digest)| *digest != Digest::ZERO_BLOCK)
                .collect(),
        )
    }
}

/// Copy it, based on what is nearest, and wait.
pub fn options(snapshot: &SnapshotId) -> CopyOptions {
    CopyOptions {
        snapshot: snapshot.clone(),
        base: CopyBase::Nearest,
        tags: BTreeMap::new(),
        description: None,
        encrypted: None,
        kms_key_arn: None,
        again: false,
        state: None,
        wait: true,
    }
}

/// A block: zeros for `0`, else noise that depends on the letter.
pub fn data(letter: u8) -> Bytes {
    if letter == b'0' {
        return vec![0; BLOCK_BYTES].into();
    }
    let noise = |at: usize| (at.wrapping_mul(usize::from(letter) | 1) >> 3) as u8 ^ letter;
    (0..BLOCK_BYTES).map(noise).collect::<Vec<u8>>().into()
}

fn narrow() -> ApiOptions {
    ApiOptions {
        in_flight_max: 2,
        ..ApiOptions::default()
    }
}

impl End {
    pub fn start() -> End {
        End::with(ApiOptions::default(), &[])
    }

    /// Whose client does not try for long.
    pub fn start_impatient() -> End {
        let options = ApiOptions {
            attempts_max: 3,
            ..ApiOptions::default()
        };
        End::with(options, &[])
    }

    /// Whose client has few blocks under way, so that they are put nearly in order.
    pub fn start_narrow() -> End {
        End::with(narrow(), &[])
    }

    /// The same, of a server whose accounts share blocks, so that it takes no puts by digest.
    pub fn start_narrow_and_shared() -> End {
        End::with(narrow(), &["--config", "drystone.toml"])
    }

    /// Whose accounts share blocks, so that it takes no puts by digest.
    pub fn start_shared() -> End {
        End::with(ApiOptions::default(), &["--config", "drystone.toml"])
    }

    fn with(options: ApiOptions, arguments: &[&str]) -> End {
        let place = Place::new();
        let settings = "[store]\ndedup = \"store\"\n";
        fs::write(place.path().join("drystone.toml"), settings).expect("written");
        let server = place.serve(arguments);
        let proxy = Proxy::start(server.address, []);
        let key = Key::of(&place);
        let variables = [
            ("AWS_ACCESS_KEY_ID", key.id),
            ("AWS_SECRET_ACCESS_KEY", key.secret),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", proxy.url()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let config = Config::load(&Environment::new(variables), &ConfigOptions::default());
        let parts = ApiParts {
            config: config.expect("a configuration"),
            options: ApiOptions {
                stall_timeout: Duration::from_secs(1),
                ..options
            },
            clock: Arc::new(SystemClock::new()),
            random: Random::system(),
            meter: Arc::new(Meter::new()),
        };
        End {
            api: Api::new(parts).expect("an API"),
            proxy,
            place,
            _server: server,
        }
    }

    /// Starts a snapshot and puts blocks.
    pub async fn pending(&self, parent: Option<&SnapshotId>, blocks: &[(u32, u8)]) -> SnapshotId {
        let request = StartSnapshot {
            volume_size: VolumeSize::from_gib(1).expect("a size"),
            parent: parent.cloned(),
            description: Some("a disk".to_owned()),
            tags: BTreeMap::from([("Name".to_owned(), "root".to_owned())]),
            encrypted: None,
            kms_key_arn: None,
            client_token: format!("{:016x}", self.api.random().bits()),
            timeout_minutes: 60,
        };
        let started = self.api.start_snapshot(&request).await.expect("started");
        for (index, letter) in blocks {
            let index = BlockIndex::new(*index).expect("an index");
            let data = data(*letter);
            let digest = Digest::of(&data);
            let put = self.api.put_block(&started.id, index, data, digest);
            put.await.expect("put");
        }
        started.id
    }

    /// Makes a completed snapshot; blocks in ascending order.
    pub async fn snapshot(&self, parent: Option<&SnapshotId>, blocks: &[(u32, u8)]) -> SnapshotId {
        let id = self.pending(parent, blocks).await;
        let mut aggregate = DigestContext::new();
        for (_, letter) in blocks {
            aggregate.update(Digest::of(&data(*letter)).as_bytes());
        }
        let count = u32::try_from(blocks.len()).expect("few");
        let completing = self.api.complete_snapshot(&id, count, aggregate.finish());
        completing.await.expect("completed");
        wait_until_completed(&self.api, &id, pending())
            .await
            .expect("completed");
        id
    }

    pub async fn described(&self, id: &SnapshotId) -> Description {
        let mut found = self.described_all(&Which::Ids(vec![id.clone()])).await;
        found.pop().expect("it exists")
    }

    pub async fn described_all(&self, which: &Which) -> Vec<Description> {
        let mut found = Vec::new();
        self.api
            .describe_snapshots(which, &mut |each| found.push(each))
            .await
            .expect("described");
        found
    }

    /// What a snapshot holds, every block fetched and compared with its checksum.
    pub async fn blocks(&self, id: &SnapshotId) -> Blocks {
        let page = self.api.list_blocks(id, PageStart::Index(BlockIndex::ZERO));
        let page = page.await.expect("listed");
        assert_eq!(page.next, None, "a page is enough here");
        let mut blocks = BTreeMap::new();
        for block in page.blocks {
            let got = self
                .api
                .get_block(id, block.index, &block.token, block.digest);
            let digest = Digest::of(&got.await.expect("got").data);
            if digest != Digest::ZERO_BLOCK {
                blocks.insert(block.index.get(), digest);
            }
        }
        Blocks(blocks)
    }

    /// How often each operation was called.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        let counts = OPERATIONS.map(|(name, on)| (name, self.proxy.calls(on)));
        counts.into_iter().collect()
    }

    /// How often since then, those left out that were not.
    pub fn calls_since(&self, before: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
        let mut calls = self.calls();
        calls
            .iter_mut()
            .for_each(|(name, count)| *count -= before[name]);
        calls.retain(|_, count| *count > 0);
        calls
    }
}
