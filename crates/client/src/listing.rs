//! Listings as streams: pages are fetched ahead of the reader, one at a time, and listed again from where they stood when a page
//! token expires.
//!
//! Invariants
//! - Indexes ascend strictly, over all pages: a block is told once.
//! - Every listing ends: a page that leads to itself, or [`EMPTY_PAGES_MAX`] pages with nothing on them in a row, are none of this API.
//! - No more than two pages are in memory. Dropping a listing ends what fetches ahead.

mod pages;

use crate::api::{Api, ChangedBlock, Extensions, GotBlock, ListedBlock, PageStart, Which};
use crate::{Error, SnapshotId};
use pages::Pages;
use std::sync::Arc;
use types::{BlockIndex, VolumeSize};

/// Pages without a block in a row; AWS has them where two large snapshots hardly differ (SPEC 3.9).
const EMPTY_PAGES_MAX: u32 = 1_000;

/// The smallest page that the API knows.
const MAX_RESULTS_MIN: u32 = 100;

/// The reason that a server gives for a block token that is invalid or has expired (SPEC 2.4).
const INVALID_BLOCK_TOKEN: &str = "INVALID_BLOCK_TOKEN";

/// A snapshot's blocks in ascending order.
pub(crate) struct Blocks {
    pages: Pages<ListedBlock>,
    volume_size: VolumeSize,
}

impl Blocks {
    /// From a block on. Fetches the first page, so that what does not exist is known at once.
    pub(crate) async fn begin(
        api: &Api,
        id: &SnapshotId,
        from: BlockIndex,
    ) -> Result<Blocks, Error> {
        let (caller, snapshot) = (api.clone(), id.clone());
        let fetch = Arc::new(move |start| {
            let (api, id) = (caller.clone(), snapshot.clone());
            Box::pin(async move { api.list_blocks(&id, start).await }) as pages::Fetched<_>
        });
        let strange = not_the_api("ListSnapshotBlocks", api);
        let pages = Pages::begin(fetch, |block: &ListedBlock| block.index, strange, from).await?;
        let volume_size = match pages.volume_size() {
            Some(size) => size,
            None => described_size(api, id).await?,
        };
        Ok(Blocks { pages, volume_size })
    }

    /// Size of the volume.
    pub(crate) fn volume_size(&self) -> VolumeSize {
        self.volume_size
    }

    /// What the server can do beyond the API.
    pub(crate) fn extensions(&self) -> Extensions {
        self.pages.extensions()
    }

    /// The next block; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<ListedBlock>, Error> {
        self.pages.next().await
    }
}

/// The blocks in which two snapshots differ, in ascending order.
pub(crate) struct ChangedBlocks(Pages<ChangedBlock>);

impl ChangedBlocks {
    /// From a block on.
    pub(crate) async fn begin(
        api: &Api,
        first: &SnapshotId,
        second: &SnapshotId,
        from: BlockIndex,
    ) -> Result<ChangedBlocks, Error> {
        let (caller, ids) = (api.clone(), (first.clone(), second.clone()));
        let fetch = Arc::new(move |start| {
            let (api, (first, second)) = (caller.clone(), ids.clone());
            Box::pin(async move { api.list_changed_blocks(&first, &second, start).await })
                as pages::Fetched<_>
        });
        let strange = not_the_api("ListChangedBlocks", api);
        let pages = Pages::begin(fetch, |block: &ChangedBlock| block.index, strange, from).await?;
        Ok(ChangedBlocks(pages))
    }

    /// Size of the second snapshot's volume, once known.
    pub(crate) fn volume_size(&self) -> Option<VolumeSize> {
        self.0.volume_size()
    }

    /// The next block that differs; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<ChangedBlock>, Error> {
        self.0.next().await
    }
}

/// Gets a block that was listed; if its token is refused, as one is that has expired, with a new one.
pub(crate) async fn get_with_fresh_token(
    api: &Api,
    id: &SnapshotId,
    block: &ListedBlock,
) -> Result<GotBlock, Error> {
    let ListedBlock { index, digest, .. } = *block;
    let refusal = match api.get_block(id, index, &block.token, digest).await {
        Err(Error::Refused(refusal)) if refusal.reason.as_deref() == Some(INVALID_BLOCK_TOKEN) => {
            refusal
        }
        answer => return answer,
    };
    match fresh_token(api, id, index).await? {
        Some(fresh) => api.get_block(id, index, &fresh.token, digest).await,
        None => Err(Error::Refused(refusal)),
    }
}

/// A new token for one block, for when the one that was listed has expired.
async fn fresh_token(
    api: &Api,
    id: &SnapshotId,
    index: BlockIndex,
) -> Result<Option<ListedBlock>, Error> {
    let page = api
        .list_blocks_up_to(id, PageStart::Index(index), MAX_RESULTS_MIN)
        .await?;
    let first = page.blocks.into_iter().next();
    Ok(first.filter(|block| block.index == index))
}

async fn described_size(api: &Api, id: &SnapshotId) -> Result<VolumeSize, Error> {
    let mut size = None;
    api.describe_snapshots(&Which::Ids(vec![id.clone()]), &mut |found| {
        size = found.volume_size;
    })
    .await?;
    size.ok_or_else(|| not_the_api("DescribeSnapshots", api)("no size of the volume".to_owned()))
}

fn not_the_api(
    operation: &'static str,
    api: &Api,
) -> impl Fn(String) -> Error + Clone + Send + Sync + 'static {
    let endpoint = api.endpoint();
    move |reason| Error::NotTheApi {
        operation,
        endpoint: endpoint.clone(),
        reason,
    }
}
