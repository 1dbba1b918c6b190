//! Puts by digest: they find what the account has, never what it has not, and leave nothing when the data is asked for.

use super::puts::check_was_open;
use super::{Called, Story};
use crate::contents::Content;
use crate::dice::Dice;
use crate::model::{Snapshot, Wrong};
use crate::plan::Trouble;
use crate::register::Ending;
use engine::{ByDigest, Error};
use types::{BlockIndex, SnapshotId};

impl Story<'_> {
    /// Puts a content by its digest; as a client does, mostly with its data when that is asked for.
    pub(super) async fn put_digest(&self, client: u64, dice: &mut Dice) -> Result<Called, Wrong> {
        let any = dice.hits(30);
        let Some(snapshot) = self.pick(dice, |snapshot| any || snapshot.may_be_open()) else {
            return Ok(Called::Nothing);
        };
        let Some(index) = dice.pick(&self.plan.indexes).copied() else {
            return Ok(Called::Nothing);
        };
        let content = Content(dice.below(self.plan.contents + 1) as u32);
        let called = self.put_digest_call(client, &snapshot, index, content);
        let called = called.await?;
        if called == Called::Not && dice.hits(700) {
            let sent = self.put_call(client, &snapshot, index, content, None);
            sent.await?;
        }
        Ok(called)
    }

    /// Calls for a put by digest. It went well when the block was put.
    pub async fn put_digest_call(
        &self,
        client: u64,
        snapshot: &Snapshot,
        index: u32,
        content: Content,
    ) -> Result<Called, Wrong> {
        let (number, Some(id)) = (snapshot.number, snapshot.id) else {
            return Ok(Called::Nothing);
        };
        let account = snapshot.account();
        let (asked, write, holder) = {
            let mut model = self.model.borrow_mut();
            let holder = model.holder(account, content);
            let asked = model.now();
            (asked, model.put_called(number, index, content), holder)
        };
        let called_at = self.at();
        let answer = self.put_named(snapshot, id, index, content).await;
        self.note(
            client,
            format_args!("puts the digest of {content:?} to block {index} of {number}: {answer:?}"),
        );
        let ending = match &answer {
            Ok(ByDigest::Put) => Ending::Done,
            Ok(ByDigest::DataRequired) => Ending::NotDone,
            Err(error) => self.put_refused(number, error)?,
        };
        let mut model = self.model.borrow_mut();
        model.put_ended(number, index, write, ending);
        match answer {
            Ok(ByDigest::Put) => {
                let known = content == Content::ZEROS || model.sent.contains(&(account, content));
                if self.plan.one_domain || !known {
                    return Err(format!(
                        "{content:?} was put by its digest, and {account} never sent it"
                    ));
                }
                let snapshot = model.snapshot(number);
                snapshot.busy_at = snapshot.busy_at.max(called_at);
                check_was_open(snapshot, asked)?;
                Ok(Called::Well)
            }
            Ok(ByDigest::DataRequired) => {
                let held = holder.is_some_and(|holder| model.snapshot(holder).deletes == 0);
                if !self.plan.one_domain && !self.may_be_damaged() && held {
                    return Err(format!(
                        "{content:?} was asked for, and a snapshot of {account} has it"
                    ));
                }
                Ok(Called::Not)
            }
            Err(_) => Ok(Called::Not),
        }
    }

    async fn put_named(
        &self,
        snapshot: &Snapshot,
        id: SnapshotId,
        index: u32,
        content: Content,
    ) -> Result<ByDigest, Error> {
        let engine = &self.life.engine;
        let index = BlockIndex::new(index).expect("plans name blocks of small volumes");
        let permit = engine.admit_put(snapshot.account(), id, index).await?;
        let digest = content.digest();
        engine.put_by_digest(permit, digest, None).await
    }

    /// Whether chunks may be found damaged, and so as good as absent.
    fn may_be_damaged(&self) -> bool {
        match self.plan.trouble {
            Trouble::None | Trouble::Catalog | Trouble::Full => false,
            Trouble::Disk | Trouble::Rot | Trouble::All => true,
        }
    }
}
