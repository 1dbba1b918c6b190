//! The truth, in memory: what a store that never fails would hold after the same calls.
//!
//! A call that was not acknowledged may or may not have happened; the model keeps both until somebody looks. What was seen once is
//! the truth from then on: a completed map never changes, what is gone stays gone.

use crate::contents::Content;
use crate::register::{Ending, Register, Tick};
use engine::{SnapshotState, SnapshotView, StartSnapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use types::{AccountId, Digest, DigestContext, SnapshotId};

/// A block map: block index → content.
pub type Map = BTreeMap<u32, Content>;

/// What a check says that must not be.
pub type Wrong = String;

/// What a client promised when it completed a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise {
    /// Number of blocks.
    pub count: u64,
    /// Aggregate of their digests.
    pub checksum: Option<Vec<u8>>,
}

/// How a pending snapshot was seen to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Not yet.
    Pending,
    /// It can be read.
    Completed,
    /// It failed, for this reason.
    Failed(String),
}

/// One snapshot that a client asked for.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number in this story; its description says it.
    pub number: u32,
    /// How it was asked for.
    pub request: StartSnapshot,
    /// Its id, once somebody was told.
    pub id: Option<SnapshotId>,
    /// When it was certain to be there; before, its start may still happen, or never.
    pub started: Option<Tick>,
    /// The first snapshot of its lineage.
    pub lineage: u32,
    /// What it was based on.
    pub base: Arc<Map>,
    /// Its put entries.
    pub blocks: BTreeMap<u32, Register<Content>>,
    /// Its tags.
    pub tags: BTreeMap<String, Register<String>>,
    /// When a change of its tags was last called or answered.
    pub tags_moved: Tick,
    /// Promises that may be the one in its record.
    pub promises: Vec<Promise>,
    /// When a complete was first acknowledged.
    pub sealed: Option<Tick>,
    /// How it ended.
    pub seen: Seen,
    /// When that was seen first.
    pub seen_at: Tick,
    /// Deletes called, whatever became of them.
    pub deletes: u32,
    /// When it was certain to be gone.
    pub gone: Option<Tick>,
    /// What it holds, once it was completed and read.
    pub map: Option<Arc<Map>>,
    /// When the last put that was acknowledged was called, or the start: it cannot time out earlier than its timeout after this.
    pub busy_at: Duration,
}

impl Snapshot {
    /// The owner.
    pub fn account(&self) -> AccountId {
        self.request.account
    }

    /// Whether puts may be tried: nobody knows that they would be refused.
    pub fn may_be_open(&self) -> bool {
        self.gone.is_none() && self.seen == Seen::Pending && self.sealed.is_none()
    }

    /// Whether it was completed, and is not known to be gone.
    pub fn is_completed(&self) -> bool {
        self.gone.is_none() && self.seen == Seen::Completed
    }

    /// Whether it may have failed by now.
    pub fn may_have_failed(&self, at: Duration) -> bool {
        let failed = matches!(self.seen, Seen::Failed(_));
        failed || at >= self.times_out_at() || self.may_break_promise()
    }

    /// It does not time out earlier.
    fn times_out_at(&self) -> Duration {
        let minutes = self.request.timeout_minutes.unwrap_or_default();
        self.busy_at + Duration::from_secs(60 * u64::from(minutes))
    }

    /// The put entries, if there is only one possibility.
    pub fn certain_entries(&self) -> Option<Map> {
        let mut entries = Map::new();
        for (index, register) in &self.blocks {
            if let Some(content) = register.certain()? {
                entries.insert(*index, content);
            }
        }
        Some(entries)
    }

    /// The right promise for these entries.
    pub fn promise_of(entries: &Map) -> Promise {
        let mut aggregate = DigestContext::new();
        for content in entries.values() {
            aggregate.update(content.digest().as_bytes());
        }
        Promise {
            count: entries.len() as u64,
            checksum: Some(aggregate.finish().as_bytes().to_vec()),
        }
    }

