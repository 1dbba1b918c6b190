//! Containers of the chunk store, and the frames in them that are to be freed.
//!
//! Invariants
//! - Rows of containers stay when the container is gone, and ids come from a counter: an id, and so a location, is never
//!   given out twice (DESIGN 2.3, 5).
//! - `live_bytes` is the sum of the lengths of those frames in the container that chunk records and snapshot records name: every
//!   transaction that names a frame, or takes a name away, changes it too ([`add_live`], [`sub_live`]).
//! - Once a container is closed no frame in it gets a name, so its `live_bytes` only falls. At 0 it may be removed.
//!
//! A row's life: open (1), sealed (2), closed (4), settled (5), removed (3).

use crate::{Batch, Error, Location, Row, Txn, Value, meta};

const TABLE: &str = "containers";
const FREES: &str = "frees";

/// A container as the chunk store describes it; kind and state are its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContainerRecord {
    /// Its id.
    pub id: u64,
    /// What it may hold.
    pub kind: u8,
    /// Where in its life it is.
    pub state: u8,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Gives out the next id.
pub async fn reserve(txn: &mut dyn Txn) -> Result<u64, Error> {
    let id = last_reserved(txn).await? + 1;
    meta::set_number(
        txn,
        meta::LAST_CONTAINER,
        i64::try_from(id).unwrap_or(i64::MAX),
    )
    .await?;
    Ok(id)
}

/// The highest id ever given out; 0 before the first.
pub async fn last_reserved(txn: &mut dyn Txn) -> Result<u64, Error> {
    let last = meta::number(txn, meta::LAST_CONTAINER)
        .await?
        .unwrap_or_default();
    u64::try_from(last).map_err(|_| Error::Corrupt {
        table: TABLE,
        reason: format!("{last} is no container id"),
    })
}

/// Writes a container's record, new or in place of the old one. A closed or removed container never opens again.
pub async fn record(txn: &mut dyn Txn, container: ContainerRecord) -> Result<(), Error> {
    txn.execute(
        "INSERT INTO containers (container, kind, state, bytes) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (container) DO UPDATE SET kind = excluded.kind, bytes = excluded.bytes, state = \
         CASE WHEN containers.state IN (3, 4, 5) AND excluded.state IN (1, 2) THEN containers.state \
         ELSE excluded.state END",
        vec![
            container.id.try_into()?,
            container.kind.into(),
            container.state.into(),
            container.bytes.try_into()?,
        ],
    )
    .await?;
    Ok(())
}

