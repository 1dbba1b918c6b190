//! Carries requests out without a server, under the lock of the data directory.
//!
//! Around a collection goes what the server's workers would do: deleted snapshots are purged before it, and the frames that
//! it gave up are freed after it. What else the engine does in the background waits for the next server.

use super::parts::Parts;
use super::{Jobs, Reply, Request, audit, collection, keys, scrub, usage};
use crate::data_dir::{DataDir, InUse, Layout};
use crate::open::{self, Ambient};
use crate::settings::Settings;
use anyhow::{Context, bail};
use engine::Engine;

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
            let engine = engine(&data, settings, &ambient).await?;
            // Entries of snapshots that are gone would count as references.
            let purged = parts.while_working(|| None, engine.purge_now()).await;
            purged.context("what deleted snapshots left cannot be purged")?;
            let done = collection::perform(&engine, &jobs, request, &parts).await;
            let freed = parts.while_working(|| None, engine.free_now()).await;
            freed.context("the frames that were given up cannot be freed")?;
            // Opening once more seals the segments that pages were moved to: what was set aside for them returns.
            drop(engine);
            self::engine(&data, settings, &ambient).await?;
            done
        }
        Request::Usage(request) => {
            let engine = engine(&data, settings, &ambient).await?;
            usage::perform(&engine, &jobs, request, &parts).await
        }
        Request::Scrub(request) => {
            let engine = engine(&data, settings, &ambient).await?;
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

/// An engine that does what it is asked, and nothing beside it.
async fn engine(data: &DataDir, settings: &Settings, ambient: &Ambient) -> anyhow::Result<Engine> {
    let catalog = data.layout().catalog();
    if !catalog.exists() {
        bail!(
            "{} is missing: restore it from a backup, or see `drystone rescue --help`",
            catalog.display()
        );
    }
    let catalog = open::catalog(data, settings, ambient).await?;
    let store = open::engine(data, &catalog, settings, ambient).await?;
    let settled = engine::settle_recovered(&*catalog.db, &store.chunks, store.recovered).await;
    settled
        .map_err(anyhow::Error::from_boxed)
        .context("what the last run left open cannot be settled")?;
    Ok(store.engine)
}
