//! Opens what stands in a data directory, for `serve` and for the commands that work while no server runs.
//!
//! Opening is recovery: there is no other path for a store that was stopped in an orderly way.

use crate::data_dir::DataDir;
use crate::settings::{Compression, Dedup, Settings};
use anyhow::{Context, bail};
use auth::{KeyStore, KeyStoreOptions, RootKey};
use catalog::db::{Sqlite, SqliteOptions};
use catalog::{Db, DbExt, meta, schema};
use chunkstore::{
    ChunkStore, CodecSetting, FileIo, LocalOptions, LocalStore, ReadOnlyStore, RecoveredSegment,
    WriteMode,
};
use engine::{ContainerCatalog, DedupScope, Engine, EngineOptions, HashPool};
use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::sync::Arc;
use types::{Clock, Random, SystemClock};

/// Threads that read the catalog beside its writer: a read is a millisecond at most, and the rest is cached.
const CATALOG_READERS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

/// Size of the first segments; a fresh store costs a laptop little.
const SEGMENT_BYTES_MIN: u64 = 64 << 20;

/// Size at which segments stop growing.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Time and randomness, as every component is given them.
#[derive(Clone)]
pub struct Ambient {
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
    /// The machine's randomness.
    pub random: Random,
}

impl Ambient {
    /// The machine's.
    pub fn new() -> Ambient {
        Ambient {
            clock: Arc::new(SystemClock::new()),
            random: Random::system(),
        }
    }
}

/// An open catalog.
#[derive(Clone)]
pub struct Catalog {
    /// The database.
    pub db: Arc<Sqlite>,
    /// What tells this store's segments from another's.
    pub store_id: [u8; 16],
}

/// Opens the catalog, or makes it; it has the current format then.
pub async fn catalog(
    data: &DataDir,
    settings: &Settings,
    ambient: &Ambient,
) -> anyhow::Result<Catalog> {
    let path = data.layout().catalog();
    let failed = || format!("the catalog {} cannot be opened", path.display());
    // The root key comes first: a catalog that is there tells that its key is, too.
    root_key(data, ambient)?;
    let options = SqliteOptions {
        path: path.clone(),
        readers: CATALOG_READERS,
        cache_bytes: settings.cache.catalog.bytes(),
    };
    let db = tokio::task::spawn_blocking(move || Sqlite::open(&options))
        .await
        .with_context(failed)?
        .map_err(|error| advised(data, error))
        .with_context(failed)?;
    let fresh_id = ambient.random.bytes();
    catalog::schema::migrate(&db, fresh_id, ambient.clock.now())
        .await
        .with_context(failed)?;
    let facts = db.view(|txn| {
        Box::pin(async move {
            let copied_at = meta::number(txn, meta::COPIED_AT).await?;
            let starts = meta::number(txn, meta::STARTS).await?.unwrap_or(0);
            Ok((copied_at, starts, meta::store_id(txn).await?))
        })
    });
    let (copied_at, starts, store_id) = facts.await.with_context(failed)?;
    if copied_at.is_some() {
        // What was stored since then would be taken for garbage.
        bail!(
            "{} is a copy of a catalog: it does not tell what was stored after it was made; {}, which takes accounts, \
             access keys and tags from the copy",
            path.display(),
            rescue_advice(data)
        );
    }
    let remembered = data.starts(store_id)?;
    if remembered > starts {
        bail!(
            "{} is older than the segments: it knows of {starts} starts, and the directory of {remembered}; what was stored \
             since then would be taken for garbage: put the newest one back, or {}",
            path.display(),
            rescue_advice(data)
        );
    }
    // First in the catalog: a crash in between makes the directory remember less, never more.
    db.transact(move |txn| {
        Box::pin(async move { meta::set_number(txn, meta::STARTS, starts + 1).await })
    })
    .await
    .with_context(failed)?;
    data.set_starts(store_id, starts + 1)?;
    Ok(Catalog {
        db: Arc::new(db),
        store_id,
    })
}

/// What to do when the catalog is lost.
fn rescue_advice(data: &DataDir) -> String {
    format!(
        "rebuild it from the segments with `drystone rescue rebuild --data {}`",
        data.layout().root().display()
    )
}

/// An error of opening the catalog, with what to do when it is damaged.
fn advised(data: &DataDir, error: catalog::Error) -> anyhow::Error {
    let damaged = matches!(error, catalog::Error::Corrupt { .. });
    let error = anyhow::Error::new(error);
    match damaged {
        true => error.context(format!(
            "it is damaged; restore it from a backup, or {}",
            rescue_advice(data)
        )),
        false => error,
    }
}

/// The root key of the directory, made when the directory is new.
pub fn root_key(data: &DataDir, ambient: &Ambient) -> anyhow::Result<RootKey> {
    Ok(RootKey::load_or_create(
        &data.layout().root_key(),
        &ambient.random,
    )?)
}

