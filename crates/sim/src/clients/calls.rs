//! Calls that change what there is, and those of operators: delete, tags, waiting, collection, scrub, audit.

use super::{Called, Story};
use crate::dice::Dice;
use crate::model::{Snapshot, Wrong};
use crate::plan::Trouble;
use crate::register::Ending;
use engine::{
    AuditDepth, AuditOptions, CollectMode, Error, Finding, ScrubOptions, Tag, TagSelector, audit,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const KEYS: [&str; 3] = ["name", "made by", "age"];

impl Story<'_> {
    pub(super) async fn delete(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        match self.pick(dice, |snapshot| snapshot.gone.is_none()) {
            Some(snapshot) => self.delete_call(client, &snapshot).await,
            None => Ok(Called::Nothing),
        }
    }

    /// Calls for the deletion of a snapshot.
    pub async fn delete_call(&self, client: u64, snapshot: &Snapshot) -> Result<Called, Wrong> {
        let (number, Some(id)) = (snapshot.number, snapshot.id) else {
            return Ok(Called::Nothing);
        };
        self.model.borrow_mut().snapshot(number).deletes += 1;
        let answer = self
            .life
            .engine
            .delete_snapshot(snapshot.account(), id)
            .await;
        self.note(client, format_args!("deletes {number}: {answer:?}"));
        let mut model = self.model.borrow_mut();
        let now = model.now();
        let snapshot = model.snapshot(number);
        match answer {
            Ok(()) => {
                snapshot.gone.get_or_insert(now);
                Ok(Called::Well)
            }
            Err(Error::SnapshotNotFound { .. }) if snapshot.deletes > 1 => {
                snapshot.gone.get_or_insert(now);
                Ok(Called::Not)
            }
            Err(error) if self.excuses(&error) => Ok(Called::Not),
            Err(error) => Err(format!("deleting {number} failed: {error}")),
        }
    }

    pub(super) async fn tag(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let key = KEYS[dice.below(3) as usize];
        let value = dice.below(4).to_string();
        self.change_any_tag(client, dice, key, Some(value)).await
    }

    pub(super) async fn untag(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let key = KEYS[dice.below(3) as usize];
        self.change_any_tag(client, dice, key, None).await
    }

    async fn change_any_tag(
        &self,
        client: u64,
        dice: &mut Dice,
        key: &str,
        value: Option<String>,
    ) -> Result<Called, Wrong> {
        match self.pick(dice, |snapshot| snapshot.gone.is_none()) {
            Some(snapshot) => self.tag_call(client, &snapshot, key, value).await,
            None => Ok(Called::Nothing),
        }
    }

    /// Calls for a tag to be set, or deleted.
    pub async fn tag_call(
        &self,
        client: u64,
        snapshot: &Snapshot,
        key: &str,
        value: Option<String>,
    ) -> Result<Called, Wrong> {
        let (number, Some(id)) = (snapshot.number, snapshot.id) else {
            return Ok(Called::Nothing);
        };
        let write = self
            .model
            .borrow_mut()
            .tag_called(number, key, value.clone());
        let (engine, account) = (&self.life.engine, snapshot.account());
        let answer = match &value {
            Some(value) => {
                let tag = Tag {
                    key: key.to_owned(),
                    value: value.clone(),
                };
                engine.create_tags(account, &[id], &[tag]).await
            }
            None => {
                let selector = TagSelector {
                    key: key.to_owned(),
                    value: None,
                };
                engine.delete_tags(account, &[id], Some(&[selector])).await
            }
        };
        self.note(
            client,
            format_args!("sets {key} of {number} to {value:?}: {answer:?}"),
        );
        let mut model = self.model.borrow_mut();
        let deleted = model.snapshot(number).deletes > 0;
        let ending = match &answer {
            Ok(()) => Ending::Done,
            Err(Error::SnapshotNotFound { .. }) if deleted => Ending::NotDone,
            Err(Error::NoSpace { .. }) => Ending::NotDone,
            Err(_) => Ending::Unknown,
        };
        model.tag_ended(number, key, write, ending);
        match answer {
            Ok(()) => Ok(Called::Well),
            Err(_) if ending == Ending::NotDone => Ok(Called::Not),
            Err(error) if self.excuses(&error) => Ok(Called::Not),
            Err(error) => Err(format!("tagging {number} failed: {error}")),
        }
    }

    pub(super) async fn wait(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let seconds = [1, 30, 90, 400][dice.below(4) as usize];
        self.note(client, format_args!("waits {seconds} s"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(Called::Well)
    }

    /// Collects.
    pub async fn collect(&self, client: u64, mode: CollectMode) -> Result<Called, Wrong> {
        let answer = self.life.engine.collect(mode).await;
        self.note(client, format_args!("collects ({mode:?}): {answer:?}"));
        match answer {
            Ok(report) if report.revived > 0 => {
                Err(format!("chunks in use were condemned: {report:?}"))
            }
            Ok(report) if report.missing > 0 => {
                Err(format!("chunks in use are missing: {report:?}"))
            }
            Ok(_) => Ok(Called::Well),
            Err(error) => self.excused(&error),
        }
    }

    /// Scrubs.
    pub async fn scrub(&self, client: u64) -> Result<Called, Wrong> {
        let options = ScrubOptions {
            bytes_per_second: 1 << 30,
            restart: true,
        };
        let answer = self.life.engine.scrub(options).await;
        self.note(client, format_args!("scrubs: {answer:?}"));
        match answer {
            Ok(report) if report.damaged_count > 0 && !self.bytes_may_be_bad() => {
                Err(format!("sound chunks were found damaged: {report:?}"))
            }
            Ok(_) => Ok(Called::Well),
            Err(error) => self.excused(&error),
        }
    }

    /// Audits.
    pub async fn audit(&self, client: u64) -> Result<Called, Wrong> {
        let answer = self.audited(|finding| finding.grave).await;
        self.note(client, format_args!("audits: {answer:?}"));
        match answer {
            Ok(grave) if grave.is_empty() || self.bytes_may_be_bad() => Ok(Called::Well),
            Ok(grave) => Err(format!("the audit found {grave:?}")),
            Err(_) if self.plan.trouble != Trouble::None || self.life.has_broken() => {
                Ok(Called::Not)
            }
            Err(error) => Err(format!("the audit failed: {error}")),
        }
    }

    /// The findings of an audit, of the kind asked for.
    pub async fn audited(&self, counts: impl Fn(&Finding) -> bool) -> Result<Vec<String>, String> {
        let options = AuditOptions {
            db: Arc::clone(&self.life.slow_db) as _,
            chunks: Arc::clone(&self.life.chunks),
            scratch: Arc::from(Path::new("no-scratch-is-needed")),
            depth: AuditDepth::Headers,
        };
        match audit(options).await {
            Ok(report) => {
                let found = report.findings.iter().filter(|finding| counts(finding));
                Ok(found.map(|finding| format!("{finding:?}")).collect())
            }
            Err(error) if error.to_string() == "not there yet" => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn excused(&self, error: &Error) -> Result<Called, Wrong> {
        match error {
            Error::Internal { reason } if reason == "not there yet" => Ok(Called::Nothing),
            error if self.excuses(error) => Ok(Called::Not),
            error => Err(error.to_string()),
        }
    }

    fn bytes_may_be_bad(&self) -> bool {
        let reads_fail = self.plan.disk.get(&chunkstore::faulty::Call::Read);
        self.plan.trouble == Trouble::Rot || reads_fail.is_some_and(|rate| *rate > 0)
    }
}
