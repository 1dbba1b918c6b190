//! What must be true when a life begins, and in the end.
//!
//! - Every snapshot that was acknowledged is there, in a state that its calls allow; nothing else is.
//! - Every completed map is the one that was seen before, or one that the acknowledged puts allow; every block reads byte for byte.
//! - Put entries of snapshots that still take puts are those that the acknowledged puts allow.
//!
//! What was unknown is resolved here, by looking: nothing is under way that could still change it.

use crate::clients::{Story, accounts};
use crate::contents::Content;
use crate::model::{Seen, Snapshot, Wrong};
use crate::plan::Trouble;
use crate::register::Register;
use catalog::DbExt;
use catalog::snapshots::State;
use engine::Error;
use std::collections::{BTreeMap, BTreeSet};
use types::{BlockIndex, Digest, SnapshotId};

/// What the catalog says of a snapshot that is not completed.
type Record = Option<(State, Vec<(BlockIndex, Digest)>)>;

impl Story<'_> {
    /// Looks at everything. While it does, no faults come by chance.
    pub async fn check_everything(&self) -> Result<(), Wrong> {
        self.life.calm();
        let checked = self.look_at_everything().await;
        self.life.trouble();
        checked
    }

    async fn look_at_everything(&self) -> Result<(), Wrong> {
        for account in accounts() {
            let described = self.describe_all(account, 5).await?;
            self.must(described, "describing").await?;
        }
        self.resolve_starts_and_deletes();
        let ids: Vec<_> = {
            let model = self.model.borrow();
            let there = model
                .snapshots
                .values()
                .filter(|snapshot| snapshot.gone.is_none());
            there.map(|snapshot| snapshot.number).collect()
        };
        for number in ids {
            self.check_entries(number).await?;
            let snapshot = self.model.borrow_mut().snapshot(number).clone();
            let looked = self.look_at(&snapshot, 1_000).await?;
            self.must(looked, "looking").await?;
        }
        self.read_contents().await
    }

    /// With no faults, a look must succeed, unless the life is over: then nothing can be said.
    async fn must<T>(&self, answer: Result<T, Error>, what: &str) -> Result<(), Wrong> {
        match answer {
            Ok(_) => Ok(()),
            Err(_) if self.life.has_broken() => std::future::pending().await,
            Err(Error::BlockDamaged { .. } | Error::MapDamaged { .. })
                if self.plan.trouble == Trouble::Rot =>
            {
                Ok(())
            }
            Err(error) => Err(format!("{what} failed without a fault: {error}")),
        }
    }

    /// Nothing is under way: what is not there was never started, what is there was not deleted.
    fn resolve_starts_and_deletes(&self) {
        let mut model = self.model.borrow_mut();
        let now = model.now();
        for snapshot in model.snapshots.values_mut() {
            if snapshot.started.is_none() {
                snapshot.gone.get_or_insert(now);
            }
            if snapshot.gone.is_none() {
                snapshot.deletes = 0;
            }
        }
    }

    /// The put entries of a snapshot that is open or sealed, as the catalog has them.
    async fn check_entries(&self, number: u32) -> Result<(), Wrong> {
        let Some(id) = self.model.borrow_mut().snapshot(number).id else {
            return Ok(());
        };
        let record = match record(self, id).await {
            Ok(record) => record,
            Err(error) => {
                let error = Error::Unavailable {
                    reason: error.to_string(),
                };
                return self.must(Err::<(), _>(error), "reading put entries").await;
            }
        };
        let mut model = self.model.borrow_mut();
        let now = model.now();
        let snapshot = model.snapshot(number);
        let Some((state, entries)) = record else {
            return Ok(());
        };
        match state {
            State::Open if snapshot.sealed.is_some() => {
                return Err(format!("snapshot {number} was sealed and takes puts again"));
            }
            State::Open => snapshot.promises.clear(),
            State::Sealed => {
                snapshot.sealed.get_or_insert(now);
            }
            State::Completed | State::Failed => return Ok(()),
        }
        pin_entries(snapshot, &entries, now)
    }

    /// Reads every content that a completed snapshot holds, once for each domain it may be in.
    async fn read_contents(&self) -> Result<(), Wrong> {
        let mut wanted: BTreeMap<(u64, Content), (Snapshot, u32)> = BTreeMap::new();
        for snapshot in self
            .model
            .borrow()
            .snapshots
            .values()
            .filter(|one| one.is_completed())
        {
            for (index, content) in snapshot.map.iter().flat_map(|map| map.iter()) {
                let key = (snapshot.account().number(), *content);
                wanted
                    .entry(key)
                    .or_insert_with(|| (snapshot.clone(), *index));
            }
        }
        for ((_, content), (snapshot, index)) in wanted {
            let read = self.read(&snapshot, index, content).await;
            if matches!(read, Ok(false)) {
                let number = snapshot.number;
                return Err(format!(
                    "block {index} of snapshot {number} has other bytes"
                ));
            }
            self.must(read, "reading a block").await?;
        }
        Ok(())
    }

    /// After a long time without faults: everything that was sealed has come to its end.
    pub fn check_all_settled(&self) -> Result<(), Wrong> {
        if self.plan.trouble == Trouble::Rot {
            return Ok(());
        }
        let model = self.model.borrow();
        let waiting = model.snapshots.values().find(|snapshot| {
            snapshot.sealed.is_some() && snapshot.gone.is_none() && snapshot.seen == Seen::Pending
        });
        match waiting {
            Some(snapshot) => Err(format!(
                "snapshot {} was sealed and is never finished",
                snapshot.number
            )),
            None => Ok(()),
        }
    }
}

async fn record(story: &Story<'_>, id: SnapshotId) -> Result<Record, catalog::Error> {
    let read = story.life.slow_db.view(move |txn| {
        Box::pin(async move {
            let Some(record) = catalog::snapshots::get(txn, id).await? else {
                return Ok(None);
            };
            let entries = catalog::put_entries::range(txn, id, BlockIndex::ZERO, 10_000).await?;
            Ok(Some((record.state, entries)))
        })
    });
    read.await
}

fn pin_entries(
    snapshot: &mut Snapshot,
    entries: &[(BlockIndex, Digest)],
    now: u64,
) -> Result<(), Wrong> {
    let number = snapshot.number;
    let entries: BTreeMap<u32, Digest> = entries
        .iter()
        .map(|(index, digest)| (index.get(), *digest))
        .collect();
    let indexes: BTreeSet<u32> = entries
        .keys()
        .chain(snapshot.blocks.keys())
        .copied()
        .collect();
    for index in indexes {
        let register: &mut Register<Content> = snapshot.blocks.entry(index).or_default();
        let digest = entries.get(&index).copied();
        let possible = register.possible();
        let found = possible
            .iter()
            .find(|content| content.map(Content::digest) == digest);
        let Some(found) = found.copied() else {
            return Err(format!(
                "the entry of block {index} of snapshot {number} is {digest:?}, and may only be {possible:?}"
            ));
        };
        register.pin(found, now);
    }
    Ok(())
}
