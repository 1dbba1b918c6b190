//! Contents of volumes as a function of seeds, on servers and on disks.

use client::SnapshotId;
use client::api::{Api, SnapshotState, StartSnapshot, Which};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use types::{BLOCK_BYTES, BLOCKS_PER_GIB, BlockIndex, Digest, DigestContext, VolumeSize};

/// A volume of 1 GiB: blocks by index, each with the seed of its content. Seed 0 makes zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image(pub BTreeMap<u32, u64>);

impl Image {
    /// Some runs and some single blocks, at both ends of the volume too, one of them zeros; all contents differ.
    pub fn scattered() -> Image {
        let runs = [0..6, 127..130, 500..501, 1000..1016, 2046..2048];
        let blocks = runs.into_iter().flatten();
        let mut image = Image(blocks.map(|index| (index, u64::from(index) + 1)).collect());
        image.0.insert(1005, 0);
        image
    }

    /// The same with other content in these blocks.
    pub fn with(mut self, blocks: impl IntoIterator<Item = (u32, u64)>) -> Image {
        self.0.extend(blocks);
        self
    }

    /// Content of a block, zeros where there is none.
    pub fn block(&self, index: u32) -> Vec<u8> {
        content(self.0.get(&index).copied().unwrap_or(0))
    }

    /// Blocks with anything but zeros.
    pub fn data(&self) -> u64 {
        self.0.values().filter(|seed| **seed != 0).count() as u64
    }

    /// A sparse file of the volume's length.
    pub fn write(&self, path: &Path) {
        let file = File::create(path).expect("created");
        let bytes = u64::from(BLOCKS_PER_GIB) * BLOCK_BYTES as u64;
        file.set_len(bytes).expect("a length");
        for (index, seed) in &self.0 {
            write_block(&file, *index, &content(*seed));
        }
    }

    /// Compares every block of a disk.
    pub fn check(&self, path: &Path) {
        let file = File::open(path).expect("a disk");
        let mut found = vec![0; BLOCK_BYTES];
        let zeros = vec![0; BLOCK_BYTES];
        for index in 0..BLOCKS_PER_GIB {
            let offset = u64::from(index) * BLOCK_BYTES as u64;
            file.read_exact_at(&mut found, offset).expect("long enough");
            let good = match self.0.contains_key(&index) {
                true => found == self.block(index),
                false => found == zeros,
            };
            assert!(good, "block {index}");
        }
        let mut behind = [0];
        let end = u64::from(BLOCKS_PER_GIB) * BLOCK_BYTES as u64;
        assert_eq!(file.read_at(&mut behind, end).expect("readable"), 0);
    }

    /// Makes a completed snapshot of it, of what differs from the parent.
    pub async fn upload(&self, api: &Api, parent: Option<(&SnapshotId, &Image)>) -> SnapshotId {
        let mut puts = self.0.clone();
        if let Some((_, parent)) = parent {
            puts.retain(|index, seed| parent.0.get(index) != Some(seed));
            let gone = parent.0.keys().filter(|index| !self.0.contains_key(index));
            puts.extend(gone.map(|index| (*index, 0)));
        }
        let request = StartSnapshot {
            volume_size: VolumeSize::from_gib(1).expect("a size"),
            parent: parent.map(|(id, _)| id.clone()),
            description: None,
            tags: BTreeMap::new(),
            encrypted: None,
            kms_key_arn: None,
            client_token: format!("{:x}", api.random().bits()),
            timeout_minutes: 60,
        };
        let id = api.start_snapshot(&request).await.expect("started").id;
        let mut aggregate = DigestContext::new();
        for (index, seed) in &puts {
            let data = content(*seed);
            let digest = Digest::of(&data);
            aggregate.update(digest.as_bytes());
            let index = BlockIndex::new(*index).expect("an index");
            let put = api.put_block(&id, index, data.into(), digest).await;
            put.expect("put");
        }
        let count = u32::try_from(puts.len()).expect("few");
        let completed = api.complete_snapshot(&id, count, aggregate.finish()).await;
        completed.expect("completed");
        loop {
            let mut state = None;
            let which = Which::Ids(vec![id.clone()]);
            let mut each = |found: client::api::Description| state = Some(found.state);
            let described = api.describe_snapshots(&which, &mut each).await;
            described.expect("a description");
            match state {
                Some(SnapshotState::Completed) => return id,
                Some(SnapshotState::Pending) => tokio::task::yield_now().await,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Writes a block of a disk.
pub fn write_block(file: &File, index: u32, data: &[u8]) {
    let offset = u64::from(index) * BLOCK_BYTES as u64;
    file.write_all_at(data, offset).expect("written");
}

/// The content of a block with this seed: no two pages of it are alike.
pub fn content(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut words = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let words: Vec<[u8; 8]> = (0..BLOCK_BYTES / 8).map(|_| words()).collect();
    words.concat()
}
