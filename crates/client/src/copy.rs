//! Moves a snapshot from one server to another.
//!
//! ```text
//! copy/prepare.rs       what is copied, whether it was copied before, and what the copy can be based on
//! copy/counterpart.rs   snapshots at the destination that are copies of those at the source
//! copy/compare.rs       whether two snapshots, each on its own server, have the same content
//! copy/blocks.rs        which blocks differ, and moving them
//! copy/plan.rs          how many calls that takes
//! ```
//!
//! Steps of [`copy`], after [`prepare`]:
//! 1. Start a snapshot with the size, description and tags of the source, and the tag [`COPY_OF_TAG`]. If there is something to
//!    base it on, its parent is that snapshot's counterpart.
//! 2. List what the source has, or in what it differs from the parent, and put each block: by digest where the destination
//!    may hold it already, else got from the source, whose checksum is compared, and put under that checksum. Blocks that only
//!    the parent has are put as zeros; zeros are never fetched. Blocks are moved side by side, at most as many as may be in flight.
//! 3. Complete with the aggregate checksum of what was put.
//!
//! Whatever fails or is interrupted before the destination has accepted step 3 ends with the pending copy deleted, as well as that can be
//! done then; what is left behind where it cannot be is pending, and ends by its timeout. A crash leaves the same.

mod blocks;
mod compare;
mod counterpart;
mod plan;
mod prepare;

use crate::api::{Api, Description, SnapshotState, StartSnapshot};
use crate::wait::wait_until_completed;
use crate::{Counter, Error, SnapshotId};
use blocks::{Ends, Listing};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;
use types::limits::TAGS_MAX;

pub use plan::{CopyPlan, plan};
pub use prepare::prepare;

/// The tag by which a copy remembers what it is a copy of: `ACCOUNT/REGION/SNAPSHOT` of the source.
pub const COPY_OF_TAG: &str = "drystone:copy-of";

/// Longest time that deleting a pending copy may take.
const DELETE_TIME_MAX: Duration = Duration::from_secs(30);

/// Minutes without activity after which the destination gives a copy up: a source may be out of reach for a while.
const TIMEOUT_MINUTES: u32 = 60;

/// What to copy, and how.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// The snapshot at the source.
    pub snapshot: SnapshotId,
    /// On what the copy is based.
    pub base: CopyBase,
    /// More tags for the copy; those of the source are kept, except AWS's own.
    pub tags: BTreeMap<String, String>,
    /// For the copy; the source's if not given.
    pub description: Option<String>,
    /// Whether to encrypt the copy; the destination's default, or as the parent, if not said.
    pub encrypted: Option<bool>,
    /// The key's ARN, at the destination.
    pub kms_key_arn: Option<String>,
    /// Whether to copy what was copied before once more.
    pub again: bool,
    /// Whether to wait until the copy is completed.
    pub wait: bool,
}

/// On what a copy is based.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyBase {
    /// The counterpart of the nearest ancestor that has one, where the source tells lineages; else nothing.
    Nearest,
    /// The counterpart of this snapshot at the source, which must have one.
    Snapshot(SnapshotId),
    /// Nothing: every block is looked at.
    Nothing,
}

/// What is known before a copy begins.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What is copied.
    pub source: Description,
    /// A copy of it that the destination has already, completed.
    pub existing: Option<SnapshotId>,
    /// The snapshot at the source on which the copy is based, and its counterpart at the destination.
    pub parent: Option<(SnapshotId, SnapshotId)>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Value of [`COPY_OF_TAG`].
    copy_of: String,
}

/// What came of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyReport {
    /// The copy.
    pub snapshot: SnapshotId,
    /// Whether it was there already, and nothing was done.
    pub existed: bool,
    /// The snapshot at the source on which it is based, and its counterpart at the destination.
    pub parent: Option<(SnapshotId, SnapshotId)>,
    /// Blocks put.
    pub blocks_put: u32,
    /// Whether it was seen completed.
    pub completed: bool,
}

