//! What must be there, may be there, and must be gone, as far as the answers of the server tell.
//!
//! A call that was answered is certain. One without an answer was done or not, and the model keeps both until a later
//! call makes one of them certain. Calls on one snapshot follow each other, except puts at different indexes.

use crate::api::Id;
use crate::content::Seed;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The blocks that reading a completed snapshot gives.
pub type Content = Arc<BTreeMap<u32, Seed>>;

/// A call that changes something.
#[derive(Clone, Debug)]
pub enum Op {
    /// Starts a snapshot.
    Start {
        /// The client token.
        token: String,
        /// The parent, a completed snapshot.
        parent: Option<Id>,
    },
    /// Puts a block.
    Put {
        /// Of this snapshot.
        id: Id,
        /// At this index.
        index: u32,
        /// With these bytes.
        seed: Seed,
    },
    /// Completes a snapshot with the count and the aggregate of all that was put.
    Complete {
        /// This one.
        id: Id,
    },
    /// Deletes a snapshot.
    Delete {
        /// This one.
        id: Id,
    },
}

/// What became of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// A start was acknowledged, with this id.
    Started(Id),
    /// There was no answer, or one that leaves it open.
    Unknown,
}

/// How far a snapshot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It takes puts.
    Open,
    /// A completion was sent and not answered.
    MaybeSealed,
    /// A completion was acknowledged: it is completed, or will be by itself.
    Sealed,
}

/// A snapshot that was started and whose deletion is not acknowledged.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The parent.
    pub parent: Option<Id>,
    /// What the parent reads as.
    pub base: Content,
    /// What may be put at each index that was put at; `None` is nothing. One item is certain.
    pub own: BTreeMap<u32, Vec<Option<Seed>>>,
    /// How far it is.
    pub stage: Stage,
    /// Whether a deletion was sent and not answered.
    pub deleting: bool,
}

impl Snapshot {
    /// The puts, when all of them are certain.
    pub fn certain(&self) -> Option<BTreeMap<u32, Seed>> {
        let certain = self.own.iter().map(|(index, values)| match values[..] {
            [Some(seed)] => Some((*index, seed)),
            _ => None,
        });
        certain.collect()
    }

    /// The indexes at which more than one thing may be put, each with the bytes that were last sent.
    pub fn uncertain(&self) -> Vec<(u32, Seed)> {
        let uncertain = self.own.iter().filter(|(_, values)| values.len() > 1);
        uncertain
            .filter_map(|(index, values)| Some((*index, (*values.last()?)?)))
            .collect()
    }

    /// What it reads as once it is completed.
    pub fn content(&self) -> Option<Content> {
        let mut all = (*self.base).clone();
        all.extend(self.certain()?);
        Some(Arc::new(all))
    }
}

/// All snapshots.
#[derive(Clone, Default, Debug)]
pub struct Model {
    /// Those that must be there, or may be.
    pub snapshots: BTreeMap<Id, Snapshot>,
    /// Those whose deletion was acknowledged.
    pub gone: BTreeSet<Id>,
    /// Starts without an answer: token and parent.
    pub unanswered: BTreeMap<String, Option<Id>>,
}

impl Model {
    /// Takes note of a call and its outcome.
    pub fn apply(&mut self, op: &Op, outcome: &Outcome) {
        match op {
            Op::Start { token, parent } => self.start(token, parent.as_ref(), outcome),
            Op::Put { id, index, seed } => {
                if let Some(snapshot) = self.snapshots.get_mut(id) {
                    let values = snapshot.own.entry(*index).or_insert_with(|| vec![None]);
                    match outcome {
                        Outcome::Unknown => values.push(Some(*seed)),
                        Outcome::Done | Outcome::Started(_) => *values = vec![Some(*seed)],
                    }
                }
            }
            Op::Complete { id } => {
                if let Some(snapshot) = self.snapshots.get_mut(id) {
                    snapshot.stage = match (outcome, snapshot.stage) {
                        (Outcome::Unknown, Stage::Open) => Stage::MaybeSealed,
                        (Outcome::Unknown, stage) => stage,
                        (Outcome::Done | Outcome::Started(_), _) => Stage::Sealed,
                    };
                }
            }
            Op::Delete { id } => match outcome {
                Outcome::Unknown => {
                    if let Some(snapshot) = self.snapshots.get_mut(id) {
                        snapshot.deleting = true;
                    }
                }
                Outcome::Done | Outcome::Started(_) => {
                    self.snapshots.remove(id);
                    self.gone.insert(id.clone());
                }
            },
        }
    }

    fn start(&mut self, token: &str, parent: Option<&Id>, outcome: &Outcome) {
        let Outcome::Started(id) = outcome else {
            self.unanswered.insert(token.to_owned(), parent.cloned());
            return;
        };
        self.unanswered.remove(token);
        let base = parent
            .and_then(|parent| self.snapshots.get(parent))
            .and_then(Snapshot::content)
            .unwrap_or_default();
        let snapshot = Snapshot {
            parent: parent.cloned(),
            base,
            own: BTreeMap::new(),
            stage: Stage::Open,
            deleting: false,
        };
        self.snapshots.insert(id.clone(), snapshot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(index: u32, seed: Seed) -> Op {
        Op::Put {
            id: "a".into(),
            index,
            seed,
        }
    }

    fn started() -> Model {
        let mut model = Model::default();
        let op = Op::Start {
            token: "t".into(),
            parent: None,
        };
        model.apply(&op, &Outcome::Started("a".into()));
        model
    }

    #[test]
    fn a_put_without_an_answer_leaves_both_until_it_is_repeated() {
        let mut model = started();
        model.apply(&put(1, 7), &Outcome::Done);
        model.apply(&put(1, 8), &Outcome::Unknown);
        model.apply(&put(2, 9), &Outcome::Unknown);
        let snapshot = &model.snapshots["a"];
        assert_eq!(snapshot.own[&1], [Some(7), Some(8)]);
        assert_eq!(snapshot.own[&2], [None, Some(9)]);
        assert_eq!(snapshot.uncertain(), [(1, 8), (2, 9)]);
        assert!(snapshot.content().is_none());
        model.apply(&put(1, 8), &Outcome::Done);
        model.apply(&put(2, 9), &Outcome::Done);
        let content = model.snapshots["a"].content().unwrap();
        assert_eq!(*content, BTreeMap::from([(1, 8), (2, 9)]));
    }

    #[test]
    fn a_child_reads_as_its_parent_and_its_own() {
        let mut model = started();
        model.apply(&put(1, 7), &Outcome::Done);
        model.apply(&put(2, 7), &Outcome::Done);
        model.apply(&Op::Complete { id: "a".into() }, &Outcome::Done);
        let start = Op::Start {
            token: "u".into(),
            parent: Some("a".into()),
        };
        model.apply(&start, &Outcome::Unknown);
        assert_eq!(model.unanswered.len(), 1);
        model.apply(&start, &Outcome::Started("b".into()));
        model.apply(&Op::Delete { id: "a".into() }, &Outcome::Done);
        let put = Op::Put {
            id: "b".into(),
            index: 2,
            seed: 0,
        };
        model.apply(&put, &Outcome::Done);
        let content = model.snapshots["b"].content().unwrap();
        assert_eq!(*content, BTreeMap::from([(1, 7), (2, 0)]));
        assert!(model.unanswered.is_empty() && model.gone.contains("a"));
    }
}
