//! The simulated machine: a disk, a catalog, a clock, and an engine that lives on them until the power is cut or it is killed.
//!
//! One thread, one order: each life has a runtime of its own whose time is paused, and whatever would take real time takes
//! simulated time instead. A life ends as a process does: all its tasks are dropped where they are. After a power cut
//! the disk keeps what was synced and, of the rest, what the dice say; after a kill it keeps everything.

use crate::clock::SimClock;
use crate::contents::digest_of;
use crate::dice::Dice;
use crate::faulty_db::{DbFaults, FaultyDb};
use crate::gate::Gate;
use crate::history::History;
use crate::pauses::Pauses;
use crate::plan::Plan;
use crate::slow_chunks::SlowChunks;
use catalog::DbExt;
use catalog::db::InlineSqlite;
use chunkstore::faulty::{Chaos, FaultyIo};
use chunkstore::{ChunkStore, CodecSetting, LocalOptions, LocalStore, SEGMENT_BYTES_FLOOR};
use engine::{
    ContainerCatalog, DedupScope, Engine, EngineOptions, HashPool, Workers, settle_recovered,
};
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::watch;
use types::{Clock, Random};

/// How often it is looked whether a life is over; the catalog says so at once.
const LOOK: Duration = Duration::from_secs(1);

/// Free bytes that blocks leave to pages, on a small disk.
const RESERVE_BYTES: u64 = 3 << 20;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// The machine.
pub struct Machine {
    /// What goes wrong.
    pub plan: Rc<Plan>,
    /// What happened.
    pub history: Rc<History>,
    /// Its time.
    pub clock: Arc<SimClock>,
    /// Whether faults come by chance; power cuts come as they are ordered.
    pub faults: bool,
    sqlite: Arc<InlineSqlite>,
    io: FaultyIo,
    dice: Dice,
    lives: u64,
    steps_before: u64,
    cut_next_life_at: Option<u64>,
}

/// A process that runs.
pub struct Life {
    /// The engine.
    pub engine: Engine,
    /// The catalog, without pauses.
    pub db: FaultyDb,
    /// The catalog as the engine has it.
    pub slow_db: Arc<FaultyDb>,
    /// The chunk store as the engine has it.
    pub chunks: Arc<dyn ChunkStore>,
    /// The disk.
    pub io: FaultyIo,
    /// The chunk store, without pauses.
    pub store: Arc<LocalStore>,
    /// The time.
    pub clock: Arc<SimClock>,
    /// What every call passes.
    pub gate: Arc<Gate>,
    settled: watch::Receiver<bool>,
    faults: Option<(DbFaults, Chaos)>,
}

/// How a life ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End<T> {
    /// Its story came to its end; the process was killed there.
    Told(T),
    /// The power was cut, or the catalog met an I/O error.
    Broke,
    /// It could not begin: it met faults already.
    NeverBegan(String),
}

impl Machine {
    /// A new machine with an empty disk.
    ///
    /// # Panics
    /// When there is no memory for it.
    pub fn new(plan: Plan, dice: Dice, history: Rc<History>) -> Machine {
        count_panics();
        Machine {
            io: FaultyIo::new(plan.capacity_bytes),
            plan: Rc::new(plan),
            history,
            clock: Arc::default(),
            faults: true,
            sqlite: Arc::new(InlineSqlite::new().expect("there is memory for a catalog")),
            dice,
            lives: 0,
            steps_before: 0,
            cut_next_life_at: None,
        }
    }

    /// Durable steps of disk and catalog in this life, or the one that ended last.
    pub fn steps(&self) -> u64 {
        self.io.steps()
    }

    /// Durable steps of all lives.
    pub fn steps_in_all(&self) -> u64 {
        self.steps_before + self.io.steps()
    }

    /// The disk.
    pub fn disk(&self) -> &FaultyIo {
        &self.io
    }

    /// Orders a power cut at this step of each life from now on, while it begins too; or no more.
    pub fn cut_next_life_at(&mut self, step: Option<u64>) {
        self.cut_next_life_at = step;
    }

    /// Starts a process, lets it live through `story`, and ends it.
    ///
    /// # Errors
    /// What must not be: a panic, a worker that died, files that seem to be another store's.
    ///
    /// # Panics
    /// When the system gives no runtime.
    pub fn live<T>(&mut self, story: impl AsyncFnOnce(&Life) -> T) -> Result<End<T>, String> {
        self.begin_power();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let runtime = runtime.expect("a runtime without threads needs nothing");
        let panics = PANICS.get();
        let end = runtime.block_on(async {
            self.clock.begin();
            let end = self.begin_and_live(story).await;
            self.clock.end();
            end
        });
        drop(runtime);
        if PANICS.get() > panics {
            return Err("something panicked; see above".to_owned());
        }
        end
    }

    async fn begin_and_live<T>(
        &mut self,
        story: impl AsyncFnOnce(&Life) -> T,
    ) -> Result<End<T>, String> {
        let life = match self.begin().await {
            Ok(life) => life,
            Err(error) if error.is::<Foreign>() => return Err(error.to_string()),
            Err(error) => return Ok(End::NeverBegan(error.to_string())),
        };
        let mut workers = Workers::start(&life.engine);
        tokio::select! {
            biased;
            told = story(&life) => Ok(End::Told(told)),
            () = life.is_over() => Ok(End::Broke),
            reason = workers.died() => Err(format!("a worker died: {reason}")),
        }
    }

