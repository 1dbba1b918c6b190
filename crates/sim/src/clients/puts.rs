//! Calls that build a snapshot: start, put, complete.

use super::{Called, Story, accounts};
use crate::contents::Content;
use crate::dice::Dice;
use crate::model::{Map, Promise, Seen, Snapshot, Wrong};
use crate::register::{Ending, Tick};
use engine::{CompleteSnapshot, Error, SnapshotState, StartSnapshot, Tag};
use std::cell::Cell;
use std::time::Duration;
use types::{AccountId, BlockIndex, SnapshotId, VolumeSize};

impl Story<'_> {
    /// Starts a snapshot, or repeats a start that had a client token.
    pub(super) async fn start(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let again = if dice.hits(150) {
            self.pick_any(dice, |snapshot| {
                let asked_for = snapshot.gone.is_none() && snapshot.deletes == 0;
                asked_for && snapshot.request.client_token.is_some()
            })
        } else {
            None
        };
        match again {
            Some(snapshot) => self.start_call(client, snapshot.number, false).await,
            None => {
                let number = self.plan_start(dice);
                self.start_call(client, number, true).await
            }
        }
    }

    /// Calls for the start of a snapshot that the model knows of. `first` says whether nobody did before.
    pub async fn start_call(&self, client: u64, number: u32, first: bool) -> Result<Called, Wrong> {
        let request = self.model.borrow_mut().snapshot(number).request.clone();
        let answer = self.life.engine.start_snapshot(request.clone()).await;
        self.note(client, format_args!("starts {number}: {answer:?}"));
        let mut model = self.model.borrow_mut();
        let parent = request.parent.and_then(|id| model.with_id(id).cloned());
        let parent_goes = parent.as_ref().is_some_and(|parent| parent.deletes > 0);
        match answer {
            Ok(started) => {
                model.started(number, started.id)?;
                let smaller = parent.is_some_and(|p| p.request.volume_size > request.volume_size);
                if smaller {
                    return Err(format!("snapshot {number} is smaller than its parent"));
                }
                return Ok(Called::Well);
            }
            // Nothing was started, now or before.
            Err(Error::SnapshotNotFound { .. }) if parent_goes => {}
            Err(Error::ChildSmallerThanParent { size, parent }) if size < parent => {}
            Err(error) if self.excuses(&error) => {
                let unknown = !matches!(error, Error::NoSpace { .. });
                if unknown || !first {
                    return Ok(Called::Not);
                }
            }
            Err(error) => return Err(format!("start {number} failed: {error}")),
        }
        if first {
            model.snapshots.remove(&number);
        }
        Ok(Called::Not)
    }

    fn plan_start(&self, dice: &mut Dice) -> u32 {
        let suits = |snapshot: &Snapshot| snapshot.is_completed() && snapshot.map.is_some();
        let parent = if dice.hits(600) {
            self.pick(dice, suits)
        } else {
            None
        };
        let account = match &parent {
            Some(parent) => parent.account(),
            None => accounts()[dice.below(2) as usize],
        };
        let smallest = parent
            .as_ref()
            .map_or(1, |parent| parent.request.volume_size.gib());
        let gib = u64::from(smallest) + dice.below(2) - u64::from(smallest > 1 && dice.hits(50));
        let tag = |dice: &mut Dice| Tag {
            key: "made by".to_owned(),
            value: dice.below(3).to_string(),
        };
        let request = StartSnapshot {
            volume_size: VolumeSize::from_gib(gib.max(1)).expect("a small volume"),
            tags: dice.hits(200).then(|| vec![tag(dice)]),
            client_token: dice.hits(300).then(|| format!("token {}", dice.bits())),
            timeout_minutes: Some(dice.between(1, 10) as u32),
            ..start_request(account, parent.as_ref())
        };
        let number = parent.map(|parent| parent.number);
        self.model
            .borrow_mut()
            .start_called(request, number, self.at())
    }

    /// Puts a content to a block of a snapshot.
    pub(super) async fn put(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        // Now and then to one that does not take it.
        let any = dice.hits(30);
        let Some(snapshot) = self.pick(dice, |snapshot| any || snapshot.may_be_open()) else {
            return Ok(Called::Nothing);
        };
        let Some(index) = dice.pick(&self.plan.indexes).copied() else {
            return Ok(Called::Nothing);
        };
        let content = Content(dice.below(self.plan.contents + 1) as u32);
        let patience = dice.hits(60).then(|| Duration::from_millis(dice.below(12)));
        self.put_call(client, &snapshot, index, content, patience)
            .await
    }

    /// Calls for a put; a caller whose patience ends goes away.
    pub async fn put_call(
        &self,
        client: u64,
        snapshot: &Snapshot,
        index: u32,
        content: Content,
        patience: Option<Duration>,
    ) -> Result<Called, Wrong> {
        let (number, Some(id)) = (snapshot.number, snapshot.id) else {
            return Ok(Called::Nothing);
        };
        let (asked, write) = {
            let mut model = self.model.borrow_mut();
            model.sent.insert((snapshot.account(), content));
            (model.now(), model.put_called(number, index, content))
        };
        let called_at = self.at();
        let begun = Cell::new(false);
        let put = self.put_content(snapshot, id, index, content, &begun);
        let answer = match patience {
            Some(patience) => tokio::time::timeout(patience, put).await.ok(),
            None => Some(put.await),
        };
        self.note(
            client,
            format_args!("puts {content:?} to block {index} of {number}: {answer:?}"),
        );
        let ending = match answer {
            None if begun.get() => Ending::LeftAlone,
            None => Ending::NotDone,
            Some(Ok(())) => Ending::Done,
            Some(Err(error)) => self.put_refused(number, &error)?,
        };
        let mut model = self.model.borrow_mut();
        model.put_ended(number, index, write, ending);
        if ending != Ending::Done {
            return Ok(Called::Not);
        }
        let snapshot = model.snapshot(number);
        snapshot.busy_at = snapshot.busy_at.max(called_at);
        check_was_open(snapshot, asked)?;
        Ok(Called::Well)
    }

    async fn put_content(
        &self,
        snapshot: &Snapshot,
        id: SnapshotId,
        index: u32,
        content: Content,
        begun: &Cell<bool>,
    ) -> Result<(), Error> {
        let engine = &self.life.engine;
        let index = BlockIndex::new(index).expect("plans name blocks of small volumes");
        let permit = engine.admit_put(snapshot.account(), id, index).await?;
        let mut buffer = engine.buffers().take().await;
        buffer.copy_from_slice(&content.known().bytes);
        let hashed = engine.hash_block(buffer).await?;
        begun.set(true);
        engine.put_block(permit, hashed, None).await
    }

    pub(super) fn put_refused(&self, number: u32, error: &Error) -> Result<Ending, Wrong> {
        let at = self.at();
        let mut model = self.model.borrow_mut();
        let snapshot = model.snapshot(number);
        match error {
            Error::SnapshotSealed { .. } if !snapshot.promises.is_empty() => Ok(Ending::NotDone),
            Error::SnapshotNotFound { .. }
                if snapshot.deletes > 0 || snapshot.may_have_failed(at) =>
            {
                Ok(Ending::NotDone)
            }
            Error::NoSpace { .. } if self.excuses(error) => Ok(Ending::NotDone),
            error if self.excuses(error) => Ok(Ending::Unknown),
            error => Err(format!("a put to {number} failed: {error}")),
        }
    }

    /// Completes a snapshot.
    pub(super) async fn complete(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let any = dice.hits(50);
        // Rarely one without a block.
        let empty = dice.hits(100);
        let suits = |snapshot: &Snapshot| {
            any || (snapshot.may_be_open() && (empty || !snapshot.blocks.is_empty()))
        };
        let Some(snapshot) = self.pick(dice, suits) else {
            return Ok(Called::Nothing);
        };
        let promise = promise(&snapshot, dice);
        self.complete_call(client, &snapshot, promise).await
    }

    /// Calls for the completion of a snapshot.
    pub async fn complete_call(
        &self,
        client: u64,
        snapshot: &Snapshot,
        promise: Promise,
    ) -> Result<Called, Wrong> {
        let (number, Some(id)) = (snapshot.number, snapshot.id) else {
            return Ok(Called::Nothing);
        };
        let asked = {
            let mut model = self.model.borrow_mut();
            let snapshot = model.snapshot(number);
            if snapshot.sealed.is_none() {
                snapshot.promises.push(promise.clone());
            }
            model.now()
        };
        let request = CompleteSnapshot {
            account: snapshot.account(),
            id,
            changed_blocks: promise.count,
            checksum: promise.checksum,
        };
        let answer = self.life.engine.complete_snapshot(request).await;
        self.note(client, format_args!("completes {number}: {answer:?}"));
        let at = self.at();
        let mut model = self.model.borrow_mut();
        let now = model.now();
        let snapshot = model.snapshot(number);
        match answer {
            Ok(state) => {
                if snapshot.gone.is_some_and(|gone| gone < asked) {
                    return Err(format!("snapshot {number} was completed after it was gone"));
                }
                match state {
                    SnapshotState::Pending | SnapshotState::Completed => {
                        snapshot.sealed.get_or_insert(now);
                        Ok(Called::Well)
                    }
                    SnapshotState::Error if snapshot.may_have_failed(at) => Ok(Called::Not),
                    SnapshotState::Error => Err(format!("snapshot {number} failed for no reason")),
                }
            }
            Err(Error::SnapshotNotFound { .. }) if snapshot.deletes > 0 => Ok(Called::Not),
            Err(error) if self.excuses(&error) => Ok(Called::Not),
            Err(error) => Err(format!("completing {number} failed: {error}")),
        }
    }
}

