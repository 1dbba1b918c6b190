//! What is left of the old catalog, taken over table by table.
//!
//! Each table is read through a handle of its own: damage to one costs that one alone. A catalog of another store gives nothing,
//! since its accounts and keys have no business here.

use super::{RebuildReport, RescueError};
use catalog::accounts::AccessKeyRecord;
use catalog::chunks::ChunkState;
use catalog::snapshots::State;
use catalog::token_keys::TokenKeyRecord;
use catalog::{Db, DbExt, Error, Txn, meta, schema};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{AccountId, SnapshotId, UnixMillis};

/// Snapshots whose tags are read at a time.
const TAGGED: u32 = 500;

/// Chunk records read at a time.
const CHUNKS: u32 = 4_096;

/// Opens what is left of the old catalog to read, every time anew.
#[derive(Clone)]
pub struct OldCatalog {
    /// Opens it; blocks.
    pub open: Arc<dyn Fn() -> Result<Arc<dyn Db>, Error> + Send + Sync>,
}

/// What became of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenOver {
    /// The table.
    pub table: &'static str,
    /// Rows taken over.
    pub rows: u64,
    /// Why there are not more.
    pub failure: Option<String>,
}

/// Numbers that must not go backwards.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Facts {
    pub(super) epoch: i64,
    pub(super) last_container: u64,
    pub(super) created_at: Option<UnixMillis>,
}

/// The old catalog, if it is this store's.
pub(super) struct Takeover {
    old: Option<OldCatalog>,
    pub(super) facts: Facts,
    /// For looking snapshots up; nothing when that table cannot be read.
    snapshots: Option<Arc<dyn Db>>,
}

impl Takeover {
    /// Finds out whether there is anything to take over.
    pub(super) async fn begin(
        old: Option<OldCatalog>,
        store_id: [u8; 16],
        report: &mut RebuildReport,
    ) -> Takeover {
        let mut takeover = Takeover {
            old: None,
            facts: Facts::default(),
            snapshots: None,
        };
        let Some(old) = old else { return takeover };
        match facts(&old, store_id).await {
            Ok(Ok(facts)) => takeover.facts = facts,
            Ok(Err(refusal)) => {
                report.old_refused = Some(refusal);
                return takeover;
            }
            // The other tables may still be there; that it is this store's nobody can tell.
            Err(error) => {
                report.old_refused = Some(error.to_string());
                return takeover;
            }
        }
        takeover.snapshots = snapshots_table(&old).await;
        takeover.old = Some(old);
        takeover
    }

    /// Whether the old catalog has this snapshot as completed; nothing when it cannot be asked.
    pub(super) async fn knows(&self, id: SnapshotId) -> Option<bool> {
        let db = self.snapshots.as_ref()?;
        let found = db
            .view(move |txn| Box::pin(async move { catalog::snapshots::get(txn, id).await }))
            .await;
        Some(
            found
                .ok()?
                .is_some_and(|record| record.state == State::Completed),
        )
    }

    /// Marks the chunks that the old catalog knows as damaged where it knows them. A frame that is not read is taken for whole, and the put
    /// that would heal its chunk for one of what is stored.
    pub(super) async fn mark_damaged(
        &self,
        db: &dyn Db,
        report: &mut RebuildReport,
    ) -> Result<(), RescueError> {
        let Some(old) = &self.old else { return Ok(()) };
        let mut taken = TakenOver {
            table: "damaged_chunks",
            rows: 0,
            failure: None,
        };
        let mut failure = None;
        match open(old).await {
            Ok(old) => {
                let mut after = None;
                loop {
                    let page = old.view(move |txn| {
                        Box::pin(catalog::chunks::records_after(txn, after, CHUNKS))
                    });
                    let page = match page.await {
                        Ok(page) => page,
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    };
                    let Some(last) = page.last() else { break };
                    after = Some(last.key());
                    let damaged = page
                        .iter()
                        .filter(|chunk| chunk.state == ChunkState::Damaged);
                    for chunk in damaged {
                        taken.rows += 1;
                        let (key, place) = (chunk.key(), chunk.location);
                        let marked = db.transact(move |txn| {
                            Box::pin(catalog::chunks::mark_damaged(txn, key, place))
                        });
                        report.damaged += u64::from(marked.await?);
                    }
                }
            }
            Err(error) => failure = Some(error),
        }
        taken.failure = failure.map(|error| error.to_string());
        report.taken_over.push(taken);
        Ok(())
    }

    /// Copies accounts, access keys, token keys, and the tags of the snapshots that there are.
    pub(super) async fn copy_accounts_and_tags(
        &self,
        db: &dyn Db,
        now: UnixMillis,
        report: &mut RebuildReport,
    ) -> Result<(), RescueError> {
        let Some(old) = &self.old else { return Ok(()) };
        let accounts = read(old, |txn| Box::pin(catalog::accounts::accounts(txn))).await;
        let accounts = self.note(report, "accounts", accounts);
        write(db, accounts, move |txn, account| {
            Box::pin(catalog::accounts::insert_account(txn, *account, now))
        })
        .await?;
        let keys = read(old, |txn| {
            Box::pin(catalog::accounts::list_access_keys(txn))
        })
        .await;
        let keys: Vec<AccessKeyRecord> = self.note(report, "access_keys", keys);
        write(db, keys, move |txn, key| {
            Box::pin(async move {
                catalog::accounts::insert_account(txn, key.account, now).await?;
                catalog::accounts::insert_access_key(txn, key).await
            })
        })
        .await?;
        let keys = read(old, |txn| Box::pin(catalog::token_keys::token_keys(txn))).await;
        let keys: Vec<TokenKeyRecord> = self.note(report, "token_keys", keys);
        write(db, keys, |txn, key| {
            Box::pin(catalog::token_keys::insert_token_key(txn, key))
        })
        .await?;
        let tags = copy_tags(old, db).await?;
        report.taken_over.push(tags);
        Ok(())
    }

