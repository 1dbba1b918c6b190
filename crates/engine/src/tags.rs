//! stub
use crate::{Engine, Error};
use types::{AccountId, SnapshotId};
/// A tag of a snapshot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tag {
    /// x
    pub key: String,
    /// x
    pub value: String,
}
/// x
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagSelector {
    /// x
    pub key: String,
    /// x
    pub value: Option<String>,
}
impl Engine {
    /// x
    pub async fn create_tags(&self, _account: AccountId, _ids: &[SnapshotId], _tags: &[Tag]) -> Result<(), Error> { Err(crate::stub()) }
    /// x
    pub async fn delete_tags(&self, _account: AccountId, _ids: &[SnapshotId], _tags: Option<&[TagSelector]>) -> Result<(), Error> { Err(crate::stub()) }
}
