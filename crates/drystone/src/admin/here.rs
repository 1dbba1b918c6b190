//! Carries requests out without a server, under the lock of the data directory.
//!
//! Around a collection goes what the server's workers would do: deleted snapshots are purged before it, and the frames that
//! it gave up are freed after it. What else the engine does in the background waits for the next server.

use super::parts::Parts;
use super::{Jobs, Reply, Request, audit, collection, keys, scrub, usage};
use crate::data_dir::{DataDir, InUse, Layout};
use crate::open::{self, Ambient, Store};
use crate::settings::Settings;
use anyhow::{Context, bail};

/// Does what is asked.
pub async fn perform(
    layout: Layout,
    settings: &Settings,
    request: Request,
    parts: Parts,
) -> anyhow::Result<Reply> {
    let data = DataDir::open(layout).map_err(|error| match error.downcast_ref::<InUse>() {
        Some(_) => error.context(
            "no server answers, and another process works here: a server that is starting or stopping, or another \
             command; try again when it is done",
        ),
        None => error,
    })?;
    let ambient = Ambient::new();
    let jobs = Jobs::default();
    let done = match request {
        Request::Key(request) => {
            let catalog = open::catalog(&data, settings, &ambient).await?;
            let keys = open::keys(&data, &catalog, &ambient).await?;
            keys::perform(&keys, request).await
        }
        Request::Collect(request) => {
            let store = store(&data, settings, &ambient).await?;
            if request.dry_run {
                collection::perform(&store.engine, &jobs, request, &parts).await
            } else {
                let engine = &store.engine;
                let purged = parts.while_working(|| None, engine.purge_now()).await;
                purged.context("what deleted snapshots left cannot be purged")?;
                let done = collection::perform(engine, &jobs, request, &parts).await;
                let freed = parts.while_working(|| None, engine.free_now()).await;
                freed.context("the frames that were given up cannot be freed")?;
                // Opening once more seals the segments that pages were moved to: what was set aside for them returns. Not before
                // the threads of this one have ended: a segment that they are just creating would be taken for a leftover.
                store.chunks.close().await;
                drop(store);
                self::store(&data, settings, &ambient).await?;
                done
            }
        }
        Request::Usage(request) => {
            let engine = store(&data, settings, &ambient).await?.engine;
            usage::perform(&engine, &jobs, request, &parts).await
        }
        Request::Scrub(request) => {
            let engine = store(&data, settings, &ambient).await?.engine;
            let rate = settings.scrub.rate.bytes();
            scrub::perform(&engine, &jobs, rate, request, &parts).await
        }
        Request::Audit(request) => {
            let (db, chunks) = open::to_read(&data, settings).await?;
            let subject = audit::Subject {
                db,
                chunks,
                scratch: data.fresh_scratch()?,
            };
            audit::perform(subject, &jobs, request, &parts).await
        }
    };
    Ok(done.unwrap_or_else(Reply::Refused))
}

/// A store whose engine does what it is asked, and nothing beside it.
async fn store(data: &DataDir, settings: &Settings, ambient: &Ambient) -> anyhow::Result<Store> {
    let catalog = data.layout().catalog();
    if !catalog.exists() {
        bail!(
            "{} is missing: restore it from a backup, or see `drystone rescue --help`",
            catalog.display()
        );
    }
    let catalog = open::catalog(data, settings, ambient).await?;
    let mut store = open::engine(data, &catalog, settings, ambient).await?;
    let recovered = std::mem::take(&mut store.recovered);
    let settled = engine::settle_recovered(&*catalog.db, &store.chunks, recovered).await;
    settled
        .map_err(anyhow::Error::from_boxed)
        .context("what the last run left open cannot be settled")?;
    Ok(store)
}
