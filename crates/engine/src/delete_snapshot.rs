//! stub
use crate::{Engine, Error};
use types::{AccountId, SnapshotId};
impl Engine {
    /// x
    pub async fn delete_snapshot(&self, _account: AccountId, _id: SnapshotId) -> Result<(), Error> { Err(crate::stub()) }
}
