//! Snapshot records: one row per snapshot, from its start to its delete.
//!
//! ```text
//!          seal                 finish
//!   Open ---------> Sealed ---------------> Completed
//!    |  timeout        |  wrong count or checksum
//!    +-----> Failed <--+
//! ```
//!
//! Invariants
//! - Puts are recorded only while the state is Open, in the transaction that reads it: sealing is a barrier.
//! - `base_root` never changes: it is the parent's root when the snapshot started, and outlives the parent.
//! - `root`, the counts and the state Completed are written together, once.

use crate::accounts::account_at;
use crate::{Batch, Error, Location, Row, Txn, Value};
use types::{AccountId, Digest, Domain, SnapshotId, UnixMillis, VolumeSize};

const TABLE: &str = "snapshots";

/// Where in its life a snapshot is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Takes puts.
    Open,
    /// Takes no more puts; the finisher builds its block map.
    Sealed,
    /// Has its root; never changes again.
    Completed,
    /// Failed: timed out, or its count or checksum was wrong.
    Failed,
}

impl State {
    fn number(self) -> i64 {
        match self {
            State::Open => 1,
            State::Sealed => 2,
            State::Completed => 3,
            State::Failed => 4,
        }
    }

    pub(crate) fn from_number(number: i64) -> Result<State, Error> {
        match number {
            1 => Ok(State::Open),
            2 => Ok(State::Sealed),
            3 => Ok(State::Completed),
            4 => Ok(State::Failed),
            _ => Err(Error::Corrupt {
                table: TABLE,
                reason: format!("{number} is no state"),
            }),
        }
    }
}

/// What a Complete request promised, checked by the finisher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise {
    /// Number of distinct block indexes put.
    pub count: u64,
    /// The LINEAR aggregate of their digests (SPEC 3.4).
    pub checksum: Option<Vec<u8>>,
}

/// What a completed snapshot has beyond a pending one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Root of its block map.
    pub root: Digest,
    /// Blocks put to it.
    pub own_count: u64,
    /// Blocks in its merged view.
    pub full_count: u64,
    /// When it was completed.
    pub completion_time: UnixMillis,
    /// Its own frame in the chunk store.
    pub frame: Location,
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRecord {
    /// Its id.
    pub id: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Where its chunks are shared, fixed at the start.
    pub domain: Domain,
    /// Where in its life it is.
    pub state: State,
    /// Size of the volume.
    pub volume_size: VolumeSize,
    /// The snapshot that it is based on, which may be gone.
    pub parent: Option<SnapshotId>,
    /// The first snapshot of its lineage, which may be gone.
    pub lineage: SnapshotId,
    /// The block map that it starts from.
    pub base_root: Digest,
    /// Blocks in that map.
    pub base_count: u64,
    /// Free text.
    pub description: Option<String>,
    /// When it was started.
    pub start_time: UnixMillis,
    /// Minutes without a put after which it fails.
    pub timeout_minutes: u32,
    /// Milliseconds of the server's uptime since a put was last noticed.
    pub idle_ms: u64,
    /// Whether a put came since the expiry last looked.
    pub touched: bool,
    /// What clients said of their progress, in percent.
    pub progress: Option<u8>,
    /// What a Complete request promised; sealed and completed snapshots have it.
    pub promise: Option<Promise>,
    /// Why it failed.
    pub status_message: Option<String>,
    /// What it has once it is completed.
    pub finished: Option<Finished>,
}

const COLUMNS: &str = "snapshot, account, domain, state, volume_gib, parent, lineage, base_root, base_count, \
     description, start_time, completion_time, timeout_minutes, idle_ms, touched, progress, \
     expected_count, expected_checksum, status_message, root, own_count, full_count, \
     frame_container, frame_offset, frame_length";

/// Adds a snapshot that has just been started.
pub async fn insert(txn: &mut dyn Txn, snapshot: &SnapshotRecord) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO snapshots (snapshot, account, domain, state, volume_gib, parent, lineage, \
         base_root, base_count, description, start_time, timeout_minutes, idle_ms, touched) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        vec![
            snapshot.id.number().try_into()?,
            snapshot.account.number().try_into()?,
            snapshot.domain.number().try_into()?,
            snapshot.state.number().into(),
            snapshot.volume_size.gib().into(),
            snapshot
                .parent
                .map(|parent| Value::try_from(parent.number()))
                .transpose()?
                .into(),
            snapshot.lineage.number().try_into()?,
            snapshot.base_root.as_bytes().into(),
            snapshot.base_count.try_into()?,
            snapshot
                .description
                .as_ref()
                .map(|text| text.as_bytes())
                .into(),
            snapshot.start_time.into(),
            snapshot.timeout_minutes.into(),
            snapshot.idle_ms.try_into()?,
            i64::from(snapshot.touched).into(),
        ],
    )
    .await?;
    Ok(())
}

