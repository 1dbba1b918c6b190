//! What a copy is of, whether it was made before, and on what it can be based. Changes nothing.
//!
//! A counterpart is compared before it is trusted, wherever both servers say enough ([`super::compare`]); a tag alone is what anyone
//! who may tag could have written. One that does not hold the same is an error where the user named its origin, and otherwise left
//! out, with a warning. Where one of the servers says nothing of the content, as AWS, the tag is believed.

use super::compare::{Comparison, compare};
use super::counterpart::{copies, find, name, original};
use super::{CopyBase, CopyOptions, Prepared, state_name};
use crate::api::{Api, Description, SnapshotState};
use crate::{Error, SnapshotId};

/// How many ancestors are asked for: whoever copies now and then finds a copy among the last few.
const ANCESTORS_MAX: u32 = 100;

/// Looks at both ends, changing nothing.
///
/// # Errors
/// [`Error::SnapshotFailed`]: the source is not completed. [`Error::Unfit`]: the base that was asked for cannot be one.
pub async fn prepare(from: &Api, to: &Api, options: &CopyOptions) -> Result<Prepared, Error> {
    let source = described(from, &options.snapshot).await?;
    if source.state != SnapshotState::Completed {
        return Err(Error::SnapshotFailed {
            snapshot: source.id,
            state: state_name(&source.state).to_owned(),
            message: Some("only completed snapshots can be copied".to_owned()),
        });
    }
    let copy_of = name(&source, from.region());
    let made = copies(to, &copy_of).await?;
    let mut looking = Looking {
        from,
        to,
        source: &source,
        warnings: Vec::new(),
    };
    let mut existing = None;
    if !options.again
        && let Some(newest) = made.newest
    {
        if made.count > 1 {
            let text = format!(
                "there are {} copies of it; {} is the newest",
                made.count, newest.id
            );
            looking.warnings.push(text);
        }
        match compare(from, &source, to, &newest).await? {
            Comparison::Differ(how) => looking.warnings.push(format!(
                "{} says that it is a copy, and is none ({how}): another one is made",
                newest.id
            )),
            Comparison::Equal | Comparison::Unknown => existing = Some(newest.id),
        }
    }
    let parent = match (&existing, &options.base) {
        (Some(_), _) | (None, CopyBase::Nothing) => None,
        (None, CopyBase::Snapshot(parent)) => Some(looking.named(parent).await?),
        (None, CopyBase::Nearest) => looking.nearest().await?,
    };
    if let (Some((_, there)), true) = (&parent, encryption_is_said(options)) {
        return Err(Error::Unfit(format!(
            "the copy would be based on {there}, and encrypted as that is: base it on nothing, or say nothing of encryption"
        )));
    }
    let mut warnings = looking.warnings;
    if existing.is_none() && parent.is_none() && source.encrypted && options.encrypted.is_none() {
        warnings.push(format!(
            "{} is encrypted; whether its copy is, the destination decides",
            source.id
        ));
    }
    Ok(Prepared {
        source,
        existing,
        parent,
        warnings,
        copy_of,
    })
}

struct Looking<'a> {
    from: &'a Api,
    to: &'a Api,
    source: &'a Description,
    warnings: Vec<String>,
}

/// Whether a snapshot at the source has a counterpart that can be a parent.
enum Counterpart {
    Good(SnapshotId),
    None,
    /// There is one, but for this reason.
    Bad(String),
}

impl Looking<'_> {
    /// The base that the user named.
    async fn named(&mut self, parent: &SnapshotId) -> Result<(SnapshotId, SnapshotId), Error> {
        let here = described(self.from, parent).await?;
        match self.counterpart(&here).await? {
            Counterpart::Good(there) => Ok((here.id, there)),
            Counterpart::None => Err(Error::Unfit(format!(
                "{parent} has no completed copy at the destination: copy it first, or name no parent"
            ))),
            Counterpart::Bad(why) => Err(Error::Unfit(format!(
                "{why}: it cannot be what the copy is based on"
            ))),
        }
    }

    /// The nearest ancestor with a counterpart.
    async fn nearest(&mut self) -> Result<Option<(SnapshotId, SnapshotId)>, Error> {
        let mut next = parent_of(self.source);
        for _ in 0..ANCESTORS_MAX {
            let Some(id) = next else { return Ok(None) };
            let Some(here) = find(self.from, &id).await? else {
                return Ok(None);
            };
            match self.counterpart(&here).await? {
                Counterpart::Good(there) => return Ok(Some((here.id, there))),
                Counterpart::Bad(why) => self.warnings.push(format!("{why}: it is left out")),
                Counterpart::None => {}
            }
            next = parent_of(&here);
        }
        Ok(None)
    }

    async fn counterpart(&mut self, here: &Description) -> Result<Counterpart, Error> {
        let made = copies(self.to, &name(here, self.from.region())).await?;
        let there = match made.newest {
            Some(newest) => {
                if made.count > 1 {
                    self.warnings.push(format!(
                        "{} has {} copies at the destination; {} is the newest, and used",
                        here.id, made.count, newest.id
                    ));
                }
                newest
            }
            None => match original(self.to, here).await? {
                Some(original) => original,
                None => return Ok(Counterpart::None),
            },
        };
        if there.volume_size > self.source.volume_size {
            return Ok(Counterpart::Bad(format!(
                "{}, the counterpart of {}, has a larger volume than {}",
                there.id, here.id, self.source.id
            )));
        }
        Ok(match compare(self.from, here, self.to, &there).await? {
            Comparison::Equal | Comparison::Unknown => Counterpart::Good(there.id),
            Comparison::Differ(how) => Counterpart::Bad(format!(
                "{} is tagged as the counterpart of {} and holds something else ({how})",
                there.id, here.id
            )),
        })
    }
}

fn encryption_is_said(options: &CopyOptions) -> bool {
    options.encrypted.is_some() || options.kms_key_arn.is_some()
}

fn parent_of(of: &Description) -> Option<SnapshotId> {
    of.lineage.as_ref()?.parent.clone()
}

async fn described(at: &Api, id: &SnapshotId) -> Result<Description, Error> {
    find(at, id).await?.ok_or_else(|| {
        Error::Unfit(format!(
            "{id} does not exist at {}, or not for this caller",
            at.endpoint()
        ))
    })
}
