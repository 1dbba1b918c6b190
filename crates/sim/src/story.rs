//! One seed, from an empty machine to the last check.

use crate::clients::{Story, accounts};
use crate::dice::Dice;
use crate::history::History;
use crate::machine::{End, Life, Machine};
use crate::model::{Model, Wrong};
use crate::plan::{Plan, Trouble, Verb};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Lives in a row that may end before they began; then the machine is spared for one.
const STILLBORN_MAX: u32 = 5;

/// Time in which everything that was sealed is finished, purged and freed, also after the longest pause of a worker.
const QUIET: Duration = Duration::from_secs(4 * 60);

/// What a seed came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// A hash of everything that happened.
    pub hash: u64,
    /// Calls of clients.
    pub calls: u64,
    /// Lives of the machine.
    pub lives: u64,
    /// Lives that a power cut or an I/O error of the catalog ended.
    pub broken: u64,
    /// Durable steps.
    pub steps: u64,
    /// Calls by verb, and how many of them went well.
    pub counts: BTreeMap<Verb, (u64, u64)>,
}

/// A seed that found something.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Durable steps until then.
    pub step: u64,
    /// What must not be.
    pub wrong: Wrong,
    /// What came before.
    pub last: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure {
            seed,
            step,
            wrong,
            last,
        } = self;
        for line in last {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "seed {seed} fails at step {step}: {wrong}")?;
        if let Some(commit) = commit() {
            writeln!(f, "commit {commit}")?;
        }
        write!(f, "replay it with: cargo xtask sim --seed {seed}")
    }
}

/// Runs a seed; `aloud` prints what happens as it happens.
///
/// # Errors
/// What it found that must not be.
pub fn run(seed: u64, aloud: bool) -> Result<Told, Box<Failure>> {
    let mut dice = Dice::new(seed);
    let plan = Plan::of(&mut dice.fork("plan"));
    let history = Rc::new(History::new(aloud));
    history.note(format!("{plan:?}"));
    let machine = Machine::new(plan, dice.fork("machine"), Rc::clone(&history));
    let left = Cell::new(machine.plan.calls);
    let mut seed_run = Run {
        machine,
        model: RefCell::default(),
        left,
        counts: RefCell::default(),
        dice: dice.fork("lives"),
        lives: 0,
        broken: 0,
    };
    dice.bits();
    let ran = seed_run.tell();
    let step = seed_run.machine.steps_in_all();
    let counts = seed_run.counts.take();
    match ran {
        Ok(()) => Ok(Told {
            hash: history.hash(),
            calls: counts.values().map(|count| count.0).sum(),
            lives: seed_run.lives,
            broken: seed_run.broken,
            steps: step,
            counts,
        }),
        Err(wrong) => Err(Box::new(Failure {
            seed,
            step,
            wrong,
            last: history.last(),
        })),
    }
}

struct Run {
    machine: Machine,
    model: RefCell<Model>,
    left: Cell<u64>,
    counts: RefCell<BTreeMap<Verb, (u64, u64)>>,
    dice: Dice,
    lives: u64,
    broken: u64,
}

/// What one life is for.
struct Chapter {
    calls: u64,
    /// Steps after which the power is cut.
    cut: Option<u64>,
    /// Whether clients come to the end of their last calls.
    orderly: bool,
    dice: Dice,
}

impl Run {
    fn tell(&mut self) -> Result<(), Wrong> {
        let mut stillborn = 0;
        while self.left.get() > 0 {
            self.machine.faults = stillborn < STILLBORN_MAX;
            let dice = &mut self.dice;
            let chapter = Chapter {
                calls: dice
                    .between(1, self.machine.plan.life_calls)
                    .min(self.left.get()),
                cut: dice
                    .hits(self.machine.plan.cuts)
                    .then(|| dice.between(1, 200)),
                orderly: dice.hits(300),
                dice: dice.fork("clients"),
            };
            dice.bits();
            match self.live(chapter)? {
                End::NeverBegan(_) => stillborn += 1,
                _ => stillborn = 0,
            }
        }
        self.lives += epilogue(&mut self.machine, &self.model)?;
        Ok(())
    }