/// Every container whose state is not `except`, by id.
pub async fn all_except(txn: &mut dyn Txn, except: u8) -> Result<Vec<ContainerRecord>, Error> {
    let rows = txn
        .query(
            "SELECT container, kind, state, bytes FROM containers WHERE state <> $1 \
             ORDER BY container",
            vec![except.into()],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// A container, and how much of it is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContainerUse {
    /// The container.
    pub container: ContainerRecord,
    /// Bytes of those of its frames that records name. Less than 0 would be a miscount, for an audit to tell.
    pub live_bytes: i64,
}

/// At most `limit` containers that are not removed, with ids above `after`, by id.
pub async fn in_use(txn: &mut dyn Txn, after: u64, limit: u32) -> Result<Vec<ContainerUse>, Error> {
    let rows = txn
        .query(
            "SELECT container, kind, state, bytes, live_bytes FROM containers \
             WHERE container > $1 AND state <> 3 ORDER BY container LIMIT $2",
            vec![after.try_into()?, limit.into()],
        )
        .await?;
    rows.iter().map(read_use).collect()
}

/// One container, in whatever state.
pub async fn get(txn: &mut dyn Txn, id: u64) -> Result<Option<ContainerUse>, Error> {
    let rows = txn
        .query(
            "SELECT container, kind, state, bytes, live_bytes FROM containers WHERE container = $1",
            vec![id.try_into()?],
        )
        .await?;
    rows.first().map(read_use).transpose()
}

/// Moves a container from one state to another; answers whether it was in the first.
pub async fn set_state(txn: &mut dyn Txn, id: u64, from: u8, to: u8) -> Result<bool, Error> {
    let changed = txn
        .execute(
            "UPDATE containers SET state = $3 WHERE container = $1 AND state = $2",
            vec![id.try_into()?, from.into(), to.into()],
        )
        .await?;
    Ok(changed == 1)
}

static NAMEABLE: Batch = Batch::new(
    "SELECT container FROM containers WHERE state IN (1, 2) AND container IN (",
    0,
    "?",
    ")",
);

/// Those of the containers whose frames may still be given names: the open and the sealed ones.
pub async fn nameable(txn: &mut dyn Txn, ids: &[u64]) -> Result<Vec<u64>, Error> {
    let rows = ids
        .iter()
        .map(|id| Ok([Value::try_from(*id)?]))
        .collect::<Result<Vec<_>, Error>>()?;
    let found = NAMEABLE.query(txn, &[], rows).await?;
    found.iter().map(|row| row.uint(0, TABLE)).collect()
}

/// Counts frames that get names. The caller has made sure that the container is [`nameable`], in this transaction.
pub async fn add_live(txn: &mut dyn Txn, id: u64, bytes: u64) -> Result<(), Error> {
    txn.execute(
        "UPDATE containers SET live_bytes = live_bytes + $2 WHERE container = $1",
        vec![id.try_into()?, bytes.try_into()?],
    )
    .await?;
    Ok(())
}

/// Counts frames that lose their names.
pub async fn sub_live(txn: &mut dyn Txn, id: u64, bytes: u64) -> Result<(), Error> {
    txn.execute(
        "UPDATE containers SET live_bytes = live_bytes - $2 WHERE container = $1",
        vec![id.try_into()?, bytes.try_into()?],
    )
    .await?;
    Ok(())
}

fn read_use(row: &Row) -> Result<ContainerUse, Error> {
    Ok(ContainerUse {
        container: read(row)?,
        live_bytes: row.int(4, TABLE)?,
    })
}

fn read(row: &Row) -> Result<ContainerRecord, Error> {
    let small = |number: u32| {
        u8::try_from(number).map_err(|_| Error::Corrupt {
            table: TABLE,
            reason: format!("{number} is out of range"),
        })
    };
    Ok(ContainerRecord {
        id: row.uint(0, TABLE)?,
        kind: small(row.uint32(1, TABLE)?)?,
        state: small(row.uint32(2, TABLE)?)?,
        bytes: row.uint(3, TABLE)?,
    })
}

static INSERT_FREES: Batch = Batch::new(
    "INSERT INTO frees (container, frame_offset, frame_length) VALUES ",
    0,
    "(?, ?, ?)",
    " ON CONFLICT (container, frame_offset) DO NOTHING",
);

static DELETE_FREES: Batch = Batch::any_of(
    "DELETE FROM frees WHERE ",
    0,
    "(container = ? AND frame_offset = ?)",
    "",
);

/// Notes frames that no record names any more. Answers how many were not noted before.
pub async fn insert_frees(txn: &mut dyn Txn, frames: &[Location]) -> Result<u64, Error> {
    let rows = frames
        .iter()
        .map(|frame| {
            Ok([
                frame.container.try_into()?,
                frame.offset.try_into()?,
                frame.length.into(),
            ])
        })
        .collect::<Result<Vec<[Value; 3]>, Error>>()?;
    INSERT_FREES.execute(txn, &[], rows).await
}

/// The first container after `after` that has frames to free.
pub async fn next_to_free(txn: &mut dyn Txn, after: u64) -> Result<Option<u64>, Error> {
    let rows = txn
        .query(
            "SELECT container FROM frees WHERE container > $1 ORDER BY container LIMIT 1",
            vec![after.try_into()?],
        )
        .await?;
    rows.first().map(|row| row.uint(0, FREES)).transpose()
}

/// At most `limit` frames to free in this container.
pub async fn some_frees(
    txn: &mut dyn Txn,
    container: u64,
    limit: u32,
) -> Result<Vec<Location>, Error> {
    let rows = txn
        .query(
            "SELECT container, frame_offset, frame_length FROM frees WHERE container = $1 \
             ORDER BY frame_offset LIMIT $2",
            vec![container.try_into()?, limit.into()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Location {
                container: row.uint(0, FREES)?,
                offset: row.uint(1, FREES)?,
                length: row.uint32(2, FREES)?,
            })
        })
        .collect()
}

/// Forgets frames that have been freed.
pub async fn delete_frees(txn: &mut dyn Txn, frames: &[Location]) -> Result<(), Error> {
    let rows = frames
        .iter()
        .map(|frame| Ok([frame.container.try_into()?, frame.offset.try_into()?]))
        .collect::<Result<Vec<[Value; 2]>, Error>>()?;
    DELETE_FREES.execute(txn, &[], rows).await?;
    Ok(())
}