/// The access keys in the catalog.
pub async fn keys(
    data: &DataDir,
    catalog: &Catalog,
    ambient: &Ambient,
) -> anyhow::Result<KeyStore> {
    let options = KeyStoreOptions {
        db: Arc::clone(&catalog.db) as _,
        root_key: root_key(data, ambient)?,
        clock: Arc::clone(&ambient.clock),
        random: ambient.random.clone(),
    };
    let keys = KeyStore::open(options)
        .await
        .context("the access keys cannot be read")?;
    // The first start writes the file after the account, and accounts are never deleted.
    let layout = data.layout();
    if layout.credentials().exists() && keys.accounts().await?.is_empty() {
        bail!(
            "{} holds no account although {} was written: the catalog was lost or emptied; restore it from a backup, or {}",
            layout.catalog().display(),
            layout.credentials().display(),
            rescue_advice(data),
        );
    }
    Ok(keys)
}

/// An engine and what is below it.
pub struct Store {
    /// The engine; nothing runs in the background yet.
    pub engine: Engine,
    /// Its chunk store.
    pub chunks: Arc<LocalStore>,
    /// The segments that the last run left open, to be settled.
    pub recovered: Vec<RecoveredSegment>,
    /// What the chunk store counts.
    pub counts: Arc<chunkstore::Metrics>,
}

/// The engine on the local chunk store.
pub async fn engine(
    data: &DataDir,
    catalog: &Catalog,
    settings: &Settings,
    ambient: &Ambient,
) -> anyhow::Result<Store> {
    let scratch = data.fresh_scratch()?;
    let counts = Arc::new(chunkstore::Metrics::default());
    let (chunks, recovered) =
        chunk_store(data, catalog, settings, ambient, Arc::clone(&counts)).await?;
    let chunks = Arc::new(chunks);
    let buffers = settings.store.buffers as usize;
    let engine = Engine::new(EngineOptions {
        db: Arc::clone(&catalog.db) as _,
        exclusive_catalog: true,
        chunks: Arc::clone(&chunks) as _,
        clock: Arc::clone(&ambient.clock),
        random: ambient.random.clone(),
        dedup: match settings.store.dedup {
            Dedup::Account => DedupScope::Account,
            Dedup::Store => DedupScope::Store,
        },
        page_cache_bytes: usize::try_from(settings.cache.pages.bytes()).unwrap_or(usize::MAX),
        buffers: buffers - buffers / 8,
        unverified_buffers: buffers / 8,
        hashing: HashPool::start(cores()).context("threads cannot be started")?,
        scratch,
    });
    Ok(Store {
        engine,
        chunks,
        recovered,
        counts,
    })
}

/// Catalog and segments to be looked at alone: nothing is recovered, and nothing is written.
pub async fn to_read(
    data: &DataDir,
    settings: &Settings,
) -> anyhow::Result<(Arc<dyn Db>, Arc<dyn ChunkStore>)> {
    let path = data.layout().catalog();
    let failed = || format!("the catalog {} cannot be read", path.display());
    let options = SqliteOptions {
        path: path.clone(),
        readers: CATALOG_READERS,
        cache_bytes: settings.cache.catalog.bytes(),
    };
    let db = tokio::task::spawn_blocking(move || Sqlite::open_read_only(&options))
        .await
        .with_context(failed)?
        .with_context(failed)?;
    let found = db.view(|txn| {
        Box::pin(async move {
            let format = meta::number(txn, meta::FORMAT_VERSION).await?;
            Ok((format, meta::store_id(txn).await?))
        })
    });
    let (format, store_id) = found.await.with_context(failed)?;
    let format = format.unwrap_or_default();
    if format != schema::FORMAT_VERSION {
        bail!(
            "the catalog {} has format {format}, and this program reads format {}: {}",
            path.display(),
            schema::FORMAT_VERSION,
            match format < schema::FORMAT_VERSION {
                true => "start the server once, it brings the catalog up to date",
                false => "run a newer drystone",
            }
        );
    }
    let segments = data.layout().segments();
    let io = FileIo::open_to_read(&segments)
        .with_context(|| format!("the segments in {} cannot be read", segments.display()))?;
    let chunks = ReadOnlyStore::new(store_id, Arc::new(io));
    Ok((Arc::new(db), Arc::new(chunks)))
}

/// The local chunk store and the segments that its last run left open.
async fn chunk_store(
    data: &DataDir,
    catalog: &Catalog,
    settings: &Settings,
    ambient: &Ambient,
    metrics: Arc<chunkstore::Metrics>,
) -> anyhow::Result<(LocalStore, Vec<RecoveredSegment>)> {
    let path = data.layout().segments();
    let failed = || format!("the segments in {} cannot be opened", path.display());
    match fs::create_dir(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    let io = FileIo::open(&path, WriteMode::Detect).with_context(failed)?;
    let cores = cores();
    LocalStore::open(LocalOptions {
        store_id: catalog.store_id,
        io: Arc::new(io),
        registry: Arc::new(ContainerCatalog::new(Arc::clone(&catalog.db) as _)),
        codec: match settings.store.compression {
            Compression::None => CodecSetting::None,
            Compression::Zstd { level } => CodecSetting::Zstd { level },
        },
        encoders: cores,
        reserve_bytes: settings.store.reserve.bytes(),
        segment_bytes_min: SEGMENT_BYTES_MIN,
        segment_bytes_max: SEGMENT_BYTES_MAX,
        clock: Arc::clone(&ambient.clock),
        metrics,
    })
    .await
    .with_context(failed)
}

/// Processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
