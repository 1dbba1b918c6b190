//! What a seed decides before it begins: who calls what how often, and what goes wrong.
//!
//! Each seed leaves some verbs and some faults out and overdoes others: what only happens when nothing else does is met too.

use crate::dice::Dice;
use crate::faulty_db::DbFaults;
use crate::pauses::Pace;
use chunkstore::faulty::Call;
use std::collections::BTreeMap;

/// What a client may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "each is the verb of that name")]
pub enum Verb {
    Start,
    Put,
    Complete,
    Get,
    List,
    Diff,
    Describe,
    Tag,
    Untag,
    Delete,
    Wait,
    Collect,
    DryRun,
    Scrub,
    Audit,
    PutByDigest,
}

impl Verb {
    /// Those that are chosen by [`Plan::weights`]; some puts become puts by digest.
    pub const ALL: [Verb; 15] = [
        Verb::Start,
        Verb::Put,
        Verb::Complete,
        Verb::Get,
        Verb::List,
        Verb::Diff,
        Verb::Describe,
        Verb::Tag,
        Verb::Untag,
        Verb::Delete,
        Verb::Wait,
        Verb::Collect,
        Verb::DryRun,
        Verb::Scrub,
        Verb::Audit,
    ];
}

/// What goes wrong besides restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing: then nothing may be refused either.
    None,
    /// The disk fails calls.
    Disk,
    /// The catalog fails transactions.
    Catalog,
    /// The disk is small.
    Full,
    /// Stored bits flip.
    Rot,
    /// All of these but the last.
    All,
}

/// The plan of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What goes wrong.
    pub trouble: Trouble,
    /// Clients at a time.
    pub clients: u64,
    /// Calls, all together.
    pub calls: u64,
    /// Different contents of blocks.
    pub contents: u64,
    /// Blocks of a volume that are used: few, so that they are overwritten.
    pub indexes: Vec<u32>,
    /// One domain for all accounts.
    pub one_domain: bool,
    /// Stored bytes are compressed.
    pub compressed: bool,
    /// What calls take.
    pub pace: Pace,
    /// How the catalog fails.
    pub db: DbFaults,
    /// How many of a million calls of the disk fail.
    pub disk: BTreeMap<Call, u32>,
    /// Size of the disk.
    pub capacity_bytes: u64,
    /// Calls in one life, at most.
    pub life_calls: u64,
    /// Lives of a thousand that a power cut ends; the others are killed.
    pub cuts: u64,
    /// Calls of a thousand before which a bit flips.
    pub flips: u64,
    /// Puts of a thousand that name their block by its digest.
    pub by_digest: u64,
    /// How often each verb is called, by [`Verb::ALL`].
    pub weights: Vec<u64>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(dice: &mut Dice) -> Plan {
        let trouble = match dice.below(12) {
            0..=2 => Trouble::None,
            3..=4 => Trouble::Disk,
            5..=7 => Trouble::Catalog,
            8 => Trouble::Full,
            9 => Trouble::Rot,
            _ => Trouble::All,
        };
        let all = trouble == Trouble::All;
        let rate = |dice: &mut Dice, on: bool| if on { 1 << dice.below(14) } else { 0 };
        let disk_fails = all || trouble == Trouble::Disk;
        let disk = [
            Call::Create,
            Call::Open,
            Call::Write,
            Call::Sync,
            Call::Punch,
            Call::Truncate,
            Call::Remove,
            Call::SyncDir,
            Call::Read,
        ];
        let disk = disk.map(|call| {
            let often = disk_fails && dice.hits(500);
            (call, 4 * rate(dice, often) as u32)
        });
        let db_fails = all || trouble == Trouble::Catalog;
        let mut db_rate = |share: u64| {
            let often = db_fails && dice.hits(share);
            2 * rate(dice, often)
        };
        let db = DbFaults {
            unavailable: db_rate(500),
            unknown: db_rate(700),
            no_space: db_rate(300),
            io: db_rate(500) / 2,
            conflict: db_rate(500),
        };
        let small = trouble == Trouble::Full || (all && dice.hits(500));
        Plan {
            trouble,
            clients: dice.between(1, 5),
            calls: dice.between(100, 600),
            contents: dice.between(2, 14),
            indexes: Plan::indexes(dice),
            one_domain: dice.hits(300),
            compressed: dice.hits(125),
            pace: Plan::pace(dice),
            db,
            disk: disk.into(),
            capacity_bytes: if small {
                dice.between(12, 40) << 20
            } else {
                1 << 40
            },
            life_calls: dice.between(10, 250),
            cuts: dice.between(0, 1_000),
            flips: if trouble == Trouble::Rot {
                dice.between(5, 40)
            } else {
                0
            },
            by_digest: Plan::by_digest(&mut dice.fork("puts by digest")),
            weights: Plan::weights(dice),
        }
    }

    /// A third of the seeds has none.
    fn by_digest(dice: &mut Dice) -> u64 {
        match dice.below(3) {
            0 => 0,
            _ => dice.between(50, 800),
        }
    }

    fn indexes(dice: &mut Dice) -> Vec<u32> {
        let count = dice.between(2, 12);
        let mut indexes: Vec<u32> = (0..count)
            .map(|_| match dice.below(3) {
                0 => dice.below(6) as u32,
                1 => 127 + dice.below(3) as u32,
                _ => dice.below(2_048) as u32,
            })
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes
    }

    fn pace(dice: &mut Dice) -> Pace {
        let stuck = if dice.hits(300) {
            dice.between(1, 10)
        } else {
            0
        };
        Pace {
            yields: dice.between(0, 500),
            slow: dice.between(0, 300),
            stuck,
        }
    }

    fn weights(dice: &mut Dice) -> Vec<u64> {
        let usual = [10, 50, 9, 12, 6, 4, 6, 3, 2, 6, 2, 4, 1, 1, 1];
        let weights = usual.map(|usual| match dice.below(8) {
            0 => 0,
            1 => usual * 4,
            _ => usual,
        });
        let mut weights = weights.to_vec();
        // Without these nothing else has anything to do.
        for (position, least) in [(0, 8), (1, 25), (2, 5)] {
            weights[position] = weights[position].max(least);
        }
        weights
    }
}