    fn note<T>(
        &self,
        report: &mut RebuildReport,
        table: &'static str,
        read: Result<Vec<T>, Error>,
    ) -> Vec<T> {
        let (rows, failure) = match read {
            Ok(rows) => (rows, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        report.taken_over.push(TakenOver {
            table,
            rows: rows.len() as u64,
            failure,
        });
        rows
    }
}

async fn open(old: &OldCatalog) -> Result<Arc<dyn Db>, Error> {
    let open = Arc::clone(&old.open);
    let opened = tokio::task::spawn_blocking(move || open()).await;
    opened.map_err(|error| Error::Unavailable {
        reason: error.to_string(),
    })?
}

/// Reads through a handle of its own: an I/O error makes a handle useless.
async fn read<T, F>(old: &OldCatalog, body: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: for<'t> Fn(&'t mut dyn Txn) -> BoxFuture<'t, Result<T, Error>> + Send + Sync + 'static,
{
    open(old).await?.view(body).await
}

/// Writes rows in short transactions.
async fn write<T, F>(db: &dyn Db, rows: Vec<T>, put: F) -> Result<(), Error>
where
    T: Send + Sync + 'static,
    F: for<'t> Fn(&'t mut dyn Txn, &'t T) -> BoxFuture<'t, Result<(), Error>>
        + Send
        + Sync
        + 'static,
{
    let (rows, put) = (Arc::new(rows), Arc::new(put));
    for start in (0..rows.len()).step_by(super::BATCH) {
        let (rows, put) = (Arc::clone(&rows), Arc::clone(&put));
        db.transact(move |txn| {
            let (rows, put) = (Arc::clone(&rows), Arc::clone(&put));
            Box::pin(async move {
                for row in rows.iter().skip(start).take(super::BATCH) {
                    put(txn, row).await?;
                }
                Ok(())
            })
        })
        .await?;
    }
    Ok(())
}

/// The facts of a catalog of this store, or why nothing is taken from it.
async fn facts(old: &OldCatalog, store_id: [u8; 16]) -> Result<Result<Facts, String>, Error> {
    read(old, move |txn| {
        Box::pin(async move {
            let format = meta::number(txn, meta::FORMAT_VERSION)
                .await?
                .unwrap_or_default();
            if format > schema::FORMAT_VERSION {
                return Ok(Err(format!(
                    "it has format version {format}, newer than this program"
                )));
            }
            if meta::store_id(txn).await? != store_id {
                return Ok(Err("it is the catalog of another store".to_owned()));
            }
            let last = meta::number(txn, meta::LAST_CONTAINER).await?;
            Ok(Ok(Facts {
                epoch: meta::number(txn, meta::EPOCH).await?.unwrap_or_default(),
                last_container: last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0),
                created_at: meta::number(txn, meta::CREATED_AT).await?,
            }))
        })
    })
    .await
}

/// A handle for looking snapshots up, if the table can be read from its beginning to its end.
async fn snapshots_table(old: &OldCatalog) -> Option<Arc<dyn Db>> {
    let db = open(old).await.ok()?;
    let mut after = None;
    loop {
        let page = db
            .view(move |txn| {
                Box::pin(async move {
                    catalog::snapshots::in_state(txn, State::Completed, after, TAGGED).await
                })
            })
            .await
            .ok()?;
        match page.last() {
            Some(last) => after = Some(last.id),
            None => return Some(db),
        }
    }
}

/// Copies the tags of the snapshots in the new catalog, as far as the table can be read.
async fn copy_tags(old: &OldCatalog, db: &dyn Db) -> Result<TakenOver, RescueError> {
    let mut taken = TakenOver {
        table: "tags",
        rows: 0,
        failure: None,
    };
    let mut after = None;
    loop {
        let snapshots = db
            .view(move |txn| {
                Box::pin(async move {
                    catalog::snapshots::in_state(txn, State::Completed, after, TAGGED).await
                })
            })
            .await?;
        let Some(last) = snapshots.last() else {
            return Ok(taken);
        };
        after = Some(last.id);
        let mut by_account: BTreeMap<AccountId, Vec<SnapshotId>> = BTreeMap::new();
        for snapshot in &snapshots {
            by_account
                .entry(snapshot.account)
                .or_default()
                .push(snapshot.id);
        }
        for (account, ids) in by_account {
            let ids = Arc::new(ids);
            let found = read(old, move |txn| {
                let ids = Arc::clone(&ids);
                Box::pin(async move { catalog::tags::of_snapshots(txn, account, &ids).await })
            })
            .await;
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    taken.failure.get_or_insert_with(|| error.to_string());
                    continue;
                }
            };
            taken.rows += found.len() as u64;
            write(db, found, move |txn, (snapshot, tag)| {
                Box::pin(async move {
                    let tags = std::slice::from_ref(tag);
                    catalog::tags::put(txn, account, *snapshot, tags).await
                })
            })
            .await?;
        }
    }
}