/// Copies what was prepared, and counts at the destination's meter. When `cancel` ends first, or on failure, the pending copy is
/// deleted. A copy that exists already is the answer, unless another one is wanted.
pub async fn copy(
    from: &Api,
    to: &Api,
    options: &CopyOptions,
    prepared: &Prepared,
    cancel: impl Future<Output = ()> + Send,
) -> Result<CopyReport, Error> {
    if let Some(existing) = prepared.existing.as_ref().filter(|_| !options.again) {
        return Ok(CopyReport {
            snapshot: existing.clone(),
            existed: true,
            parent: None,
            blocks_put: 0,
            completed: true,
        });
    }
    let request = start_request(to, options, prepared)?;
    let mut cancel = std::pin::pin!(cancel);
    let mut starting = std::pin::pin!(to.start_snapshot(&request));
    let started = tokio::select! {
        started = &mut starting => started?,
        () = &mut cancel => {
            // Only its answer names what must be deleted.
            if let Ok(Ok(started)) = timeout(DELETE_TIME_MAX, starting).await {
                delete(to, &started.id).await;
            }
            return Err(Error::Interrupted);
        }
    };
    let ends = Ends {
        from: from.clone(),
        to: to.clone(),
        source: prepared.source.id.clone(),
        copy: started.id.clone(),
        put_by_digest: started.extensions.put_by_digest,
    };
    let done = tokio::select! {
        done = fill(ends, prepared) => done,
        () = &mut cancel => Err(Error::Interrupted),
    };
    let blocks_put = match done {
        Ok(count) => count,
        Err(error) => {
            delete(to, &started.id).await;
            return Err(error);
        }
    };
    if options.wait {
        // From here on the copy is whole, only not seen completed: it stays.
        wait_until_completed(to, &started.id, &mut cancel).await?;
    }
    Ok(CopyReport {
        snapshot: started.id,
        existed: false,
        parent: prepared.parent.clone(),
        blocks_put,
        completed: options.wait,
    })
}

/// Puts all blocks and completes.
async fn fill(ends: Ends, prepared: &Prepared) -> Result<u32, Error> {
    let listing = Listing::begin(&ends.from, prepared).await?;
    if prepared.parent.is_none()
        && let Some(bytes) = prepared.source.full_bytes
    {
        let blocks = bytes / types::BLOCK_BYTES as u64;
        ends.to.meter().set(Counter::Total, blocks);
    }
    let (to, copy) = (ends.to.clone(), ends.copy.clone());
    let put = blocks::put_all(ends, listing).await?;
    to.complete_snapshot(&copy, put.count, put.aggregate)
        .await?;
    Ok(put.count)
}

fn state_name(state: &SnapshotState) -> &str {
    match state {
        SnapshotState::Pending => "pending",
        SnapshotState::Completed => "completed",
        SnapshotState::Error => "error",
        SnapshotState::Other(other) => other,
    }
}

fn start_request(
    to: &Api,
    options: &CopyOptions,
    prepared: &Prepared,
) -> Result<StartSnapshot, Error> {
    let source = &prepared.source;
    let volume_size = source.volume_size.ok_or_else(|| {
        Error::Unfit(format!(
            "the source does not tell the size of {}",
            source.id
        ))
    })?;
    let described = Some(source.description.clone()).filter(|text| !text.is_empty());
    Ok(StartSnapshot {
        volume_size,
        parent: prepared.parent.as_ref().map(|(_, there)| there.clone()),
        description: options.description.clone().or(described),
        tags: tags(&source.tags, &options.tags, &prepared.copy_of)?,
        encrypted: options.encrypted,
        kms_key_arn: options.kms_key_arn.clone(),
        client_token: client_token(to),
        timeout_minutes: TIMEOUT_MINUTES,
    })
}

/// The tags of a copy: the source's, those given, and what it is a copy of.
fn tags(
    source: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
    copy_of: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let kept = source.iter().filter(|(key, _)| !key.starts_with("aws:"));
    let mut tags: BTreeMap<String, String> = kept
        .chain(given)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    tags.insert(COPY_OF_TAG.to_owned(), copy_of.to_owned());
    if tags.len() > TAGS_MAX {
        return Err(Error::Unfit(format!(
            "the copy would have {} tags, of which one says what it is a copy of; {} are possible",
            tags.len(),
            TAGS_MAX
        )));
    }
    Ok(tags)
}

fn client_token(to: &Api) -> String {
    let random = to.random().bytes::<16>();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Deletes a pending copy. That it failed changes nothing for the caller: a pending snapshot ends by its timeout.
async fn delete(to: &Api, copy: &SnapshotId) {
    match timeout(DELETE_TIME_MAX, to.delete_snapshot(copy)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the pending copy {copy} could not be deleted: {error}"),
        Err(_) => tracing::warn!("the pending copy {copy} could not be deleted in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_copy_has_the_tags_of_its_source_those_given_and_its_origin() {
        let source = map(&[
            ("aws:backup", "x"),
            ("Name", "root"),
            ("kept", "1"),
            (COPY_OF_TAG, "1/a/snap-0"),
        ]);
        let given = map(&[("Name", "copy")]);
        let expected = map(&[("Name", "copy"), ("kept", "1"), (COPY_OF_TAG, "2/b/snap-1")]);
        assert_eq!(tags(&source, &given, "2/b/snap-1").unwrap(), expected);
    }

    #[test]
    fn a_source_with_every_tag_leaves_no_room() {
        let full: BTreeMap<String, String> = (0..TAGS_MAX)
            .map(|number| (format!("key{number}"), String::new()))
            .collect();
        assert!(matches!(
            tags(&full, &BTreeMap::new(), "x"),
            Err(Error::Unfit(_))
        ));
    }
}
