//! Calls that look: get, list, diff, describe.

use super::{Called, Story, accounts};
use crate::contents::Content;
use crate::dice::Dice;
use crate::model::{Map, Snapshot, Wrong};
use engine::{Error, SnapshotState};
use types::{AccountId, BlockIndex, Digest};

impl Story<'_> {
    pub(super) async fn get(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let suits = |snapshot: &Snapshot| snapshot.is_completed() && snapshot.map.is_some();
        let Some(snapshot) = self.pick(dice, suits) else {
            return Ok(Called::Nothing);
        };
        let blocks: Vec<_> = snapshot.map.iter().flat_map(|map| map.iter()).collect();
        let Some((index, content)) = dice.pick(&blocks).copied() else {
            return Ok(Called::Nothing);
        };
        let read = self.read(&snapshot, *index, *content).await;
        let outcome = read.as_ref().map_err(ToString::to_string);
        self.note(
            client,
            format_args!("gets block {index} of {}: {outcome:?}", snapshot.number),
        );
        match read {
            Ok(true) => Ok(Called::Well),
            Ok(false) => Err(format!(
                "block {index} of {} has other bytes",
                snapshot.number
            )),
            Err(error) => self.look_refused(snapshot.number, &error),
        }
    }

    /// Reads a block; whether it is this content.
    pub async fn read(
        &self,
        snapshot: &Snapshot,
        index: u32,
        content: Content,
    ) -> Result<bool, Error> {
        let id = snapshot.id.expect("only snapshots with an id are picked");
        let index = BlockIndex::new(index).expect("maps name blocks of small volumes");
        let known = content.known();
        let engine = &self.life.engine;
        let bytes = engine
            .get_block(snapshot.account(), id, index, known.digest)
            .await?;
        Ok(*bytes == *known.bytes)
    }

    fn look_refused(&self, number: u32, error: &Error) -> Result<Called, Wrong> {
        let mut model = self.model.borrow_mut();
        let snapshot = model.snapshot(number);
        match error {
            Error::SnapshotNotFound { .. } if snapshot.deletes > 0 => Ok(Called::Not),
            error if self.excuses(error) => Ok(Called::Not),
            error => Err(format!("reading {number} failed: {error}")),
        }
    }

    pub(super) async fn list(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let Some(snapshot) = self.pick(dice, |snapshot| snapshot.gone.is_none()) else {
            return Ok(Called::Nothing);
        };
        let limit = [1, 2, 5, 1_000][dice.below(4) as usize];
        let listed = self.look_at(&snapshot, limit).await;
        self.note(
            client,
            format_args!("lists {}: {listed:?}", snapshot.number),
        );
        match listed? {
            Ok(()) => Ok(Called::Well),
            Err(error) => self.look_refused(snapshot.number, &error),
        }
    }

    /// Looks at the snapshot's state, and at its map when it is completed. The inner error is the engine's.
    pub async fn look_at(
        &self,
        snapshot: &Snapshot,
        limit: usize,
    ) -> Result<Result<(), Error>, Wrong> {
        let (number, account) = (snapshot.number, snapshot.account());
        let id = snapshot.id.expect("only snapshots with an id are picked");
        let asked = self.model.borrow_mut().now();
        let views = match self.life.engine.snapshots_by_id(account, &[id]).await {
            Ok(views) => views,
            Err(Error::SnapshotNotFound { .. }) => {
                self.model.borrow_mut().seen_absent(number, asked)?;
                return Ok(Ok(()));
            }
            Err(error) => return Ok(Err(error)),
        };
        let Some(view) = views.first() else {
            return Err(format!("{number} was asked for, and nothing answered"));
        };
        self.model.borrow_mut().seen(view, asked, self.at())?;
        if view.state != SnapshotState::Completed {
            return Ok(Ok(()));
        }
        let blocks = match self.blocks(account, snapshot, limit).await {
            Ok(blocks) => blocks,
            Err(error) => return Ok(Err(error)),
        };
        if view.full_block_count != Some(blocks.len() as u64) {
            let counted = view.full_block_count;
            return Err(format!(
                "{number} has {} blocks, and says {counted:?}",
                blocks.len()
            ));
        }
        self.model.borrow_mut().seen_map(number, &blocks)?;
        Ok(Ok(()))
    }

    async fn blocks(
        &self,
        account: AccountId,
        snapshot: &Snapshot,
        limit: usize,
    ) -> Result<Vec<(u32, Digest)>, Error> {
        let id = snapshot.id.expect("only snapshots with an id are picked");
        let (mut blocks, mut from) = (Vec::new(), Some(BlockIndex::ZERO));
        while let Some(start) = from {
            let list = self
                .life
                .engine
                .list_blocks(account, id, start, limit)
                .await?;
            blocks.extend(
                list.blocks
                    .iter()
                    .map(|(index, digest)| (index.get(), *digest)),
            );
            from = list.next;
        }
        Ok(blocks)
    }

    pub(super) async fn diff(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let suits = |snapshot: &Snapshot| snapshot.is_completed() && snapshot.map.is_some();
        let (Some(first), Some(second)) = (self.pick(dice, suits), self.pick(dice, suits)) else {
            return Ok(Called::Nothing);
        };
        if first.account() != second.account() {
            return Ok(Called::Nothing);
        }
        let limit = [1, 3, 1_000][dice.below(3) as usize];
        let found = self.changes(&first, &second, limit).await;
        let (a, b) = (first.number, second.number);
        let outcome = found.as_ref().map(Vec::len);
        self.note(client, format_args!("compares {a} and {b}: {outcome:?}"));
        let related = first.lineage == second.lineage;
        match found {
            Ok(found) if related && found == expected_changes(&first, &second) => Ok(Called::Well),
            Ok(found) => Err(format!(
                "{a} and {b} differ by {found:?}, related: {related}"
            )),
            Err(Error::Unrelated { .. }) if !related => Ok(Called::Not),
            Err(error) => {
                let gone = first.number;
                self.look_refused(gone, &error)
                    .or_else(|_| self.look_refused(b, &error))
            }
        }
    }

    async fn changes(
        &self,
        first: &Snapshot,
        second: &Snapshot,
        limit: usize,
    ) -> Result<Changes, Error> {
        let id = |snapshot: &Snapshot| snapshot.id.expect("only snapshots with an id are picked");
        let (mut changes, mut from) = (Vec::new(), Some(BlockIndex::ZERO));
        while let Some(start) = from {
            let (a, b) = (id(first), id(second));
            let list = self
                .life
                .engine
                .list_changed_blocks(first.account(), a, b, start, limit)
                .await?;
            let found = list.changed.iter();
            changes.extend(found.map(|change| (change.index.get(), change.first, change.second)));
            from = list.next;
        }
        Ok(changes)
    }

    pub(super) async fn describe(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let account = accounts()[dice.below(2) as usize];
        let limit = [2, 7, 1_000][dice.below(3) as usize];
        let described = self.describe_all(account, limit).await;
        self.note(
            client,
            format_args!("describes the snapshots of {account}: {described:?}"),
        );
        match described? {
            Ok(_) => Ok(Called::Well),
            Err(error) if self.excuses(&error) => Ok(Called::Not),
            Err(error) => Err(format!("describing failed: {error}")),
        }
    }

    /// Looks at all snapshots of the account; answers how many. The inner error is the engine's.
    pub async fn describe_all(
        &self,
        account: AccountId,
        limit: usize,
    ) -> Result<Result<u64, Error>, Wrong> {
        let asked = self.model.borrow_mut().now();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let views = match self
                .life
                .engine
                .snapshots_after(account, after, limit)
                .await
            {
                Ok(views) => views,
                Err(error) => return Ok(Err(error)),
            };
            let mut model = self.model.borrow_mut();
            for view in &views {
                seen.push(model.seen(view, asked, self.at())?);
            }
            after = views.last().map(|view| view.id);
            if views.len() < limit {
                break;
            }
        }
        let mut model = self.model.borrow_mut();
        let absent: Vec<_> = model
            .snapshots
            .values()
            .filter(|snapshot| snapshot.account() == account && snapshot.gone.is_none())
            .map(|snapshot| snapshot.number)
            .filter(|number| !seen.contains(number))
            .collect();
        for number in absent {
            model.seen_absent(number, asked)?;
        }
        Ok(Ok(seen.len() as u64))
    }
}

type Changes = Vec<(u32, Option<Digest>, Option<Digest>)>;

fn expected_changes(first: &Snapshot, second: &Snapshot) -> Changes {
    let empty = Map::new();
    let [a, b] = [first, second].map(|snapshot| snapshot.map.as_deref().unwrap_or(&empty));
    let mut indexes: Vec<_> = a.keys().chain(b.keys()).copied().collect();
    indexes.sort_unstable();
    indexes.dedup();
    let digest = |map: &Map, index: u32| map.get(&index).copied().map(Content::digest);
    indexes
        .into_iter()
        .map(|index| (index, digest(a, index), digest(b, index)))
        .filter(|(_, a, b)| a != b)
        .collect()
}
