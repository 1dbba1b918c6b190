//! Disks to upload: their content is a function of a seed for each block.

use super::proxy::{Proxy, Rule};
use crate::server::{Place, Server};
use crate::signed::Key;
use client::api::{Api, ApiParts, Description, ListedBlock, PageStart, Which};
use client::config::{ApiOptions, Config, ConfigOptions, Environment};
use client::{Meter, SnapshotId};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use types::{BLOCK_BYTES, BlockIndex, Digest, Random, SystemClock};

/// A disk: so many bytes, and blocks of data in between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    bytes: u64,
    /// The seed of each block that is data; [`ZEROS`] for zeros that are written.
    blocks: BTreeMap<u32, u64>,
}

/// The seed of zeros.
pub const ZEROS: u64 = 0;

/// The bytes of a block: noise that the seed determines.
pub fn content(seed: u64) -> Vec<u8> {
    let mut data = vec![0; BLOCK_BYTES];
    if seed == ZEROS {
        return data;
    }
    let mut state = seed;
    // Word by word, and each in few steps: tests are not optimized.
    for word in data.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word.copy_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes());
    }
    data
}

impl Image {
    /// All zeros.
    pub fn new(bytes: u64) -> Image {
        Image {
            bytes,
            blocks: BTreeMap::new(),
        }
    }

    /// With these blocks, each with the seed of its index.
    pub fn filled(bytes: u64, blocks: impl IntoIterator<Item = u32>) -> Image {
        let mut image = Image::new(bytes);
        for block in blocks {
            image.set(block, u64::from(block) + 1);
        }
        image
    }

    /// Gives a block another content.
    pub fn set(&mut self, block: u32, seed: u64) {
        self.blocks.insert(block, seed);
    }

    /// Makes a hole of a block.
    pub fn clear(&mut self, block: u32) {
        self.blocks.remove(&block);
    }

    /// Makes the disk longer or shorter.
    pub fn resize(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.blocks
            .retain(|block, _| u64::from(*block) * (BLOCK_BYTES as u64) < bytes);
    }

    /// What a block reads as, zeros behind the end.
    pub fn block(&self, block: u32) -> Vec<u8> {
        let mut data = content(self.blocks.get(&block).copied().unwrap_or(ZEROS));
        let before = u64::from(block) * BLOCK_BYTES as u64;
        let inside = usize::try_from(self.bytes.saturating_sub(before)).expect("small");
        if let Some(behind) = data.get_mut(inside..) {
            behind.fill(0);
        }
        data
    }

    /// Blocks that are not zeros.
    pub fn data(&self) -> Vec<u32> {
        let data = self.blocks.iter().filter(|(_, seed)| **seed != ZEROS);
        data.map(|(block, _)| *block).collect()
    }

    /// Writes it as a sparse file, over what is there, which keeps its inode.
    pub fn write(&self, path: &Path) {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .expect("a file");
        file.set_len(self.bytes).expect("a length");
        for block in self.blocks.keys() {
            let before = u64::from(*block) * BLOCK_BYTES as u64;
            let data = self.block(*block);
            let inside = data
                .len()
                .min(usize::try_from(self.bytes - before).expect("small"));
            file.write_all_at(&data[..inside], before).expect("written");
        }
    }
}

/// A server behind a proxy.
pub struct Bench {
    pub proxy: Proxy,
    pub server: Server,
    pub place: Place,
}

impl Bench {
    /// With these rules for the client's requests.
    pub fn start(rules: impl Into<Vec<Rule>>) -> Bench {
        let place = Place::new();
        let server = place.serve(&[]);
        Bench {
            proxy: Proxy::start(server.address, rules),
            server,
            place,
        }
    }

    /// A client whose requests go through the proxy, with a meter of its own.
    pub fn api(&self) -> Api {
        self.api_at(self.proxy.url(), impatient())
    }

    /// A client with other options.
    pub fn api_with(&self, options: ApiOptions) -> Api {
        self.api_at(self.proxy.url(), options)
    }

    /// A client whose requests go to the server itself.
    pub fn direct(&self) -> Api {
        self.api_at(format!("http://{}", self.server.address), impatient())
    }

    fn api_at(&self, url: String, options: ApiOptions) -> Api {
        let key = Key::of(&self.place);
        let variables = [
            ("AWS_ACCESS_KEY_ID", key.id),
            ("AWS_SECRET_ACCESS_KEY", key.secret),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", url),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let config = Config::load(&Environment::new(variables), &ConfigOptions::default());
        Api::new(ApiParts {
            config: config.expect("a configuration"),
            options,
            clock: Arc::new(SystemClock::new()),
            random: Random::system(),
            meter: Arc::new(Meter::new()),
        })
        .expect("an API")
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The snapshots that there are.
    pub async fn snapshots(&self) -> Vec<Description> {
        let mut found = Vec::new();
        self.direct()
            .describe_snapshots(&Which::Own, &mut |description| found.push(description))
            .await
            .expect("descriptions");
        found
    }

    /// What a snapshot lists.
    pub async fn listed(&self, id: &SnapshotId) -> Vec<ListedBlock> {
        let api = self.direct();
        let mut listed = Vec::new();
        let mut start = PageStart::Index(BlockIndex::ZERO);
        loop {
            let page = api.list_blocks(id, start).await.expect("a page");
            listed.extend(page.blocks);
            match page.next {
                Some(token) => start = PageStart::Token(token),
                None => return listed,
            }
        }
    }

    /// Reads a snapshot block by block and compares it with an image, byte for byte.
    pub async fn assert_holds(&self, id: &SnapshotId, image: &Image) {
        let api = self.direct();
        let mut missing: Vec<u32> = image.data();
        for block in self.listed(id).await {
            let got = api.get_block(id, block.index, &block.token, None).await;
            let got = got.expect("a block");
            let expected = image.block(block.index.get());
            assert!(got.data[..] == expected[..], "block {}", block.index);
            assert_eq!(block.digest, Some(Digest::of(&expected)));
            missing.retain(|index| *index != block.index.get());
        }
        assert!(missing.is_empty(), "not listed, but data: {missing:?}");
    }
}

/// Options of a client that finds out soon when nothing moves any more.
pub fn impatient() -> ApiOptions {
    ApiOptions {
        stall_timeout: Duration::from_secs(2),
        ..ApiOptions::default()
    }
}