/// A start of the usual kind.
pub fn start_request(account: AccountId, parent: Option<&Snapshot>) -> StartSnapshot {
    let gib = parent.map_or(1, |parent| parent.request.volume_size.gib());
    StartSnapshot {
        account,
        volume_size: VolumeSize::from_gib(u64::from(gib)).expect("the size of a volume"),
        parent: parent.and_then(|parent| parent.id),
        tags: None,
        description: None,
        client_token: None,
        timeout_minutes: Some(60),
        encrypted: None,
    }
}

/// What a client that knows what it has put promises; sometimes one that does not.
fn promise(snapshot: &Snapshot, dice: &mut Dice) -> Promise {
    let mut promise = Snapshot::promise_of(&believed(snapshot));
    match dice.below(20) {
        0 => promise.count += 1,
        1 => promise.checksum = Some(vec![0; 32]),
        2..=5 => promise.checksum = None,
        _ => {}
    }
    promise
}

/// The entries as a client that has put them all would have them.
pub fn believed(snapshot: &Snapshot) -> Map {
    let blocks = snapshot.blocks.iter();
    let last = |(index, register): (&u32, &crate::register::Register<Content>)| {
        Some((*index, register.possible().into_iter().flatten().last()?))
    };
    blocks.filter_map(last).collect()
}

/// A put that was acknowledged cannot have been called after its snapshot took no more.
pub(super) fn check_was_open(snapshot: &Snapshot, asked: Tick) -> Result<(), Wrong> {
    let number = snapshot.number;
    if snapshot.sealed.is_some_and(|sealed| sealed < asked) {
        return Err(format!("a put to {number} was taken after it was sealed"));
    }
    if snapshot.gone.is_some_and(|gone| gone < asked) {
        return Err(format!("a put to {number} was taken after it was gone"));
    }
    if snapshot.seen != Seen::Pending && snapshot.seen_at < asked {
        let seen = &snapshot.seen;
        return Err(format!("a put to {number} was taken when it was {seen:?}"));
    }
    Ok(())
}
