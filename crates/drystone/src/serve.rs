//! `drystone serve`: puts the components together. Only this file (and `open.rs`) knows which backends are in use.
//!
//! Order of a start: lock and version of the data directory; the address, so that a taken one is told at once (clients
//! that connect from here on wait); catalog; keys, and the first account; chunk store and what its last run left open;
//! engine, its workers and the schedule; the admin socket. Then the lines for the user's shell, and requests.
//!
//! There is no stop path that data depends on: SIGTERM and SIGINT stop accepting, give requests in flight a bounded
//! time, and the process ends. An I/O error of the catalog ends it at once: only a fresh start knows what is on the disk.

use crate::admin::{AdminSocket, Jobs, Served};
use crate::data_dir::{DataDir, Layout};
use crate::http::{self, Answer, Handler, Options, Parts, Patience};
use crate::metrics::{
    AdmissionMetrics, HealthMetrics, HttpMetrics, Metrics, StoreHealth, StoreMetrics,
};
use crate::open::{self, Ambient, Catalog};
use crate::router::Router;
use crate::schedule::{Schedule, ScheduleOptions};
use crate::settings::{Overrides, Settings, SignedChecksum};
use crate::{first_start, logging};
use anyhow::Context;
use auth::{Authenticator, KeyStore, TokenKeys, Verifier, VerifierOptions};
use chunkstore::LocalStore;
use ebs_api::{BodyLimits, Components, EbsApi, EbsApiOptions};
use ec2_api::{Ec2Api, Ec2Options};
use engine::{Engine, Workers};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the keys of tokens are looked at; they last a day.
const TOKEN_KEY_CHECK: Duration = Duration::from_secs(60 * 60);

/// The catalog failed in a way that only a fresh start can judge.
#[derive(Debug)]
pub struct CatalogFault {
    reason: String,
}

impl fmt::Display for CatalogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the catalog failed, so the server has ended: {}; look at the disk, then start it again (nothing that was \
             acknowledged is lost)",
            self.reason
        )
    }
}

impl std::error::Error for CatalogFault {}

