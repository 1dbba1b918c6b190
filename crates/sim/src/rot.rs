//! Bits that flip, and what must be true of a store in which they did: damage is named, everything else reads, and content that is put again
//! is whole again.

use crate::clients::{Called, Story, accounts};
use crate::dice::Dice;
use crate::model::{Snapshot, Wrong};
use catalog::DbExt;
use chunkstore::SegmentIo;
use engine::{Error, ScrubOptions};

impl Story<'_> {
    /// Flips a bit somewhere in what is stored; mostly in a frame that has a name.
    pub(crate) async fn flip_a_bit(&self, dice: &mut Dice) {
        if dice.hits(700) {
            self.flip_in_a_chunk(dice).await;
        } else {
            self.flip_anywhere(dice);
        }
    }

    async fn flip_in_a_chunk(&self, dice: &mut Dice) {
        let records = self.life.db.view(|txn| {
            Box::pin(async move { catalog::chunks::records_after(txn, None, 10_000).await })
        });
        let records = records.await.unwrap_or_default();
        let Some(frame) = dice.pick(&records).map(|record| record.location) else {
            return;
        };
        let segment = format!("{:016x}.", frame.container);
        let names = self.life.io.list().unwrap_or_default();
        if let Some(name) = names.iter().find(|name| name.starts_with(&segment)) {
            let offset = frame.offset + dice.below(u64::from(frame.length));
            self.flip(name, offset, dice);
        }
    }

    fn flip(&self, name: &str, offset: u64, dice: &mut Dice) {
        self.life.io.flip_bit(name, offset, dice.below(8) as u8);
        self.history
            .note(format!("a bit flips in {name} at {offset}"));
    }

    fn flip_anywhere(&self, dice: &mut Dice) {
        let io = &self.life.io;
        let Some(name) = io.list().ok().and_then(|names| dice.pick(&names).cloned()) else {
            return;
        };
        let Ok(file) = io.open_reader(&name) else {
            return;
        };
        let bytes = file.bytes().unwrap_or_default();
        let from = dice.below(bytes);
        if let Ok(Some(data)) = file.data_from(from) {
            // Anywhere in its sector, not only where the data was looked for.
            let offset = (data + dice.below(4096)).min(bytes - 1);
            self.flip(&name, offset, dice);
        }
    }

    /// Scrubs, and checks that damage is named by block and snapshot; then puts every content again, and every block reads.
    pub(crate) async fn check_damage(&self) -> Result<(), Wrong> {
        let options = ScrubOptions {
            bytes_per_second: 1 << 30,
            restart: true,
        };
        let scrubbed = self.life.engine.scrub(options).await;
        let scrubbed = scrubbed.map_err(|error| format!("a scrub failed: {error}"))?;
        let damaged = self.read_all().await?;
        self.history.note(format!(
            "{damaged} blocks are damaged, scrubbed {scrubbed:?}"
        ));
        for account in 0..accounts().len() {
            let number = self.begin_for(account, None, 60).await?;
            for content in 1..=self.plan.contents as u32 {
                if self.put_one(number, content, content).await? != Called::Well {
                    return Err(format!("content {content} cannot be put again"));
                }
            }
        }
        match self.read_all().await? {
            0 => Ok(()),
            damaged => Err(format!(
                "{damaged} blocks are damaged after their contents were put again"
            )),
        }
    }

    /// Reads every block whose content is known; answers how many are damaged, and say so by their names.
    async fn read_all(&self) -> Result<u64, Wrong> {
        let snapshots: Vec<Snapshot> = {
            let model = self.model.borrow();
            let completed = model.snapshots.values().filter(|one| one.is_completed());
            completed.cloned().collect()
        };
        let mut damaged = 0;
        for snapshot in snapshots {
            let number = snapshot.number;
            for (index, content) in snapshot.map.iter().flat_map(|map| map.iter()) {
                match self.read(&snapshot, *index, *content).await {
                    Ok(true) => {}
                    Ok(false) => return Err(format!("block {index} of {number} has other bytes")),
                    Err(Error::BlockDamaged {
                        id, index: named, ..
                    }) if Some(id) == snapshot.id && named.get() == *index => {
                        damaged += 1;
                    }
                    Err(error) => return Err(format!("block {index} of {number}: {error}")),
                }
            }
        }
        Ok(damaged)
    }
}
