//! What nobody needs any more, and nobody will take away.
//!
//! Each row is judged in the transaction that reads it, together with its snapshot and the note of its purge. Client tokens outlive
//! their snapshots on purpose, for a day; the newest of them tells how late it is at least.

use super::findings::Flaw;
use super::{Audit, Fault, ROWS};
use catalog::audit::HeldToken;
use catalog::put_entries::Reference;
use catalog::snapshots::State;
use catalog::{DbExt, Error, Txn};
use std::collections::BTreeSet;
use types::{SnapshotId, UnixMillis, limits};

/// How long after their day client tokens without a snapshot are passed over: they are looked for every hour that the server runs.
const TOKENS_LATE_DAYS: UnixMillis = 7;

pub(super) async fn look(audit: &mut Audit) -> Result<(), Fault> {
    look_at_entries(audit).await?;
    look_at_pages(audit).await?;
    look_at_tags(audit).await?;
    look_at_tokens(audit).await
}

async fn look_at_entries(audit: &mut Audit) -> Result<(), Fault> {
    let (mut after, mut count) = (None, 0);
    loop {
        let rows = audit.db.view(move |txn| {
            Box::pin(async move {
                let rows = catalog::put_entries::entries_after(txn, after, ROWS).await?;
                let left = left(txn, &rows).await?;
                Ok((rows, left))
            })
        });
        let (rows, left) = rows.await?;
        let Some(last) = rows.last() else { break };
        after = Some((last.snapshot, last.index));
        count += rows.len() as u64;
        for row in rows.iter().filter(|row| left.contains(&row.snapshot)) {
            audit.find(Flaw::EntriesLeft, || {
                format!("block {} of {}", row.index, row.snapshot)
            });
        }
    }
    audit.saw("put entries", count);
    Ok(())
}

async fn look_at_pages(audit: &mut Audit) -> Result<(), Fault> {
    let (mut after, mut count) = (None, 0);
    loop {
        let rows = audit.db.view(move |txn| {
            Box::pin(async move {
                let rows = catalog::put_entries::pages_after(txn, after, ROWS).await?;
                let left = left(txn, &rows).await?;
                Ok((rows, left))
            })
        });
        let (rows, left) = rows.await?;
        let Some(last) = rows.last() else { break };
        after = Some((last.snapshot, last.digest));
        count += rows.len() as u64;
        for row in rows.iter().filter(|row| left.contains(&row.snapshot)) {
            audit.find(Flaw::PagesLeft, || {
                format!("page {} of {}", row.digest, row.snapshot)
            });
        }
    }
    audit.saw("listed pages", count);
    Ok(())
}

/// The snapshots of these rows that need them no more, and that no purge is noted for.
async fn left(txn: &mut dyn Txn, rows: &[Reference]) -> Result<BTreeSet<SnapshotId>, Error> {
    let mut left = BTreeSet::new();
    let done = rows.iter().filter(|row| match row.held_by {
        Some((_, State::Open | State::Sealed)) => false,
        Some((_, State::Completed | State::Failed)) | None => true,
    });
    let done: BTreeSet<SnapshotId> = done.map(|row| row.snapshot).collect();
    for snapshot in done {
        if !catalog::audit::is_to_be_purged(txn, snapshot).await? {
            left.insert(snapshot);
        }
    }
    Ok(left)
}

async fn look_at_tags(audit: &mut Audit) -> Result<(), Fault> {
    let (mut after, mut count) = (None, 0);
    loop {
        let last = after.clone();
        let tags = audit.db.view(move |txn| {
            let last = last.clone();
            Box::pin(async move { catalog::audit::tags_after(txn, last.as_ref(), ROWS).await })
        });
        let tags = tags.await?;
        let Some(last) = tags.last() else { break };
        after = Some(last.clone());
        count += tags.len() as u64;
        for tag in tags.iter().filter(|tag| !tag.held) {
            audit.find(Flaw::TagsLeft, || {
                let key = String::from_utf8_lossy(&tag.key);
                format!("{key:?} of account {} on {}", tag.account, tag.snapshot)
            });
        }
    }
    audit.saw("tags", count);
    Ok(())
}

async fn look_at_tokens(audit: &mut Audit) -> Result<(), Fault> {
    let mut newest = UnixMillis::MIN;
    let mut count = 0;
    each_token(audit, |_, token| {
        newest = newest.max(token.start_time);
        count += 1;
    })
    .await?;
    audit.saw("client tokens", count);
    let day =
        UnixMillis::try_from(limits::CLIENT_TOKEN_LIFE.as_millis()).unwrap_or(UnixMillis::MAX);
    let late = newest.saturating_sub(day.saturating_mul(1 + TOKENS_LATE_DAYS));
    each_token(audit, |audit, token| {
        if !token.held && token.start_time < late {
            audit.find(Flaw::TokensLeft, || {
                format!("of account {} for {}", token.account, token.snapshot)
            });
        }
    })
    .await
}

async fn each_token(
    audit: &mut Audit,
    mut act: impl FnMut(&mut Audit, &HeldToken),
) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let last = after.clone();
        let tokens = audit.db.view(move |txn| {
            let last = last.clone();
            Box::pin(async move { catalog::audit::tokens_after(txn, last.as_ref(), ROWS).await })
        });
        let tokens = tokens.await?;
        let Some(last) = tokens.last() else {
            return Ok(());
        };
        after = Some(last.clone());
        for token in &tokens {
            act(audit, token);
        }
    }
}