    /// Whether some promise holds for the entries, as far as both are certain.
    fn may_complete(&self) -> bool {
        let Some(entries) = self.certain_entries() else {
            return !self.promises.is_empty();
        };
        self.promises.iter().any(|promise| holds(promise, &entries))
    }

    /// Whether some promise does not hold, as far as both are certain.
    fn may_break_promise(&self) -> bool {
        let Some(entries) = self.certain_entries() else {
            return !self.promises.is_empty();
        };
        !self.promises.iter().all(|promise| holds(promise, &entries))
    }

    /// What a block may hold in the merged view.
    fn possible_at(&self, index: u32) -> Vec<Option<Content>> {
        let base = self.base.get(&index).copied();
        match self.blocks.get(&index) {
            None => vec![base],
            Some(register) => {
                let possible = register.possible().into_iter();
                possible.map(|content| content.or(base)).collect()
            }
        }
    }
}

fn holds(promise: &Promise, entries: &Map) -> bool {
    let right = Snapshot::promise_of(entries);
    let checksum_holds = promise.checksum.is_none() || promise.checksum == right.checksum;
    promise.count == right.count && checksum_holds
}

/// All snapshots of the story.
#[derive(Default)]
pub struct Model {
    /// By number.
    pub snapshots: BTreeMap<u32, Snapshot>,
    /// What each account has ever sent: nothing else may be found by its digest.
    pub sent: BTreeSet<(AccountId, Content)>,
    numbered: u32,
    tick: Tick,
}