    fn live(&mut self, chapter: Chapter) -> Result<End<()>, Wrong> {
        let calls_of_life = Cell::new(chapter.calls);
        let before = self.left.get();
        let (model, counts) = (&self.model, &self.counts);
        let (history, plan) = (
            Rc::clone(&self.machine.history),
            Rc::clone(&self.machine.plan),
        );
        let end = self.machine.live(async |life: &Life| {
            let cut_at = chapter.cut.map(|steps| life.io.steps() + steps);
            life.io.cut_power_at(cut_at.unwrap_or(u64::MAX));
            let story = Story {
                life,
                model,
                history: Rc::clone(&history),
                plan: Rc::clone(&plan),
                left: &calls_of_life,
                counts,
            };
            tell_chapter(&story, &chapter).await
        });
        self.lives += 1;
        self.model.borrow_mut().life_ended();
        // A life that breaks at once shall not make the story endless.
        let made = (chapter.calls - calls_of_life.get()).max(1);
        self.left.set(before.saturating_sub(made));
        let end = match end? {
            End::Told(told) => End::Told(told?),
            End::Broke => End::Broke,
            End::NeverBegan(reason) => End::NeverBegan(reason),
        };
        self.broken += u64::from(end == End::Broke);
        self.machine
            .history
            .note(format!("life {} ended: {end:?}", self.lives));
        Ok(end)
    }
}

/// The faults are over: everything comes to its end, and is as it must be; once more after another start. Answers the lives it took.
///
/// # Errors
/// What must not be.
pub fn epilogue(machine: &mut Machine, model: &RefCell<Model>) -> Result<u64, Wrong> {
    machine.faults = false;
    let counts = RefCell::default();
    for round in 0..2 {
        let (history, plan) = (Rc::clone(&machine.history), Rc::clone(&machine.plan));
        // Ordered before this life, and not met.
        machine.disk().cut_power_at(u64::MAX);
        let end = machine.live(async |life: &Life| {
            life.io.set_capacity(1 << 40);
            let story = Story {
                life,
                model,
                history,
                plan,
                left: &Cell::new(0),
                counts: &counts,
            };
            last_checks(&story, round == 0).await
        })?;
        model.borrow_mut().life_ended();
        match end {
            End::Told(told) => told?,
            End::Broke => return Err("the catalog failed without a fault".to_owned()),
            End::NeverBegan(reason) => return Err(format!("it does not begin: {reason}")),
        }
    }
    Ok(2)
}

async fn last_checks(story: &Story<'_>, first: bool) -> Result<(), Wrong> {
    story.check_everything().await?;
    if story.plan.trouble == Trouble::Rot {
        return story.check_damage().await;
    }
    if first {
        tokio::time::sleep(QUIET).await;
        story.check_everything().await?;
        story.check_all_settled()?;
        story.check_chunks().await?;
    } else {
        // What the life before had open was sealed when this one began.
        story.life.settled().await;
        story.check_space().await?;
    }
    match story.audited(|_| true).await? {
        found if found.is_empty() => Ok(()),
        found => Err(format!("the audit found {found:?}")),
    }
}

async fn tell_chapter(story: &Story<'_>, chapter: &Chapter) -> Result<(), Wrong> {
    let mut dice = chapter.dice.clone();
    if dice.hits(500) {
        story.life.settled().await;
    }
    story.check_everything().await?;
    let mut clients: FuturesUnordered<_> = (1..=story.plan.clients)
        .map(|client| story.client(client, dice.fork(&format!("client {client}"))))
        .collect();
    while let Some(ended) = clients.next().await {
        ended?;
        if !chapter.orderly {
            break;
        }
    }
    if chapter.orderly {
        for account in accounts() {
            let described = story.describe_all(account, 1_000).await?;
            drop(described);
        }
    }
    Ok(())
}

/// The commit that is checked out, where git says it.
fn commit() -> Option<String> {
    let args = ["rev-parse", "--short=12", "HEAD"];
    let output = std::process::Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|commit| !commit.is_empty())
}
