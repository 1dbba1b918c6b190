//! Fails pending snapshots that nobody has put to for their timeout (SPEC 3.6).
//!
//! Policy
//! - Time is the server's uptime: a machine that sleeps, a server that is down, or a clock that steps never kills an upload.
//! - Every [`limits::EXPIRY_INTERVAL`] each open snapshot is looked at. If a put came since the last look, its idle time is 0; else it
//!   grows by the interval. Both are in the record, so a restart loses at most one interval.
//! - A snapshot fails between its timeout and three intervals later, never before. Sealed snapshots never time out.
//!
//! Safety
//! - The look and the failure are one transaction with the read of `touched` and of the state: a put or a seal that commits before
//!   it wins, one that comes later is refused.

use crate::worker::Backoff;
use crate::{Engine, limits};
use catalog::snapshots::State;
use catalog::{DbExt, Txn};
use std::time::Duration;
use types::limits::CLIENT_TOKEN_LIFE;
use types::{SnapshotId, UnixMillis};

const TIMED_OUT: &str = "Snapshot timed out";

impl Engine {
    /// Expires what is due, at intervals, and forgets client tokens now and then; never returns.
    pub(crate) async fn run_expiry(&self) {
        let mut backoff = Backoff::default();
        let mut last = self.inner.clock.monotonic();
        for round in 1_u64.. {
            tokio::time::sleep(limits::EXPIRY_INTERVAL).await;
            let now = self.inner.clock.monotonic();
            // What passed beyond the interval, the process did not run in: nobody could have put anything.
            let elapsed = now.saturating_sub(last).min(limits::EXPIRY_INTERVAL);
            last = now;
            let mut looked = self.expire(elapsed).await;
            if round.is_multiple_of(limits::CLIENT_TOKEN_ROUNDS) && looked.is_ok() {
                looked = self.forget_client_tokens().await;
            }
            match looked {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::error!(%error, "pending snapshots could not be looked at");
                    backoff.pause().await;
                }
            }
        }
    }

    /// One look at every open snapshot, `elapsed` after the last one.
    pub(crate) async fn expire(&self, elapsed: Duration) -> Result<(), catalog::Error> {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let mut after = None;
        loop {
            let looked = self
                .inner
                .db
                .transact(move |txn| Box::pin(look(txn, after, elapsed_ms)))
                .await?;
            for id in &looked.expired {
                self.inner.snapshots.forget(*id);
                self.inner.metrics.snapshots_failed.inc();
                tracing::warn!(snapshot = %id, "timed out");
            }
            if !looked.expired.is_empty() {
                self.inner.purges.notify_one();
            }
            after = looked.last;
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Forgets the client tokens whose time is over and whose snapshot is gone (SPEC 8.1), in short transactions.
    pub(crate) async fn forget_client_tokens(&self) -> Result<(), catalog::Error> {
        let life = i64::try_from(CLIENT_TOKEN_LIFE.as_millis()).unwrap_or(i64::MAX);
        let before: UnixMillis = self.inner.clock.now().saturating_sub(life);
        let mut after = None;
        loop {
            after = self
                .inner
                .db
                .transact(move |txn| {
                    let after = after.clone();
                    Box::pin(async move {
                        let (after, limit) = (after.as_ref(), limits::CLIENT_TOKEN_PAGE);
                        catalog::client_tokens::forget_orphans(txn, after, before, limit).await
                    })
                })
                .await?;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

struct Looked {
    expired: Vec<SnapshotId>,
    last: Option<SnapshotId>,
}

async fn look(
    txn: &mut dyn Txn,
    after: Option<SnapshotId>,
    elapsed_ms: u64,
) -> Result<Looked, catalog::Error> {
    let open = catalog::snapshots::in_state(txn, State::Open, after, limits::EXPIRY_PAGE).await?;
    let mut expired = Vec::new();
    for record in &open {
        let idle_ms = if record.touched {
            0
        } else {
            record.idle_ms.saturating_add(elapsed_ms)
        };
        if idle_ms >= u64::from(record.timeout_minutes) * 60_000 + elapsed_ms {
            catalog::snapshots::fail(txn, record.id, TIMED_OUT).await?;
            catalog::put_entries::insert_purge(txn, record.id).await?;
            expired.push(record.id);
        } else if record.touched || elapsed_ms > 0 {
            catalog::snapshots::set_idle(txn, record.id, idle_ms).await?;
        }
    }
    Ok(Looked {
        expired,
        last: open.last().map(|record| record.id),
    })
}
