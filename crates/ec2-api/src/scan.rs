//! Walks the snapshots of an account in the order of their ids, a batch at a time, for the Describe calls.
//!
//! Filters often name the snapshots themselves; then only those are read.

use crate::error::ApiError;
use crate::lineage::Lineage;
use engine::{Engine, SnapshotView};
use std::vec;
use types::{AccountId, SnapshotId};

/// Snapshots read at a time. One with all its tags takes 80 KB at most, so a batch takes 20 MB.
const BATCH: usize = 250;

/// A walk over snapshots.
pub(crate) struct Scan<'a> {
    engine: &'a Engine,
    account: AccountId,
    candidates: Candidates,
    batch: vec::IntoIter<SnapshotView>,
    scanned: usize,
    lineage: Lineage,
}

enum Candidates {
    /// All snapshots after this id.
    After(Option<SnapshotId>),
    /// These, as far as they exist.
    Named(vec::IntoIter<SnapshotId>),
    /// No more.
    Exhausted,
}

impl<'a> Scan<'a> {
    /// Walks all snapshots of the account after this id.
    pub(crate) fn of_account(
        engine: &'a Engine,
        account: AccountId,
        after: Option<SnapshotId>,
    ) -> Scan<'a> {
        Scan::new(engine, account, Candidates::After(after))
    }

    /// Walks those snapshots that exist among the ones named by a filter's values, in the order of ids.
    pub(crate) fn of_named(
        engine: &'a Engine,
        account: AccountId,
        names: &[&str],
        after: Option<SnapshotId>,
    ) -> Scan<'a> {
        let mut ids: Vec<SnapshotId> = names
            .iter()
            .filter_map(|name| SnapshotId::parse(name))
            .collect();
        ids.retain(|&id| after.is_none_or(|after| id > after));
        ids.sort_unstable();
        ids.dedup();
        Scan::new(engine, account, Candidates::Named(ids.into_iter()))
    }

    fn new(engine: &'a Engine, account: AccountId, candidates: Candidates) -> Scan<'a> {
        Scan {
            engine,
            account,
            candidates,
            batch: Vec::new().into_iter(),
            scanned: 0,
            lineage: Lineage::Untold,
        }
    }

    /// The same walk, which looks up what is told of each batch.
    pub(crate) fn telling(self, lineage: Lineage) -> Scan<'a> {
        Scan { lineage, ..self }
    }

    /// What is told of the snapshots of the last answer's batch.
    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Snapshots answered so far.
    pub(crate) fn scanned(&self) -> usize {
        self.scanned
    }

    /// The next snapshot.
    pub(crate) async fn next(&mut self) -> Result<Option<SnapshotView>, ApiError> {
        loop {
            if let Some(view) = self.batch.next() {
                self.scanned += 1;
                return Ok(Some(view));
            }
            let batch = match &mut self.candidates {
                Candidates::Exhausted => return Ok(None),
                Candidates::After(after) => {
                    let batch = self
                        .engine
                        .snapshots_after(self.account, *after, BATCH)
                        .await?;
                    self.candidates = match batch.last() {
                        Some(last) if batch.len() >= BATCH => Candidates::After(Some(last.id)),
                        Some(_) | None => Candidates::Exhausted,
                    };
                    batch
                }
                Candidates::Named(ids) => {
                    let ids: Vec<_> = ids.take(BATCH).collect();
                    if ids.is_empty() {
                        return Ok(None);
                    }
                    self.engine.snapshots_among(self.account, &ids).await?
                }
            };
            self.lineage.look_up(self.engine, &batch).await?;
            self.batch = batch.into_iter();
        }
    }
}
