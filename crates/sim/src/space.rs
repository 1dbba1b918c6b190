//! What a store must hold when garbage has been collected: exactly what the model's snapshots refer to, and nothing else.

use crate::clients::Story;
use crate::contents::Content;
use crate::model::{Map, Seen, Snapshot, Wrong};
use blockmap::{PageCache, PageLoader, PageSource, Update, empty_root};
use bytes::Bytes;
use catalog::DbExt;
use catalog::chunks::{ChunkKey, ChunkRecord};
use catalog::containers::ContainerUse;
use chunkstore::{ChunkKind, ContainerId, ContainerKind, ContainerState};
use engine::CollectMode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use types::{BLOCK_BYTES, BlockIndex, ChunkName, Digest, Domain};

/// Bytes before the first frame of a segment.
const SEGMENT_HEADER_BYTES: u64 = 4096;

/// A chunk's key, and whether it is a block.
type Expected = BTreeMap<ChunkKey, bool>;

impl Story<'_> {
    /// Collects until no chunk more can go, which is in the second collection after its last reference, and compares what is left
    /// with what the model refers to.
    pub async fn check_chunks(&self) -> Result<(), Wrong> {
        self.collect_all(2).await?;
        self.check_records().await?;
        self.check_usage().await
    }

    /// Collects until no container more can go, and compares what is left of them, and on the disk. All segments have to be sealed.
    pub async fn check_space(&self) -> Result<(), Wrong> {
        self.collect_all(3).await?;
        self.check_records().await?;
        self.check_containers().await
    }

    /// Collects so often, and again as long as snapshots timed out meanwhile: these leave garbage.
    async fn collect_all(&self, times: u32) -> Result<(), Wrong> {
        loop {
            let before = self.all_seen();
            for _ in 0..times {
                self.collect_without_faults().await?;
            }
            self.check_everything().await?;
            if self.all_seen() == before {
                return Ok(());
            }
        }
    }

    fn all_seen(&self) -> Vec<Seen> {
        let model = self.model.borrow();
        model
            .snapshots
            .values()
            .map(|snapshot| snapshot.seen.clone())
            .collect()
    }

    async fn collect_without_faults(&self) -> Result<(), Wrong> {
        let collected = self.life.engine.collect(CollectMode::Cycle).await;
        let report =
            collected.map_err(|error| format!("a collection failed without a fault: {error}"))?;
        if report.revived + report.missing > 0 {
            return Err(format!(
                "a collection found chunks that are missing or were condemned: {report:?}"
            ));
        }
        Ok(())
    }

    /// Chunk records are those of the chunks that something refers to; nothing waits to be freed.
    async fn check_records(&self) -> Result<(), Wrong> {
        let expected = self.expected_chunks().await;
        let records = self.chunk_records().await?;
        let found: BTreeSet<ChunkKey> = records.iter().map(ChunkRecord::key).collect();
        let missing: Vec<_> = expected
            .keys()
            .filter(|key| !found.contains(*key))
            .collect();
        if !missing.is_empty() {
            return Err(format!(
                "chunks that snapshots refer to have no record: {missing:?}"
            ));
        }
        let left: Vec<_> = records
            .iter()
            .filter(|one| !expected.contains_key(&one.key()))
            .collect();
        if !left.is_empty() {
            return Err(format!("records of garbage are left: {left:?}"));
        }
        let is_block = |record: &ChunkRecord| record.kind == ChunkKind::Block as u8;
        if let Some(other) = records
            .iter()
            .find(|one| expected.get(&one.key()) != Some(&is_block(one)))
        {
            return Err(format!("a chunk has another kind: {other:?}"));
        }
        let frees = self
            .life
            .db
            .view(|txn| Box::pin(async move { catalog::containers::next_to_free(txn, 0).await }));
        match frees.await {
            Ok(None) => Ok(()),
            other => Err(format!("frames wait to be freed: {other:?}")),
        }
    }

    /// Live bytes are counted right, and what is on the disk is live.
    async fn check_containers(&self) -> Result<(), Wrong> {
        let mut live = BTreeMap::<u64, u64>::new();
        for record in self.chunk_records().await? {
            *live.entry(record.location.container).or_default() +=
                u64::from(record.location.length);
        }
        for frame in self.snapshot_frames().await? {
            *live.entry(frame.container).or_default() += u64::from(frame.length);
        }
        for container in self.containers().await? {
            let id = container.container.id;
            let expected = live.remove(&id).unwrap_or_default();
            if u64::try_from(container.live_bytes) != Ok(expected) {
                let counted = container.live_bytes;
                return Err(format!(
                    "container {id} counts {counted} live bytes of {expected}"
                ));
            }
            let is_blocks = container.container.kind == ContainerKind::Blocks as u8;
            let settled = container.container.state == ContainerState::Settled as u8;
            let kind = if is_blocks {
                ContainerKind::Blocks
            } else {
                ContainerKind::Pages
            };
            let used = self.life.io.used_bytes_of(ContainerId(id), kind);
            if is_blocks && settled && used != SEGMENT_HEADER_BYTES + expected {
                return Err(format!(
                    "{used} bytes of container {id} are used, {expected} are live"
                ));
            }
            if settled && expected == 0 {
                return Err(format!("container {id} is empty and still there"));
            }
        }
        match live.first_key_value() {
            Some((id, bytes)) => Err(format!(
                "{bytes} live bytes are in container {id}, which is gone"
            )),
            None => Ok(()),
        }
    }

    /// The figures of usage are those of the model.
    async fn check_usage(&self) -> Result<(), Wrong> {
        let failed = |error: engine::Error| format!("usage cannot be read: {error}");
        let totals = self.life.engine.usage_totals().await.map_err(failed)?;
        let usages = self
            .life
            .engine
            .usage_of_snapshots(None, 1_000)
            .await
            .map_err(failed)?;
        let mut holders: BTreeMap<(Domain, Digest), BTreeSet<u32>> = BTreeMap::new();
        let (mut snapshots, mut logical) = (0, 0);
        let model = self.model.borrow();
        for snapshot in model.snapshots.values() {
            let Some(maps) = maps_of(snapshot) else {
                continue;
            };
            if snapshot.seen == Seen::Completed {
                snapshots += 1;
                logical += maps.iter().map(|map| map.len() as u64).sum::<u64>();
            }
            for content in maps
                .iter()
                .flat_map(Map::values)
                .filter(|one| **one != Content::ZEROS)
            {
                let key = (self.domain(snapshot), content.digest());
                holders.entry(key).or_default().insert(snapshot.number);
            }
        }
        let block = BLOCK_BYTES as u64;
        let expected = (snapshots, logical * block, holders.len() as u64 * block);
        if (totals.snapshots, totals.logical_bytes, totals.unique_bytes) != expected {
            return Err(format!(
                "the usage is {expected:?}, and said to be {totals:?}"
            ));
        }
        for snapshot in model
            .snapshots
            .values()
            .filter(|one| maps_of(one).is_some())
        {
            let alone = |of: &&BTreeSet<u32>| of.iter().eq([&snapshot.number]);
            let own = holders.values().filter(alone).count() as u64;
            let usage = usages.iter().find(|usage| Some(usage.id) == snapshot.id);
            if usage.is_none_or(|usage| usage.own_blocks != own) {
                let number = snapshot.number;
                return Err(format!(
                    "snapshot {number} alone holds {own} blocks, and is said to hold {usage:?}"
                ));
            }
        }
        Ok(())
    }

    fn domain(&self, snapshot: &Snapshot) -> Domain {
        if self.plan.one_domain {
            Domain::STORE
        } else {
            Domain::of_account(snapshot.account())
        }
    }

    /// Every chunk that a snapshot of the model refers to.
    async fn expected_chunks(&self) -> Expected {
        let snapshots: Vec<_> = self.model.borrow().snapshots.values().cloned().collect();
        let mut expected = Expected::new();
        for snapshot in snapshots {
            let Some(maps) = maps_of(&snapshot) else {
                continue;
            };
            let domain = self.domain(&snapshot);
            for content in maps
                .iter()
                .flat_map(Map::values)
                .filter(|one| **one != Content::ZEROS)
            {
                expected.insert((domain, ChunkName::plain(content.digest())), true);
            }
            // The entries of a pending snapshot have no pages yet.
            if let Some(map) = maps.first() {
                for page in pages_of(map).await {
                    expected.insert((domain, ChunkName::plain(page)), false);
                }
            }
        }
        expected
    }

    async fn chunk_records(&self) -> Result<Vec<ChunkRecord>, Wrong> {
        let read = self.life.db.view(|txn| {
            Box::pin(async move { catalog::chunks::records_after(txn, None, 100_000).await })
        });
        read.await
            .map_err(|error| format!("chunk records cannot be read: {error}"))
    }

    async fn containers(&self) -> Result<Vec<ContainerUse>, Wrong> {
        let read = self.life.db.view(|txn| {
            Box::pin(async move { catalog::containers::in_use(txn, 0, 100_000).await })
        });
        read.await
            .map_err(|error| format!("containers cannot be read: {error}"))
    }

    async fn snapshot_frames(&self) -> Result<Vec<catalog::Location>, Wrong> {
        let read = self.life.db.view(|txn| {
            Box::pin(async move { catalog::snapshots::map_holders(txn, None, 100_000).await })
        });
        let holders = read
            .await
            .map_err(|error| format!("snapshots cannot be read: {error}"))?;
        Ok(holders.iter().filter_map(|holder| holder.frame).collect())
    }
}