/// The snapshot of this id.
pub async fn get(txn: &mut dyn Txn, id: SnapshotId) -> Result<Option<SnapshotRecord>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM snapshots WHERE snapshot = $1");
    let rows = txn.query(&sql, vec![id.number().try_into()?]).await?;
    rows.first().map(read).transpose()
}

/// At most `limit` snapshots of the account with ids above `after`, by id.
pub async fn of_account(
    txn: &mut dyn Txn,
    account: AccountId,
    after: Option<SnapshotId>,
    limit: u32,
) -> Result<Vec<SnapshotRecord>, Error> {
    let after = after.map_or(Ok(Value::Int(-1)), |id| id.number().try_into())?;
    let sql = format!(
        "SELECT {COLUMNS} FROM snapshots WHERE account = $1 AND snapshot > $2 \
         ORDER BY snapshot LIMIT $3"
    );
    let rows = txn
        .query(
            &sql,
            vec![account.number().try_into()?, after, limit.into()],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// At most `limit` snapshots in this state with ids above `after`, by id.
pub async fn in_state(
    txn: &mut dyn Txn,
    state: State,
    after: Option<SnapshotId>,
    limit: u32,
) -> Result<Vec<SnapshotRecord>, Error> {
    let after = after.map_or(Ok(Value::Int(-1)), |id| id.number().try_into())?;
    let sql = format!(
        "SELECT {COLUMNS} FROM snapshots WHERE state = $1 AND snapshot > $2 \
         ORDER BY snapshot LIMIT $3"
    );
    let rows = txn
        .query(&sql, vec![state.number().into(), after, limit.into()])
        .await?;
    rows.iter().map(read).collect()
}

/// What a batch of puts needs to know of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutTarget {
    /// The snapshot.
    pub id: SnapshotId,
    /// Whether it still takes puts.
    pub state: State,
    /// Whether a put has already been noted since the expiry last looked.
    pub touched: bool,
}

static PUT_TARGETS: Batch = Batch::new(
    "SELECT snapshot, state, touched FROM snapshots WHERE snapshot IN (",
    0,
    "?",
    ")",
);

/// The snapshots that a batch of puts is meant for, as far as they exist.
pub async fn put_targets(txn: &mut dyn Txn, ids: &[SnapshotId]) -> Result<Vec<PutTarget>, Error> {
    let rows = ids
        .iter()
        .map(|id| Ok([id.number().try_into()?]))
        .collect::<Result<Vec<_>, Error>>()?;
    let found = PUT_TARGETS.query(txn, &[], rows).await?;
    found
        .iter()
        .map(|row| {
            Ok(PutTarget {
                id: id_at(row, 0, TABLE)?,
                state: State::from_number(row.int(1, TABLE)?)?,
                touched: row.int(2, TABLE)? != 0,
            })
        })
        .collect()
}

static TOUCH: Batch = Batch::new(
    "UPDATE snapshots SET touched = 1 WHERE snapshot IN (",
    0,
    "?",
    ")",
);

/// Notes that puts came for these snapshots.
pub async fn touch(txn: &mut dyn Txn, ids: &[SnapshotId]) -> Result<(), Error> {
    let rows = ids
        .iter()
        .map(|id| Ok([id.number().try_into()?]))
        .collect::<Result<Vec<_>, Error>>()?;
    TOUCH.execute(txn, &[], rows).await?;
    Ok(())
}

/// Keeps what a client said of its progress.
pub async fn set_progress(txn: &mut dyn Txn, id: SnapshotId, progress: u8) -> Result<(), Error> {
    txn.execute(
        "UPDATE snapshots SET progress = $2 WHERE snapshot = $1",
        vec![id.number().try_into()?, progress.into()],
    )
    .await?;
    Ok(())
}

/// Sets how long a pending snapshot has been without a put, and takes the mark of [`touch`] away.
pub async fn set_idle(txn: &mut dyn Txn, id: SnapshotId, idle_ms: u64) -> Result<(), Error> {
    txn.execute(
        "UPDATE snapshots SET idle_ms = $2, touched = 0 WHERE snapshot = $1",
        vec![id.number().try_into()?, idle_ms.try_into()?],
    )
    .await?;
    Ok(())
}

/// Open to Sealed. The caller has read the state in this transaction.
pub async fn seal(txn: &mut dyn Txn, id: SnapshotId, promise: &Promise) -> Result<(), Error> {
    txn.execute(
        "UPDATE snapshots SET state = $2, expected_count = $3, expected_checksum = $4 \
         WHERE snapshot = $1",
        vec![
            id.number().try_into()?,
            State::Sealed.number().into(),
            promise.count.try_into()?,
            promise.checksum.clone().into(),
        ],
    )
    .await?;
    Ok(())
}

/// Sealed to Completed. The caller has read the state in this transaction.
pub async fn finish(txn: &mut dyn Txn, id: SnapshotId, finished: &Finished) -> Result<(), Error> {
    txn.execute(
        "UPDATE snapshots SET state = $2, root = $3, own_count = $4, full_count = $5, \
         completion_time = $6, frame_container = $7, frame_offset = $8, frame_length = $9 \
         WHERE snapshot = $1",
        vec![
            id.number().try_into()?,
            State::Completed.number().into(),
            finished.root.as_bytes().into(),
            finished.own_count.try_into()?,
            finished.full_count.try_into()?,
            finished.completion_time.into(),
            finished.frame.container.try_into()?,
            finished.frame.offset.try_into()?,
            finished.frame.length.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Open or Sealed to Failed. The caller has read the state in this transaction.
pub async fn fail(txn: &mut dyn Txn, id: SnapshotId, status_message: &str) -> Result<(), Error> {
    txn.execute(
        "UPDATE snapshots SET state = $2, status_message = $3 WHERE snapshot = $1",
        vec![
            id.number().try_into()?,
            State::Failed.number().into(),
            status_message.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Offsets of the snapshots' own frames in a container. Reads the whole table: for recovery and audit alone.
pub async fn frames_in(txn: &mut dyn Txn, container: u64) -> Result<Vec<u64>, Error> {
    let rows = txn
        .query(
            "SELECT frame_offset FROM snapshots WHERE frame_container = $1",
            vec![container.try_into()?],
        )
        .await?;
    rows.iter().map(|row| row.uint(0, TABLE)).collect()
}

/// What a mark needs to know of a snapshot: which block map it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapHolder {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its owner.
    pub account: AccountId,
    /// Where its chunks are.
    pub domain: Domain,
    /// Its root when it is completed, its base root when it is pending; nothing when it failed.
    pub root: Option<Digest>,
    /// Blocks in its merged view, once it is completed.
    pub full_count: Option<u64>,
    /// Its own frame, once it is completed.
    pub frame: Option<Location>,
}

/// At most `limit` snapshots with ids above `after`, by id, and the block maps that they hold.
pub async fn map_holders(
    txn: &mut dyn Txn,
    after: Option<SnapshotId>,
    limit: u32,
) -> Result<Vec<MapHolder>, Error> {
    let after = after.map_or(Ok(Value::Int(-1)), |id| id.number().try_into())?;
    let rows = txn
        .query(
            "SELECT snapshot, account, domain, state, base_root, root, full_count, frame_container, \
             frame_offset, frame_length FROM snapshots WHERE snapshot > $1 ORDER BY snapshot LIMIT $2",
            vec![after, limit.into()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let state = State::from_number(row.int(3, TABLE)?)?;
            let (root, full_count, frame) = match state {
                State::Open | State::Sealed => (Some(row.array(4, TABLE)?), None, None),
                State::Completed => {
                    let frame = Location {
                        container: row.uint(7, TABLE)?,
                        offset: row.uint(8, TABLE)?,
                        length: row.uint32(9, TABLE)?,
                    };
                    (
                        Some(row.array(5, TABLE)?),
                        Some(row.uint(6, TABLE)?),
                        Some(frame),
                    )
                }
                State::Failed => (None, None, None),
            };
            Ok(MapHolder {
                id: id_at(row, 0, TABLE)?,
                account: account_at(row, 1, TABLE)?,
                domain: Domain::from_number(row.uint(2, TABLE)?),
                root: root.map(Digest::from_bytes),
                full_count,
                frame,
            })
        })
        .collect()
}

/// Moves a completed snapshot's own frame, unless it is not at `from` any more. Answers whether it was.
pub async fn move_frame(
    txn: &mut dyn Txn,
    id: SnapshotId,
    from: Location,
    to: Location,
) -> Result<bool, Error> {
    let changed = txn
        .execute(
            "UPDATE snapshots SET frame_container = $4, frame_offset = $5, frame_length = $6 \
             WHERE snapshot = $1 AND frame_container = $2 AND frame_offset = $3",
            vec![
                id.number().try_into()?,
                from.container.try_into()?,
                from.offset.try_into()?,
                to.container.try_into()?,
                to.offset.try_into()?,
                to.length.into(),
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Removes the record.
pub async fn delete(txn: &mut dyn Txn, id: SnapshotId) -> Result<(), Error> {
    txn.execute(
        "DELETE FROM snapshots WHERE snapshot = $1",
        vec![id.number().try_into()?],
    )
    .await?;
    Ok(())
}

/// The snapshot id in a column.
pub(crate) fn id_at(row: &Row, column: usize, table: &'static str) -> Result<SnapshotId, Error> {
    optional_id(row, column, table)?.ok_or_else(|| Error::Corrupt {
        table,
        reason: format!("column {column} is NULL"),
    })
}

fn optional_id(row: &Row, column: usize, table: &'static str) -> Result<Option<SnapshotId>, Error> {
    let Some(number) = row.opt_int(column, table)? else {
        return Ok(None);
    };
    u64::try_from(number)
        .ok()
        .and_then(SnapshotId::from_number)
        .map(Some)
        .ok_or_else(|| Error::Corrupt {
            table,
            reason: format!("{number} is no snapshot id"),
        })
}

fn read(row: &Row) -> Result<SnapshotRecord, Error> {
    let gib = row.uint(4, TABLE)?;
    let progress = row.opt_int(15, TABLE)?;
    let finished = match row.opt_array(19, TABLE)? {
        None => None,
        Some(root) => Some(Finished {
            root: Digest::from_bytes(root),
            own_count: row.uint(20, TABLE)?,
            full_count: row.uint(21, TABLE)?,
            completion_time: row.int(11, TABLE)?,
            frame: Location {
                container: row.uint(22, TABLE)?,
                offset: row.uint(23, TABLE)?,
                length: row.uint32(24, TABLE)?,
            },
        }),
    };
    let promise = match row.opt_int(16, TABLE)? {
        None => None,
        Some(_) => Some(Promise {
            count: row.uint(16, TABLE)?,
            checksum: row.opt_bytes(17, TABLE)?.map(<[u8]>::to_vec),
        }),
    };
    Ok(SnapshotRecord {
        id: id_at(row, 0, TABLE)?,
        account: account_at(row, 1, TABLE)?,
        domain: Domain::from_number(row.uint(2, TABLE)?),
        state: State::from_number(row.int(3, TABLE)?)?,
        volume_size: VolumeSize::from_gib(gib).ok_or_else(|| corrupt(format!("{gib} GiB")))?,
        parent: optional_id(row, 5, TABLE)?,
        lineage: id_at(row, 6, TABLE)?,
        base_root: Digest::from_bytes(row.array(7, TABLE)?),
        base_count: row.uint(8, TABLE)?,
        description: row.opt_bytes(9, TABLE)?.map(text).transpose()?,
        start_time: row.int(10, TABLE)?,
        timeout_minutes: row.uint32(12, TABLE)?,
        idle_ms: row.uint(13, TABLE)?,
        touched: row.int(14, TABLE)? != 0,
        progress: progress
            .map(|percent| u8::try_from(percent).map_err(|_| corrupt(format!("{percent} %"))))
            .transpose()?,
        promise,
        status_message: row.opt_text(18, TABLE)?.map(str::to_owned),
        finished,
    })
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    String::from_utf8(bytes.to_vec()).map_err(|_| corrupt("a text is not UTF-8".to_owned()))
}

fn corrupt(reason: String) -> Error {
    Error::Corrupt {
        table: TABLE,
        reason,
    }
}