    /// After a power cut the machine has the disk that is left.
    fn begin_power(&mut self) {
        self.lives += 1;
        self.reboot_if_off();
        if let Some(step) = self.cut_next_life_at {
            self.io.cut_power_at(self.io.steps() + step);
        }
    }

    fn reboot_if_off(&mut self) {
        if !self.io.power_is_off() {
            return;
        }
        self.steps_before += self.io.steps();
        let kept = self
            .dice
            .pick(&[0, 30, 500, 970, 1_000])
            .copied()
            .unwrap_or(500);
        let mut dice = self.dice.fork("what survives");
        self.dice.bits();
        self.io = self.io.reboot_keeping(|| dice.hits(kept));
        self.io.set_capacity(self.plan.capacity_bytes);
        self.history
            .note(format!("power is back, {kept} of 1000 sectors survived"));
    }

    async fn begin(&mut self) -> Result<Life, Box<dyn std::error::Error + Send + Sync>> {
        let dice = self.dice.fork(&format!("life {}", self.lives));
        let faults = self.faults.then(|| {
            let chaos = Chaos::new(dice.fork("disk").bits(), self.plan.disk.clone());
            (self.plan.db, chaos)
        });
        self.io
            .set_chaos(faults.as_ref().map(|(_, chaos)| chaos.clone()));
        let db_faults = faults.as_ref().map(|(db, _)| *db).unwrap_or_default();
        let db = FaultyDb::new(
            Arc::clone(&self.sqlite),
            self.io.clone(),
            db_faults,
            dice.fork("catalog"),
        );
        catalog::schema::migrate(&db, *b"simulated store!", self.clock.now()).await?;
        let store_id = db
            .view(|txn| Box::pin(async move { catalog::meta::store_id(txn).await }))
            .await?;
        let opened = LocalStore::open_without_threads(LocalOptions {
            store_id,
            io: Arc::new(self.io.clone()),
            registry: Arc::new(ContainerCatalog::new(Arc::new(db.clone()))),
            codec: if self.plan.compressed {
                CodecSetting::Zstd { level: 1 }
            } else {
                CodecSetting::None
            },
            encoders: 1,
            reserve_bytes: RESERVE_BYTES,
            segment_bytes_min: SEGMENT_BYTES_FLOOR,
            segment_bytes_max: 2 * SEGMENT_BYTES_FLOOR,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            metrics: Arc::default(),
        })
        .await;
        let (store, recovered) = opened.map_err(|error| match error {
            chunkstore::Error::Foreign { reason } => Foreign(reason).into(),
            other => Box::<dyn std::error::Error + Send + Sync>::from(other),
        })?;
        let store = Arc::new(store);
        let gate = Arc::new(Gate::default());
        let pauses = |name: &str| {
            let gate = Arc::clone(&gate);
            Arc::new(Pauses::new(self.plan.pace, dice.fork(name), gate))
        };
        let slow_db = Arc::new(db.slow(pauses("catalog's pauses")));
        let (tell, settled) = watch::channel(false);
        {
            let (db, store) = (Arc::clone(&slow_db), Arc::clone(&store));
            tokio::spawn(async move {
                // What could not be settled is found again by the next life.
                drop(settle_recovered(&*db, &store, recovered).await);
                let _ = tell.send(true);
            });
        }
        let chunks: Arc<dyn ChunkStore> = Arc::new(SlowChunks {
            store: Arc::clone(&store),
            pauses: pauses("store's pauses"),
        });
        let engine = Engine::new(EngineOptions {
            db: Arc::clone(&slow_db) as _,
            exclusive_catalog: true,
            chunks: Arc::clone(&chunks),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random: Random::seeded(dice.fork("ids").bits()),
            dedup: if self.plan.one_domain {
                DedupScope::Store
            } else {
                DedupScope::Account
            },
            page_cache_bytes: 64 << 10,
            buffers: 8,
            unverified_buffers: 1,
            hashing: HashPool::inline(digest_of),
            scratch: PathBuf::from("no-scratch-is-needed"),
        });
        Ok(Life {
            engine,
            db,
            slow_db,
            chunks,
            io: self.io.clone(),
            store,
            clock: Arc::clone(&self.clock),
            gate,
            settled,
            faults,
        })
    }
}

impl Life {
    /// Resolves when nothing more can come of this life.
    pub async fn is_over(&self) {
        while !self.has_broken() {
            drop(tokio::time::timeout(LOOK, self.db.died()).await);
        }
    }

    /// Whether nothing more can come of this life.
    pub fn has_broken(&self) -> bool {
        self.db.is_dead() || self.io.power_is_off()
    }

    /// Resolves once what the last life left open has been settled, as far as it could be.
    pub async fn settled(&self) {
        let _ = self.settled.clone().wait_for(|settled| *settled).await;
    }

    /// Lets no fault come by chance, until [`Life::trouble`]. Pauses stay.
    pub fn calm(&self) {
        self.db.set_faults(DbFaults::default());
        self.io.set_chaos(None);
    }

    /// Lets faults come again, if the machine has any.
    pub fn trouble(&self) {
        if let Some((db, chaos)) = &self.faults {
            self.db.set_faults(*db);
            self.io.set_chaos(Some(chaos.clone()));
        }
    }
}

/// The store refused files as another's.
#[derive(Debug)]
struct Foreign(String);

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its own files seem foreign to the store: {}", self.0)
    }
}

impl std::error::Error for Foreign {}

/// Counts the panics of this thread, also those that a task or a transaction catches.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
}
