//! Counterparts: snapshots at the destination with the content of a snapshot at the source, known by the tag of the copy.
//!
//! Either the one at the destination is a copy of the one at the source, or the other way round: what was brought from there can
//! go back as an increment. Only completed snapshots of the caller's own count; of several copies, the newest.

use super::COPY_OF_TAG;
use crate::api::{Api, Description, SnapshotState, Which};
use crate::{Error, Refusal, SnapshotId};

/// `ACCOUNT/REGION/SNAPSHOT`.
pub(super) fn name(of: &Description, region: &str) -> String {
    format!("{}/{region}/{}", of.owner, of.id)
}

/// Copies found by tag.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest.
    pub(super) newest: Option<Description>,
    /// How many there are.
    pub(super) count: u32,
}

impl Found {
    fn add(&mut self, found: Description) {
        if found.state != SnapshotState::Completed {
            return;
        }
        self.count += 1;
        if self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.start_time < found.start_time)
        {
            self.newest = Some(found);
        }
    }
}

/// Completed copies at the destination of what has this name.
pub(super) async fn copies(to: &Api, of: &str) -> Result<Found, Error> {
    let which = Which::Tagged {
        key: COPY_OF_TAG.to_owned(),
        value: of.to_owned(),
    };
    let mut found = Found::default();
    to.describe_snapshots(&which, &mut |each| found.add(each))
        .await?;
    Ok(found)
}

/// The snapshot at the destination of which this one, at the source, is a copy; nothing if it is none, or that one is gone.
pub(super) async fn original(to: &Api, of: &Description) -> Result<Option<Description>, Error> {
    let Some((account, region, id)) = of.tags.get(COPY_OF_TAG).and_then(|tag| parse(tag)) else {
        return Ok(None);
    };
    if region != to.region() {
        return Ok(None);
    }
    let found = find(to, &id).await?;
    Ok(found.filter(|found| found.owner == account && found.state == SnapshotState::Completed))
}

/// A snapshot, if it exists.
pub(super) async fn find(at: &Api, id: &SnapshotId) -> Result<Option<Description>, Error> {
    let mut found = None;
    let asked = at
        .describe_snapshots(&Which::Ids(vec![id.clone()]), &mut |each| {
            found = Some(each)
        })
        .await;
    match asked {
        Ok(()) => Ok(found),
        Err(Error::Refused(refusal)) if is_unknown(&refusal) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_unknown(refusal: &Refusal) -> bool {
    refusal.code == "InvalidSnapshot.NotFound" || refusal.code == "InvalidSnapshotID.Malformed"
}

fn parse(tag: &str) -> Option<(&str, &str, SnapshotId)> {
    let mut parts = tag.split('/');
    let (account, region) = (parts.next()?, parts.next()?);
    let id = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((account, region, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_origins_are_parsed_whole() {
        let check = |tag: &str, good: bool| assert_eq!(parse(tag).is_some(), good, "{tag}");
        check("123456789012/us-east-1/snap-01", true);
        check("123456789012/us-east-1/vol-01", false);
        check("123456789012/us-east-1", false);
        check("123456789012/us-east-1/snap-01/", false);
        check("", false);
    }
}