impl Model {
    /// A point after all that came before.
    pub fn now(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    /// The snapshot of this number.
    ///
    /// # Panics
    /// When there is none: numbers come from here.
    pub fn snapshot(&mut self, number: u32) -> &mut Snapshot {
        self.snapshots
            .get_mut(&number)
            .expect("snapshots stay in the model")
    }

    /// The snapshot with this id.
    pub fn with_id(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.snapshots
            .values()
            .find(|snapshot| snapshot.id == Some(id))
    }

    /// A start is called.
    pub fn start_called(
        &mut self,
        request: StartSnapshot,
        parent: Option<u32>,
        at: Duration,
    ) -> u32 {
        self.numbered += 1;
        let number = self.numbered;
        let parent = parent.and_then(|parent| self.snapshots.get(&parent));
        let base = parent.and_then(|parent| parent.map.clone());
        let lineage = parent.map_or(number, |parent| parent.lineage);
        let mut tags = BTreeMap::<_, Register<String>>::new();
        let now = self.now();
        for tag in request.tags.iter().flatten() {
            tags.entry(tag.key.clone())
                .or_default()
                .pin(Some(tag.value.clone()), now);
        }
        let request = StartSnapshot {
            description: Some(description(number)),
            ..request
        };
        let snapshot = Snapshot {
            number,
            request,
            id: None,
            started: None,
            lineage,
            base: base.unwrap_or_default(),
            blocks: BTreeMap::new(),
            tags,
            tags_moved: now,
            promises: Vec::new(),
            sealed: None,
            seen: Seen::Pending,
            seen_at: now,
            deletes: 0,
            gone: None,
            map: None,
            busy_at: at,
        };
        self.snapshots.insert(number, snapshot);
        number
    }

    /// A start was acknowledged with this id.
    pub fn started(&mut self, number: u32, id: SnapshotId) -> Result<(), Wrong> {
        let now = self.now();
        let snapshot = self.snapshot(number);
        snapshot.started.get_or_insert(now);
        match snapshot.id.replace(id) {
            Some(before) if before != id => Err(format!(
                "start {number} was answered {before}, and then {id} for the same client token"
            )),
            _ => Ok(()),
        }
    }

    /// The life has ended: nothing that was called before happens any more.
    pub fn life_ended(&mut self) {
        let now = self.now();
        for snapshot in self.snapshots.values_mut() {
            snapshot
                .blocks
                .values_mut()
                .for_each(|register| register.life_ended(now));
            snapshot
                .tags
                .values_mut()
                .for_each(|register| register.life_ended(now));
        }
    }

    /// A completed snapshot of the account that has the content, and that nobody has tried to delete.
    pub fn holder(&self, account: AccountId, content: Content) -> Option<u32> {
        let holds = |snapshot: &&Snapshot| {
            let mut map = snapshot.map.iter().flat_map(|map| map.values());
            let own = snapshot.account() == account && snapshot.is_completed();
            own && snapshot.deletes == 0 && map.any(|held| *held == content)
        };
        self.snapshots
            .values()
            .find(holds)
            .map(|holder| holder.number)
    }

    /// A put is called; answers the number of its write.
    pub fn put_called(&mut self, number: u32, index: u32, content: Content) -> u64 {
        let now = self.now();
        let registers = &mut self.snapshot(number).blocks;
        registers
            .entry(index)
            .or_default()
            .begin(Some(content), now)
    }

    /// Ends a put.
    pub fn put_ended(&mut self, number: u32, index: u32, write: u64, ending: Ending) {
        let now = self.now();
        if let Some(register) = self.snapshot(number).blocks.get_mut(&index) {
            register.end(write, ending, now);
        }
    }

    /// A tag is set, or deleted, by a call; answers the number of its write.
    pub fn tag_called(&mut self, number: u32, key: &str, value: Option<String>) -> u64 {
        let now = self.now();
        let snapshot = self.snapshot(number);
        snapshot.tags_moved = now;
        snapshot
            .tags
            .entry(key.to_owned())
            .or_default()
            .begin(value, now)
    }

    /// Ends a change of a tag.
    pub fn tag_ended(&mut self, number: u32, key: &str, write: u64, ending: Ending) {
        let now = self.now();
        let snapshot = self.snapshot(number);
        snapshot.tags_moved = now;
        if let Some(register) = snapshot.tags.get_mut(key) {
            register.end(write, ending, now);
        }
    }

    /// The snapshot with this number was not there in an answer to a question that was asked at `asked`.
    pub fn seen_absent(&mut self, number: u32, asked: Tick) -> Result<(), Wrong> {
        let now = self.now();
        let snapshot = self.snapshot(number);
        // One that is still being started may appear later.
        if snapshot.started.is_none_or(|started| started > asked) {
            return Ok(());
        }
        if snapshot.deletes == 0 {
            let id = snapshot.id;
            return Err(format!(
                "snapshot {number} ({id:?}) is gone, and nobody deleted it"
            ));
        }
        snapshot.gone.get_or_insert(now);
        Ok(())
    }

    /// The snapshot was seen, in an answer to a question that was asked at `asked`, when the clock showed `at`.
    pub fn seen(&mut self, view: &SnapshotView, asked: Tick, at: Duration) -> Result<u32, Wrong> {
        let number = number_of(view).filter(|number| self.snapshots.contains_key(number));
        let number = number.ok_or_else(|| format!("nobody started {view:?}"))?;
        self.started(number, view.id)?;
        let snapshot = self.snapshot(number);
        if snapshot.gone.is_some_and(|gone| gone < asked) {
            return Err(format!(
                "snapshot {number} ({}) was gone, and is there again",
                view.id
            ));
        }
        let request = &snapshot.request;
        if (view.account, view.volume_size) != (request.account, request.volume_size) {
            return Err(format!(
                "snapshot {number} is not as it was started: {view:?}"
            ));
        }
        // A change that was called since may be in the answer, or not.
        if snapshot.tags_moved < asked {
            check_tags(snapshot, view)?;
        }
        self.seen_state(number, view, asked, at)?;
        Ok(number)
    }

    fn seen_state(
        &mut self,
        number: u32,
        view: &SnapshotView,
        asked: Tick,
        at: Duration,
    ) -> Result<(), Wrong> {
        let now = self.now();
        let snapshot = self.snapshot(number);
        let message = view.status_message.clone().unwrap_or_default();
        let seen = match view.state {
            SnapshotState::Pending => Seen::Pending,
            SnapshotState::Completed => Seen::Completed,
            SnapshotState::Error => Seen::Failed(message.clone()),
        };
        if snapshot.seen == seen {
            return Ok(());
        }
        if seen == Seen::Pending && asked <= snapshot.seen_at {
            return Ok(());
        }
        if snapshot.seen != Seen::Pending {
            return Err(format!(
                "snapshot {number} was {:?} and is now {seen:?}",
                snapshot.seen
            ));
        }
        match &seen {
            Seen::Pending => {}
            Seen::Completed if !snapshot.may_complete() => {
                let (entries, promises) = (snapshot.certain_entries(), &snapshot.promises);
                return Err(format!(
                    "snapshot {number} completed with {promises:?}, and its entries are {entries:?}"
                ));
            }
            Seen::Completed => {}
            Seen::Failed(_) if message == "Snapshot timed out" => {
                let due = snapshot.times_out_at();
                if snapshot.sealed.is_some() || at < due {
                    return Err(format!(
                        "snapshot {number} timed out at {at:?}, due at {due:?}"
                    ));
                }
            }
            Seen::Failed(_) if !snapshot.may_break_promise() => {
                return Err(format!(
                    "snapshot {number} failed with right promises: {message}"
                ));
            }
            Seen::Failed(_) => {}
        }
        (snapshot.seen, snapshot.seen_at) = (seen, now);
        Ok(())
    }

    /// The whole list of a completed snapshot's blocks was read.
    pub fn seen_map(&mut self, number: u32, blocks: &[(u32, Digest)]) -> Result<(), Wrong> {
        let snapshot = self.snapshot(number);
        if let Some(map) = &snapshot.map {
            let known: Vec<_> = map
                .iter()
                .map(|(index, content)| (*index, content.digest()))
                .collect();
            return if known == blocks {
                Ok(())
            } else {
                Err(format!("the map of snapshot {number} has changed"))
            };
        }
        let mut map = Map::new();
        let listed: BTreeMap<u32, Digest> = blocks.iter().copied().collect();
        let indexes = listed
            .keys()
            .chain(snapshot.blocks.keys())
            .chain(snapshot.base.keys());
        for index in indexes {
            let digest = listed.get(index).copied();
            let possible = snapshot.possible_at(*index);
            let found = possible
                .iter()
                .find(|content| content.map(Content::digest) == digest);
            match found {
                Some(Some(content)) => {
                    map.insert(*index, *content);
                }
                Some(None) => {}
                None => {
                    return Err(format!(
                        "block {index} of snapshot {number} is {digest:?}, and may only be {possible:?}"
                    ));
                }
            }
        }
        snapshot.map = Some(Arc::new(map));
        Ok(())
    }
}

fn check_tags(snapshot: &Snapshot, view: &SnapshotView) -> Result<(), Wrong> {
    let number = snapshot.number;
    for tag in &view.tags {
        let known = snapshot.tags.get(&tag.key);
        if !known.is_some_and(|known| known.possible().contains(&Some(tag.value.clone()))) {
            return Err(format!("nobody gave snapshot {number} the tag {tag:?}"));
        }
    }
    for (key, register) in &snapshot.tags {
        let there = view.tags.iter().any(|tag| tag.key == *key);
        if !there && !register.possible().contains(&None) {
            return Err(format!("snapshot {number} has lost its tag {key}"));
        }
    }
    Ok(())
}

/// The description that says a snapshot's number.
pub fn description(number: u32) -> String {
    format!("snapshot {number}")
}

fn number_of(view: &SnapshotView) -> Option<u32> {
    view.description
        .as_ref()?
        .strip_prefix("snapshot ")?
        .parse()
        .ok()
}