/// Runs the server until a signal or a fault ends it.
pub async fn run(overrides: Overrides) -> anyhow::Result<()> {
    let settings = Settings::load(overrides)?;
    logging::start(&settings.log)?;
    raise_file_limit();
    let signals = stop_signals()?;

    let data = DataDir::create_or_open(Layout::new(&settings.data)?)?;
    let listener = listen(settings.listen)?;
    let address = listener
        .local_addr()
        .context("the address cannot be read")?;
    let ambient = Ambient::new();
    let catalog = open::catalog(&data, &settings, &ambient).await?;
    let keys = Arc::new(open::keys(&data, &catalog, &ambient).await?);
    for id in keys.unreadable() {
        tracing::warn!(
            key = %id,
            "the secret of an access key does not open: was root.key replaced? delete the key, and make another"
        );
    }
    first_start::complete(&keys, data.layout()).await?;

    let mut metrics = Metrics::new();
    let (engine, chunks) = start_engine(&data, &catalog, &settings, &ambient, &mut metrics).await?;
    let workers = Workers::start(&engine);
    let served = Arc::new(Served {
        keys: Arc::clone(&keys),
        engine: engine.clone(),
        catalog: Arc::clone(&catalog.db),
        chunks,
        audit_scratch: data.layout().scratch().join("audit"),
        scrub_rate: settings.scrub.rate.bytes(),
        jobs: Jobs::default(),
    });
    let health = Arc::new(StoreHealth::new(data.layout().segments()));
    let watched = HealthMetrics(Arc::clone(&health));
    metrics.registry().register_collector(Box::new(watched));
    let schedule = Schedule::start(ScheduleOptions {
        engine: engine.clone(),
        db: Arc::clone(&catalog.db) as _,
        clock: Arc::clone(&ambient.clock),
        health,
        collection: settings.collection.every,
        scrub: settings.scrub.every,
        scrub_rate: settings.scrub.rate.bytes(),
    });
    let router = build_router(&data, &catalog, &settings, &ambient, keys, engine, metrics).await?;
    let admin = AdminSocket::bind(&data.layout().admin_socket())?;

    let parts = Parts {
        metrics: Arc::clone(&router.http),
        crowded: crowded(Arc::clone(&router)),
        handler: handler(router),
        clock: Arc::clone(&ambient.clock),
        random: ambient.random.clone(),
    };
    let options = Options {
        connections_max: settings.http.connections_max as usize,
        idle_timeout: settings.http.idle_timeout.duration(),
        stop_timeout: settings.http.stop_timeout.duration(),
        patience: Patience::STANDARD,
    };
    greet(&data, address, &settings.region);
    tracing::info!(%address, data = %data.layout().root().display(), region = settings.region, "ready");

    tokio::select! {
        cut_off = http::serve(listener, options, parts, heard(signals.clone(), 1)) => {
            tracing::info!(cut_off, "stopped");
            Ok(())
        }
        () = heard(signals, 2) => {
            tracing::info!("stopped at once");
            Ok(())
        }
        reason = catalog.db.poisoned() => Err(CatalogFault { reason }.into()),
        () = report_dead(workers, schedule) => Ok(()),
        () = admin.serve(served) => Ok(()),
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    http::listen(address).with_context(|| {
        format!("{address} cannot be listened on; name another address with --listen (port 0 takes a free one)")
    })
}

async fn start_engine(
    data: &DataDir,
    catalog: &Catalog,
    settings: &Settings,
    ambient: &Ambient,
    metrics: &mut Metrics,
) -> anyhow::Result<(Engine, Arc<LocalStore>)> {
    let store = open::engine(data, catalog, settings, ambient).await?;
    settle(catalog, Arc::clone(&store.chunks), store.recovered);
    let engine = store.engine;
    engine.metrics().register(metrics.registry());
    metrics
        .registry()
        .register_collector(Box::new(StoreMetrics {
            chunks: store.counts,
            catalog: Arc::clone(&catalog.db),
            engine: engine.clone(),
        }));
    Ok((engine, store.chunks))
}

/// Settles what the last run left open, beside the requests: no request waits for it.
fn settle(catalog: &Catalog, store: Arc<LocalStore>, recovered: Vec<chunkstore::RecoveredSegment>) {
    let db = Arc::clone(&catalog.db);
    tokio::spawn(async move {
        if let Err(error) = engine::settle_recovered(&*db, &store, recovered).await {
            tracing::error!(
                error,
                "segments of the last run stay open until the next start"
            );
        }
    });
}

async fn build_router(
    data: &DataDir,
    catalog: &Catalog,
    settings: &Settings,
    ambient: &Ambient,
    keys: Arc<KeyStore>,
    engine: Engine,
    mut metrics: Metrics,
) -> anyhow::Result<Arc<Router>> {
    let verifier = Verifier::new(VerifierOptions {
        region: settings.region.clone(),
        skew: settings.auth.clock_skew.duration(),
        clock: Arc::clone(&ambient.clock),
        require_signed_checksum: settings.auth.signed_checksum == SignedChecksum::Required,
    });
    let authenticator = Authenticator::new(Arc::new(verifier), keys);
    let token_keys = token_keys(data, catalog, ambient).await?;
    let http = Arc::new(HttpMetrics::register(metrics.registry()));
    let ebs = EbsApi::new(Components {
        engine: engine.clone(),
        authenticator: authenticator.clone(),
        token_keys,
        clock: Arc::clone(&ambient.clock),
        random: ambient.random.clone(),
        options: EbsApiOptions {
            max_results_default: usize::from(settings.http.max_results_default),
            body_limits: BodyLimits::STANDARD,
        },
    });
    let ec2 = Ec2Api::new(Ec2Options {
        engine,
        authenticator,
        region: settings.region.clone(),
        clock: Arc::clone(&ambient.clock),
    });
    let resources = ebs.admissions().into_iter().chain(ec2.admissions());
    metrics
        .registry()
        .register_collector(Box::new(AdmissionMetrics {
            resources: resources.collect(),
        }));
    Ok(Arc::new(Router {
        ebs,
        ec2,
        metrics,
        http,
        clock: Arc::clone(&ambient.clock),
        random: ambient.random.clone(),
    }))
}

/// The keys of tokens, which a background task rotates from now on.
async fn token_keys(
    data: &DataDir,
    catalog: &Catalog,
    ambient: &Ambient,
) -> anyhow::Result<Arc<TokenKeys>> {
    let root_key = Arc::new(open::root_key(data, ambient)?);
    let (db, clock, random) = (
        Arc::clone(&catalog.db),
        Arc::clone(&ambient.clock),
        ambient.random.clone(),
    );
    let keys = TokenKeys::load(db, root_key, clock, random)
        .await
        .context("the keys of tokens cannot be read")?;
    let keys = Arc::new(keys);
    if keys.unreadable() > 0 {
        tracing::warn!(
            count = keys.unreadable(),
            "keys of tokens do not open: was root.key replaced? clients list again"
        );
    }
    let rotated = Arc::clone(&keys);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TOKEN_KEY_CHECK).await;
            if let Err(error) = rotated.rotate_if_due().await {
                tracing::error!(%error, "the keys of tokens could not be rotated; trying again in an hour");
            }
        }
    });
    Ok(keys)
}

fn handler(router: Arc<Router>) -> Handler {
    Arc::new(
        move |request: ::http::Request<Incoming>| -> BoxFuture<'static, Answer> {
            let router = Arc::clone(&router);
            Box::pin(async move { router.answer(request).await })
        },
    )
}

fn crowded(router: Arc<Router>) -> Handler {
    Arc::new(
        move |request: ::http::Request<Incoming>| -> BoxFuture<'static, Answer> {
            let router = Arc::clone(&router);
            Box::pin(async move { router.turn_away(request).await })
        },
    )
}

/// Never ends: a dead worker is a bug, and what the server still does is worth more than an end.
async fn report_dead(mut workers: Workers, mut schedule: Schedule) {
    let reason = tokio::select! {
        reason = workers.died() => reason,
        reason = schedule.died() => reason,
    };
    tracing::error!(
        reason,
        "a worker died; restart the server, and please report this"
    );
    let _running = (workers, schedule);
    std::future::pending().await
}

/// Prints the lines that a user pastes. A closed standard output is no reason not to serve.
fn greet(data: &DataDir, address: SocketAddr, region: &str) {
    let lines = first_start::greeting(data.layout(), address, region);
    let mut out = std::io::stdout().lock();
    if out
        .write_all(lines.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        tracing::debug!("standard output is closed");
    }
}

/// Connections and segments are files: the usual soft limit of 1024 is too low for both.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Counts SIGTERM and SIGINT, from now on: the first ends the server in order, the second at once.
fn stop_signals() -> anyhow::Result<watch::Receiver<u32>> {
    let failed = "signals cannot be heard";
    let mut terminate = signal(SignalKind::terminate()).context(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(failed)?;
    let (count, signals) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(signals)
}

async fn heard(mut signals: watch::Receiver<u32>, count: u32) {
    // The sender lives as long as the process.
    let _ = signals.wait_for(|heard| *heard >= count).await;
}
