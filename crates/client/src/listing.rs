//! Listings as streams: pages are fetched ahead of the reader, one at a time, and listed again from where they stood when a page
//! token expires.

use crate::Error;
use crate::SnapshotId;
use crate::api::{Api, ChangedBlock, Extensions, ListedBlock};
use types::{BlockIndex, VolumeSize};

/// A snapshot's blocks in ascending order.
pub(crate) struct Blocks;

impl Blocks {
    /// From a block on. Fetches the first page, so that what does not exist is known at once.
    pub(crate) async fn begin(
        api: &Api,
        id: &SnapshotId,
        from: BlockIndex,
    ) -> Result<Blocks, Error> {
        let _ = (api, id, from);
        unimplemented!()
    }

    /// Size of the volume.
    pub(crate) fn volume_size(&self) -> VolumeSize {
        unimplemented!()
    }

    /// What the server can do beyond the API.
    pub(crate) fn extensions(&self) -> Extensions {
        unimplemented!()
    }

    /// The next block; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<ListedBlock>, Error> {
        unimplemented!()
    }
}

/// The blocks in which two snapshots differ, in ascending order.
pub(crate) struct ChangedBlocks;

impl ChangedBlocks {
    /// From a block on.
    pub(crate) async fn begin(
        api: &Api,
        first: &SnapshotId,
        second: &SnapshotId,
        from: BlockIndex,
    ) -> Result<ChangedBlocks, Error> {
        let _ = (api, first, second, from);
        unimplemented!()
    }

    /// Size of the second snapshot's volume, once known.
    pub(crate) fn volume_size(&self) -> Option<VolumeSize> {
        unimplemented!()
    }

    /// What the server can do beyond the API.
    pub(crate) fn extensions(&self) -> Extensions {
        unimplemented!()
    }

    /// The next block that differs; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<ChangedBlock>, Error> {
        unimplemented!()
    }
}

/// A new token for one block, for when the one that was listed has expired.
pub(crate) async fn fresh_token(
    api: &Api,
    id: &SnapshotId,
    index: BlockIndex,
) -> Result<Option<ListedBlock>, Error> {
    let _ = (api, id, index);
    unimplemented!()
}