/// The map that a snapshot refers to by its root or base root, and, while it is pending, its entries; nothing of one that is gone or has failed.
fn maps_of(snapshot: &Snapshot) -> Option<Vec<Map>> {
    if snapshot.gone.is_some() {
        return None;
    }
    match &snapshot.seen {
        Seen::Failed(_) => None,
        Seen::Completed => Some(vec![snapshot.map.as_deref().cloned().unwrap_or_default()]),
        Seen::Pending => {
            let entries = snapshot.certain_entries().unwrap_or_default();
            Some(vec![snapshot.base.as_ref().clone(), entries])
        }
    }
}

/// The pages of the tree of this map, without the empty root, which is not stored.
async fn pages_of(map: &Map) -> Vec<Digest> {
    let pages = PageSource::new(NoPages, Arc::new(PageCache::new(0)));
    let mut update = Update::new(&pages, empty_root().digest);
    let entries: Vec<_> = map
        .iter()
        .filter_map(|(index, content)| Some((BlockIndex::new(*index)?, content.digest())))
        .collect();
    if entries.is_empty() {
        return Vec::new();
    }
    update
        .apply(&entries)
        .await
        .expect("an empty map needs no page");
    let mut made = update.take_pages();
    made.extend(
        update
            .finish()
            .await
            .expect("an empty map needs no page")
            .pages,
    );
    made.into_iter().map(|page| page.digest).collect()
}

/// There is nothing to load below the empty root.
struct NoPages;

#[derive(Debug)]
struct Nothing;

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there are no pages")
    }
}

impl std::error::Error for Nothing {}

impl PageLoader for NoPages {
    type Error = Nothing;

    async fn load(&self, _: &[Digest]) -> Result<Vec<Bytes>, Nothing> {
        Err(Nothing)
    }
}
